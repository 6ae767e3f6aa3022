"""`wspilot bench host` at the control socket: ask for a slot that measures a node, look, let go."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from wspilot.daemon.core.events import Bench, EndBench
from wspilot.daemon.core.turn import derive_id
from wspilot.daemon.requests import Handler, Params, Requests, count, seconds, text
from wspilot.daemon.service import Service
from wspilot.errors import NotFound, Refused, UsageError
from wspilot.hostfigures import MOST_GUESTS, MOST_MIB, MOST_ROUNDS
from wspilot.messages import NODE_RE
from wspilot.model import FINAL_SLOT, Slot
from wspilot.text import clean, format_duration, parse_duration

PROCESS_MIB = 64  # an interpreter, beside the memory that it moves
ROUND_S = 10  # the paper's steps, with and without wspilot


def _minutes(time_s: int) -> int:
    return -(-time_s // 60) * 60


class Benching:
    """Three methods. The slot's id comes of the token: the same request finds the same slot."""

    def __init__(self, service: Service, requests: Requests) -> None:
        self._service, self._requests = service, requests

    def handlers(self) -> Mapping[str, Handler]:
        return {"bench": self._ask, "bench_look": self._look, "bench_end": self._end}

    async def _ask(self, params: Params, uid: int) -> dict[str, Any]:
        id = derive_id("bench", text(params, "token"))
        if self._requests.repeated("bench", params) is None:
            self._check()
            spec = self._spec(params)
            walltime_s = self._walltime_s(params.get("duration"))
            event = Bench(id, spec, self._ppn(), spec["mib"] + PROCESS_MIB, walltime_s)
            self._requests.turn("bench", params, event, [])
        return self._document(id)

    async def _look(self, params: Params, uid: int) -> dict[str, Any]:
        return self._document(text(params, "slot"))

    async def _end(self, params: Params, uid: int) -> dict[str, Any]:
        """By the slot, or by the token `of` the request whose answer may have been lost."""
        of = params.get("of")
        id = derive_id("bench", text(params, "of")) if of else text(params, "slot")
        self._slot(id)
        self._requests.turn("bench_end", params, EndBench(id), [])
        return self._document(id)

    def _check(self) -> None:
        """Raises Refused where there is no domain 0 to measure, or it cannot be had alone."""
        site = self._service.site
        if site.vmm != "xen" or site.adapter != "balloon":
            raise Refused(
                f"bench host measures domain 0 of a Xen node, and this site's VMM is {site.vmm}, "
                f"its adapter {site.adapter}",
                "`wspilot bench` measures the leases of any site; docs/xen.md has a Xen site",
            )
        if site.lrm == "torque" and not site.node_cpus:
            raise Refused(
                "bench host needs a whole node, and Torque knows one only by all of its cores, "
                "which the site does not name",
                "in the site's TOML: [site] node_cpus = N",
            )

    def _ppn(self) -> int:
        site = self._service.site
        return (site.node_cpus if site.lrm == "torque" else 0) or 1

    def _walltime_s(self, duration: object) -> int:
        """Whole minutes. Raises UsageError where the job would have to end before it can begin."""
        budget = self._service.site.budget
        spare = budget.launch_s + budget.stop_s + budget.restore_s + budget.slack_s
        least, asked = _minutes(spare + ROUND_S), _minutes(parse_duration(duration))
        if asked < least:
            raise UsageError(
                f"bench host: --duration {clean(str(duration), 40)} leaves no time for a round: "
                f"{format_duration(spare)} of it are the site's launch, stop, restore and slack",
                f"--duration {format_duration(least)} or more",
            )
        return asked

    def _spec(self, params: Params) -> dict[str, Any]:
        spec: dict[str, Any] = {"wait_s": seconds(params, "wait_s")}
        for key, low, most in (("rounds", 1, MOST_ROUNDS), ("mib", 1, MOST_MIB),
                               ("guests", 0, MOST_GUESTS)):  # fmt: skip
            spec[key] = count(params, key, 0)
            if not low <= spec[key] <= most:
                raise UsageError(f"bench host: {key} is {spec[key]}, not {low} to {most}")
        for key in ("node", "kernel", "initrd"):
            if params.get(key):
                spec[key] = text(params, key)
        if spec["guests"] and "kernel" not in spec:
            raise UsageError("bench host: guests need a kernel", "--kernel FILE, on the node")
        whole = self._service.site.node_memory_mib
        if whole and spec["mib"] + PROCESS_MIB > whole:
            raise UsageError(f"bench host: no node has {spec['mib']} MiB for it", "--mib M")
        self._check_node(str(spec.get("node", "")))
        return spec

    def _check_node(self, node: str) -> None:
        if node and not re.fullmatch(NODE_RE, node):
            raise UsageError(f"{clean(node, 80)!r} is not a node's name", "wspilot nodes")
        if node in self._service.books.dirty_nodes:
            raise Refused(f"{node} is dirty: its memory is not all its own",
                          f"wspilot nodes repair {node}")  # fmt: skip

    def _slot(self, id: str) -> Slot:
        slot = self._service.books.slot(id)
        if slot is None or not slot.bench:
            raise NotFound(f"no slot {clean(id, 40)!r} of a bench")
        return slot

    def _document(self, id: str) -> dict[str, Any]:
        """`figures` is None until the node has said them."""
        slot, books = self._slot(id), self._service.books
        pilots = books.pilots_of(slot)
        found = [one.facts["bench"] for one in pilots if one.facts.get("bench")]
        return {"schema": 1, "bench": {
            "id": slot.id, "name": slot.id, "state": slot.state.value, "cause": slot.cause,
            "waits_for": slot.waits_for, "ended": slot.state in FINAL_SLOT,
            "node": next((one.node for one in pilots), str(slot.bench.get("node", ""))),
            "figures": dict(found[0]) if found else None,
        }}  # fmt: skip

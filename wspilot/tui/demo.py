"""A canned busy site that lives in this process: to try the screen without any daemon.

It answers the same requests as a daemon, so every key works: what is deployed comes up within
seconds, what is destroyed goes. Left alone it does not stand still: a script's small leases come
and go. What has ended is forgotten, so it can run for days.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from wspilot.client import Update
from wspilot.errors import Refused
from wspilot.messages import rfc3339
from wspilot.text import parse_duration
from wspilot.tui import canned, demosite
from wspilot.tui.canned import LEASE_S, PHASES, RISE, Doc, GroupSpec
from wspilot.tui.words import seconds_of

STEP_S = 0.7
SWEEP_S, SWEEP_UP_S, POLL_S = 9.0, 14.0, 15.0
MOST_ENDED, MOST_NODES = 4, 48
_ACTS = {"pause": "paused", "suspend": "suspended", "stop": "stopped", "resume": "running",
         "start": "running", "reboot": "running"}  # fmt: skip


class DemoSource:
    """Some workspaces in every state, and time that passes."""

    place = "demo"
    home: Path | None = None

    def __init__(self, step_s: float = STEP_S, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or time.time
        self._step_s, self._now = step_s, self._clock()
        self._items: dict[str, Doc] = {}
        self._out: asyncio.Queue[tuple[list[Doc], list[str]]] = asyncio.Queue()
        self._serial, self._revision, self._sweeps, self._nodes = 0, 1, 40, 0
        self._swept = self._polled = self._now
        self._fill()

    async def updates(self) -> AsyncIterator[Update]:
        yield Update(self._revision, True, tuple(self._items.values()))
        while True:
            try:
                changed, gone = await asyncio.wait_for(self._out.get(), self._step_s)
            except TimeoutError:
                changed, gone = self._pass_time(), self._forget()
            self._revision += 1
            yield Update(self._revision, False, tuple(changed), tuple(gone))

    async def call(self, method: str, **params: Any) -> Doc:
        if method == "deploy":
            return self._deploy(params)
        if method == "destroy":
            return self._destroy(params["ids"])
        if method in _ACTS:
            return self._act(method, params["ids"])
        if method == "extend":
            return self._extend(params)
        if method == "logs":
            return demosite.logs(self._items, params["id"])
        if method in ("wait", "save"):
            return {}
        if method in demosite.ANSWERS:
            return dict(demosite.ANSWERS[method]())
        raise Refused(f"the demo does not know {method}")

    # -- requests

    def _deploy(self, params: Doc) -> Doc:
        request = demosite.check(params["ensemble"])
        names = {one["name"] for one in self._items.values()
                 if one["table"] == "workspaces" and one["state"] != "ended"}  # fmt: skip
        if request.name in names:
            raise Refused(f"a workspace named {request.name!r} is there already", "choose another")
        if params.get("dry_run") or params.get("show_script"):
            plan = demosite.plan(request)
            return {"plan": plan, "script": demosite.script(plan)}
        groups = [(one.name, one.type, one.count) for one in request.groups]
        ws = self._lease(request.name or "new", groups, "pending", 0, request.duration_s)
        self._submitted(ws)
        self._out.put_nowait((self._of(ws["id"]), []))
        return {"workspace": ws}

    def _extend(self, params: Doc) -> Doc:
        ws = self._items.get(f"workspaces/{params['id']}")
        by_s = parse_duration(params["by"], "by")
        if ws is None or not ws["ends"]:
            raise Refused("only an active lease is extended")
        if by_s > demosite.MOST_EXTENSION_S:
            raise Refused(f"{ws['name']} cannot last {params['by']} longer: its jobs' walltime "
                          "allows 1h more", "wspilot extend by 1h")  # fmt: skip
        ws.update(ends=rfc3339(seconds_of(ws["ends"]) + by_s), lease_s=ws["lease_s"] + by_s)
        self._out.put_nowait(([ws, self._event("workspace", f"{ws['name']} extended", ws)], []))
        return {"workspaces": [ws]}

    def _act(self, verb: str, ids: list[str]) -> Doc:
        """The VMs that are meant do at once as they are told."""
        changed = []
        for item in self._items.values():
            if item["table"] != "vms" or item["state"] in ("terminated", "failed"):
                continue
            ws = item["workspace"]
            if {item["id"], ws, f"{ws}/{item['group']}"} & set(ids):
                item.update(state=_ACTS[verb], since=rfc3339(self._clock()))
                changed.append(item)
        self._out.put_nowait((changed, []))
        return {"workspaces": []}

    def _destroy(self, ids: list[str]) -> Doc:
        touched: list[Doc] = []
        for item in list(self._items.values()):
            if item["table"] == "workspaces" and item["id"] in ids and item["state"] != "ended":
                touched += self._end(item)
            elif item["table"] == "vms" and self._meant(item, ids):
                self._set(item, "stopping", wanted="gone")
                touched.append(item)
        self._out.put_nowait((touched, []))
        return {"workspaces": [one for one in touched if one["table"] == "workspaces"]}

    @staticmethod
    def _meant(vm: Doc, ids: list[str]) -> bool:
        names = {vm["id"], vm["workspace"], f"{vm['workspace']}/{vm['group']}"}
        return vm["state"] != "terminated" and bool(names & set(ids))

    def _end(self, ws: Doc) -> list[Doc]:
        self._set(ws, "ending", wanted="ended")
        members = [self._items[f"vms/{id}"] for id in ws["vms"]]
        for vm in members:
            if vm["state"] != "terminated":
                self._set(vm, "stopping", wanted="gone")
        return [ws, *members, self._event("workspace", f"{ws['name']} ending", ws)]

    # -- time

    def _pass_time(self) -> list[Doc]:
        """Some VMs, slots and workspaces move a little."""
        self._now = self._clock()
        moved = self._poll()
        for item in list(self._items.values()):
            if item["table"] == "vms" and len(moved) < 8:
                moved += self._step_vm(item)
        for item in list(self._items.values()):
            if item["table"] == "slots":
                moved += self._step_slot(item)
            elif item["table"] == "workspaces":
                moved += self._step_workspace(item)
        return moved + self._sweep()

    def _poll(self) -> list[Doc]:
        status = self._items["status/daemon"]
        if self._now - self._polled < POLL_S:
            return []
        self._polled = self._now
        status["poll"] = {"ok": True, "at": rfc3339(self._now), "text": ""}
        return [status]

    def _step_vm(self, vm: Doc) -> list[Doc]:
        slot = self._items[f"slots/{vm['slot']}"]
        if vm["state"] == "stopping":
            self._set(vm, "terminated")
        elif vm["state"] in PHASES and vm["wanted"] == "running" and slot["state"] == "ready":
            name, seconds = PHASES[vm["state"]]
            seconds *= 1 + 0.03 * ((vm["index"] * 7) % 11)
            vm["spans"] = [*vm["spans"], canned.span(name, seconds, self._now)]
            vm["node"] = vm["node"] or slot["nodes"][(vm["index"] - 1) % len(slot["nodes"])]
            self._set(vm, RISE[RISE.index(vm["state"]) + 1])
        else:
            return []
        return [vm, self._event("vm", f"{vm['name']} {vm['state']}", vm)]

    def _step_slot(self, slot: Doc) -> list[Doc]:
        """A slot of the script or the user goes its way; `night-run` waits for ever."""
        ws = self._items[f"workspaces/{slot['workspace']}"]
        if slot["state"] == "queued" and not slot["waits_for"]:
            slot["nodes"] = [self._node() for _ in range(slot["count"])]
            slot["lrm"] = {**slot["lrm"], "state": "running", "raw": "R"}
            slot["spans"] = [canned.span("lrm", 1.4, self._now)]
            self._set(slot, "starting")
        elif slot["state"] == "starting":
            slot["spans"] = [*slot["spans"], canned.span("pilot", 0.4, self._now),
                             canned.span("reserve", 0.1, self._now)]  # fmt: skip
            self._set(slot, "ready")
        elif slot["state"] in ("ready", "queued") and self._over(ws):
            self._set(slot, "releasing", wanted="gone")
        elif slot["state"] == "releasing":
            slot["lrm"] = {**slot["lrm"], "state": "gone", "raw": "C"}
            self._set(slot, "released")
        else:
            return []
        return [slot, self._event("slot", f"slot {slot['id']} {slot['state']}", slot)]

    def _over(self, ws: Doc) -> bool:
        states = {self._items[f"vms/{id}"]["state"] for id in ws["vms"]}
        return ws["state"] == "ending" and states <= {"terminated"}

    def _step_workspace(self, ws: Doc) -> list[Doc]:
        states = {self._items[f"vms/{id}"]["state"] for id in ws["vms"]}
        slots = {self._items[f"slots/{id}"]["state"] for id in ws["slots"]}
        if ws["state"] == "ending" and states <= {"terminated"} and slots <= {"released"}:
            ws["outcome"] = "destroyed"
            self._set(ws, "ended")
        elif ws["state"] in ("pending", "provisioning") and states == {"running"}:
            ws.update(active_at=rfc3339(self._now), ends=rfc3339(self._now + ws["lease_s"]))
            self._set(ws, "active")
        elif ws["state"] == "pending" and states & {"propagating", "starting", "booting"}:
            self._set(ws, "provisioning")
        else:
            return []
        return [ws, self._event("workspace", f"{ws['name']} {ws['state']}", ws)]

    def _sweep(self) -> list[Doc]:
        """A script's leases: one comes, and goes when it has been up for a while."""
        ours = [one for one in self._items.values()
                if one["table"] == "workspaces" and one["name"].startswith("sweep-")
                and one["state"] != "ended"]  # fmt: skip
        if ours and ours[0]["state"] == "active" and self._now - self._swept > SWEEP_UP_S:
            self._swept = self._now
            return self._end(ours[0])
        if not ours and self._now - self._swept > SWEEP_S:
            self._swept, self._sweeps = self._now, self._sweeps + 1
            ws = self._lease(f"sweep-{self._sweeps}", [("point", "small", 3)], "pending", 0)
            return [*self._of(ws["id"]), self._submitted(ws)]
        return []

    def _forget(self) -> list[str]:
        """What ended long ago goes, and events beyond a few hundred."""
        ended = [one for one in self._items.values()
                 if one["table"] == "workspaces" and one["state"] == "ended"]  # fmt: skip
        gone = [f"{item['table']}/{item['id']}"
                for ws in ended[: max(0, len(ended) - MOST_ENDED)]
                for item in self._of(ws["id"]) if item["table"] != "events"]  # fmt: skip
        events = [key for key, item in self._items.items() if item["table"] == "events"]
        for key in (*gone, *events[: max(0, len(events) - 500)]):
            del self._items[key]
        return gone

    def _set(self, item: Doc, state: str, **more: Any) -> None:
        item.update(state=state, since=rfc3339(self._now), waits_for="", **more)

    # -- the canned site

    def _fill(self) -> None:
        self._put(canned.status(self._now, self._now - 7300))
        self._history()
        trio = [("ce", "medium", 1), ("se", "medium", 1), ("worker", "small", 6)]
        self._lease("osg", trio, "active", 4210)
        self._lease("teaching", [("student", "small", 12)], "active", 6900)
        self._pause(self._lease("climate", [("solver", "large", 3)], "active", 3100))
        self._hurt(self._lease("genomes", [("head", "medium", 1), ("worker", "small", 5)],
                               "degraded", 2000))  # fmt: skip
        self._hold(self._lease("night-run", [("vm", "large", 4)], "pending", 900))
        self._lease("mpi-2026", [("rank", "large", 8)], "provisioning", 40)
        for vm in [one for one in self._items.values() if one["table"] == "vms" and one["node"]]:
            if f"nodes/{vm['node']}" not in self._items and vm["state"] != "terminated":
                at = self._now - self._serial % 29
                made = canned.node(vm["node"], "in use", at, [vm["slot"]])
                made.update(taken_mib=vm["memory_mib"] + 640, since=vm["since"])
                self._put(made)
        for name in ("node46", "node47", "node48"):
            self._put(canned.node(name, "clean", self._now - 5400))

        living = [one for one in self._items.values()
                  if one["table"] == "workspaces" and one["state"] != "ended"]  # fmt: skip
        for ws in living:
            self._submitted(ws, seconds_of(ws["created"]))
        events = [one for one in self._items.values() if one["table"] == "events"]
        for one in sorted(events, key=lambda one: str(one["at"])):
            del self._items[f"events/{one['id']}"]
            self._put(one)  # oldest first, as they come from a daemon

    def _submitted(self, ws: Doc, at: float | None = None) -> Doc:
        """The event of its slot's submission."""
        slot = self._items[f"slots/{ws['slots'][0]}"]
        text, data = canned.qsub(slot)
        return self._event("lrm", text, slot, at, data=data)

    def _history(self) -> None:
        lost = self._lease("paper-fig2", [("vm", "small", 2)], "ended", 9000)
        lost.update(
            outcome="preempted",
            created=rfc3339(self._now - 14400),
            cause="SIGTERM from the batch system",
        )
        bad = self._lease("broken", [("vm", "small", 2)], "ended", 7100)
        bad.update(
            outcome="failed",
            created=rfc3339(self._now - 7130),
            cause="vm/2: image `default2` is not in the repository",
        )
        at = self._now - 105
        asked, ran = canned.ran(("qstat", "-x", "4710.head", "4728.head"), 0.06)
        for n, (kind, text, data) in enumerate((
            ("workspace", "osg active", {}),
            ("lrm", asked, ran),
            ("slot", "job 4711.head ended in the batch system (C, exit 0)", {}),
            ("workspace", "teaching active", {}),
            ("workspace", "genomes provisioning", {}),
        )):  # fmt: skip
            self._event(kind, text, {}, at + n * 11, data=data)

    def _hurt(self, ws: Doc) -> None:
        vm = self._items[f"vms/{ws['vms'][-1]}"]
        vm.update(state="unknown", cause=f"{vm['node']} has been silent for 90 s")
        self._event("node", vm["cause"], vm, self._now - 60, "warning")
        self._event("workspace", "genomes degraded: 1 of 5 workers is unknown", ws,
                    self._now - 59, "warning")  # fmt: skip
        ws.update(cause="1 of 5 workers is unknown",
                  causes=[f"{vm['name']}: {vm['cause']}", "no heartbeat for 90 s"])  # fmt: skip
        self._put(canned.node(vm["node"], "unknown", self._now - 90, cause="silent for 90 s"))

    def _pause(self, ws: Doc) -> None:
        for id, state in zip(ws["vms"], ("paused", "suspended"), strict=False):
            self._items[f"vms/{id}"].update(state=state, since=rfc3339(self._now - 240))

    def _hold(self, ws: Doc) -> None:
        why = "the batch system (Resources)"
        ws["waits_for"] = why
        for item in self._items.values():
            if item.get("workspace") == ws["id"]:
                item["waits_for"] = why if item["table"] == "slots" else "its node"

    def _lease(self, name: str, groups: Sequence[GroupSpec], state: str, age: float,
               lease_s: int = LEASE_S) -> Doc:  # fmt: skip
        at = self._now - age
        ws = self._put(canned.workspace(self._id(), name, groups, state, at, lease_s))
        up = {"provisioning": "booting", "pending": "pending", "ended": "terminated"}
        vms: list[Doc] = []
        for group, kind, count in groups:
            for n in range(1, count + 1):
                vms.append(canned.vm(self._id(), ws, group, kind, n, up.get(state, "running"), at,
                                     node=self._node(), octet=self._serial % 250 + 2))  # fmt: skip
                self._put(vms[-1])
        held = {"pending": "queued", "ended": "released"}.get(state, "ready")
        slot = canned.slot(self._id(), ws, held, vms, at, 4700 + self._serial)
        self._put(slot)
        for vm in vms:
            vm["slot"] = slot["id"]
        ws.update(vms=[vm["id"] for vm in vms], slots=[slot["id"]])
        return ws

    def _node(self) -> str:
        self._nodes = self._nodes % MOST_NODES + 1
        return f"node{self._nodes:02d}"

    def _event(self, kind: str, text: str, item: Doc, at: float | None = None,
               level: str = "info", **more: Any) -> Doc:  # fmt: skip
        self._serial += 1
        table = item.get("table")
        about = {
            "workspace": item.get("id", "") if table == "workspaces" else item.get("workspace", ""),
            "vm": item.get("id", "") if table == "vms" else "",
            "slot": item.get("id", "") if table == "slots" else "",
            "node": item.get("node", ""),
        }
        id = str(self._serial)
        return self._put(canned.event(id, kind, text, at or self._now, level, **about, **more))

    def _id(self) -> str:
        self._serial += 1
        word = ""
        number = self._serial * 7_919_993 % 36**7
        for _ in range(7):
            number, digit = divmod(number, 36)
            word += "0123456789abcdefghijklmnopqrstuvwxyz"[digit]
        return f"d{word}"

    def _put(self, item: Doc) -> Doc:
        self._items[f"{item['table']}/{item['id']}"] = item
        return item

    def _of(self, ws: str) -> list[Doc]:
        return [
            item for item in self._items.values() if item["id"] == ws or item.get("workspace") == ws
        ]

"""A canned busy site that lives in this process: to try the screen without any daemon.

States are the words of DESIGN.md section 5. It answers the same requests as a daemon, so every key
works; what is deployed comes up within seconds, what is destroyed goes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from wspilot.client import Update
from wspilot.errors import Refused
from wspilot.messages import rfc3339

Doc = dict[str, Any]
STEP_S = 0.7
_RISE = ("pending", "propagating", "starting", "booting", "running")


class DemoSource:
    """Some workspaces in every state, and time that passes."""

    place = "demo"

    def __init__(self, step_s: float = STEP_S) -> None:
        self._step_s, self._now = step_s, time.time()
        self._items: dict[str, Doc] = {}
        self._out: asyncio.Queue[tuple[list[Doc], list[str]]] = asyncio.Queue()
        self._serial, self._revision = 0, 1
        self._fill()

    async def updates(self) -> AsyncIterator[Update]:
        yield Update(self._revision, True, tuple(self._items.values()))
        while True:
            try:
                changed, gone = await asyncio.wait_for(self._out.get(), self._step_s)
            except TimeoutError:
                changed, gone = self._pass_time(), []
            self._revision += 1
            yield Update(self._revision, False, tuple(changed), tuple(gone))

    async def call(self, method: str, **params: Any) -> Doc:
        if method == "deploy":
            return self._deploy(params)
        if method == "destroy":
            return self._destroy(params["ids"])
        raise Refused(f"the demo does not know {method}")

    # -- requests

    def _deploy(self, params: Doc) -> Doc:
        doc = params["ensemble"]
        groups = [
            (one.get("name", "vm"), one.get("type", "small"), int(one.get("count", 1)))
            for one in doc.get("group", [])
        ]
        vms = sum(count for _, _, count in groups)
        if params.get("dry_run"):
            slot = {"nodes": vms, "ppn": 1, "memory_mib": 512, "whole_node": True, "vms": vms}
            hours = round(vms * 7680 / 3600, 2)
            return {
                "plan": {
                    "slots": [slot],
                    "lease_s": 7200,
                    "walltime_s": 7680,
                    "walltime": [],
                    "node_hours": hours,
                }
            }
        name = doc.get("workspace", {}).get("name", "new")
        ws = self._workspace(name, groups, "pending", age=0)
        self._out.put_nowait((self._of(ws["id"]), []))
        return {"workspace": ws}

    def _destroy(self, ids: list[str]) -> Doc:
        touched = []
        for item in self._items.values():
            hit = item["id"] in ids or item.get("workspace") in ids
            if item["table"] in ("workspaces", "vms") and hit:
                item["wanted"] = "ended" if item["table"] == "workspaces" else "gone"
                self._set(item, "ending" if item["table"] == "workspaces" else "stopping")
                touched.append(item)
        self._out.put_nowait((touched, []))
        return {"workspaces": [one for one in touched if one["table"] == "workspaces"]}

    # -- time

    def _pass_time(self) -> list[Doc]:
        """One VM or workspace moves a little."""
        self._now = time.time()
        moved: list[Doc] = []
        for item in list(self._items.values()):
            if item["table"] == "vms" and len(moved) < 3:
                moved += self._step_vm(item)
        for item in list(self._items.values()):
            if item["table"] == "workspaces":
                moved += self._step_workspace(item)
        return moved

    def _step_vm(self, vm: Doc) -> list[Doc]:
        if vm["state"] == "stopping":
            self._set(vm, "terminated")
        elif vm["state"] in _RISE[:-1] and vm["wanted"] == "running" and not vm["waits_for"]:
            name = {
                "pending": "invoke",
                "propagating": "propagate",
                "starting": "create",
                "booting": "boot",
            }[vm["state"]]
            seconds = {"invoke": 0.21, "propagate": 0.64, "create": 0.37, "boot": 4.2}[name]
            vm["spans"] = [*vm["spans"], self._span(name, seconds + vm["index"] * 0.05)]
            self._set(vm, _RISE[_RISE.index(vm["state"]) + 1])
        else:
            return []
        return [vm, self._event("vm", f"{vm['name']} {vm['state']}", vm)]

    def _step_workspace(self, ws: Doc) -> list[Doc]:
        states = {self._items[f"vms/{id}"]["state"] for id in ws["vms"]}
        if ws["state"] == "ending" and states == {"terminated"}:
            ws["outcome"] = "destroyed"
            self._set(ws, "ended")
        elif ws["state"] in ("pending", "provisioning") and states == {"running"}:
            ws["ends"] = rfc3339(self._now + ws["lease_s"])
            self._set(ws, "active")
        elif ws["state"] == "pending" and states & {"starting", "booting"}:
            self._set(ws, "provisioning")
        else:
            return []
        return [ws, self._event("workspace", f"{ws['name']} {ws['state']}", ws)]

    def _set(self, item: Doc, state: str) -> None:
        item.update(state=state, since=rfc3339(self._now), waits_for="")

    # -- the canned site

    def _fill(self) -> None:
        at = self._now
        self._put(
            {
                "table": "status",
                "id": "daemon",
                "name": "daemon",
                "version": "demo",
                "pid": 1,
                "since": rfc3339(at - 7300),
                "home": "demo",
                "site": "demo",
                "lrm": "torque",
                "vmm": "qemu",
                "poll": {"ok": True, "at": rfc3339(at), "text": ""},
                "spool": {"at": rfc3339(at), "backlog": 0, "bad": 0, "text": ""},
            }
        )
        self._workspace(
            "osg",
            [("ce", "medium", 1), ("se", "medium", 1), ("worker", "small", 6)],
            "active",
            age=4210,
        )
        self._workspace("mpi-2026", [("rank", "large", 8)], "provisioning", age=40)
        self._workspace("teaching", [("student", "small", 12)], "active", age=6900)
        queued = self._workspace("night-run", [("vm", "large", 4)], "pending", age=900)
        self._hold(queued, "the batch system (Resources)")
        sick = self._workspace(
            "genomes", [("head", "medium", 1), ("worker", "small", 5)], "degraded", age=2000
        )
        lost = self._items[f"vms/{sick['vms'][-1]}"]
        lost.update(state="unknown", cause="node14 has been silent for 90 s")
        sick["cause"] = "1 of 5 workers is unknown"
        ended = self._workspace("paper-fig2", [("vm", "small", 2)], "ended", age=9000)
        ended.update(outcome="preempted", cause="preempted: SIGTERM from the batch system")
        for n, text in enumerate(
            (
                "osg active",
                "job 4711.head ended in the batch system (C, exit 0)",
                "teaching active",
                "genomes degraded",
            )
        ):
            self._event("workspace", text, {}, at - 60 + n * 10)

    def _workspace(
        self, name: str, groups: list[tuple[str, str, int]], state: str, age: float
    ) -> Doc:
        ws_id, begun = self._id(), self._now - age
        up = {
            "active": "running",
            "degraded": "running",
            "ended": "terminated",
            "provisioning": "booting",
        }.get(state, "pending")
        vms, number = [], 0
        for group, kind, count in groups:
            for n in range(1, count + 1):
                number += 1
                vms.append(self._vm(ws_id, name, group, kind, n, up, begun, number))
        slot = self._slot(ws_id, state, vms, begun)
        lease = 7200
        ws = {
            "table": "workspaces",
            "id": ws_id,
            "name": name,
            "state": state,
            "wanted": "active",
            "outcome": None,
            "cause": "",
            "causes": [],
            "since": rfc3339(begun),
            "waits_for": "",
            "created": rfc3339(begun),
            "active_at": None,
            "lease_s": lease,
            "ends": rfc3339(begun + lease) if state in ("active", "degraded") else None,
            "groups": [
                {
                    "name": group,
                    "type": kind,
                    "count": count,
                    "min": count,
                    "image": "default",
                    "nics": ["private"],
                    "ready": "agent",
                    "placement": "spread",
                    "roles": {"provides": [], "requires": []},
                }
                for group, kind, count in groups
            ],
            "vms": [vm["id"] for vm in vms],
            "slots": [slot["id"]],
        }
        if state == "ended":
            ws["wanted"] = "ended"
        return self._put(ws)

    def _vm(
        self, ws: str, name: str, group: str, kind: str, n: int, state: str, at: float, number: int
    ) -> Doc:
        done = state not in ("pending",)
        spans = (
            [
                self._span("invoke", 0.18 + n * 0.02),
                self._span("propagate", 0.9),
                self._span("create", 0.31),
            ]
            if done
            else []
        )
        if state in ("running", "terminated"):
            spans.append(self._span("boot", 4.1 + n * 0.1))
        octet = len(self._items) % 250 + 2
        return self._put(
            {
                "table": "vms",
                "id": self._id(),
                "name": f"{name}/{group}/{n}",
                "workspace": ws,
                "group": group,
                "index": n,
                "type": kind,
                "image": "default",
                "state": state,
                "wanted": "running",
                "since": rfc3339(at),
                "waits_for": "",
                "node": f"node{number + 8:02d}" if done else "",
                "slot": "",
                "phase": "",
                "cause": "",
                "unproven": False,
                "progress": None,
                "spans": spans,
                "cpus": 1,
                "memory_mib": 1024,
                "nics": [
                    {
                        "network": "private",
                        "mac": f"02:57:0a:4d:00:{octet:02x}",
                        "ip": f"10.77.0.{octet}",
                    }
                ],
                "seen": rfc3339(at),
                "seen_by": "3f2a91c0",
            }
        )

    def _slot(self, ws: str, state: str, vms: list[Doc], at: float) -> Doc:
        slot_state = {
            "active": "ready",
            "degraded": "ready",
            "provisioning": "ready",
            "pending": "queued",
            "ended": "released",
        }[state]
        id = self._id()
        for vm in vms:
            vm["slot"] = id
        begun = state != "pending"
        return self._put(
            {
                "table": "slots",
                "id": id,
                "name": f"ws-{id}-01",
                "workspace": ws,
                "state": slot_state,
                "wanted": "held",
                "since": rfc3339(at),
                "waits_for": "",
                "cause": "",
                "causes": [],
                "nodes": [vm["node"] for vm in vms] if begun else [],
                "count": len(vms),
                "ppn": 4,
                "memory_mib": 1536,
                "walltime_s": 7680,
                "job": f"{4700 + self._serial}.head",
                "lrm": {
                    "state": "running" if begun else "queued",
                    "raw": "R" if begun else "Q",
                    "reason": "",
                    "at": rfc3339(at),
                },
                "spans": [
                    self._span("lrm", 3.4),
                    self._span("pilot", 0.4),
                    self._span("reserve", 0.1),
                ]
                if begun
                else [],
                "vms": [vm["id"] for vm in vms],
            }
        )

    def _hold(self, ws: Doc, why: str) -> None:
        ws["waits_for"] = why
        for item in self._items.values():
            if item.get("workspace") == ws["id"]:
                item["waits_for"] = why if item["table"] == "slots" else "its node"

    def _span(self, name: str, seconds: float) -> Doc:
        return {"name": name, "start": rfc3339(self._now), "seconds": seconds, "clock": "node"}

    def _event(self, kind: str, text: str, item: Doc, at: float | None = None) -> Doc:
        self._serial += 1
        level = "warning" if "unknown" in text or "degraded" in text else "info"
        return self._put(
            {
                "table": "events",
                "id": str(self._serial),
                "name": str(self._serial),
                "at": rfc3339(at or self._now),
                "level": level,
                "kind": kind,
                "text": text,
                "workspace": item.get("workspace", ""),
                "slot": "",
                "vm": "",
                "node": item.get("node", ""),
                "data": {},
            }
        )

    def _id(self) -> str:
        self._serial += 1
        return f"d{self._serial:07d}"

    def _put(self, item: Doc) -> Doc:
        self._items[f"{item['table']}/{item['id']}"] = item
        return item

    def _of(self, ws: str) -> list[Doc]:
        return [
            item for item in self._items.values() if item["id"] == ws or item.get("workspace") == ws
        ]

"""The daemon's items as the screen needs them: one tree, in order, looked up by key.

Pure: `apply` takes an update of the subscription, `order` gives the tree's order, `row` a line. A
line is made only when it is drawn, so ten thousand VMs cost what fits on the screen: what a line
of a group needs is counted as updates come in. Foreign text is cleaned on entry, once, and a field
that another release of the daemon does not send has a default, so that no line can fail.
"""

from __future__ import annotations

import calendar
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from wspilot.client import Update
from wspilot.text import clean, format_duration, format_size

TABLES = ("workspaces", "vms", "slots", "nodes", "events", "status")
MAX_EVENTS = 1000
SOON_S = 600.0  # a lease that ends within this is marked
SICK = ("dirty", "unknown", "repairing")  # states of a node that an operator has to see
SICK_NODES = "sick/nodes"  # the line that they hang below
Doc = dict[str, Any]

_RECORD: Doc = {"name": "", "state": "unknown", "wanted": "", "since": "", "waits_for": "",
                "cause": "", "causes": ()}  # fmt: skip
DEFAULTS: Mapping[str, Doc] = {
    "workspaces": {**_RECORD, "outcome": None, "created": "", "active_at": None, "ends": None,
                   "lease_s": 0, "groups": (), "vms": (), "slots": ()},
    "vms": {**_RECORD, "workspace": "", "group": "", "index": 0, "type": "", "image": "",
            "node": "", "slot": "", "phase": "", "unproven": False, "progress": None, "nics": (),
            "spans": (), "seen": None, "seen_by": "", "cpus": 0, "memory_mib": 0},
    "slots": {**_RECORD, "workspace": "", "nodes": (), "count": 0, "ppn": 0, "memory_mib": 0,
              "walltime_s": 0, "job": "", "spans": (), "vms": (), "repair_of": "", "again": "",
              "tries": 0, "cancel_tries": 0, "cancel_said": "",
              "lrm": {"state": "", "raw": "", "reason": "", "at": None}},
    "nodes": {**_RECORD, "slots": (), "owes": (), "repair_tries": 0, "repair_at": None,
              "cpus": 0, "memory_mib": 0, "taken_mib": 0, "kvm": None, "skew_s": None,
              "seen": None},
    "events": {"at": "", "level": "info", "kind": "", "text": "", "workspace": "", "slot": "",
               "vm": "", "node": "", "data": {}},
    "status": {"lrm": "the batch system", "poll": {}, "spool": {}},
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line of the tree. `folded` is None for a leaf; `warn` colours the time left."""

    key: str
    depth: int
    name: str
    state: str
    node: str = ""
    address: str = ""
    age: str = ""
    left: str = ""
    why: str = ""
    folded: bool | None = None
    warn: bool = False


class LiveModel:
    """All items, and the order of the tree."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Doc]] = {table: {} for table in TABLES}
        self.folded: set[str] = set()
        self._known: set[str] = set()
        self._keys: list[str] | None = None
        self._states: dict[tuple[str, str], Counter[str]] = {}

    # -- taking in

    def apply(self, update: Update) -> None:
        """Take an update in."""
        if update.snapshot:
            self.items = {table: {} for table in TABLES}
            self._states = {}
            self._keys = None
        for item in update.changed:
            table, id = str(item.get("table", "")), clean(str(item.get("id", "")), 200)
            if table in self.items:
                self._take(table, id, {**DEFAULTS[table], **_cleaned(item), "id": id})
        for key in update.gone:
            table, _, id = key.partition("/")
            old = self.items.get(table, {}).pop(id, None)
            if old is not None:
                self._keys = None
                self._count(table, old, -1)
        events = self.items["events"]
        for id in list(events)[: max(0, len(events) - MAX_EVENTS)]:
            del events[id]

    def _take(self, table: str, id: str, doc: Doc) -> None:
        old = self.items[table].get(id)
        if self._moves(table, id, old, doc):
            self._keys = None
        if old is not None:
            self._count(table, old, -1)
        self._count(table, doc, 1)
        self.items[table][id] = doc

    def _count(self, table: str, doc: Doc, by: int) -> None:
        if table == "vms":
            key = (doc["workspace"], doc["group"])
            self._states.setdefault(key, Counter())[doc["state"]] += by

    def _moves(self, table: str, id: str, old: Doc | None, doc: Doc) -> bool:
        """Does this item change the order of the tree?"""
        if table == "nodes":
            return (old is not None and old["state"] in SICK) != (doc["state"] in SICK)
        if table not in ("workspaces", "vms", "slots"):
            return False
        if table == "workspaces" and doc["state"] == "ended" and id not in self._known:
            self._known.add(id)
            self.folded.add(f"workspaces/{id}")
        if old is None:
            return True
        return table == "workspaces" and (
            old["vms"] != doc["vms"]
            or old["slots"] != doc["slots"]
            or (old["state"] == "ended") != (doc["state"] == "ended")
        )

    # -- the tree

    def order(self) -> list[str]:
        """The tree's lines from the top; the same list until the order changes."""
        if self._keys is None:
            self._keys = list(self._walk())
        return self._keys

    def _walk(self) -> Iterable[str]:
        spaces = sorted(
            self.items["workspaces"].values(),
            key=lambda ws: (ws["state"] != "ended", ws["created"]),
            reverse=True,
        )
        living = [ws for ws in spaces if ws["state"] != "ended"]
        yield from self._walk_leases(living)
        yield from self._walk_sick()
        yield from self._walk_leases(spaces[len(living) :])

    def _walk_sick(self) -> Iterable[str]:
        """Nodes that need somebody, between what lives and what has ended."""
        sick = [node["id"] for node in self.items["nodes"].values() if node["state"] in SICK]
        if sick:
            yield SICK_NODES
            if SICK_NODES not in self.folded:
                yield from (f"nodes/{id}" for id in sorted(sick))

    def _walk_leases(self, spaces: Iterable[Doc]) -> Iterable[str]:
        for ws in spaces:
            yield f"workspaces/{ws['id']}"
            if f"workspaces/{ws['id']}" in self.folded:
                continue
            members: dict[str, list[str]] = {}
            for id in ws["vms"]:
                if vm := self.items["vms"].get(id):
                    members.setdefault(vm["group"], []).append(f"vms/{id}")
            for group in ws["groups"]:
                key = f"groups/{ws['id']}/{group['name']}"
                yield key
                if key not in self.folded:
                    yield from members.get(group["name"], ())
            yield from (f"slots/{id}" for id in ws["slots"] if id in self.items["slots"])

    def fold(self, key: str, folded: bool | None = None) -> None:
        """Fold or unfold (or turn over) a line that has others below it."""
        if not key.startswith(("workspaces/", "groups/", SICK_NODES)):
            return
        fold = key not in self.folded if folded is None else folded
        (self.folded.add if fold else self.folded.discard)(key)
        self._keys = None

    def parent(self, key: str) -> str | None:
        """The line that a line hangs below."""
        table, _, id = key.partition("/")
        doc = self.items.get(table, {}).get(id)
        if table == "groups":
            return f"workspaces/{id.split('/')[0]}"
        if table == "nodes":
            return SICK_NODES
        if doc is None or table == "workspaces":
            return None
        if table == "vms":
            return f"groups/{doc['workspace']}/{doc['group']}"
        return f"workspaces/{doc['workspace']}"

    def workspace_of(self, key: str) -> Doc | None:
        """The workspace that a line belongs to."""
        table, _, id = key.partition("/")
        if table in ("workspaces", "groups"):
            return self.items["workspaces"].get(id.split("/")[0])
        doc = self.items.get(table, {}).get(id)
        return self.items["workspaces"].get(doc.get("workspace", "")) if doc else None

    def vms_of(self, key: str) -> list[Doc]:
        """The VMs that an act on a line would touch."""
        table, _, id = key.partition("/")
        if table == "vms":
            return [self.items["vms"][id]] if id in self.items["vms"] else []
        ws = self.workspace_of(key)
        vms = [
            self.items["vms"][one] for one in (ws or {}).get("vms", ()) if one in self.items["vms"]
        ]
        if table == "groups":
            return [vm for vm in vms if vm["group"] == id.partition("/")[2]]
        return vms if table == "workspaces" else []

    def states_of(self, key: str) -> Counter[str]:
        """How many VMs of a group are in each state."""
        _, ws, group = key.split("/", 2)
        return +self._states.get((ws, group), Counter())

    def events_of(self, key: str, most: int) -> list[Doc]:
        """The newest events about a line, oldest first."""
        table, _, id = key.partition("/")
        ids = {vm["id"] for vm in self.vms_of(key)} if table == "groups" else {id}
        field = {"workspaces": "workspace", "slots": "slot", "nodes": "node"}.get(table, "vm")
        found: list[Doc] = []
        for event in reversed(self.items["events"].values()):
            if event[field] in ids:
                found.append(event)
                if len(found) == most:
                    break
        return found[::-1]

    # -- lines

    def row(self, key: str, now: float) -> Row:
        """The line of a key, as it is now."""
        table, _, id = key.partition("/")
        if table == "groups":
            return self._group(key, id)
        if key == SICK_NODES:
            return self._sick(key)
        doc = self.items[table].get(id)
        if doc is None:
            return Row(key, 0, "?", "unknown")
        if table == "nodes":
            return Row(key, 1, doc["name"], doc["state"], age=since(doc, now), why=doc["cause"])
        if table == "workspaces":
            return self._workspace(key, doc, now)
        return self._vm(key, doc, now) if table == "vms" else self._slot(key, doc, now)

    def _workspace(self, key: str, ws: Doc, now: float) -> Row:
        left, warn = left_of(ws, now)
        if ws["state"] == "ended":
            why = f"{ws['outcome']}: {ws['cause']}" if ws["cause"] else str(ws["outcome"])
        else:
            why = ws["cause"] or _waits(ws)
        return Row(key, 0, ws["name"], ws["state"], plural(len(ws["vms"]), "VM"),
                   age=since(ws, now), left=left, why=why, folded=key in self.folded,
                   warn=warn)  # fmt: skip

    def _sick(self, key: str) -> Row:
        nodes = [node for node in self.items["nodes"].values() if node["state"] in SICK]
        states = [node["state"] for node in nodes]
        state = next((state for state in SICK if state in states), "unknown")
        return Row(key, 0, f"{plural(len(nodes), 'node')} not clean", state,
                   why="no lease is placed there until a repair",
                   folded=key in self.folded)  # fmt: skip

    def _group(self, key: str, id: str) -> Row:
        ws_id, _, name = id.partition("/")
        ws = self.items["workspaces"].get(ws_id, {})
        group = next((one for one in ws.get("groups", ()) if one["name"] == name), None)
        states = self.states_of(key)
        up, state = states["running"], worst(states)
        if group is None:
            return Row(key, 1, name, state)
        what = f"{group.get('type', '?')}, {group.get('image', '?')}"
        return Row(key, 1, name, state, f"{up} of {group.get('count', '?')} up", why=what,
                   folded=key in self.folded)  # fmt: skip

    def _vm(self, key: str, vm: Doc, now: float) -> Row:
        address = ", ".join(str(nic.get("ip", "")) for nic in vm["nics"])
        why = vm["cause"] or ("unproven" if vm["unproven"] else "") or _waits(vm)
        if vm["progress"] is not None:
            why = f"{vm['progress'] * 100:.0f} %  {why}"
        return Row(key, 2, f"{vm['group']}/{vm['index']}", vm["state"], vm["node"], address,
                   since(vm, now), why=why)  # fmt: skip

    def _slot(self, key: str, slot: Doc, now: float) -> Row:
        nodes = slot["nodes"]
        where = f"{slot['count']} asked" if not nodes else plural(len(nodes), "node")
        job = f"job {slot['job']} {slot['lrm']['state']}" if slot["job"] else "no job yet"
        return Row(key, 1, f"slot {slot['id']}", slot["state"],
                   nodes[0] if len(nodes) == 1 else where, age=since(slot, now),
                   why=slot["cause"] or _waits(slot) or job)  # fmt: skip

    # -- the summary

    def counts(self) -> list[tuple[str, int]]:
        """How many workspaces are in each state, the living first."""
        found: dict[str, int] = {}
        for ws in self.items["workspaces"].values():
            found[ws["state"]] = found.get(ws["state"], 0) + 1
        order = ("active", "degraded", "provisioning", "pending", "failed", "ending", "ended")
        return [(state, found[state]) for state in order if state in found]

    def running(self) -> tuple[int, int]:
        """(VMs that run, VMs that are leased or on their way)."""
        total: Counter[str] = Counter()
        for states in self._states.values():
            total.update(states)
        return total["running"], sum(total.values()) - total["terminated"]

    def sick_nodes(self) -> int:
        """How many nodes are dirty or unknown: what an operator has to see."""
        nodes = self.items["nodes"].values()
        return sum(node["state"] in SICK for node in nodes)

    def status(self) -> Doc | None:
        """The daemon's own item."""
        return self.items["status"].get("daemon")


def left_of(ws: Mapping[str, Any], now: float) -> tuple[str, bool]:
    """(lease time left, is it nearly over)."""
    if not ws.get("ends") or ws.get("wanted") != "active":
        return "", False
    left = max(0.0, seconds_of(ws["ends"]) - now)
    return brief(left), left < SOON_S


@lru_cache(maxsize=4096)
def seconds_of(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 time in UTC; 0 for what is none."""
    try:
        return calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return 0.0


def clock(text: str) -> str:
    """The local time of day of an RFC 3339 time."""
    return time.strftime("%H:%M:%S", time.localtime(seconds_of(text))) if text else "--:--:--"


def told(event: Mapping[str, Any]) -> str:
    """The text of an event with its subject: `slot n2fgbdp3: ready`."""
    text, slot = str(event["text"]), str(event["slot"])
    return f"slot {slot}: {text}" if event["kind"] == "slot" and slot not in text else text


def since(doc: Mapping[str, Any], now: float) -> str:
    """How long it has been in its state."""
    return brief(now - seconds_of(doc["since"])) if doc["since"] else ""


def brief(seconds: float) -> str:
    """A duration that stands still long enough to be read: from ten minutes on no seconds."""
    return format_duration(seconds // 60 * 60 if seconds >= 600 else max(0.0, seconds))


def plural(count: int, noun: str) -> str:
    """`1 VM`, `2 VMs`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


_WORST = ("failed", "unknown", "stopping", "pending", "propagating", "starting", "booting",
          "rebooting", "resuming", "suspending", "pausing", "suspended", "paused", "stopped",
          "running", "terminated")  # fmt: skip


def worst(states: Iterable[str]) -> str:
    """The state that stands for several: the one that most needs to be seen."""
    found = set(states)
    return next((state for state in _WORST if state in found), "pending")


def size(mib: int) -> str:
    """MiB for people."""
    return format_size(mib)


def _waits(doc: Mapping[str, Any]) -> str:
    return f"waits for {doc['waits_for']}" if doc.get("waits_for") else ""


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        plain = len(value) < 2000 and value.isascii() and value.isprintable()
        return value if plain else clean(value, 2000)  # `clean` costs ten times the test
    if isinstance(value, dict):
        return {key: _cleaned(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_cleaned(inner) for inner in value]
    return value

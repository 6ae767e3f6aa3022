"""The daemon's items as the screen needs them, looked up by key.

Pure: `apply` takes an update of the subscription; `tree.py` puts the keys in order and `rows.py`
makes lines, only for what is drawn: what a line of a group needs is counted as updates come in.
Foreign text is cleaned on entry, once, and a field that another release of the daemon does not send
has a default, so that no line can fail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from wspilot.client import Update
from wspilot.text import clean
from wspilot.tui.words import seconds_of

TABLES = ("workspaces", "vms", "slots", "nodes", "events", "status")
MAX_EVENTS, MAX_NOTES = 1000, 200
SICK = ("dirty", "unknown", "repairing")  # states of a node that an operator has to see
OVER = ("released", "preempted", "failed")  # of a slot
SICK_NODES = "sick/nodes"  # the line that they hang below
Doc = dict[str, Any]

_RECORD: Doc = {"name": "", "state": "unknown", "wanted": "", "since": "", "waits_for": "",
                "cause": "", "causes": ()}  # fmt: skip
DEFAULTS: Mapping[str, Doc] = {
    "workspaces": {**_RECORD, "outcome": None, "created": "", "active_at": None, "ends": None,
                   "lease_s": 0, "rounds": 0, "groups": (), "vms": (), "slots": ()},
    "vms": {**_RECORD, "workspace": "", "group": "", "index": 0, "type": "", "image": "",
            "node": "", "slot": "", "phase": "", "unproven": False, "progress": None, "nics": (),
            "spans": (), "seen": None, "seen_by": "", "cpus": 0, "memory_mib": 0, "doing": "",
            "refused": "", "context": "", "said": "", "held": False, "proof": None},
    "slots": {**_RECORD, "workspace": "", "nodes": (), "count": 0, "ppn": 0, "memory_mib": 0,
              "walltime_s": 0, "job": "", "spans": (), "vms": (), "repair_of": "",
              "measures": "", "again": "",
              "tries": 0, "cancel_tries": 0, "cancel_said": "", "unknown_nodes": (),
              "proof": None, "idle_at": None,
              "lrm": {"state": "", "raw": "", "reason": "", "at": None}},
    "nodes": {**_RECORD, "slots": (), "owes": (), "repair_tries": 0, "repair_at": None,
              "cpus": 0, "memory_mib": 0, "taken_mib": 0, "kvm": None, "skew_s": None,
              "seen": None},
    "events": {"at": "", "level": "info", "kind": "", "text": "", "workspace": "", "slot": "",
               "vm": "", "node": "", "data": {}},
    "status": {"lrm": "the batch system", "poll": {}, "spool": {}, "pid": 0, "since": "",
               "version": "", "home": "", "site": "", "vmm": ""},
}  # fmt: skip


class LiveModel:
    """All items. `shape` grows when lines come or go, `changes` with every update."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Doc]] = {table: {} for table in TABLES}
        self.pending: dict[str, str] = {}  # key -> what was asked for and is not answered yet
        self.failed: dict[str, str] = {}  # key -> what went wrong, until it is asked or moves again
        self.shape, self.changes = 0, 0
        self._states: dict[tuple[str, str], Counter[str]] = {}
        self._notes: dict[str, Doc] = {}  # our own, the last ones, kept over a reconnect
        self._noted = 0

    # -- taking in

    def apply(self, update: Update) -> None:
        """Take an update in."""
        self.changes += 1
        if update.snapshot:
            self.items = {table: {} for table in TABLES}
            self._states = {}
            self.shape += 1
        for item in update.changed:
            table, id = str(item.get("table", "")), clean(str(item.get("id", "")), 200)
            if table in self.items:
                self._take(table, id, {**DEFAULTS[table], **_cleaned(item), "id": id})
        for key in update.gone:
            table, _, id = key.partition("/")
            old = self.items.get(table, {}).pop(id, None)
            if old is not None:
                self.shape += 1
                self._count(table, old, -1)
        events = self.items["events"]
        if update.snapshot and self._notes:
            merged = [*events.values(), *self._notes.values()]
            self.items["events"] = events = {
                one["id"]: one for one in sorted(merged, key=lambda one: one["at"])
            }
        for id in list(events)[: max(0, len(events) - MAX_EVENTS)]:
            del events[id]

    def note(self, text: str, level: str, now: float, **about: str) -> None:
        """An event of this screen: what was asked for here, and how it went."""
        from wspilot.messages import rfc3339  # 20 ms that the first frame can do without

        self._noted += 1
        id = f"here-{self._noted}"
        doc = {**DEFAULTS["events"], "table": "events", "id": id, "kind": "notice", "level": level,
               "at": rfc3339(now), "text": clean(text, 1000), **about}  # fmt: skip
        self._notes[id] = self.items["events"][id] = doc
        for old in list(self._notes)[:-MAX_NOTES]:
            del self._notes[old]
        self.changes += 1

    def _take(self, table: str, id: str, doc: Doc) -> None:
        old = self.items[table].get(id)
        if self._moves(table, old, doc):
            self.shape += 1
        if old is not None:
            self._count(table, old, -1)
            if self.failed and old.get("state") != doc.get("state"):
                self.failed.pop(f"{table}/{id}", None)
                self.failed.pop(f"groups/{doc.get('workspace')}/{doc.get('group')}", None)
        self._count(table, doc, 1)
        self.items[table][id] = doc

    def _count(self, table: str, doc: Doc, by: int) -> None:
        if table == "vms":
            key = (doc["workspace"], doc["group"])
            self._states.setdefault(key, Counter())[doc["state"]] += by

    @staticmethod
    def _moves(table: str, old: Doc | None, doc: Doc) -> bool:
        """Does this item change the order of a tree?"""
        if table in ("events", "status"):
            return False
        if old is None:
            return True
        if table == "nodes":
            return (old["state"] in SICK) != (doc["state"] in SICK)
        return table == "workspaces" and (
            old["vms"] != doc["vms"]
            or old["slots"] != doc["slots"]
            or (old["state"] == "ended") != (doc["state"] == "ended")
        )

    # -- looking up

    def doc(self, key: str) -> Doc | None:
        """The item of a key; None for groups and what is not there."""
        table, _, id = key.partition("/")
        return self.items.get(table, {}).get(id)

    def workspace_of(self, key: str) -> Doc | None:
        """The workspace that a line belongs to."""
        table, _, id = key.partition("/")
        if table in ("workspaces", "groups"):
            return self.items["workspaces"].get(id.split("/")[0])
        doc = self.doc(key)
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

    def group(self, key: str) -> Doc:
        """The document of a group's line, from its workspace's; empty for what is not there."""
        groups = (self.workspace_of(key) or {}).get("groups", ())
        name = key.split("/", 2)[2]
        return next((one for one in groups if one["name"] == name), {})

    def slots_of(self, ws: Mapping[str, Any]) -> list[Doc]:
        """The slots of a workspace."""
        return [self.items["slots"][id] for id in ws["slots"] if id in self.items["slots"]]

    def states_of(self, key: str) -> Counter[str]:
        """How many VMs of a group or of a workspace are in each state."""
        table, ws, *group = key.split("/", 2)
        if table == "groups":
            return +self._states.get((ws, group[0]), Counter())
        total: Counter[str] = Counter()
        for one in (self.items["workspaces"].get(ws) or {}).get("groups", ()):
            total.update(self._states.get((ws, one.get("name", "")), {}))
        return +total

    def events_of(self, key: str, most: int, kind: str = "") -> list[Doc]:
        """The newest events about a line, oldest first."""
        found: list[Doc] = []
        about = self.about(key)
        for event in reversed(self.items["events"].values()):
            if about(event) and (not kind or event["kind"] == kind):
                found.append(event)
                if len(found) == most:
                    break
        return found[::-1]

    def about(self, key: str) -> Any:
        """A test: does an event concern this line?"""
        table, _, id = key.partition("/")
        if table in ("events", "sick"):
            return lambda event: event["id"] == id
        slot = (self.doc(key) or {}).get("slot", "") if table == "vms" else ""
        ids = {vm["id"] for vm in self.vms_of(key)} if table == "groups" else {id}
        field = {"workspaces": "workspace", "slots": "slot", "nodes": "node"}.get(table, "vm")
        return lambda event: (
            event[field] in ids
            or (slot and event["slot"] == slot and event["kind"] in ("lrm", "slot"))
        )

    def subject(self, key: str) -> str:
        """The line that a line's events are about: itself; of an event the nearest that it names.

        Empty where there is none."""
        if not key.startswith(("events/", "sick/")):
            return key
        event = self.doc(key) or {}
        fields = ("vm", "slot", "node", "workspace")
        return next((f"{one}s/{event[one]}" for one in fields if event.get(one)), "")

    # -- the summary

    def counts(self) -> list[tuple[str, int]]:
        """How many workspaces are in each state, the living first."""
        found = Counter(ws["state"] for ws in self.items["workspaces"].values())
        order = ("active", "degraded", "provisioning", "pending", "failed", "ending", "ended")
        return [(state, found[state]) for state in order if state in found]

    def errors(self, after: float) -> int:
        """How many errors there were since a time (seconds since 1970)."""
        found = (one for one in self.items["events"].values() if one["level"] == "error")
        return sum(seconds_of(one["at"]) >= after for one in found)

    def overdue(self, now: float, limit_s: float) -> bool:
        """True when nobody has asked the batch system for long, though there are jobs."""
        polled = seconds_of(((self.status() or {}).get("poll") or {}).get("at"))
        slots = self.items["slots"].values()
        jobs = any(one["job"] and one["state"] not in OVER for one in slots)
        return jobs and now - polled > limit_s if polled else False

    def silent_nodes(self, ws: Mapping[str, Any]) -> list[str]:
        """Nodes of a workspace that nobody has heard from: its end may never be proved."""
        found = [
            node
            for slot in self.slots_of(ws)
            if slot["state"] not in OVER
            for node in (slot["nodes"] if slot["state"] == "unknown" else slot["unknown_nodes"])
        ]
        found += [
            vm["node"]
            for vm in self.vms_of(f"workspaces/{ws['id']}")
            if vm["state"] == "unknown" and vm["node"]
        ]
        return list(dict.fromkeys(map(str, found)))

    def running(self) -> tuple[int, int]:
        """(VMs that run, VMs that are leased or on their way)."""
        total: Counter[str] = Counter()
        for states in self._states.values():
            total.update(states)
        return total["running"], sum(total.values()) - total["terminated"]

    def sick_nodes(self) -> int:
        """How many nodes are dirty or unknown: what an operator has to see."""
        return sum(node["state"] in SICK for node in self.items["nodes"].values())

    def status(self) -> Doc | None:
        """The daemon's own item."""
        return self.items["status"].get("daemon")

    def waited(self, phase: str = "lrm", most: int = 15) -> list[float]:
        """What a phase of the newest slots took, seconds, oldest first."""
        found = [
            (str(span["start"]), float(span["seconds"]))
            for slot in self.items["slots"].values()
            for span in slot["spans"]
            if span.get("name") == phase and span.get("seconds") is not None
        ]
        return [seconds for _, seconds in sorted(found)[-most:]]


def plain(values: Iterable[Any]) -> str:
    """Some words with commas."""
    return ", ".join(str(one) for one in values)


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        plain = len(value) < 2000 and value.isascii() and value.isprintable()
        return value if plain else clean(value, 2000)  # `clean` costs ten times the test
    if isinstance(value, dict):
        return {key: _cleaned(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_cleaned(inner) for inner in value]
    return value

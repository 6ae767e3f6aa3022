"""The daemon's items as the screen needs them: one tree, in order, looked up by key.

Pure: `apply` takes an update of the subscription, `keys` gives the tree's order, `row` a line. A
line is made only when it is drawn, so ten thousand VMs cost what fits on the screen. Foreign text
is cleaned on entry, once.
"""

from __future__ import annotations

import calendar
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from wspilot.client import Update
from wspilot.text import clean, format_duration, format_size

TABLES = ("workspaces", "vms", "slots", "nodes", "events", "status")
MAX_EVENTS = 1000
Doc = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One line of the tree. `folded` is None for a leaf; `warn` colours the time left."""

    key: str
    depth: int
    name: str
    state: str
    node: str = ""
    address: str = ""
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

    # -- taking in

    def apply(self, update: Update) -> list[Doc]:
        """Take an update in; the events that are new."""
        if update.snapshot:
            self.items = {table: {} for table in TABLES}
            self._keys = None
        fresh = []
        for item in update.changed:
            doc = _cleaned(item)
            table, id = doc.get("table", ""), str(doc.get("id", ""))
            if table not in self.items:
                continue
            if table == "events" and id not in self.items["events"]:
                fresh.append(doc)
            if self._moves(table, id, doc):
                self._keys = None
            self.items[table][id] = doc
        for key in update.gone:
            table, _, id = key.partition("/")
            if self.items.get(table, {}).pop(id, None) is not None:
                self._keys = None
        for id in list(self.items["events"])[:-MAX_EVENTS]:
            del self.items["events"][id]
        return fresh

    def _moves(self, table: str, id: str, doc: Doc) -> bool:
        """Does this item change the order of the tree?"""
        if table not in ("workspaces", "vms", "slots"):
            return False
        old = self.items[table].get(id)
        if table == "workspaces" and doc.get("state") == "ended" and id not in self._known:
            self._known.add(id)
            self.folded.add(f"workspaces/{id}")
        if old is None:
            return True
        return table == "workspaces" and (
            old.get("vms") != doc.get("vms")
            or old.get("slots") != doc.get("slots")
            or (old.get("state") == "ended") != (doc.get("state") == "ended")
        )

    # -- the tree

    def keys(self) -> list[str]:
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
        for ws in spaces:
            yield f"workspaces/{ws['id']}"
            if f"workspaces/{ws['id']}" in self.folded:
                continue
            vms = [self.items["vms"][id] for id in ws["vms"] if id in self.items["vms"]]
            for group in ws["groups"]:
                key = f"groups/{ws['id']}/{group['name']}"
                yield key
                if key not in self.folded:
                    yield from (f"vms/{vm['id']}" for vm in vms if vm["group"] == group["name"])
            yield from (f"slots/{id}" for id in ws["slots"] if id in self.items["slots"])

    def fold(self, key: str, folded: bool | None = None) -> None:
        """Fold or unfold (or turn over) a line that has others below it."""
        if not key.startswith(("workspaces/", "groups/")):
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
        return self.items["workspaces"].get(doc["workspace"]) if doc else None

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
            return [vm for vm in vms if vm["group"] == id.split("/")[1]]
        return vms if table == "workspaces" else []

    # -- lines

    def row(self, key: str, now: float) -> Row:
        """The line of a key, as it is now."""
        table, _, id = key.partition("/")
        if table == "groups":
            return self._group(key, id, now)
        doc = self.items[table].get(id)
        if doc is None:
            return Row(key, 0, "?", "unknown")
        if table == "workspaces":
            return self._workspace(key, doc, now)
        return self._vm(key, doc) if table == "vms" else self._slot(key, doc, now)

    def _workspace(self, key: str, ws: Doc, now: float) -> Row:
        left, warn = left_of(ws, now)
        if ws["state"] == "ended":
            why = f"{ws['outcome']}: {ws['cause']}" if ws["cause"] else str(ws["outcome"])
        else:
            why = ws["cause"] or _waits(ws)
        return Row(
            key,
            0,
            ws["name"],
            ws["state"],
            f"{len(ws['vms'])} VMs",
            "",
            left,
            why,
            key in self.folded,
            warn,
        )

    def _group(self, key: str, id: str, now: float) -> Row:
        ws_id, _, name = id.partition("/")
        ws = self.items["workspaces"].get(ws_id, {})
        group = next((one for one in ws.get("groups", ()) if one["name"] == name), None)
        if group is None:
            return Row(key, 1, name, "unknown")
        vms = self.vms_of(key)
        up = sum(1 for vm in vms if vm["state"] == "running")
        state = worst([vm["state"] for vm in vms])
        return Row(
            key,
            1,
            name,
            state,
            f"{up} of {group['count']} up",
            "",
            "",
            f"{group['type']}, {group['image']}",
            key in self.folded,
        )

    def _vm(self, key: str, vm: Doc) -> Row:
        address = ", ".join(nic["ip"] for nic in vm["nics"])
        why = vm["cause"] or ("unproven" if vm["unproven"] else "") or _waits(vm)
        if vm["progress"] is not None:
            why = f"{vm['progress'] * 100:.0f} %  {why}"
        return Row(
            key, 2, f"{vm['group']}/{vm['index']}", vm["state"], vm["node"], address, "", why
        )

    def _slot(self, key: str, slot: Doc, now: float) -> Row:
        nodes = ",".join(slot["nodes"]) or f"{slot['count']} asked"
        job = f"job {slot['job']} {slot['lrm']['state']}" if slot["job"] else "no job yet"
        why = slot["cause"] or _waits(slot) or job
        return Row(key, 1, f"slot {slot['id']}", slot["state"], nodes, "", "", why)

    # -- the summary

    def counts(self) -> list[tuple[str, int]]:
        """How many workspaces are in each state, the living first."""
        found: dict[str, int] = {}
        for ws in self.items["workspaces"].values():
            found[ws["state"]] = found.get(ws["state"], 0) + 1
        order = ("active", "degraded", "provisioning", "pending", "failed", "ending", "ended")
        return [(state, found[state]) for state in order if state in found]

    def status(self) -> Doc | None:
        """The daemon's own item."""
        return self.items["status"].get("daemon")


def left_of(ws: Mapping[str, Any], now: float) -> tuple[str, bool]:
    """(lease time left, is it nearly over)."""
    if not ws.get("ends") or ws.get("wanted") != "active":
        return "", False
    left = max(0.0, seconds_of(ws["ends"]) - now)
    return format_duration(left), left < 600


def seconds_of(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 time in UTC."""
    return calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))


def since(doc: Mapping[str, Any], now: float) -> str:
    """How long it has been in its state."""
    return format_duration(now - seconds_of(doc["since"]))


def worst(states: list[str]) -> str:
    """The state that stands for several: the one that most needs to be seen."""
    order = (
        "failed",
        "unknown",
        "stopping",
        "pending",
        "propagating",
        "starting",
        "booting",
        "rebooting",
        "suspended",
        "paused",
        "stopped",
        "running",
        "terminated",
    )
    return next((state for state in order if state in states), states[0] if states else "pending")


def size(mib: int) -> str:
    """MiB for people."""
    return format_size(mib)


def _waits(doc: Mapping[str, Any]) -> str:
    return f"waits for {doc['waits_for']}" if doc.get("waits_for") else ""


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value, 2000)
    if isinstance(value, dict):
        return {key: _cleaned(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_cleaned(inner) for inner in value]
    return value

"""What one line says: a `Row` from the model, made only when it is drawn. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from wspilot.text import format_duration
from wspilot.tui import look
from wspilot.tui.live import SICK, SICK_NODES, Doc, LiveModel
from wspilot.tui.words import (
    age,
    brief,
    clock,
    left_of,
    moment,
    natural,
    plural,
    seconds_of,
    since,
    size,
    told,
    waits,
    worst,
)

# How far a VM has come, of the four phases before it is up.
STEPS = {"pending": 0, "propagating": 1, "starting": 2, "booting": 3, "running": 4}
COMING = ("pending", "provisioning", "propagating", "starting", "booting")


@dataclass(frozen=True)
class Row:
    """One line. `folded` is None for a leaf; `warn` ("", soon, now) colours the time left;
    `waits`: its why is what it waits for, so that its age is how long.

    `progress` is 0..1 on the way up, else None; `cells` are the columns of its view alone.
    """

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
    warn: str = ""
    waits: bool = False
    progress: float | None = None
    level: str = ""
    cells: Mapping[str, str] = field(default_factory=dict)

    def cell(self, name: str) -> str:
        """The text of a column."""
        found = self.cells.get(name)
        return str(getattr(self, name, "")) if found is None else found


class Rows:
    """Makes the lines of one model. `absolute`: times of day instead of ages."""

    def __init__(self, model: LiveModel) -> None:
        self._model = model
        self.absolute = False
        self._made: Mapping[str, Callable[[str, Doc, float], Row]] = {
            "workspaces": self._workspace, "vms": self._vm, "slots": self._slot,
            "nodes": self._node, "events": self._event,
        }  # fmt: skip

    def row(self, key: str, now: float, folded: bool | None = None) -> Row:
        """The line of a key, as it is now (`now`: seconds since 1970)."""
        table, _, id = key.partition("/")
        if table == "groups":
            row = self._group(key, id)
        elif key == SICK_NODES:
            row = self._sick(key)
        else:
            doc = self._model.doc(key)
            made = self._made.get(table)
            row = Row(key, 0, "?", "unknown") if doc is None or not made else made(key, doc, now)
        if folded is not None and table in ("workspaces", "groups", "sick"):
            object.__setattr__(row, "folded", folded)
        return row

    def _age(self, doc: Doc, now: float) -> str:
        return moment(doc["since"], now) if self.absolute else since(doc, now)

    def _pending(self, key: str, why: str) -> str:
        asked, failed = self._model.pending.get(key), self._model.failed.get(key)
        if asked:
            return f"{asked}: asked for ..."
        return f"{look.glyph('failed')} {failed}" if failed else why

    def _workspace(self, key: str, ws: Doc, now: float) -> Row:
        left, warn = left_of(ws, now)
        if ws["state"] == "ended":
            why = f"{ws['outcome']}: {ws['cause']}" if ws["cause"] else str(ws["outcome"])
        else:
            why = ws["cause"] or waits(ws)
        if left and self.absolute:
            left = clock(ws["ends"])[:5]
        why = self._pending(key, why)
        up = self._model.states_of(key)["running"]
        number = len(ws["vms"])
        lasted = seconds_of(ws["since"]) - seconds_of(ws["created"])
        coming = ws["state"] in COMING and number
        ran = ws["state"] == "ended" and ws["created"]
        return Row(
            key, 0, ws["name"], ws["state"],
            f"{up} of {plural(number, 'VM')}" if coming else plural(number, "VM"),
            age=self._age(ws, now), left=left, why=why, warn=warn, waits=_waits(ws, why),
            progress=up / number if coming else None,
            cells={"outcome": str(ws["outcome"] or ""), "vms": str(number),
                   "created": moment(ws["created"], now), "ended": moment(ws["since"], now),
                   "lasted": brief(lasted) if ran else "", "cause": ws["cause"]},
        )  # fmt: skip

    def _sick(self, key: str) -> Row:
        nodes = [one for one in self._model.items["nodes"].values() if one["state"] in SICK]
        states = [node["state"] for node in nodes]
        state = next((state for state in SICK if state in states), "unknown")
        return Row(key, 0, f"{plural(len(nodes), 'node')} not clean", state,
                   why="no lease is placed there until a repair")  # fmt: skip

    def _group(self, key: str, id: str) -> Row:
        ws_id, _, name = id.partition("/")
        ws = self._model.items["workspaces"].get(ws_id, {})
        group = next((one for one in ws.get("groups", ()) if one["name"] == name), None)
        states = self._model.states_of(key)
        up, state, number = states["running"], worst(states), sum(states.values())
        if group is None:
            return Row(key, 1, name, state)
        kind, image, count = (group.get(one, "?") for one in ("type", "image", "count"))
        what = f"{kind}, {image}"
        if (least := group.get("min", count)) != count:
            what += f", at least {least}"
        coming = ws.get("state") in COMING and up < number
        over = state == "terminated"
        return Row(key, 1, name, state, plural(number, "VM") if over else f"{up} of {count} up",
                   why=self._pending(key, what), progress=up / number if coming else None,
                   cells={"type": kind, "image": image})  # fmt: skip

    def _vm(self, key: str, vm: Doc, now: float) -> Row:
        address = ", ".join(str(nic.get("ip", "")) for nic in vm["nics"])
        why = vm["cause"] or ("unproven" if vm["unproven"] else "") or waits(vm)
        if vm["doing"]:
            why = f"{vm['doing']} ...  {why}"
        elif vm["refused"]:
            why = f"refused: {vm['refused']}"
        if vm["progress"] is not None:
            why = f"{vm['progress'] * 100:.0f} %  {why}"
        why, progress = self._pending(key, why), None
        if vm["state"] in COMING and vm["wanted"] != "gone":
            progress = min(1.0, (STEPS[vm["state"]] + (vm["progress"] or 0.0)) / 4)
        return Row(key, 2, f"{vm['group']}/{vm['index']}", vm["state"], vm["node"], address,
                   self._age(vm, now), why=why, waits=_waits(vm, why), progress=progress,
                   cells={"type": vm["type"], "image": vm["image"], "slot": vm["slot"],
                          "size": f"{vm['cpus']} x {size(vm['memory_mib'])}"})  # fmt: skip

    def _slot(self, key: str, slot: Doc, now: float) -> Row:
        nodes, lrm = slot["nodes"], slot["lrm"]
        why = slot["cause"] or waits(slot)
        where = f"{slot['count']} asked" if not nodes else plural(len(nodes), "node")
        does = f"repairs {slot['repair_of']}" if slot["repair_of"] else ""
        does = f"measures {slot['measures']}" if slot["measures"] else does
        job = f"job {slot['job']} {lrm['state']}" if slot["job"] else "no job yet"
        ws = self._model.workspace_of(key)
        return Row(
            key, 1, f"slot {slot['id']}", slot["state"], nodes[0] if len(nodes) == 1 else where,
            age=self._age(slot, now), why=why or job, waits=_waits(slot, why),
            cells={"job": slot["job"] or "-", "lrm": " ".join(filter(None, (lrm["state"],
                   lrm["reason"]))) or "-", "workspace": ws["name"] if ws else "",
                   "asks": f"{slot['count']} x {slot['ppn']}", "memory": size(slot["memory_mib"]),
                   "walltime": format_duration(slot["walltime_s"]), "id": slot["id"],
                   "cause": why or does},
        )  # fmt: skip

    def _node(self, key: str, node: Doc, now: float) -> Row:
        skew, kvm = node["skew_s"], node["kvm"]
        why = node["cause"]
        if node["owes"]:
            why = f"{why}; " if why else ""
            why += f"owes its word for {plural(len(node['owes']), 'slot')}"
            if node["repair_at"] and node["state"] == "dirty":
                why += f", repair job at {clock(node['repair_at'])}"
        return Row(
            key, 1, node["name"], node["state"], age=self._age(node, now), why=why,
            cells={"cpus": str(node["cpus"] or ""), "memory": size(node["memory_mib"]),
                   "taken": size(node["taken_mib"]) or "-",
                   "kvm": {True: "yes", False: "no"}.get(kvm, "?"),
                   "skew": "" if skew is None else f"{skew:+.1f}",
                   "slots": ", ".join(node["slots"]), "seen": self._seen(node["seen"], now)},
        )  # fmt: skip

    def _seen(self, at: str | None, now: float) -> str:
        if not at:
            return ""
        return moment(at, now) if self.absolute else f"{age(now - seconds_of(at))} ago"

    def _event(self, key: str, event: Doc, now: float) -> Row:
        where = event["node"] or event["slot"]
        return Row(key, 0, told(event), event["level"], level=event["level"],
                   cells={"at": clock(event["at"]), "kind": event["kind"],
                          "where": where, "text": told(event)})  # fmt: skip

    # -- what filters and sorting look at

    def fields(self, key: str, now: float) -> dict[str, str]:
        """The words of a line by field, for a filter."""
        row = self.row(key, now)
        doc = self._model.doc(key) or {}
        ws = self._model.workspace_of(key)
        return {
            **{name: str(doc.get(name, "")) for name in ("group", "slot", "job", "kind", "level")},
            **row.cells, "node": row.node, "address": row.address, "why": row.why,
            "name": doc.get("name") or row.name, "state": row.state,
            "workspace": ws["name"] if ws else "", "text": row.cells.get("text", ""),
        }  # fmt: skip

    def value(self, key: str, column: str, now: float) -> tuple[Any, ...]:
        """What a column is sorted by; what has nothing comes last."""
        doc = self._model.doc(key) or {}
        times = {"age": "since", "left": "ends", "at": "at", "created": "created",
                 "ended": "since", "seen": "seen"}  # fmt: skip
        if column in times and doc:
            at = seconds_of(doc.get(times[column]))
            return (not at, at)
        numbers = {"memory": "memory_mib", "walltime": "walltime_s", "taken": "taken_mib",
                   "skew": "skew_s", "cpus": "cpus"}  # fmt: skip
        if column in numbers and doc:
            return (False, float(doc.get(numbers[column]) or 0))
        if column in ("name", "state") and doc:
            return (False, natural(str(doc.get(column, ""))))
        text = self.row(key, now).cell(column)
        return (not text, natural(text))


def _waits(doc: Doc, why: str) -> bool:
    """Is a why what it waits for?"""
    return bool(waits(doc)) and why.endswith(waits(doc))

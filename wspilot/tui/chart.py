"""Leases, slots and VMs over time: what of each is drawn where. Pure.

All from what the daemon says: when a record was made, its phases, its state since when, when its
lease ends. What lies ahead is drawn too, and told apart.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

from wspilot.tui.live import Doc, LiveModel
from wspilot.tui.words import exact_seconds, seconds_of

STEPS_S = (60, 300, 600, 1800, 3600, 7200, 14400, 43200, 86400, 172800, 604800, 2592000)
SPANS_S = (120, 300, 900, 1800, 3600, 7200, 14400, 28800, 86400, 259200, 604800, 2592000)
PHASE_COLOURS = {"lrm": "secondary", "pilot": "accent", "reserve": "accent", "invoke": "secondary",
                 "propagate": "primary", "create": "accent", "boot": "warning", "destroy": "error",
                 "stop": "warning", "restore": "warning"}  # fmt: skip
_OVER = ("ended", "terminated", "released")
_UP, _COMING, _ODD = ("success", "up"), ("primary", "phase"), ("warning", "odd")
# What a state is drawn as from its beginning on; those that are not here are odd.
_STATES = dict.fromkeys(("running", "active", "ready"), _UP) | dict.fromkeys(
    ("pending", "propagating", "starting", "booting", "rebooting", "resuming", "reserving"),
    _COMING,
)
# What it was between a phase and the next (a node tells of phases when they are over); else up.
_AFTER = dict.fromkeys(("lrm", "pilot", "invoke", "propagate", "create", "start", "reboot"),
                       _COMING) | dict.fromkeys(("pause", "suspend", "stop", "restore"),
                                                _ODD)  # fmt: skip


@dataclass(frozen=True)
class Bar:
    """From `start` to `end` (seconds since 1970), in a theme colour; `kind` chooses the glyph.

    `kind`: wait, phase, up, odd (paused, unknown, ...), ahead; marks of one cell: end, lost, over.
    """

    start: float
    end: float
    colour: str
    kind: str


@dataclass(frozen=True)
class Window:
    """The part of time that is drawn."""

    start: float
    seconds: float

    def cell(self, at: float, width: int) -> int:
        """The cell that a moment falls into; outside the window it lies outside 0..width-1."""
        return math.floor((at - self.start) / self.seconds * width)

    def ticks(self, width: int) -> Iterator[tuple[int, str]]:
        """(cell, time of day) of the axis, far enough from each other to be read."""
        least = self.seconds * 12 / max(1, width)
        step = next((one for one in STEPS_S if one >= least), STEPS_S[-1])
        offset = time.localtime(self.start).tm_gmtoff
        at = math.ceil((self.start + offset) / step) * step - offset
        form = "%H:%M" if step < 86400 else "%m-%d"
        while at < self.start + self.seconds:
            yield self.cell(at, width), time.strftime(form, time.localtime(at))
            at += step


def bars(model: LiveModel, key: str, now: float) -> list[Bar]:
    """What is drawn of a line, in the order in which it is painted."""
    table = key.partition("/")[0]
    doc = model.doc(key)
    if doc is None:
        return []
    if table == "workspaces":
        return list(_workspace(doc, now))
    if table == "vms":
        return list(_phases(doc, now, ahead=_ends(model, doc)))
    if table == "slots":
        begun = _begun(doc)
        limit = begun + doc["walltime_s"] if begun else 0.0
        return list(_phases(doc, now, ahead=limit))
    return []


def _workspace(ws: Doc, now: float) -> Iterator[Bar]:
    created, active = seconds_of(ws["created"]), seconds_of(ws["active_at"])
    ends, since = seconds_of(ws["ends"]), seconds_of(ws["since"])
    over = ws["state"] == "ended"
    last = since if over else now
    yield Bar(created, active or last, "secondary", "wait")
    if active:
        good = ws["state"] not in ("degraded", "failed")
        yield Bar(active, last, "success" if good else "warning", "up")
    if over:
        lost = ws["outcome"] in ("preempted", "failed", "abandoned")
        yield Bar(last, last, "error" if lost else "secondary", "lost" if lost else "over")
    elif ends > now:
        yield Bar(now, ends, "secondary", "ahead")
        yield Bar(ends, ends, "warning", "end")


def _phases(doc: Doc, now: float, ahead: float) -> Iterator[Bar]:
    since = exact_seconds(doc["since"])
    state, over = doc["state"], doc["state"] in _OVER
    lost = state in ("failed", "preempted")
    last = since if over or lost else now
    at, then = 0.0, _UP
    for span in sorted(doc["spans"], key=_start):  # of a slot: those of several nodes
        name, start = str(span.get("name")), _start(span)
        end = start + span["seconds"] if span.get("seconds") is not None else last
        if at and start > at:
            yield Bar(at, start, *then)
        colour = PHASE_COLOURS.get(name, "primary")
        yield Bar(start, end, colour, "wait" if name == "lrm" else "phase")
        if end >= at:
            at, then = end, _AFTER.get(name, _UP)
    if at:
        turned = min(last, max(at, since))
        if turned > at:
            yield Bar(at, turned, *then)
        if last > turned:
            yield Bar(turned, last, *_STATES.get(state, _ODD))
    else:
        yield Bar(since, last, "secondary", "wait")
    if lost or over:
        yield Bar(last, last, "error" if lost else "secondary", "lost" if lost else "over")
    elif ahead > now and at:
        yield Bar(now, ahead, "secondary", "ahead")
        yield Bar(ahead, ahead, "warning", "end")


def _start(span: Doc) -> float:
    return exact_seconds(span.get("start"))


def _ends(model: LiveModel, vm: Doc) -> float:
    ws = model.items["workspaces"].get(vm["workspace"])
    return seconds_of(ws["ends"]) if ws and vm["wanted"] != "gone" else 0.0


def _begun(slot: Doc) -> float:
    """When its job was launched: the end of its wait for the scheduler."""
    for span in slot["spans"]:
        if span.get("name") == "lrm" and span.get("seconds") is not None:
            return exact_seconds(span.get("start")) + float(span["seconds"])
    return 0.0

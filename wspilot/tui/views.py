"""The views of the main screen as data: their columns, and what they say when they are empty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wspilot.tui.widgets.columns import Column


@dataclass(frozen=True)
class View:
    """One way to look at the site; `mark` columns are those with a mark for folding."""

    name: str
    key: str
    title: str
    columns: tuple[Column, ...]
    empty: str
    about: str
    """What it shows, for the help."""


_NAME = Column("name", "NAME", 19, grows=21)
_STATE = Column("state", "STATE", 15)
_WHY = Column("why", "  WHY", 0, 70)

LEASES = View(
    "leases", "1", "Leases",
    (
        _NAME, _STATE,
        Column("node", "NODE", 13, 60), Column("address", "ADDRESS", 15, 98),
        Column("age", "SINCE", 8, 86, right=True), Column("left", "LEFT", 6, 50, right=True), _WHY,
    ),
    "No leases yet. Press n to build an ensemble and deploy it.",
    "workspaces, their groups and VMs, and the slots that hold their nodes",
)  # fmt: skip
SLOTS = View(
    "slots", "2", "Slots",
    (
        Column("id", "SLOT", 9), _STATE, Column("workspace", "WORKSPACE", 12, 62, grows=12),
        Column("job", "JOB", 11, 40, grows=8), Column("lrm", "LRM SAYS", 9, 50, grows=14),
        Column("node", "NODES", 10, 73), Column("asks", "N x CORES", 9, 110),
        Column("memory", "MEMORY", 8, 124, right=True),
        Column("walltime", "WALLTIME", 8, 100, right=True),
        Column("age", "SINCE", 8, 82, right=True), Column("cause", "  WHY", 0, 98),
    ),
    "No slots yet: a slot is one job of the batch system. Press 1, then n to deploy.",
    "slots: one job of the batch system each, what it asked for and what the scheduler says",
)  # fmt: skip
NODES = View(
    "nodes", "3", "Nodes",
    (
        Column("name", "NODE", 12, grows=10), _STATE,
        Column("cpus", "CPUS", 4, 56, right=True), Column("memory", "MEMORY", 8, 62, right=True),
        Column("taken", "TAKEN", 8, 50, right=True), Column("kvm", "KVM", 4, 104),
        Column("skew", "SKEW", 6, 110, right=True), Column("seen", "SEEN", 10, 70, right=True),
        Column("age", "SINCE", 8, 92, right=True), Column("slots", "SLOTS", 10, 118, grows=20),
        Column("why", "  WHY", 0, 74),
    ),
    "No node has been used yet: nodes appear here with their first pilot.",
    "nodes: memory taken and not given back yet, which are dirty or unknown, and why",
)  # fmt: skip
EVENTS = View(
    "events", "4", "Events",
    (
        Column("at", "TIME", 8), Column("state", "LEVEL", 9, 60), Column("kind", "KIND", 10, 44),
        Column("where", "WHERE", 10, 96), Column("text", "WHAT", 0),
    ),
    "No events yet.",
    "everything that happened; at its end the cursor follows what comes",
)  # fmt: skip
TIMELINE = View(
    "timeline", "5", "Timeline",
    (
        Column("name", "NAME", 17, grows=9), Column("state", "STATE", 15, 76),
        Column("left", "LEFT", 6, 110, right=True), Column("chart", "", 0),
    ),
    "No leases to draw yet. Press 1, then n to build an ensemble.",
    "leases, slots and VMs over time; + and - zoom, < and > pan, 0 back to now",
)  # fmt: skip
HISTORY = View(
    "history", "6", "History",
    (
        _NAME, Column("state", "STATE", 15, 120), Column("outcome", "OUTCOME", 11),
        Column("created", "CREATED", 11, 100), Column("ended", "ENDED", 11, 64),
        Column("lasted", "LASTED", 7, 72, right=True), Column("vms", "VMS", 5, 92, right=True),
        Column("cause", "  CAUSE", 0, 78),
    ),
    "No lease has ended yet.",
    "leases that are over: how they ended, and the cause",
)  # fmt: skip

VIEWS: Mapping[str, View] = {
    one.name: one for one in (LEASES, SLOTS, NODES, EVENTS, TIMELINE, HISTORY)
}

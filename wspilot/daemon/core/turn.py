"""One turn of the core: the books, the moment, the site's rules, and the effects asked for so far.

Every function of the core takes a `Turn` and changes records only through it, so that a state can
only move along the tables of `model.py` and every move leaves a line in the event stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from wspilot.daemon.core.books import Books
from wspilot.daemon.core.events import Effect
from wspilot.daemon.policy import SlotPlan
from wspilot.errors import Code
from wspilot.model import (
    FINAL_SLOT,
    SLOT_MOVES,
    VM_MOVES,
    WORKSPACE_MOVES,
    EventRecord,
    Node,
    NodeState,
    Proof,
    Slot,
    SlotState,
    Vm,
    VmState,
    Workspace,
    WorkspaceState,
)
from wspilot.settings import Policy
from wspilot.text import clean

MAX_EVENTS = 5000
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True)
class Rules:
    """The site's numbers that the core decides by. Seconds, unless the name says otherwise."""

    launch_s: float = 60
    boot_s: float = 120
    stop_s: float = 15
    restore_s: float = 5
    slack_s: float = 60
    gather_s: float = 600
    rounds: int = 3  # how often slots of a workspace may be given back and asked for again
    again_s: tuple[float, ...] = (30, 120, 300)  # ... and after which time
    silence_s: float = 90  # of good listings, before a pilot counts as silent
    gap_s: float = 30  # a missing seq is waited for this long ...
    gap_scans: int = 3  # ... and this many listings
    absent_polls: int = 3  # good polls that must not name a job before it is gone
    absent_s: float = 60  # and never within this time after its submission
    look_polls: int = 2  # good polls that must not show a lost submission before another
    look_gap_s: float = 10
    retry_s: tuple[float, ...] = (5, 15, 60, 300)  # back-off of submissions and cancellations
    repair_s: tuple[float, ...] = (60, 300, 3600)  # between two repair jobs of one node
    repair_wait_s: float = 600  # a repair job that waits longer is cancelled
    linger_s: float = 30  # a released slot's job may take this long to end by itself
    max_jobs: int = 200
    submit_gap_s: float = 0.0  # at least this long between two submissions
    keep_s: float = 7 * 86400
    order_ttl_s: float = 3600
    owner: str = ""  # our user name, as the batch system shows it
    policy: Policy = field(default_factory=Policy)
    warm: SlotPlan | None = None  # what a warm slot is like; None: there are none
    warm_walltime_s: int = 0


@dataclass
class Turn:
    """The working values of one step."""

    books: Books
    now: float
    rules: Rules
    effects: list[Effect] = field(default_factory=list)
    touched: dict[str, None] = field(default_factory=dict)  # workspaces to review, in order

    def do(self, effect: Effect) -> None:
        """Ask the shell for an effect, after the commit."""
        self.effects.append(effect)

    def note(
        self,
        level: str,
        kind: str,
        text: str,
        *,
        workspace: str = "",
        slot: str = "",
        vm: str = "",
        node: str = "",
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """One line of the event stream; foreign text was cleaned before or is cleaned here."""
        serial = self.books.last_event + 1
        self.books.put(
            EventRecord(
                str(serial),
                self.now,
                level,
                kind,
                clean(text, 1000),
                workspace,
                slot,
                vm,
                node,
                data or {},
            )
        )
        self.books.drop(EventRecord, str(serial - MAX_EVENTS))

    # -- moves: each returns the record as it stands afterwards

    def slot(self, slot: Slot, state: SlotState, **change: Any) -> Slot:
        """Move a slot; a move that the table does not know leaves its state alone."""
        if slot.state in FINAL_SLOT:  # a late word rewrites no cause
            change = {key: value for key, value in change.items() if key not in _STORY}
        moved = state is not slot.state and state in SLOT_MOVES[slot.state]
        if moved:
            change = {"since": self.now, "waits_for": "", **change, "state": state}
        new = replace(slot, **change)
        self.books.put(new)
        self.touched[new.workspace] = None
        if moved:
            level = "warning" if state in _BAD_SLOT else "info"
            self.note(
                level,
                "slot",
                _said(state.value, new.cause, state in _BAD_SLOT),
                workspace=new.workspace,
                slot=new.id,
            )
        return new

    def vm(self, vm: Vm, state: VmState, by: str, **change: Any) -> Vm:
        """Move a VM; what was seen, when and by whom is kept even when nothing moves."""
        moved = state is not vm.state and state in VM_MOVES[vm.state]
        if moved:
            if state in (VmState.FAILED, VmState.UNKNOWN):
                change.setdefault("phase", vm.state.value)
            if vm.doing and state in (VmState.FAILED, VmState.TERMINATED):
                text = f"{vm.doing}: it is {state.value}"
                change |= {"doing": "", "refused": text, "refused_code": int(Code.FAILED)}
            change = {"since": self.now, "waits_for": "", "progress": None, **change}
            change["state"] = state
        new = replace(vm, **change, seen=self.now, seen_by=by)
        self.books.put(new)
        self.touched[new.workspace] = None
        if moved:
            bad = state in (VmState.FAILED, VmState.UNKNOWN)
            self.note(
                "warning" if bad else "info",
                "vm",
                f"{new.name} {_said(state.value, new.cause, bad)}",
                workspace=new.workspace,
                slot=new.slot,
                vm=new.id,
                node=new.node,
            )
        return new

    def proof(self, by: str, text: str) -> Proof:
        """Why something is known to have come back, for the record that it concerns."""
        return Proof(self.now, by, clean(text, 300))

    def workspace(self, ws: Workspace, state: WorkspaceState, **change: Any) -> Workspace:
        """Move a workspace."""
        moved = state is not ws.state and state in WORKSPACE_MOVES[ws.state]
        if moved:
            change = {"since": self.now, "waits_for": "", **change, "state": state}
        new = replace(ws, **change)
        if new == ws:
            return ws
        self.books.put(new)
        if moved:
            bad = state in (WorkspaceState.FAILED, WorkspaceState.DEGRADED)
            text = f"{new.name} {state.value}"
            if state is WorkspaceState.ENDED and new.outcome:
                text += f" ({new.outcome.value})"
            self.note(
                "warning" if bad else "info",
                "workspace",
                f"{text}: {new.cause}" if new.cause else text,
                workspace=new.id,
            )
        return new

    def node(self, name: str, state: NodeState | None = None, **change: Any) -> Node:
        """Change what is known of a node."""
        old = self.books.node(name) or Node(name, since=self.now)
        if state is not None and state is not old.state:
            change = {"since": self.now, **change, "state": state}
        new = replace(old, **change, seen=self.now)
        self.books.put(new)
        if new.state is not old.state and new.state is NodeState.DIRTY:
            self.note("warning", "node", f"{name} is dirty: {new.cause}", node=name)
        return new


_STORY = frozenset({"cause", "causes", "waits_for"})
_BAD_SLOT = frozenset({SlotState.FAILED, SlotState.PREEMPTED, SlotState.UNKNOWN})


def _said(word: str, cause: str, with_cause: bool) -> str:
    return f"{word}: {cause}" if with_cause and cause else word


def derive_id(*parts: object) -> str:
    """8 characters a-z0-9 made from what they name: the same parts give the same id."""
    number = int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")
    digits = []
    for _ in range(8):
        number, digit = divmod(number, 36)
        digits.append(_ALPHABET[digit])
    return "".join(digits)


def derive_uuid(*parts: object) -> str:
    """A uuid made the same way."""
    digest = hashlib.sha256(repr(("uuid", *parts)).encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}"

"""Silence: counted in good listings, ended by any word (PROTOCOLS.md section 1).

A pilot that nobody has heard for too long makes its slot and its VMs `unknown`; nothing is created,
replaced or freed because of that.
"""

from __future__ import annotations

from dataclasses import replace

from wspilot.daemon.core import nodes
from wspilot.daemon.core.nodes import SPOKEN
from wspilot.daemon.core.turn import Turn
from wspilot.model import PilotRecord, Slot, SlotState, VmState

S = SlotState


def alive(turn: Turn, pilot: PilotRecord) -> PilotRecord:
    """It has spoken: silence begins anew, and what was unknown because of it is known again."""
    turn.books.heard_at[pilot.id] = turn.books.listened
    was_lost, pilot = pilot.lost, replace(pilot, heard=turn.now, lost=False)
    turn.books.put(pilot)
    slot = turn.books.slot(pilot.slot)
    if was_lost and slot is not None:
        _back(turn, slot, pilot)
    return pilot


def _back(turn: Turn, slot: Slot, pilot: PilotRecord) -> None:
    """A silent pilot speaks again: the slot is what its pilots are; VMs follow by heartbeat."""
    nodes.settle(turn, pilot.node)
    pilots = turn.books.pilots_of(slot)
    if slot.state is not S.UNKNOWN or any(other.lost for other in pilots):
        return
    if slot.lrm.state == "gone":
        return  # a late word from a job that is over
    ready = len(pilots) >= slot.nodes and all(other.state == "ready" for other in pilots)
    state = S.RELEASING if slot.wanted == "released" else S.READY if ready else S.RESERVING
    turn.slot(slot, state, cause="")


def listened(turn: Turn, seconds: float) -> None:
    """A good listing: the clock by which silence is measured goes on."""
    turn.books.listened += min(max(seconds, 0.0), 30.0)
    for id in sorted(turn.books.open_slots):
        slot = turn.books.slot(id)
        for pilot in turn.books.pilots_of(slot) if slot else ():
            if pilot.lost or pilot.state in SPOKEN:
                continue
            heard = turn.books.heard_at.setdefault(pilot.id, turn.books.listened)
            if turn.books.listened - heard > turn.rules.silence_s:
                _silent(turn, pilot)


def _silent(turn: Turn, pilot: PilotRecord) -> None:
    turn.books.put(replace(pilot, lost=True))
    slot = turn.books.slot(pilot.slot)
    if slot is None:
        return
    cause = f"{pilot.node} has been silent for {turn.rules.silence_s:g} s"
    if slot.lrm.state == "suspended":
        cause += " (the batch system has suspended its job)"
    if pilot.node not in turn.books.dirty_nodes:
        turn.node(pilot.node, cause=cause)
    nodes.settle(turn, pilot.node)
    if slot.state is not S.UNKNOWN:
        turn.slot(slot, S.UNKNOWN, cause=slot.cause or cause)
    for id in slot.vms:
        vm = turn.books.vm(id)
        if vm is not None and vm.pilot == pilot.id and vm.state is not VmState.TERMINATED:
            turn.vm(vm, VmState.UNKNOWN, "daemon", cause=cause)

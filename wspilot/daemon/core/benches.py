"""Slots of `wspilot bench host`: a job without VMs that measures its node and says what it found.

Pinned where a node was named, and given up when it has waited as long as its asker would: nobody
may be waiting for it any more, and a job that is pinned to a drained node waits for ever.
"""

from __future__ import annotations

from wspilot.daemon.core import endings
from wspilot.daemon.core.events import Bench, Cancel
from wspilot.daemon.core.turn import Turn
from wspilot.model import Slot, SlotState
from wspilot.text import format_duration

WAIT_S = 3600.0  # in the batch system's queue, where the asker did not say


def ask(turn: Turn, event: Bench) -> Slot:
    """The slot, to be submitted."""
    slot = Slot(
        id=event.id,
        workspace="",
        nodes=1,
        ppn=event.ppn,
        memory_mib=event.memory_mib,
        walltime_s=event.walltime_s,
        created=turn.now,
        since=turn.now,
        whole_node=True,
        bench=event.spec,
        waits_for="the batch system",
    )
    turn.books.put(slot)
    turn.note("info", "slot", "a slot that measures its node is asked for", slot=slot.id)
    return slot


def end(turn: Turn, id: str) -> None:
    """Whoever asked for it waits no longer."""
    slot = turn.books.slot(id)
    if slot is not None and slot.bench and slot.wanted == "held":
        endings.let_go(turn, slot)
        if slot.job and slot.pilots:  # it hears no command: qdel ends it, and `press` says so again
            turn.do(Cancel(slot.id, slot.job))


def tick(turn: Turn) -> None:
    """Those that wait too long."""
    for id in sorted(turn.books.open_slots):
        slot = turn.books.slot(id)
        if slot is None or not slot.bench or slot.wanted != "held":
            continue
        limit_s = float(slot.bench.get("wait_s") or WAIT_S)
        if slot.state in (SlotState.SUBMITTING, SlotState.QUEUED) and _waited(turn, slot) > limit_s:
            cause = f"no node within {format_duration(limit_s)}: it waited for {slot.waits_for}"
            turn.slot(slot, slot.state, cause=cause)
            end(turn, id)


def _waited(turn: Turn, slot: Slot) -> float:
    return turn.now - slot.created

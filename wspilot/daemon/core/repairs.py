"""Repair jobs: a slot without VMs, pinned to a dirty node, that undoes what is left there.

At most one a node, short, and cancelled when it has waited too long, since a job pinned to a
drained node waits for ever; the node is then shown as needing the operator, and looked after at a
slow pace in case it comes back (DESIGN.md section 8).
"""

from __future__ import annotations

from wspilot.daemon.core import endings
from wspilot.daemon.core.turn import Turn, derive_id
from wspilot.model import NodeState, Slot, SlotState

WALLTIME_S = 120
MEMORY_MIB = 64  # an interpreter and its two children


def tick(turn: Turn) -> list[Slot]:
    """Cancel repair jobs that waited too long; return slots to submit for nodes that are due."""
    for open_ in list(turn.books.repairs.values()):
        for slot in map(turn.books.slot, sorted(open_)):
            if slot is not None and slot.wanted == "held" and _stale(turn, slot):
                endings.let_go(turn, slot)
    due = []
    for name in sorted(turn.books.dirty_nodes):
        node = turn.books.node(name)
        if node is not None and turn.now >= node.repair_at and not turn.books.repairs.get(name):
            due.append(_ask(turn, name, node.repair_tries))
    return due


def _stale(turn: Turn, slot: Slot) -> bool:
    waiting = slot.state in (SlotState.SUBMITTING, SlotState.QUEUED)
    return waiting and turn.now - slot.created > turn.rules.repair_wait_s


def _ask(turn: Turn, name: str, tries: int) -> Slot:
    turn.node(name, NodeState.REPAIRING, repair_tries=tries + 1)
    slot = Slot(
        id=derive_id("repair", name, tries, turn.now),
        workspace="",
        nodes=1,
        ppn=1,
        memory_mib=MEMORY_MIB,
        walltime_s=WALLTIME_S,
        created=turn.now,
        since=turn.now,
        repair_of=name,
        waits_for="the batch system",
    )
    turn.note("info", "node", f"{name}: a repair job is asked for", slot=slot.id, node=name)
    turn.books.put(slot)
    return slot


def soon(turn: Turn, name: str) -> None:
    """A person asks for a repair now."""
    node = turn.books.node(name)
    if node is not None and node.owes:
        turn.node(name, repair_at=turn.now, repair_tries=0)

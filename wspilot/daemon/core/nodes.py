"""Nodes: what they said of themselves, what they still owe, and who has proved that it came back.

A node is dirty as long as it owes its word for a slot that ended without it. The word can come late
from the pilot or its guardian, from a later pilot or a repair job that found nothing left, from a
reboot, or from a person (DESIGN.md section 8). Words of different pilots may overtake each other,
so a later pilot proves only what had ended, by this daemon's clock, before its own slot began.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from wspilot.daemon.core.orders import withdraw_all
from wspilot.daemon.core.turn import Turn
from wspilot.messages import Notification, parse_rfc3339
from wspilot.model import FINAL_SLOT, Node, NodeState, PilotRecord, Slot, VmState

N = NodeState
SPOKEN = frozenset({"released", "failed"})  # a pilot's last words


# -- arriving and leaving


def present(turn: Turn, slot: Slot, pilot: PilotRecord) -> None:
    """A pilot of the slot is there; one of an ended slot holds nothing any more."""
    node = turn.books.node(pilot.node) or Node(pilot.node, since=turn.now)
    if slot.state not in FINAL_SLOT:
        turn.node(pilot.node, slots=tuple(dict.fromkeys((*node.slots, slot.id))))
    settle(turn, pilot.node)


def facts(turn: Turn, pilot: PilotRecord, note: Notification) -> None:
    """What `started` says of the node."""
    turn.node(
        pilot.node,
        boot_id=pilot.boot_id,
        cpus=int(number(note.data, "cpus")),
        memory_mib=int(number(note.data, "memory_mib")),
        skew_s=_skew(turn, note),
    )


def leave(turn: Turn, slot: Slot, pilot: PilotRecord) -> None:
    """The slot has ended: what its node has not given back it owes."""
    node = turn.books.node(pilot.node) or Node(pilot.node)
    slots = tuple(id for id in node.slots if id != slot.id)
    taken = node.taken_mib if slots or not pilot.clean else 0
    turn.node(node.id, slots=slots, taken_mib=taken)
    if not pilot.clean:
        owe(turn, slot, node.id, f"slot {slot.id} ended without this node's word")
    settle(turn, node.id)


def owe(turn: Turn, slot: Slot, name: str, cause: str) -> None:
    """An undo is not proved: the node is dirty until somebody says that all came back."""
    node = turn.books.node(name) or Node(name, since=turn.now)
    if slot.id not in node.owes:
        if not node.owes:
            turn.node(name, repair_at=turn.now + turn.rules.retry_s[0], cause=cause)
        turn.node(name, owes=(*node.owes, slot.id))
    settle(turn, name)


def settle(turn: Turn, name: str) -> Node:
    """The node's state, from what it owes, who is silent there and what runs there."""
    node = turn.books.node(name) or Node(name, since=turn.now)
    lost = any(pilot.lost for pilot in turn.books.unproved_on(name) if pilot.slot in node.slots)
    if turn.books.repairs.get(name):
        state = N.REPAIRING
    elif node.owes:
        state = N.DIRTY
    elif lost:
        state = N.UNKNOWN
    else:
        state = N.IN_USE if node.slots else N.CLEAN
    cause = node.cause if state in (N.DIRTY, N.REPAIRING, N.UNKNOWN) else ""
    tries = node.repair_tries if node.owes else 0
    return turn.node(name, state, cause=cause, repair_tries=tries)


# -- proof


def rebooted(turn: Turn, slot: Slot, node: str, boot_id: str) -> list[Slot]:
    """Another boot id: whatever an earlier slot had on that node is gone with the old boot."""
    earlier = [
        pilot
        for pilot in turn.books.unproved_on(node)
        if pilot.boot_id not in ("", boot_id) and _launched(turn, pilot) < (slot.launched or 0)
    ]
    text = f"{node} was started anew"
    changed = [prove(turn, pilot, "reboot", text, lost=text) for pilot in earlier]
    return [one for one in changed if one is not None]


def found_clean(
    turn: Turn, slot: Slot, node: str, by: str, data: Mapping[str, Any], *, epoch: int = 1
) -> list[Slot]:
    """A pilot found no journal of a dead one on its node: earlier slots have left nothing there.

    `node_clean` says so; `neighbours` are the slots whose pilots (or guardians) it saw alive.
    Without both the word is about the speaker alone. Returns the open slots whose pilots it proved
    to be over.
    """
    neighbours = data.get("neighbours")
    if data.get("node_clean") is not True or not isinstance(neighbours, list):
        return []
    spared = {str(id) for id in neighbours}
    changed = []
    for pilot in turn.books.unproved_on(node):
        other = turn.books.slot(pilot.slot)
        if other is None or other.id in spared:
            continue
        same_job = other.id == slot.id and epoch > 1
        if same_job or _ended_before(other, slot):
            text = f"slot {slot.id} found nothing of slot {other.id} left on {node}"
            changed.append(prove(turn, pilot, by, text))
    known = turn.books.node(node)
    owed = [turn.books.slot(id) for id in known.owes] if known else []
    paid = [one.id for one in owed if one and one.id not in spared and _ended_before(one, slot)]
    _paid(turn, node, paid)
    return [one for one in changed if one is not None]


def prove(
    turn: Turn, pilot: PilotRecord, by: str, text: str, *, lost: str = "", cause: str = ""
) -> Slot | None:
    """All that this pilot had on its node came back: VMs gone, addresses free, memory returned.

    `lost`: VMs that somebody still wanted have failed of it. Returns the slot if it is still open.
    """
    over = pilot.state if pilot.state in SPOKEN else "failed"
    proof = turn.proof(by, text)
    turn.books.put(
        replace(pilot, state=over, clean=True, taken_mib=0, lost=False, proof=proof,
                cause=pilot.cause or lost)
    )  # fmt: skip
    withdraw_all(turn, pilot.id)
    slot = turn.books.slot(pilot.slot)
    for id in slot.vms if slot else ():
        vm = turn.books.vm(id)
        if vm is None or vm.pilot != pilot.id or not vm.held:
            continue
        failed = vm.state is VmState.FAILED or (lost and vm.wanted == "running")
        state = VmState.FAILED if failed else VmState.TERMINATED
        turn.vm(vm, state, by if lost else pilot.id[:8], held=False, proof=proof,
                cause=vm.cause or lost or cause)  # fmt: skip
    _paid(turn, pilot.node, [pilot.slot])
    return slot if slot is not None and slot.state not in FINAL_SLOT else None


def _paid(turn: Turn, name: str, slots: Collection[str]) -> None:
    node = turn.books.node(name)
    if node is not None and node.owes:
        left = tuple(id for id in node.owes if id not in slots)
        turn.node(name, owes=left, taken_mib=node.taken_mib if left else 0)
        settle(turn, name)


def _launched(turn: Turn, pilot: PilotRecord) -> float:
    slot = turn.books.slot(pilot.slot)
    return (slot.launched or slot.created) if slot else 0.0


def _ended_before(other: Slot, slot: Slot) -> bool:
    ended = other.id != slot.id and other.state in FINAL_SLOT
    return ended and other.since <= (slot.launched or slot.created)


def vouched(turn: Turn, name: str) -> list[Slot]:
    """A person says that nothing is left on a node of pilots that ended or fell silent."""
    text = f"{name} was vouched for by a person"
    turn.note("warning", "node", text, node=name)
    gone = [pilot for pilot in turn.books.unproved_on(name) if pilot.lost or _over(turn, pilot)]
    changed = [prove(turn, pilot, "person", text, lost="its node was vouched for by a person")
               for pilot in gone]  # fmt: skip
    turn.node(name, owes=(), taken_mib=0)
    settle(turn, name)
    return [one for one in changed if one is not None]


def _over(turn: Turn, pilot: PilotRecord) -> bool:
    slot = turn.books.slot(pilot.slot)
    return slot is None or slot.state in FINAL_SLOT


def repaired(turn: Turn, slot: Slot) -> None:
    """The repair job is over: the node owes nothing any more, or is tried again later."""
    name = slot.repair_of
    node = settle(turn, name)
    if not node.owes:
        turn.note("info", "node", f"{name} is clean again", slot=slot.id, node=name)
        return
    pauses = turn.rules.repair_s
    pause = pauses[min(node.repair_tries - 1, len(pauses) - 1)] if node.repair_tries else pauses[0]
    said = slot.cause or "the repair job never ran: the batch system gave it no place"
    if slot.launched is None or node.repair_tries >= len(pauses):
        said = f"needs the operator: {said}"
    turn.node(name, cause=said, repair_at=turn.now + pause)
    turn.note("warning", "node", f"{name} {said}", slot=slot.id, node=name)


# -- clocks


def _skew(turn: Turn, note: Notification) -> float | None:
    """How far the node's clock is off, delivery included: shown, and nothing is decided by it."""
    try:
        return round(parse_rfc3339(note.time) - turn.now, 3)
    except ValueError:
        return None


def better_skew(turn: Turn, pilot: PilotRecord, note: Notification) -> None:
    """A message can only be late, so the one that seems latest-written tells the skew best."""
    node, skew = turn.books.node(pilot.node), _skew(turn, note)
    if node is None or skew is None or node.boot_id != pilot.boot_id:
        return
    if node.skew_s is None or skew > node.skew_s + 0.05:
        turn.node(node.id, skew_s=skew)


def number(data: Mapping[str, Any], key: str) -> float:
    """A number from foreign data, 0 for anything else."""
    value = data.get(key)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e12:
        return float(value)
    return 0.0

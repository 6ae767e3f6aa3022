"""Slots that are given back and asked for again: a new slot, the same VMs, some time later.

Three needs, one way: sisters that did not come within `gather`, a second slot of a workspace on the
node of the first, and a node that was found dirty. Only while none of the slot's VMs was created;
after `rounds` of it the workspace fails with the cause (DESIGN.md section 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from wspilot.daemon.core import endings
from wspilot.daemon.core.turn import Turn, derive_id
from wspilot.model import FINAL_SLOT, PilotRecord, Slot, SlotState, Workspace

S = SlotState


def again(turn: Turn, slots: Sequence[Slot], why: str) -> bool:
    """Give these slots of one workspace back and ask for others; False: that cannot be done."""
    ws = turn.books.workspace(slots[0].workspace) if slots else None
    if ws is None or ws.wanted != "active" or ws.rounds >= turn.rules.rounds:
        return False
    if any(_used(turn, slot) for slot in slots):
        return False
    wait = _back_off(turn, ws)
    ws = replace(ws, rounds=ws.rounds + 1)
    turn.note(
        "warning",
        "workspace",
        f"{ws.name}: {len(slots)} {'slot is' if len(slots) == 1 else 'slots are'} given back and "
        f"asked for again in {wait:g} s (round {ws.rounds} of {turn.rules.rounds}): {why}",
        workspace=ws.id,
    )
    for slot in slots:
        ws = _renew(turn, ws, slot, wait, why)
    turn.books.put(ws)
    turn.touched[ws.id] = None
    return True


def _back_off(turn: Turn, ws: Workspace) -> float:
    """Seconds, each workspace's own: two that hold each other's nodes must not ask together."""
    least = turn.rules.again_s[min(ws.rounds, len(turn.rules.again_s) - 1)]
    return round(least * (1 + int(derive_id(ws.id, "again", ws.rounds), 36) % 1000 / 1000), 1)


def _used(turn: Turn, slot: Slot) -> bool:
    return any((vm := turn.books.vm(id)) is not None and vm.created for id in slot.vms)


def _renew(turn: Turn, ws: Workspace, slot: Slot, wait: float, why: str) -> Workspace:
    new = Slot(
        id=derive_id(ws.id, "slot", ws.serial),
        workspace=ws.id,
        nodes=slot.nodes,
        ppn=slot.ppn,
        memory_mib=slot.memory_mib,
        walltime_s=slot.walltime_s,
        created=turn.now,
        vms=slot.vms,
        since=turn.now,
        retry_at=turn.now + wait,
        waits_for=f"its next try in {wait:g} s: {why}",
        whole_node=slot.whole_node,
    )
    turn.books.put(new)
    for id in slot.vms:
        vm = turn.books.vm(id)
        if vm is not None:
            turn.books.put(replace(vm, slot=new.id, pilot="", node="", waits_for="its node"))
    old = turn.slot(slot, slot.state, vms=(), again=new.id, cause=why)
    endings.let_go(turn, old)
    return replace(ws, slots=(*ws.slots, new.id), serial=ws.serial + 1)


def doubled(turn: Turn, slot: Slot, pilot: PilotRecord) -> None:
    """A second slot of a workspace on one node is given back, unless its VMs may be packed."""
    ws = turn.books.workspace(slot.workspace)
    if ws is None or all(group.placement == "pack" for group in ws.groups):
        return
    for other in turn.books.current_slots(ws):
        if other.id == slot.id or other.wanted != "held" or other.state in FINAL_SLOT:
            continue
        if any(one.node == pilot.node and one.clean is None for one in turn.books.pilots_of(other)):
            why = f"{pilot.node} already serves slot {other.id} of this workspace"
            if not again(turn, [slot], why):
                endings.let_go(turn, turn.slot(slot, slot.state, cause=why))
            return


def gather(turn: Turn, ws: Workspace) -> str:
    """Slots that have waited too long for their sisters; why the workspace fails of it, if so."""
    current = [slot for slot in turn.books.current_slots(ws) if slot.wanted == "held"]
    if len(current) < 2 or ws.active_at is not None or any(_used(turn, one) for one in current):
        return ""
    first = min((slot.since for slot in current if slot.state is S.READY), default=turn.now)
    if all(slot.state is S.READY for slot in current) or turn.now - first <= turn.rules.gather_s:
        return ""
    why = f"not all slots were ready within {turn.rules.gather_s:g} s of the first"
    started = [slot for slot in current if slot.state in (S.STARTING, S.RESERVING, S.READY)]
    if again(turn, started, why):
        return ""
    return f"{why}, {ws.rounds + 1} times"

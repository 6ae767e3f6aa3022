"""A slot's end: let go by the shortest way that is safe, and closed only on proof.

A release that the pilots acknowledge is the normal end; qdel is the last resort, repeated until a
poll agrees. What the nodes said decides what is clean, what is dirty, and which addresses are free
(DESIGN.md sections 5 and 8).
"""

from __future__ import annotations

from dataclasses import replace

from wspilot.daemon.core import nodes, vms
from wspilot.daemon.core.events import Cancel, Cancelled, Claim, Claimed, CloseSlot, Poll
from wspilot.daemon.core.nodes import SPOKEN
from wspilot.daemon.core.orders import send_release
from wspilot.daemon.core.turn import Turn
from wspilot.daemon.lrm.base import Verdict
from wspilot.model import (
    FINAL_SLOT,
    PendingOrder,
    Slot,
    SlotState,
    VmState,
)

S = SlotState


def let_go(turn: Turn, slot: Slot) -> None:
    """The slot is no longer wanted: release it by the shortest way that is still safe."""
    if slot.state in FINAL_SLOT:
        return
    slot = turn.slot(slot, slot.state, wanted="released")
    if not slot.job and not slot.unclear and not slot.pilots:
        close(turn, slot, S.RELEASED)
        return
    if not slot.pilots:
        waits = "the batch system to let the job go" if slot.job else "the lost qsub to be found"
        slot = turn.slot(slot, S.RELEASING, waits_for=waits)
        if slot.claimed is None:
            turn.do(Claim(slot.id))
        return
    slot = turn.slot(slot, S.RELEASING, waits_for="the nodes to say released")
    for pilot in turn.books.pilots_of(slot):
        send_release(turn, slot, pilot)


def claimed(turn: Turn, event: Claimed) -> None:
    """Won: no launcher can start any more. Lost: one was there, and its pilots will speak."""
    slot = turn.books.slot(event.slot)
    if slot is None or slot.state in FINAL_SLOT:
        return
    slot = turn.slot(slot, slot.state, claimed=event.won)
    gone = slot.lrm.state == "gone"
    if event.won and gone:
        close(turn, slot, S.RELEASED if slot.wanted == "released" else S.FAILED)
    elif event.won and slot.job:
        _cancel(turn, slot)
    elif gone and not slot.pilots:
        turn.slot(slot, S.UNKNOWN, cause=slot.cause or "the job is gone, its pilots never spoke")


def cancelled(turn: Turn, event: Cancelled) -> None:
    """qdel's answer is a hope; the next poll is the proof."""
    slot = turn.books.slot(event.slot)
    if slot is None or slot.job != event.job:
        return
    verdict, text = event.answer.verdict, event.answer.text
    if verdict in (Verdict.ACCEPTED, Verdict.GONE):
        turn.slot(slot, slot.state, cancel_said="")
    elif slot.state not in FINAL_SLOT:
        turn.slot(
            slot,
            slot.state,
            cancel_said=text,
            waits_for=f"qdel to be heard (try {slot.cancel_tries}): {text}",
        )
    turn.do(Poll())


def press(turn: Turn, slot: Slot) -> None:
    """A job that should have ended by itself and did not: qdel, repeated with back-off."""
    idle = not slot.pilots and slot.claimed
    spoke = all_spoke(turn, slot)
    if not (idle or spoke or slot.state is S.UNKNOWN or turn.now - slot.since > _patience(turn)):
        return
    if spoke and turn.now - slot.since < turn.rules.linger_s:
        return
    if turn.now >= slot.cancel_at:
        _cancel(turn, slot)


def _patience(turn: Turn) -> float:
    return turn.rules.stop_s + turn.rules.restore_s + turn.rules.linger_s


def _cancel(turn: Turn, slot: Slot) -> None:
    wait = turn.rules.retry_s[min(slot.cancel_tries, len(turn.rules.retry_s) - 1)]
    slot = turn.slot(
        slot, slot.state, cancel_tries=slot.cancel_tries + 1, cancel_at=turn.now + max(wait, 10)
    )
    turn.do(Cancel(slot.id, slot.job))


def all_spoke(turn: Turn, slot: Slot) -> bool:
    pilots = turn.books.pilots_of(slot)
    return len(pilots) >= slot.nodes and all(pilot.state in SPOKEN for pilot in pilots)


def job_gone(turn: Turn, slot: Slot, cause: str) -> None:
    """The batch system is sure that the job is over. What the nodes said decides the rest."""
    if slot.lrm.state != "gone":
        view = replace(slot.lrm, state="gone", reason=cause, at=turn.now)
        slot = turn.slot(slot, slot.state, lrm=view)
        turn.note("info", "lrm", cause, workspace=slot.workspace, slot=slot.id)
    if slot.claimed:
        slot = replace(slot, cause=slot.cause or cause)
        close(turn, slot, S.RELEASED if slot.wanted == "released" else S.FAILED)
    elif not slot.pilots and slot.claimed is None:
        turn.slot(slot, slot.state, cause=slot.cause or cause)
        turn.do(Claim(slot.id))
    elif all_spoke(turn, slot):
        settle_slot(turn, slot)
    elif turn.now - slot.lrm.at > _mourning(turn, slot) or _lost(turn, slot):
        _write_off(turn, slot, slot.cause or cause)
    elif slot.state is not S.UNKNOWN:
        _nobody_knows(turn, slot, cause)


def _nobody_knows(turn: Turn, slot: Slot, cause: str) -> None:
    """The job is over and its nodes have not said what became of them: that is not `running`."""
    turn.slot(slot, S.UNKNOWN, waits_for=f"the nodes' last words: {cause}")
    spoken = {pilot.id for pilot in turn.books.pilots_of(slot) if pilot.state in SPOKEN}
    for vm in map(turn.books.vm, slot.vms):
        if vm is not None and vm.created and vm.held and vm.pilot not in spoken:
            turn.vm(vm, VmState.UNKNOWN, "lrm", waits_for=f"{vm.node} to say what became of it")


def _mourning(turn: Turn, slot: Slot) -> float:
    """How long the last words of a dead job are waited for: guardians have the restore budget, and
    what comes later still counts. Where no pilot ever spoke nothing was created."""
    if slot.pilots:
        return turn.rules.restore_s + turn.rules.linger_s
    return turn.rules.restore_s + turn.rules.linger_s / 2


def _lost(turn: Turn, slot: Slot) -> bool:
    pilots = [pilot for pilot in turn.books.pilots_of(slot) if pilot.state not in SPOKEN]
    return bool(pilots) and all(pilot.lost for pilot in pilots)


def _write_off(turn: Turn, slot: Slot, cause: str) -> None:
    """Nobody will speak for these nodes any more: failed, nodes dirty, addresses kept."""
    silent = set(slot.lrm.hosts) - {pilot.node for pilot in turn.books.pilots_of(slot)}
    close(turn, replace(slot, cause=cause), S.FAILED)
    for node in sorted(silent if not slot.claimed else ()):
        nodes.owe(turn, slot, node, f"slot {slot.id} ended without this node's word")


def abandon(turn: Turn, slot: Slot) -> None:
    """Close the books without proof: nodes dirty, addresses withheld, the job still deleted."""
    if slot.wanted == "held":  # a site that keeps slots has not let it go yet
        let_go(turn, slot)
        slot = turn.books.slot(slot.id) or slot
    if slot.state not in FINAL_SLOT:
        _write_off(turn, slot, "abandoned before its end was confirmed")


def settle_slot(turn: Turn, slot: Slot) -> None:
    """Every node has spoken. When the batch system agrees, the slot has ended."""
    if not all_spoke(turn, slot):
        return
    pilots = turn.books.pilots_of(slot)
    if slot.state in FINAL_SLOT:  # an abandoned one: what came after its end is put away too
        turn.do(CloseSlot(slot.id, all(pilot.clean for pilot in pilots)))
        return
    slot = turn.slot(slot, S.RELEASING, waits_for="the batch system to confirm that the job ended")
    if slot.lrm.state != "gone":
        turn.do(Poll())
        return
    causes = tuple(f"{pilot.node}: {pilot.cause}" for pilot in pilots if pilot.cause)
    slot = replace(slot, causes=slot.causes or causes)
    given_back = slot.again and all(pilot.state == "released" for pilot in pilots)
    if not slot.cause or given_back:
        close(turn, slot, S.RELEASED)
    else:
        preempted = any(pilot.facts.get("preempted") for pilot in pilots)
        close(turn, slot, S.PREEMPTED if preempted else S.FAILED)


def fail(turn: Turn, slot: Slot, cause: str) -> None:
    """The slot cannot be had; nothing of it runs anywhere."""
    close(turn, replace(slot, cause=cause), S.FAILED)


def close(turn: Turn, slot: Slot, state: SlotState) -> None:
    """The slot's end: its commands are withdrawn, its VMs settled, its files given up."""
    pilots = turn.books.pilots_of(slot)
    proved = all(pilot.clean for pilot in pilots) and (
        bool(slot.claimed) or all_spoke(turn, slot) or not slot.asked
    )
    if state is S.RELEASED:
        slot = turn.slot(slot, S.RELEASING)  # nothing is released that was not let go
    slot = turn.slot(slot, state, proof=turn.proof(*_why(turn, slot)))
    for pilot in pilots:
        for id in sorted(turn.books.orders_of.get(pilot.id, ())):
            turn.books.drop(PendingOrder, id)
        nodes.leave(turn, slot, pilot)
    if slot.repair_of:
        nodes.repaired(turn, slot)
    for id in slot.vms:
        _settle_vm(turn, slot, id)
    turn.do(CloseSlot(slot.id, proved))


def _why(turn: Turn, slot: Slot) -> tuple[str, str]:
    """Who says that the slot's job is over, and how."""
    if not slot.asked:
        return "daemon", "no job was ever asked for"
    if slot.lrm.state == "gone":
        return "lrm", slot.lrm.reason
    if not slot.job:
        return "lrm", f"the batch system has no job of this slot after {slot.calls} tries"
    return "daemon", "closed without the batch system's word"


def _settle_vm(turn: Turn, slot: Slot, id: str) -> None:
    """A VM whose slot has ended: gone for sure, or failed with its addresses kept."""
    vm = turn.books.vm(id)
    if vm is None or vm.state is VmState.TERMINATED:
        return
    pilot = turn.books.pilot(vm.pilot) if vm.pilot else None
    cause = vm.cause or slot.cause
    if not vm.created or (pilot and pilot.clean):
        state = VmState.FAILED if slot.state is S.FAILED else VmState.TERMINATED
        if vm.state is VmState.FAILED or vm.wanted == "gone":
            state = VmState.TERMINATED if vm.wanted == "gone" else vm.state
        if not vm.created:
            vms.nothing_made(turn, vm, state, cause)
        else:
            proof = vm.proof or (pilot.proof if pilot else None)
            turn.vm(vm, state, "daemon", held=False, cause=cause, proof=proof)
    else:
        turn.vm(vm, VmState.FAILED, "daemon", cause=cause or "its node never said that it is gone")

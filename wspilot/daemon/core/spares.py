"""Slots of no workspace that stand ready: asked for in advance, or kept when a lease ended early.

Invariant: a slot serves at most one workspace at a time. It changes hands only when its nodes have
said that every VM of the one before is gone, and it is given back when `hold` is over, so that no
idle slot outlives its use (policies `reuse` and `warm`; docs/policies.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from wspilot.daemon.core import acting, endings, vms
from wspilot.daemon.core.books import Books
from wspilot.daemon.core.orders import send
from wspilot.daemon.core.turn import Rules, Turn, derive_id
from wspilot.daemon.policy import Pool, Spare, refill
from wspilot.messages import Verb
from wspilot.model import FINAL_SLOT, Slot, SlotState, VmState, Workspace

S = SlotState
DAY_S = 86400.0
REFILL_S = 5.0  # how often the number of warm slots is looked at
GONE_FIRST_S = 120.0  # a pilot goes by itself so much later than the daemon would let it go
_SOUND = frozenset({"", "running", "queued"})  # what the batch system may have said of its job


def is_spare(slot: Slot) -> bool:
    """Does it stand for nobody? (Or is it on its way there: then it is in this state too.)"""
    return slot.idle_at is not None and not slot.workspace and slot.state not in FINAL_SLOT


def offers(books: Books, rules: Rules, now: float) -> tuple[Spare, ...]:
    """The spare slots that may be taken now, for the policy."""
    found = [slot for id in sorted(books.spared) if (slot := books.slot(id)) and is_spare(slot)]
    return tuple(_spare(books, rules, slot, now) for slot in found if _sound(books, slot))


def _spare(books: Books, rules: Rules, slot: Slot, now: float) -> Spare:
    hosts = tuple(pilot.node for pilot in books.pilots_of(slot))
    left = acting.left_s(rules, slot, now)
    return Spare(slot.id, slot.nodes, slot.ppn, slot.memory_mib, slot.whole_node, left, hosts)


def _sound(books: Books, slot: Slot) -> bool:
    """Ready, wanted, and nobody doubts it."""
    pilots = books.pilots_of(slot)
    return (
        slot.state is S.READY
        and slot.wanted == "held"
        and slot.lrm.state in _SOUND
        and len(pilots) == slot.nodes
        and all(pilot.state == "ready" and not pilot.lost for pilot in pilots)
    )


# -- taken


def take(turn: Turn, id: str, ws: str, members: tuple[str, ...]) -> bool:
    """Give a spare slot to a workspace; False: it can no longer be had, ask for another."""
    slot = turn.books.slot(id)
    if slot is None or not is_spare(slot) or not _sound(turn.books, slot):
        return False
    idle = slot.idle_s + _idle_s(slot, turn.now)
    slot = turn.slot(slot, slot.state, workspace=ws, vms=members, idle_at=None, idle_s=idle,
                     since=turn.now, waits_for="")  # fmt: skip
    for pilot in turn.books.pilots_of(slot):  # its last lease may be over before this one begins
        seconds = acting.left_s(turn.rules, slot, turn.now)
        send(turn, pilot, Verb.LEASE, {"seconds": seconds})
    turn.note("info", "slot", "a spare slot is used: the batch system is not asked",
              workspace=ws, slot=id)  # fmt: skip
    return True


# -- kept


def worth_keeping(turn: Turn, slot: Slot) -> bool:
    """May a slot whose lease is ended early serve another?"""
    if not turn.rules.policy.keeps or slot.again or not _sound(turn.books, slot):
        return False
    left = acting.left_s(turn.rules, slot, turn.now)
    return left > turn.rules.stop_s + turn.rules.boot_s and _healthy(turn, slot)


def _healthy(turn: Turn, slot: Slot) -> bool:
    """A VM that is unknown or did not come up casts a doubt on its node."""
    found = [vm for vm in map(turn.books.vm, slot.vms) if vm is not None]
    return all(vm.state not in (VmState.UNKNOWN, VmState.FAILED) for vm in found)


def keep(turn: Turn, slot: Slot) -> None:
    """Its lease has ended early: its VMs go, and the slot stays for another."""
    seconds = min(
        turn.rules.policy.hold_s + GONE_FIRST_S, acting.left_s(turn.rules, slot, turn.now)
    )
    slot = turn.slot(slot, slot.state, idle_at=turn.now, waits_for="its VMs to end")
    for vm in map(turn.books.vm, slot.vms):
        if vm is not None:
            vms.destroy(turn, vm)
    for pilot in turn.books.pilots_of(slot):
        send(turn, pilot, Verb.LEASE, {"seconds": seconds})


def leave(turn: Turn, ws: Workspace) -> Workspace:
    """Kept slots whose VMs are all gone belong to the ended workspace no longer."""
    for slot in turn.books.slots_of(ws):
        if slot.idle_at is None or not _empty(turn, slot):
            continue
        if _sound(turn.books, slot):
            ws = replace(ws, slots=tuple(id for id in ws.slots if id != slot.id))
            turn.books.put(ws)
            turn.slot(slot, slot.state, workspace="", vms=(), idle_at=turn.now,
                      waits_for="a workspace to take it")  # fmt: skip
            turn.note("info", "slot", f"kept for another lease, for {turn.rules.policy.hold_s} s",
                      workspace=ws.id, slot=slot.id)  # fmt: skip
        elif slot.wanted == "held":
            endings.let_go(turn, slot)
    return ws


def _empty(turn: Turn, slot: Slot) -> bool:
    found = [vm for vm in map(turn.books.vm, slot.vms) if vm is not None]
    return all(vm.state is VmState.TERMINATED and not vm.held for vm in found)


# -- time


def tick(turn: Turn) -> list[Slot]:
    """Give back what has stood long enough; return the warm slots to submit."""
    for id in sorted(turn.books.spared):
        slot = turn.books.slot(id)
        if slot is None or slot.state in FINAL_SLOT or slot.wanted != "held":
            continue
        if slot.idle_at is not None and _stale(turn, slot):
            endings.let_go(turn, slot)
    if turn.rules.warm is None or turn.now < turn.books.next_refill:
        return []
    turn.books.next_refill = turn.now + REFILL_S
    number = refill(turn.rules.policy, pool(turn.books, turn.now), turn.now)
    if number < 0:
        for slot in _spared(turn):
            if is_spare(slot) and slot.wanted == "held":
                endings.let_go(turn, slot)
    return [_warm(turn, n) for n in range(number)]


def _spared(turn: Turn) -> Iterable[Slot]:
    return [slot for id in sorted(turn.books.spared) if (slot := turn.books.slot(id)) is not None]


def _stale(turn: Turn, slot: Slot) -> bool:
    if slot.workspace:  # its VMs should be gone by now
        limit = turn.rules.stop_s + turn.rules.restore_s + turn.rules.linger_s
        return turn.now - (slot.idle_at or 0) > limit
    if not turn.rules.policy.keeps:  # the site has another policy now
        return True
    if slot.state in (S.RELEASING, S.SUBMITTING, S.QUEUED):
        return False
    if slot.launched is not None and acting.left_s(turn.rules, slot, turn.now) <= 0:
        return True
    return _idle_s(slot, turn.now) > turn.rules.policy.hold_s


def _idle_s(slot: Slot, now: float) -> float:
    """How long it has stood for nobody; what waits in a queue costs nothing."""
    if slot.idle_at is None or slot.launched is None:
        return 0.0
    end = slot.since if slot.state in FINAL_SLOT else now
    return max(0.0, end - max(slot.idle_at, slot.launched))


def _warm(turn: Turn, number: int) -> Slot:
    plan = turn.rules.warm
    assert plan is not None
    slot = Slot(
        id=derive_id("warm", turn.now, number, len(turn.books.spared)),
        workspace="",
        nodes=plan.nodes,
        ppn=plan.ppn,
        memory_mib=plan.memory_mib,
        walltime_s=turn.rules.warm_walltime_s,
        created=turn.now,
        since=turn.now,
        whole_node=plan.whole_node,
        warm=True,
        idle_at=turn.now,
        waits_for="the batch system",
    )
    turn.books.put(slot)
    turn.note("info", "slot", "a warm slot is asked for", slot=slot.id)
    return slot


def pool(books: Books, now: float) -> Pool:
    """What the policy `warm` decides by."""
    there, spent, last = 0, 0.0, []
    for id in books.spared:
        slot = books.slot(id)
        if slot is None:
            continue
        there += is_spare(slot) and slot.wanted == "held"
        if slot.state not in FINAL_SLOT or now - slot.since < DAY_S:
            spent += slot.nodes * (slot.idle_s + _idle_s(slot, now))
        if slot.warm and (slot.state in FINAL_SLOT or slot.state is S.READY):
            last.append(slot)
    lost, lost_at = 0, 0.0
    for slot in sorted(last, key=lambda one: -one.since):
        if slot.state not in (S.FAILED, S.PREEMPTED) or slot.idle_at is None:
            break
        lost, lost_at = lost + 1, max(lost_at, slot.since)
    return Pool(there, spent, lost, lost_at)


__all__ = ["is_spare", "keep", "leave", "offers", "pool", "take", "tick", "worth_keeping"]

"""Slots of no workspace: kept when a lease ends early, asked for in advance, taken by the next."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.unit.core.dialogue import Dialogue
from wspilot.daemon.core import spares
from wspilot.daemon.core.events import Cancel, CloseSlot, Deploy, Destroy, Submit
from wspilot.daemon.lrm.base import JobState
from wspilot.daemon.policy import SlotPlan, Spare, reuse
from wspilot.ensemble import Request
from wspilot.messages import Kind
from wspilot.model import (
    Group,
    Nic,
    NodeState,
    Outcome,
    PendingOrder,
    Slot,
    SlotState,
    VmState,
    WorkspaceState,
)
from wspilot.settings import Policy

S, W, V = SlotState, WorkspaceState, VmState
WARM = SlotPlan((), 1, 1, 600, True)


def keeping(count: int = 1, **more: Any) -> Dialogue:
    """A site that keeps slots, and an active lease on it."""
    d = Dialogue(count, **more)
    d.rules = replace(d.rules, policy=Policy("reuse", hold_s=600))
    d.run(*[f"n{n}" for n in range(1, count + 1)])
    assert d.ws.state is W.ACTIVE
    d.asked(Submit)
    return d


def offers(d: Dialogue) -> tuple[Spare, ...]:
    return spares.offers(d.books, d.rules, d.now)


def empty(d: Dialogue) -> None:
    """The lease's VMs are reported gone."""
    for vm in d.vms:
        d.report(vm.node, vm, V.TERMINATED)


def another(d: Dialogue, count: int = 1, lease_s: int = 600, id: str = "x" * 8) -> None:
    """A second workspace, planned as the API does it."""
    members = tuple(("vm", n) for n in range(1, count + 1))
    group = Group("vm", "small", count, count, "small", 1, 512, 0, nics=("private",))
    plan = reuse([SlotPlan(members, count, 1, 600, True)], offers(d), lease_s + 180, 600)
    nics = tuple((Nic("private", f"m{n}", f"10.0.1.{n}"),) for _, n in members)
    request = Request("two", lease_s, (group,))
    d.say(Deploy(id, 0, "two", request, plan, 4000, "per-workspace", nics))


def created(d: Dialogue) -> list[PendingOrder]:
    """The creates of the second workspace."""
    two = d.books.workspace("x" * 8)
    return [order for order in d.orders("create") if two is not None and order.vm in two.vms]


def slot_now(d: Dialogue) -> Slot:
    return next(iter(d.books.slots()))


def test_a_lease_that_is_destroyed_early_ends_and_leaves_its_slot() -> None:
    d = keeping()
    d.destroy()
    assert d.orders("destroy") and not d.orders("release")
    assert d.ws.state is W.ENDING and not offers(d)  # not while its VMs live
    empty(d)
    assert (d.ws.state, d.ws.outcome, d.ws.slots) == (W.ENDED, Outcome.DESTROYED, ())
    assert [one.id for one in offers(d)] == [slot_now(d).id] and not d.books.held
    assert slot_now(d).waits_for == "a workspace to take it" and not d.asked(CloseSlot)


def test_the_next_lease_takes_it_and_the_batch_system_is_not_asked() -> None:
    d = keeping()
    d.destroy()
    empty(d)
    another(d)
    two = d.books.workspace("x" * 8)
    assert two is not None and two.slots == (slot_now(d).id,) and not d.asked(Submit)
    (order,) = created(d)
    assert order.pilot == slot_now(d).pilots[0] and two.state is W.PROVISIONING
    (vm,) = d.books.vms_of(two)
    d.report("n1", vm, V.RUNNING)
    two = d.books.workspace("x" * 8)
    assert two is not None and two.state is W.ACTIVE
    assert d.orders("lease")[-1].data == {"seconds": 600}
    assert not offers(d) and slot_now(d).workspace == two.id


def test_a_taken_slot_ends_with_its_second_lease() -> None:
    d = keeping()
    d.destroy()
    empty(d)
    another(d)
    two = d.books.workspace("x" * 8)
    assert two is not None
    d.report("n1", d.books.vms_of(two)[0], V.RUNNING)
    d.later(601)
    assert d.orders("release")
    d.hear("n1", Kind.RELEASED, slot=slot_now(d))
    d.poll(d.job_of(slot_now(d), JobState.DONE))
    two = d.books.workspace("x" * 8)
    assert two is not None and two.outcome is Outcome.OK and slot_now(d).state is S.RELEASED
    assert not d.books.held and d.books.node("n1").state is NodeState.CLEAN  # type: ignore[union-attr]


def test_a_kept_slot_is_given_back_when_nobody_came() -> None:
    d = keeping()
    d.destroy()
    empty(d)
    d.later(590)
    assert offers(d) and not d.orders("release")
    d.later(20)
    assert not offers(d) and d.orders("release")
    d.hear("n1", Kind.RELEASED, slot=slot_now(d))
    d.poll(d.job_of(slot_now(d), JobState.DONE))
    assert slot_now(d).state is S.RELEASED and d.asked(CloseSlot)


def test_its_pilot_goes_by_itself_should_the_daemon_be_gone() -> None:
    d = keeping()
    d.destroy()
    assert d.orders("lease")[-1].data == {"seconds": 600 + spares.GONE_FIRST_S}


def test_vms_that_do_not_end_take_their_slot_with_them() -> None:
    d = keeping()
    d.destroy()
    d.later(60)
    assert d.orders("release") and not offers(d)
    d.hear("n1", Kind.RELEASED)
    d.poll(d.job(JobState.DONE))
    assert d.ws.state is W.ENDED and slot_now(d).state is S.RELEASED


def test_a_vm_that_failed_casts_a_doubt_on_its_node() -> None:
    d = keeping(2, minimum=1)
    d.report("n1", d.vms[0], V.FAILED, "it died")
    d.destroy()
    assert len(d.orders("release")) == 2


def test_a_lease_that_is_served_to_its_end_gives_its_slot_back() -> None:
    d = keeping()
    d.later(3601)
    assert d.orders("release") and not d.books.spared


def test_abandon_keeps_nothing() -> None:
    d = keeping()
    d.destroy(abandon=True)
    assert not offers(d) and slot_now(d).state is S.FAILED


def test_abandon_of_a_lease_whose_slot_is_being_kept_lets_it_go_first() -> None:
    d = keeping()
    d.destroy()
    assert not d.orders("release")
    d.destroy(abandon=True)
    assert slot_now(d).state is S.FAILED and slot_now(d).wanted == "released"
    assert d.ws.outcome is Outcome.ABANDONED


def test_nothing_is_kept_by_a_site_that_does_not_say_so() -> None:
    d = Dialogue()
    d.run("n1")
    d.destroy()
    assert d.orders("release") and not d.books.spared


def test_destroying_every_vm_keeps_the_slot_too() -> None:
    d = keeping()
    d.say(Destroy((), (d.vms[0].id,)))
    empty(d)
    assert d.ws.state is W.ENDED and offers(d)


def test_a_silent_or_preempted_spare_is_not_offered() -> None:
    d = keeping()
    d.destroy()
    empty(d)
    d.hear("n1", Kind.PREEMPTED, {"cause": "SIGTERM"}, slot=slot_now(d))
    assert not offers(d)
    d.hear("n1", Kind.RELEASED, slot=slot_now(d))
    d.poll(d.job_of(slot_now(d), JobState.DONE))
    assert slot_now(d).state is S.PREEMPTED


def test_a_spare_that_went_meanwhile_is_asked_for_anew() -> None:
    d = keeping()
    d.destroy()
    empty(d)
    plan = (SlotPlan((("vm", 1),), 1, 1, 600, True, held="gone0000"),)
    group = Group("vm", "small", 1, 1, "small", 1, 512, 0)
    d.say(Deploy("y" * 8, 0, "y", Request("y", 60, (group,)), plan, 4000, "per-workspace", ((),)))
    assert len(d.asked(Submit)) == 1 and offers(d)


def test_part_of_a_lease_waits_for_the_rest_and_nothing_is_created_before() -> None:
    d = keeping()
    d.destroy()
    empty(d)
    another(d, 2)
    two = d.books.workspace("x" * 8)
    assert two is not None and len(two.slots) == 2 and not created(d)
    (ask,) = d.asked(Submit)
    fresh = d.books.slot(ask.slot)
    assert fresh is not None and fresh.nodes == 1
    d.accept(fresh, "8.srv")
    d.start("n2", slot=fresh)
    assert len(created(d)) == 2


def test_a_daemon_that_comes_back_knows_its_spares() -> None:
    d = keeping()
    d.destroy()
    empty(d)
    d.restart()
    assert offers(d)


# -- warm


def warm(slots: int = 2, **more: Any) -> Dialogue:
    d = Dialogue()
    policy = Policy("warm", slots=slots, hold_s=7200, **more)
    d.rules = replace(d.rules, policy=policy, warm=WARM, warm_walltime_s=14400)
    d.asked(Submit)
    return d


def warm_slots(d: Dialogue) -> list[Slot]:
    return [slot for slot in d.books.slots() if slot.warm]


def stand(d: Dialogue, slot: Slot, node: str) -> None:
    d.accept(slot, f"{node}.srv")
    d.start(node, slot=d.books.slot(slot.id))


def test_warm_slots_are_asked_for_and_stand_ready() -> None:
    d = warm()
    d.later(1)
    assert len(d.asked(Submit)) == 2 and len(warm_slots(d)) == 2
    d.later(100)
    assert len(warm_slots(d)) == 2  # those in the queue count
    for n, slot in enumerate(warm_slots(d)):
        stand(d, slot, f"m{n}")
    assert len(offers(d)) == 2


def test_one_that_was_taken_is_replaced() -> None:
    d = warm(1)
    d.later(1)
    stand(d, warm_slots(d)[0], "m1")
    another(d)
    assert d.orders("create") and not offers(d)
    d.later(10)
    assert len(warm_slots(d)) == 2


def test_the_days_budget_is_kept_by_giving_back_what_stands() -> None:
    d = warm(1, hours=1)
    d.later(1)
    stand(d, warm_slots(d)[0], "m1")
    d.later(3500)
    assert offers(d)
    d.later(110)
    assert not offers(d) and d.orders("release")
    d.hear("m1", Kind.RELEASED, slot=warm_slots(d)[0])
    d.poll(d.job_of(warm_slots(d)[0], JobState.DONE))
    d.later(3600)
    assert len(warm_slots(d)) == 1  # nothing more today
    d.later(86400)
    assert len(warm_slots(d)) == 2


def test_after_a_loss_it_pauses() -> None:
    d = warm(1)
    d.later(1)
    stand(d, warm_slots(d)[0], "m1")
    d.hear("m1", Kind.PREEMPTED, {"cause": "SIGTERM"}, slot=warm_slots(d)[0])
    d.hear("m1", Kind.RELEASED, slot=warm_slots(d)[0])
    d.poll(d.job_of(warm_slots(d)[0], JobState.DONE))
    d.later(50)
    assert len(warm_slots(d)) == 1
    d.later(20)
    assert len(warm_slots(d)) == 2


def test_a_site_that_turns_it_off_gets_every_slot_back() -> None:
    d = warm(2)
    d.later(1)
    first, second = warm_slots(d)
    stand(d, first, "m1")
    d.accept(second, "q.srv")
    d.rules = replace(d.rules, policy=Policy(), warm=None)
    d.asked(Cancel)
    d.later(1)
    assert all(slot.wanted == "released" for slot in warm_slots(d)) and d.orders("release")

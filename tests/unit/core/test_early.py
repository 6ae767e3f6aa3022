"""Single members that are destroyed: their node goes back early, the others' lease goes on."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.core.dialogue import Dialogue
from wspilot.daemon.core.events import Destroy
from wspilot.daemon.lrm.base import JobState
from wspilot.messages import Kind
from wspilot.model import Outcome, SlotState, VmState, WorkspaceState
from wspilot.settings import Policy

S, W, V = SlotState, WorkspaceState, VmState


def per_node(count: int = 2) -> Dialogue:
    """An active lease of `count` slots of one node each."""
    d = Dialogue(count, slots=count)
    for n, slot in enumerate(d.slots):
        d.accept(slot, f"{n}.srv")
    for n, slot in enumerate(d.slots):
        d.start(f"n{n}", slot=slot)
    for vm in d.vms:
        d.report(vm.node, vm, V.RUNNING)
    assert d.ws.state is W.ACTIVE
    return d


def give_up(d: Dialogue, n: int) -> None:
    vm = d.vms[n]
    d.say(Destroy((), (vm.id,)))
    if vm.created:
        d.report(vm.node, vm, V.TERMINATED)


def test_a_members_node_goes_back_and_the_lease_goes_on() -> None:
    d = per_node()
    d.say(Destroy((), (d.vms[0].id,)))
    assert not d.orders("release")  # not before its node says that it is gone
    d.report("n0", d.vms[0], V.TERMINATED)
    (order,) = d.orders("release")
    assert order.slot == d.slots[0].id and d.ws.state is W.ACTIVE
    d.hear("n0", Kind.RELEASED, slot=d.slots[0])
    d.poll(d.job_of(d.slots[0], JobState.DONE), d.job_of(d.slots[1], JobState.RUNNING))
    assert [slot.state for slot in d.slots] == [S.RELEASED, S.READY]
    assert (d.ws.state, d.ws.wanted, len(d.books.held)) == (W.ACTIVE, "active", 1)
    d.later(3601)
    d.hear("n1", Kind.RELEASED, slot=d.slots[1])
    d.poll(d.job_of(d.slots[1], JobState.DONE))
    assert (d.ws.state, d.ws.outcome) == (W.ENDED, Outcome.OK)


def test_a_node_that_others_still_use_stays() -> None:
    d = Dialogue(2, nodes=1)
    d.run("n1")
    give_up(d, 0)
    assert not d.orders("release") and d.ws.state is W.ACTIVE


def test_a_member_that_was_not_there_yet_is_not_waited_for() -> None:
    d = Dialogue(2, slots=2)
    for n, slot in enumerate(d.slots):
        d.accept(slot, f"{n}.srv")
    d.start("n0", slot=d.slots[0])
    give_up(d, 1)
    assert d.slots[1].wanted == "released" and d.orders("create")
    d.report("n0", d.vms[0], V.RUNNING)
    assert d.ws.state is W.ACTIVE
    d.later(700)
    assert d.ws.rounds == 0  # `gather` does not count it either


def test_the_last_member_ends_the_lease() -> None:
    d = per_node()
    give_up(d, 0)
    give_up(d, 1)
    assert d.ws.state is W.ENDING and d.ws.ending is Outcome.DESTROYED


def test_where_slots_are_kept_the_members_node_is_kept_too() -> None:
    d = per_node()
    d.rules = replace(d.rules, policy=Policy("reuse"))
    slot = d.slots[0].id
    give_up(d, 0)
    assert not d.orders("release") and d.ws.state is W.ACTIVE
    kept = d.books.slot(slot)
    assert kept is not None and kept.workspace == "" and len(d.slots) == 1

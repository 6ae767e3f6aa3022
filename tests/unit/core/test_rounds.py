"""Slots given back and asked for again: `gather`, doubled nodes, dirty nodes."""

from __future__ import annotations

from tests.unit.core.dialogue import Dialogue, uuid
from wspilot.daemon.core.events import CloseSlot, Heard, Submit
from wspilot.daemon.lrm.base import JobState
from wspilot.messages import Kind, Notification, rfc3339
from wspilot.model import Outcome, Slot, SlotState, WorkspaceState

S, W = SlotState, WorkspaceState


def _two() -> Dialogue:
    d = Dialogue(2, slots=2)
    for n, slot in enumerate(d.slots):
        d.accept(slot, f"{n}.srv")
    d.asked(Submit)
    return d


def _current(d: Dialogue) -> list[Slot]:
    return d.books.current_slots(d.ws)


def test_after_gather_the_started_slot_is_given_back_and_the_queued_one_keeps_its_place() -> None:
    d = _two()
    first, queued = d.slots
    d.start("n1", slot=first)
    d.later(601)
    assert d.ws.state in (W.PENDING, W.PROVISIONING) and d.ws.rounds == 1
    old, kept, new = d.slots
    assert (old.again, kept.id, kept.state) == (new.id, queued.id, S.QUEUED)
    assert d.orders("release") and new.state is S.SUBMITTING and not d.asked(Submit)
    d.later(25)
    assert not d.asked(Submit)
    d.later(36)
    assert d.asked(Submit) == [Submit(new.id, 1)]
    assert d.books.held  # addresses stay with their VMs


def test_the_slot_given_back_ends_released_and_takes_no_vm_with_it() -> None:
    d = _two()
    first = d.slots[0]
    d.start("n1", slot=first)
    d.later(601)
    d.hear("n1", Kind.RELEASED, {"boot_id": "boot-n1"}, slot=first)
    d.poll(d.job(JobState.DONE, id="0.srv"), d.job(JobState.QUEUED, id="1.srv"))
    assert d.slots[0].state is S.RELEASED and d.asked(CloseSlot)
    assert d.ws.wanted == "active" and len(d.books.held) == 2


def test_a_renewed_workspace_becomes_whole() -> None:
    d = _two()
    d.start("n1", slot=d.slots[0])
    d.later(601).later(61)
    new = d.slots[2]
    d.accept(new, "2.srv")
    d.start("n2", slot=d.slots[1])
    d.start("n3", slot=new)
    assert len(d.orders("create")) == 2 and {vm.node for vm in d.vms} == {"n2", "n3"}


def test_after_three_rounds_the_workspace_fails_with_the_cause() -> None:
    d = _two()
    d.start("n1", slot=d.slots[0])
    for round_ in range(3):
        d.later(601).later(601)
        new = _current(d)[-1]
        d.accept(new, f"again{round_}.srv")
        d.start(f"m{round_}", slot=new)
    d.later(601)
    assert d.ws.state is W.ENDING and d.ws.ending is Outcome.FAILED
    assert "within 600 s" in d.ws.cause and "4 times" in d.ws.cause


def test_a_second_slot_on_the_same_node_is_given_back() -> None:
    d = _two()
    d.start("n1", slot=d.slots[0])
    d.hear("n1-b", Kind.STARTED, {"boot_id": "b", "age_s": 1}, slot=d.slots[1])
    assert d.ws.rounds == 0
    e = _two()
    e.start("n1", slot=e.slots[0])
    second = e.slots[1]
    e.say(Heard(Notification(second.id, "n1", uuid("twin"), 1, 1, Kind.STARTED, rfc3339(e.now),
                             1.0, {"boot_id": "boot-n1", "age_s": 1})))  # fmt: skip
    assert e.ws.rounds == 1 and e.slots[1].again == e.slots[2].id
    assert "already serves slot" in e.slots[1].cause


def test_a_node_found_dirty_is_given_back_and_asked_for_again() -> None:
    d = Dialogue()
    d.accept()
    d.poll(d.job())
    d.hear("n1", Kind.STARTED, {"boot_id": "b", "age_s": 1})
    d.hear("n1", Kind.FAILED, {"cause": "dirty: VM x cannot be ended", "clean": False})
    assert d.ws.wanted == "active" and len(d.slots) == 2 and d.ws.rounds == 1
    node = d.books.node("n1")
    assert node is not None and node.owes == (d.slots[0].id,)


def test_destroy_while_the_next_try_is_waited_for_ends_everything() -> None:
    d = _two()
    first = d.slots[0]
    d.start("n1", slot=first)
    d.later(601)
    d.destroy()
    assert d.slots[2].state is S.RELEASED and not d.asked(Submit)
    d.hear("n1", Kind.RELEASED, {"boot_id": "boot-n1"}, slot=first)
    assert d.ws.state is W.ENDING


def test_slots_whose_vms_were_created_are_never_given_back() -> None:
    d = _two()
    d.start("n1", slot=d.slots[0])
    d.start("n2", slot=d.slots[1])
    d.later(3000)
    assert d.ws.rounds == 0 and d.ws.wanted == "active"

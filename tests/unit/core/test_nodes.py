"""Dirty nodes, who proves that they came back, and repair jobs: DESIGN.md sections 8 and 9."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.core.dialogue import Dialogue, uuid
from wspilot.daemon.core.events import (
    Cancel,
    Claim,
    Claimed,
    Forget,
    Heard,
    Repair,
    Submit,
    Submitted,
)
from wspilot.daemon.lrm.base import Answer, JobState, Verdict
from wspilot.messages import Kind, Notification, rfc3339
from wspilot.model import Node, NodeState, Slot, SlotState, VmState

S, N = SlotState, NodeState


def _written_off() -> Dialogue:
    """A lease whose job vanished and whose node never spoke again."""
    d = Dialogue()
    d.run("n1")
    d.later(10)
    d.poll(d.job(JobState.DONE))
    d.later(91)
    assert d.slot.state is S.FAILED and d.books.held
    return d


def _node(d: Dialogue, name: str = "n1") -> Node:
    node = d.books.node(name)
    assert node is not None
    return node


def _repair(d: Dialogue) -> Slot:
    found = [slot for slot in d.books.slots() if slot.repair_of]
    assert len(found) >= 1
    return found[-1]


def _say(d: Dialogue, slot: Slot, kind: Kind, seq: int, **data: object) -> None:
    note = Notification(slot.id, "n1", uuid(slot.id), 1, seq, kind, rfc3339(d.now), 1.0, data)
    d.say(Heard(note))


def _run_repair(d: Dialogue, **last: object) -> Slot:
    slot = _repair(d)
    d.say(Submitted(slot.id, slot.calls, Answer(Verdict.ACCEPTED, "9.srv")))
    d.later(2)
    _say(d, slot, Kind.STARTED, 1, boot_id="boot-n1", age_s=0.5)
    _say(d, slot, Kind.RESERVED, 2, taken_mib=0)
    _say(d, slot, Kind.RELEASING, 3, cause="a repair job")
    _say(d, slot, Kind.RELEASED, 4, boot_id="boot-n1", clean=True, **{"node_clean": True, **last})
    return slot


def test_a_node_without_its_word_is_dirty_and_a_repair_job_is_asked_for_once() -> None:
    d = _written_off()
    assert _node(d).state is N.DIRTY and _node(d).owes == (d.slot.id,)
    d.asked(Submit)
    d.later(6).later(6)
    repair = _repair(d)
    assert d.asked(Submit) == [Submit(repair.id, 1)]
    assert (repair.repair_of, repair.walltime_s, repair.vms) == ("n1", 120, ())
    assert _node(d).state is N.REPAIRING


def test_a_repair_that_finds_nothing_frees_what_the_node_withheld() -> None:
    d = _written_off()
    d.later(6)
    repair = _run_repair(d, neighbours=[])
    assert not d.books.held and not _node(d).owes
    proof = d.vms[0].proof
    assert proof is not None and proof.by == "repair" and repair.id in proof.text
    d.poll(d.job(JobState.DONE, id="9.srv"))
    assert _repair(d).state is S.RELEASED and _node(d).state is N.CLEAN


def test_a_repair_that_saw_the_slots_guardian_alive_proves_nothing_about_it() -> None:
    d = _written_off()
    d.later(6)
    _run_repair(d, neighbours=[d.slot.id])
    d.poll(d.job(JobState.DONE, id="9.srv"))
    assert d.books.held and _node(d).state is N.DIRTY


def test_a_repair_without_the_list_of_neighbours_proves_nothing() -> None:
    d = _written_off()
    d.later(6)
    _run_repair(d)
    assert d.books.held and _node(d).owes


def test_a_repair_job_that_waits_too_long_is_cancelled_and_the_operator_is_named() -> None:
    d = _written_off()
    d.later(6)
    slot = _repair(d)
    d.say(Submitted(slot.id, 1, Answer(Verdict.ACCEPTED, "9.srv")))
    d.later(601)
    assert d.asked(Claim)[-1] == Claim(slot.id)
    d.say(Claimed(slot.id, True))
    assert Cancel(slot.id, "9.srv") in d.asked(Cancel)
    d.poll()
    d.later(20)
    d.poll()
    node = _node(d)
    assert _repair(d).state is S.RELEASED
    assert node.state is N.DIRTY and "needs the operator" in node.cause
    d.later(30)
    assert not d.books.repairs["n1"]  # not at once again
    d.say(Repair("n1"))
    d.later(1)
    assert d.books.repairs["n1"]


def test_a_late_word_of_the_dead_pilots_guardian_clears_the_node() -> None:
    d = _written_off()
    d.hear("n1", Kind.FAILED, {"clean": True, "cause": "killed"}, of="n1")
    assert not d.books.held and _node(d).state is N.CLEAN
    proof = d.vms[0].proof
    assert proof is not None and proof.by == "guardian"


def test_a_guardian_may_speak_before_its_pilots_first_word_arrives() -> None:
    d = Dialogue()
    d.accept()
    d.poll(d.job())
    d.hear("n1", Kind.FAILED, {"clean": True, "cause": "killed"}, of="n1")
    d.hear("n1", Kind.STARTED, {"boot_id": "b", "age_s": 1})
    d.hear("n1", Kind.RESERVED, {"taken_mib": 0})
    assert [pilot.state for pilot in d.books.pilots_of(d.slot)] == ["failed"]
    assert not d.orders("create")
    d.poll(d.job(JobState.DONE))
    assert d.slot.state is S.FAILED and not d.books.held


def test_what_comes_after_the_last_word_revives_nothing() -> None:
    d = Dialogue()
    d.run("n1")
    d.hear("n1", Kind.FAILED, {"clean": True, "cause": "killed"}, of="n1")
    d.hear("n1", Kind.RESERVED, {"taken_mib": 7})
    assert d.books.pilots_of(d.slot)[0].state == "failed"


def test_a_later_epoch_proves_that_its_own_node_came_back() -> None:
    d = Dialogue()
    d.run("n1")
    note = Notification(d.slot.id, "n1", uuid("again"), 2, 1, Kind.FAILED, rfc3339(d.now), 1.0,
                        {"cause": "restarted", "node_clean": True, "neighbours": []})  # fmt: skip
    d.say(Heard(note))
    assert not d.books.held and d.vms[0].state is VmState.TERMINATED


def test_a_later_epoch_beside_the_living_first_one_moves_nothing() -> None:
    d = Dialogue()
    d.run("n1")
    note = Notification(d.slot.id, "n1", uuid("again"), 2, 1, Kind.FAILED, rfc3339(d.now), 1.0,
                        {"node_clean": True, "neighbours": [d.slot.id]})  # fmt: skip
    d.say(Heard(note))
    assert d.books.held and d.slot.state is S.READY


def test_forget_spares_a_pilot_that_lives() -> None:
    d = Dialogue()
    d.run("n1")
    d.say(Forget("n1"))
    assert d.books.held and d.slot.state is S.READY and _node(d).state is N.IN_USE


def test_forget_frees_what_a_dead_node_withheld() -> None:
    d = _written_off()
    d.say(Forget("n1"))
    assert not d.books.held and _node(d).state is N.CLEAN
    proof = d.vms[0].proof
    assert proof is not None and proof.by == "person"


def test_the_next_pilot_on_a_dirty_node_says_that_it_is_clean() -> None:
    d = _written_off()
    e = Dialogue()
    e.books, e.now = d.books, d.now + 3
    slot = Slot("next0000", "", 1, 1, 64, 60, e.now, state=S.QUEUED, asked=e.now, job="8.srv")
    e.books.put(slot)
    _say(e, slot, Kind.STARTED, 1, boot_id="boot-n1", age_s=0.5)
    _say(e, slot, Kind.RESERVED, 2, taken_mib=0, node_clean=True, neighbours=[])
    assert not e.books.held and _node(e).state is N.IN_USE


def test_two_slots_of_a_node_it_is_clean_when_both_have_spoken() -> None:
    d = _written_off()
    node = _node(d)
    d.books.put(replace(node, owes=(*node.owes, "another0")))
    d.hear("n1", Kind.FAILED, {"clean": True, "cause": "killed"}, of="n1")
    assert _node(d).state is N.DIRTY and _node(d).owes == ("another0",)


def test_the_guardian_of_a_repair_job_speaks_for_that_job_alone() -> None:
    d = _written_off()
    d.later(6)
    slot = _repair(d)
    d.say(Submitted(slot.id, slot.calls, Answer(Verdict.ACCEPTED, "9.srv")))
    _say(d, slot, Kind.STARTED, 1, boot_id="boot-n1", age_s=0.5)
    word = {"clean": True, "neighbours": [], "node_clean": False}
    note = Notification(slot.id, "n1", uuid("guard"), 1, 1, Kind.FAILED, rfc3339(d.now), 1.0, word,
                        uuid(slot.id))  # fmt: skip
    d.say(Heard(note))
    assert d.books.held and _node(d).owes


def test_a_late_first_word_of_an_ended_slot_changes_neither_its_cause_nor_its_node() -> None:
    d = Dialogue()
    d.accept()
    d.poll(d.job())
    d.destroy(abandon=True)
    cause = d.slot.cause
    d.hear("n1", Kind.STARTED, {"boot_id": "b", "age_s": 1})
    assert "abandoned" in cause and d.slot.cause == cause
    assert _node(d).slots == () and d.orders("release")
    d.hear("n1", Kind.RELEASED, {"boot_id": "b"})
    assert not d.orders("release")

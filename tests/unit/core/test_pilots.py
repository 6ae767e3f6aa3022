"""What pilots say: order, repeats, gaps, silence, preemption, last words."""

from __future__ import annotations

import pytest

from tests.unit.core.dialogue import Dialogue
from wspilot.daemon.core.events import Destroy, Listened, Poll, Recovered, Send
from wspilot.daemon.lrm.base import JobState
from wspilot.messages import Kind
from wspilot.model import NodeState, Outcome, SlotState, VmReport, VmState, WorkspaceState

S, V, W = SlotState, VmState, WorkspaceState


def test_one_lease_from_request_to_end() -> None:
    d = Dialogue(2)
    d.run("n1", "n2")
    assert d.ws.state is W.ACTIVE and d.ws.ends == d.now + 3600
    assert [order.data for order in d.orders("lease")] == [{"seconds": 3600}] * 2
    d.destroy()
    d.release("n1", "n2")
    d.poll(d.job(JobState.DONE))
    assert d.ws.state is W.ENDED and d.ws.outcome is Outcome.DESTROYED
    assert {vm.state for vm in d.vms} == {V.TERMINATED}
    assert not (
        d.books.held or d.books.open_slots or d.books.open_workspaces or [*d.books.orders()]
    )


def test_a_repeat_is_acknowledged_and_ignored() -> None:
    d = Dialogue()
    d.run("n1")
    before = d.books.last_event
    assert d.hear("n1", Kind.RESERVED, seq=2) is True
    assert d.books.last_event == before


def test_a_gap_is_waited_for_30_s_and_three_listings_then_passed_over() -> None:
    d = Dialogue()
    d.accept()
    d.start("n1")
    vm = d.vms[0]
    late = VmReport(vm.id, V.RUNNING).to_data()
    assert d.hear("n1", Kind.VM, late, seq=4) is False
    d.later(31)
    assert d.hear("n1", Kind.VM, late, seq=4) is False
    assert d.hear("n1", Kind.VM, late, seq=4) is True
    assert d.ws.state is W.ACTIVE and any("never came" in text for text in d.texts())


@pytest.mark.parametrize("kind", [Kind.RELEASED, Kind.FAILED, Kind.PREEMPTED, Kind.KILLED])
def test_last_words_never_wait_for_a_gap(kind: Kind) -> None:
    d = Dialogue()
    d.run("n1")
    assert d.hear("n1", kind, {"clean": True}, seq=99) is True


def test_what_comes_late_after_last_words_is_ignored() -> None:
    d = Dialogue()
    d.run("n1")
    d.hear("n1", Kind.RELEASED, seq=50)
    assert d.hear("n1", Kind.VM, VmReport(d.vms[0].id, V.RUNNING).to_data(), seq=10) is True
    assert d.vms[0].state is V.TERMINATED


def test_a_second_epoch_moves_no_slot_and_no_vm() -> None:
    d = Dialogue()
    d.run("n1")
    before = (d.slot, d.vms)
    d.hear("n2", Kind.FAILED, {"cause": "restarted", "clean": True}, epoch=2)
    assert (d.slot, d.vms) == before and any("epoch 2" in text for text in d.texts())


def test_silence_is_unknown_counts_good_listings_only_and_a_word_heals_it() -> None:
    d = Dialogue()
    d.run("n1")
    d.later(1000)
    assert d.slot.state is S.READY  # the daemon itself did not listen
    for _ in range(4):
        d.say(Listened(29.0))
    assert d.slot.state is S.UNKNOWN and d.vms[0].state is V.UNKNOWN
    assert "silent" in d.slot.cause and d.books.held
    beat = {"last_seq": 3, "vms": [VmReport(d.vms[0].id, V.RUNNING).to_data()]}
    d.hear("n1", Kind.HEARTBEAT, beat)
    assert d.slot.state is S.READY and d.vms[0].state is V.RUNNING and not d.slot.cause
    assert d.ws.state is W.ACTIVE


def test_a_heartbeat_that_messages_have_overtaken_moves_no_vm() -> None:
    """Seen on a resumed guest: shown as suspending for half a minute, by a heartbeat of 4 s ago."""
    d = Dialogue()
    d.run("n1")
    vm, seq = d.vms[0].id, d.books.pilots_of(d.slot)[0].seq
    beat = {"last_seq": seq + 1, "vms": [VmReport(vm, V.SUSPENDING).to_data()]}
    for state in (V.SUSPENDING, V.SUSPENDED, V.RESUMING, V.RUNNING):
        d.hear("n1", Kind.VM, VmReport(vm, state).to_data())
    d.hear("n1", Kind.HEARTBEAT, beat)
    assert d.vms[0].state is V.RUNNING
    d.hear("n1", Kind.HEARTBEAT, {**beat, "last_seq": seq + 4})
    assert d.vms[0].state is V.SUSPENDING  # the control: a present one is believed


def test_preempted_is_shown_at_once_and_ends_as_preempted() -> None:
    d = Dialogue()
    d.run("n1")
    d.hear("n1", Kind.PREEMPTED, {"cause": "SIGTERM from the batch system"})
    assert d.ws.state in (W.FAILED, W.ENDING) and d.slot.state is S.RELEASING
    d.hear("n1", Kind.RELEASED, {})
    d.poll(d.job(JobState.DONE))
    assert d.slot.state is S.PREEMPTED and d.ws.outcome is Outcome.PREEMPTED
    assert "SIGTERM" in d.ws.cause and not d.books.held


def test_a_guardians_word_frees_addresses_and_fails_with_the_cause() -> None:
    d = Dialogue()
    d.run("n1")
    d.hear("n1", Kind.FAILED, {"cause": "the pilot was killed", "clean": True}, of="n1")
    d.poll(d.job(JobState.DONE))
    assert d.slot.state is S.FAILED and "the pilot was killed" in d.ws.cause
    node = d.books.node("n1")
    assert node is not None and node.state is NodeState.CLEAN and not d.books.held


def test_a_node_that_could_not_be_restored_is_dirty() -> None:
    d = Dialogue()
    d.run("n1")
    d.hear("n1", Kind.FAILED, {"cause": "balloon stuck", "clean": False})
    d.poll(d.job(JobState.DONE))
    node = d.books.node("n1")
    assert node is not None and node.state is NodeState.DIRTY and d.books.held


def test_one_failed_node_releases_its_sisters() -> None:
    d = Dialogue(2)
    d.accept()
    d.poll(d.job())
    d.start("n1")
    d.hear("n2", Kind.STARTED, {"age_s": 0})
    d.hear("n2", Kind.FAILED, {"cause": "no room", "clean": True})
    assert [order.node for order in d.orders("release")] == ["n1"]
    d.release("n1")
    d.poll(d.job(JobState.DONE))
    assert d.ws.outcome is Outcome.FAILED and "no room" in d.ws.cause


def test_a_vm_that_fails_rolls_the_workspace_back() -> None:
    d = Dialogue(2)
    d.accept()
    d.start("n1", "n2")
    d.report("n1", d.vms[0], V.RUNNING)
    d.report("n2", d.vms[1], V.FAILED, "no such image")
    assert d.ws.state is W.ENDING and "no such image" in d.ws.cause
    assert len(d.orders("release")) == 2


def test_min_lets_a_group_go_on_with_fewer() -> None:
    d = Dialogue(3, minimum=2)
    d.accept()
    d.start("n1", "n2", "n3")
    d.report("n1", d.vms[0], V.RUNNING)
    d.report("n2", d.vms[1], V.FAILED, "bad luck")
    d.report("n3", d.vms[2], V.RUNNING)
    assert d.ws.state is W.DEGRADED and d.ws.active_at == d.now


def test_a_refused_create_fails_its_vm() -> None:
    d = Dialogue()
    d.accept()
    d.start("n1")
    order = d.orders("create")[0]
    d.hear("n1", Kind.ANSWER, {"re": order.id, "ok": False, "code": 1, "message": "no QEMU"})
    assert d.vms[0].cause == "no QEMU" and not d.vms[0].held
    assert d.ws.state is W.ENDING and "no QEMU" in d.ws.cause
    assert not d.orders("create")


def test_several_slots_create_nothing_before_all_are_ready() -> None:
    d = Dialogue(2, slots=2)
    for n, slot in enumerate(d.slots):
        d.accept(slot, f"{n}.srv")
    d.start("n1", slot=d.slots[0])
    assert not d.orders("create")
    d.start("n2", slot=d.slots[1])
    assert len(d.orders("create")) == 2


def test_the_lease_ends_by_time_even_when_the_pilot_says_nothing() -> None:
    d = Dialogue(lease_s=100)
    d.run("n1")
    d.later(101)
    assert d.ws.state is W.ENDING and d.orders("release")


def test_the_pilots_own_clock_ends_the_lease_in_order() -> None:
    d = Dialogue(lease_s=100)
    d.run("n1")
    d.now += 99
    d.hear("n1", Kind.RELEASING, {"cause": "the lease is over", "over": True})
    d.release("n1")
    d.poll(d.job(JobState.DONE))
    assert d.ws.outcome is Outcome.OK and d.slot.state is S.RELEASED and not d.ws.cause


def test_a_destroyed_member_leaves_the_others_alone() -> None:
    d = Dialogue(2)
    d.run("n1", "n2")
    vm = d.vms[0]
    d.say(Destroy(vms=(vm.id,)))
    assert [order.data["vm"] for order in d.orders("destroy")] == [vm.id]
    d.report("n1", vm, V.TERMINATED)
    assert d.vms[0].state is V.TERMINATED and d.ws.state is W.ACTIVE
    assert list(d.books.held) == ["10.0.0.2"]
    d.say(Destroy(vms=(d.vms[1].id,)))
    assert d.ws.state is W.ENDING


def test_after_a_restart_unanswered_commands_are_written_again_and_the_scheduler_is_asked() -> None:
    d = Dialogue()
    d.accept()
    d.start("n1")
    d.asked(Send)
    d.restart()
    d.say(Recovered())
    sent = {Send(one.id) for kind in ("context", "create") for one in d.orders(kind)}
    assert len(sent) == 2 and set(d.asked(Send)) == sent and d.asked(Poll)


def test_hostile_words_do_no_harm() -> None:
    d = Dialogue()
    d.run("n1")
    for data in ({}, {"id": 7}, {"id": d.vms[0].id, "state": "flying"}, {"id": [], "state": {}},
                 {"id": d.vms[0].id, "state": "running", "spans": [{"x": 1}]}):  # fmt: skip
        for kind in (Kind.VM, Kind.PROGRESS, Kind.ANSWER, Kind.KILLED, Kind.LOG, Kind.CONTEXT):
            assert d.hear("n1", kind, data) is True
    d.hear("n1", Kind.LOG, {"level": "\x1b", "text": "\x1b]0;x\x07[red]boo[/x]"})
    assert d.texts()[-1] == "]0;x[red]boo[/x]"
    assert d.ws.state is W.ACTIVE


def test_a_guardians_heartbeat_keeps_its_stopped_pilot_from_being_lost() -> None:
    d = Dialogue()
    d.run("n1")
    for _ in range(6):
        d.later(30).say(Listened(30))
        d.hear("n1", Kind.HEARTBEAT, {"last_seq": 0, "state": "suspended"}, of="n1")
    assert d.slot.state is S.READY


@pytest.mark.parametrize(
    "bend",
    [
        {"id": []}, {"state": 7}, {"progress": 10**400}, {"spans": [{"name": 1, "start": 1}]},
        {"spans": [{"name": "boot", "start": 1e30, "seconds": 1.0}]}, {"spans": "boot"},
    ],
)  # fmt: skip
def test_a_signed_report_that_makes_no_sense_changes_nothing(bend: dict[str, object]) -> None:
    """Found by the fuzzer: the event was dropped as a bug, or no snapshot could be made of it."""
    d = Dialogue()
    d.run("n1")
    before = d.vms[0]
    data = {**VmReport(before.id, VmState.FAILED, "no").to_data(), **bend}
    assert d.hear("n1", Kind.VM, data) is True
    assert d.vms[0] == before


def test_a_lost_first_word_does_not_keep_a_slot_from_being_ready() -> None:
    d = Dialogue()
    d.accept()
    d.poll(d.job())
    for _ in range(4):
        d.later(15)
        d.hear("n1", Kind.RESERVED, {"taken_mib": 0}, seq=2)
    assert d.slot.state is S.READY and d.orders("create")


def test_any_late_word_of_an_ended_slot_makes_its_node_owe_the_last_one() -> None:
    d = Dialogue()
    d.accept()
    d.destroy(abandon=True)
    for _ in range(4):
        d.later(15)
        d.hear("n1", Kind.RESERVED, {"node_clean": True, "neighbours": []}, seq=2)
    node = d.books.node("n1")
    assert node is not None and node.owes and d.orders("release")

"""Slots and the batch system: DESIGN.md sections 5, 8 and 9, in virtual time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.core.dialogue import OWNER, Dialogue, uuid
from wspilot.daemon.core.events import (
    Cancel,
    Claim,
    CloseSlot,
    Heard,
    Listened,
    Poll,
    Polled,
    Recovered,
    Submit,
)
from wspilot.daemon.lrm.base import Job, JobState, Listing, Verdict
from wspilot.messages import Kind, Notification, rfc3339
from wspilot.model import NodeState, Outcome, SlotState, VmState, WorkspaceState

S, W = SlotState, WorkspaceState


def test_intent_is_on_the_books_before_qsub_runs() -> None:
    d = Dialogue()
    assert d.asked(Submit) == [Submit(d.slot.id, 1)]
    assert d.slot.unclear and d.slot.calls == 1 and d.slot.state is S.SUBMITTING


def test_submissions_are_limited_in_rate_and_none_is_forgotten() -> None:
    d = Dialogue(3, slots=3, submit_gap_s=0.25)
    assert len(d.asked(Submit)) == 1
    assert [slot.waits_for for slot in d.slots][1:] == ["its turn to be submitted"] * 2
    d.later(0.3)
    assert len(d.asked(Submit)) == 1
    d.later(0.3)
    assert len(d.asked(Submit)) == 1 and all(slot.calls == 1 for slot in d.slots)


def test_an_accepted_job_is_queued_and_known_by_its_id() -> None:
    d = Dialogue()
    d.accept()
    assert (d.slot.state, d.slot.job, d.slot.unclear) == (S.QUEUED, "7.srv", False)


def test_a_refused_job_fails_the_workspace_with_the_schedulers_words() -> None:
    d = Dialogue()
    d.answer(Verdict.REFUSED, "Job exceeds queue resource limits")
    assert (d.ws.state, d.ws.outcome) == (W.ENDED, Outcome.FAILED)
    assert "exceeds queue resource limits" in d.ws.cause
    assert not d.books.held


def test_a_server_that_is_down_is_asked_again_with_back_off() -> None:
    d = Dialogue()
    d.asked(Submit)
    d.answer(Verdict.RETRY, "server is down")
    d.later(4)
    assert not d.asked(Submit)
    d.later(2)
    assert d.asked(Submit) == [Submit(d.slot.id, 2)]


def test_a_lost_qsub_answer_is_found_by_name_and_owner() -> None:
    d = Dialogue()
    d.asked(Submit)
    d.answer(Verdict.UNCLEAR)
    d.later(1)
    d.poll(
        replace(d.job(JobState.QUEUED), owner="somebody"),
        Job("8.srv", "other", OWNER, JobState.RUNNING),
    )
    assert not d.slot.job
    d.later(1)
    d.poll(d.job(JobState.QUEUED))
    assert d.slot.job == "7.srv" and not d.asked(Submit)


def test_a_lost_qsub_answer_is_tried_again_only_after_two_good_polls_10_s_apart() -> None:
    d = Dialogue()
    d.asked(Submit)
    d.answer(Verdict.UNCLEAR)
    for wait, ok in ((1, False), (1, True), (5, True), (1, False)):
        d.later(wait)
        d.poll(ok=ok)
        d.later(0.1)
        assert not d.asked(Submit)
    d.later(10)
    d.poll()
    d.later(0.1)
    assert d.asked(Submit) == [Submit(d.slot.id, 2)]


def test_nobody_looks_for_a_job_while_its_qsub_still_runs() -> None:
    d = Dialogue()
    d.asked(Submit)
    for _ in range(5):
        d.later(15)
        d.poll()
    assert not d.asked(Submit)


def test_after_a_crash_a_submission_is_looked_for_before_it_is_repeated() -> None:
    d = Dialogue()
    d.restart()
    d.say(Recovered())
    d.later(1)
    assert not d.asked(Submit)[1:]  # only the one before the crash
    d.poll(d.job(JobState.RUNNING))
    assert d.slot.job == "7.srv"


@pytest.mark.parametrize("state", [JobState.HELD, JobState.QUEUED, JobState.UNKNOWN])
def test_a_job_that_waits_keeps_its_state_and_says_so(state: JobState) -> None:
    d = Dialogue()
    d.accept()
    d.poll(d.job(state, reason="JobHeldUser"))
    assert d.slot.state is S.QUEUED
    if state is JobState.HELD:
        assert d.slot.lrm.state == "held" and "JobHeldUser" in d.slot.waits_for


def test_a_bad_poll_changes_nothing() -> None:
    d = Dialogue()
    d.run("n1")
    before = (d.ws, d.slot, d.vms)
    for _ in range(50):
        d.later(15)
        d.poll(ok=False)
    assert (d.ws, d.slot, d.vms) == before


def test_absence_counts_only_after_several_good_polls_and_never_within_60_s() -> None:
    d = Dialogue()
    d.accept()
    for _ in range(5):
        d.later(10)
        d.poll()
    assert d.slot.state is S.QUEUED and not d.asked(Claim)
    d.later(20)
    for _ in range(3):
        d.later(15)
        d.poll()
    assert d.asked(Claim)


def test_a_running_pilot_outweighs_a_poll_that_forgot_the_job_for_a_moment() -> None:
    d = Dialogue()
    d.run("n1")
    d.later(120)
    d.poll()
    d.later(15)
    d.poll()
    d.later(15)
    d.poll(d.job())
    assert d.ws.state is W.ACTIVE and d.slot.lrm.absent == 0


def test_destroy_while_queued_claims_the_epoch_then_deletes_the_job() -> None:
    d = Dialogue()
    d.accept()
    d.destroy()
    assert d.asked(Claim) == [Claim(d.slot.id)] and d.slot.state is S.RELEASING
    d.claim(True)
    assert d.asked(Cancel) == [Cancel(d.slot.id, "7.srv")]
    d.later(15).poll()
    assert d.ws.state is W.ENDING  # one empty answer is none
    d.later(15).poll()
    assert d.slot.state is S.RELEASED
    assert (d.ws.state, d.ws.outcome) == (W.ENDED, Outcome.DESTROYED)
    assert not d.books.held


def test_destroy_while_the_launcher_was_quicker_waits_for_its_pilots() -> None:
    d = Dialogue()
    d.accept()
    d.destroy()
    d.claim(False)
    assert not d.asked(Cancel)
    d.start("n1")
    assert [order.kind for order in d.orders("release")] == ["release"]
    assert not d.orders("create")


def test_destroy_before_any_answer_of_qsub_finds_and_deletes_the_job() -> None:
    d = Dialogue()
    d.destroy()
    d.claim(True)
    d.answer(Verdict.UNCLEAR)
    d.later(1)
    d.poll(d.job(JobState.QUEUED))
    assert d.asked(Cancel) == [Cancel(d.slot.id, "7.srv")]
    d.later(15).poll()
    assert d.ws.state is W.ENDING  # one empty answer is none
    d.later(15).poll()
    assert d.ws.state is W.ENDED


def test_destroy_before_any_answer_of_a_qsub_that_created_nothing() -> None:
    d = Dialogue()
    d.asked(Submit)
    d.destroy()
    d.claim(True)
    d.answer(Verdict.UNCLEAR)
    for wait in (1, 15, 15):
        d.later(wait)
        d.poll()
    assert d.ws.state is W.ENDED and not d.asked(Submit)


def test_destroy_right_after_deploy_ends_as_soon_as_qsub_is_known_not_to_have_run() -> None:
    d = Dialogue()
    d.destroy()
    d.claim(True)
    d.answer(Verdict.RETRY, "never asked")
    assert d.ws.state is W.ENDED


def test_destroy_of_a_retry_that_waits_ends_at_once() -> None:
    d = Dialogue()
    d.answer(Verdict.RETRY, "down")
    d.destroy()
    assert d.ws.state is W.ENDED


def test_released_needs_the_nodes_word_and_the_schedulers() -> None:
    d = Dialogue(2)
    d.run("n1", "n2")
    d.destroy()
    d.release("n1")
    assert d.slot.state is S.RELEASING
    d.release("n2")
    assert d.slot.state is S.RELEASING and d.asked(Poll)
    d.later(15)
    d.poll()
    assert d.slot.state is S.RELEASING
    d.later(15)
    d.poll()
    assert d.slot.state is S.RELEASED and d.ws.outcome is Outcome.DESTROYED


def test_a_job_that_does_not_end_after_its_release_is_deleted_with_back_off_until_it_is_gone() -> (
    None
):
    d = Dialogue()
    d.run("n1")
    d.destroy()
    d.release("n1")
    tries = 0
    for _ in range(20):
        d.later(30)
        d.poll(d.job())
        tries += len(d.asked(Cancel))
    assert 3 <= tries <= 8 and d.slot.state is S.RELEASING
    d.poll(d.job(JobState.DONE))
    assert d.slot.state is S.RELEASED


def test_a_job_dead_before_its_launcher_is_closed_by_the_daemon() -> None:
    d = Dialogue()
    d.accept()
    d.poll(d.job(JobState.DONE, exit_status=271))
    assert d.asked(Claim)
    d.claim(True)
    assert d.slot.state is S.FAILED and "exit 271" in d.ws.cause
    assert d.ws.outcome is Outcome.FAILED and not d.books.held


def test_a_job_gone_with_its_pilots_silent_makes_the_nodes_dirty_and_keeps_addresses() -> None:
    d = Dialogue()
    d.run("n1")
    d.later(10)
    d.poll(d.job(JobState.DONE))
    assert d.slot.state is S.UNKNOWN  # the guardian may still speak
    d.later(95)
    assert d.slot.state is S.FAILED and d.ws.state is W.ENDED
    node = d.books.node("n1")
    assert node is not None and node.state is NodeState.DIRTY
    assert d.books.held == {"10.0.0.1": d.vms[0].id}


def test_a_job_whose_launcher_started_and_nobody_spoke_fails_soon_and_is_told_once() -> None:
    d = Dialogue()
    d.accept()
    d.poll(d.job())
    d.later(1)
    for _ in range(4):
        d.poll(d.job(JobState.DONE, exit_status=1, hosts=("n1",)))
        d.claim(False)
        d.later(2)
    assert sum(text.startswith("job 7.srv ended") for text in d.texts()) == 1
    d.later(20)
    assert (d.ws.state, d.ws.outcome) == (W.ENDED, Outcome.FAILED) and "exit 1" in d.ws.cause
    assert not d.books.held  # nothing was ever created


def test_no_first_word_is_unknown_and_a_late_word_heals_it() -> None:
    d = Dialogue()
    d.accept()
    d.poll(d.job())
    d.later(61)
    assert d.slot.state is S.UNKNOWN and "no first word" in d.slot.cause
    d.start("n1")
    assert d.slot.state is S.READY and d.orders("create")


def test_of_two_jobs_of_one_slot_the_stranger_is_deleted() -> None:
    d = Dialogue()
    d.accept()
    d.poll(d.job(), d.job(JobState.QUEUED, id="9.srv"))
    assert d.asked(Cancel) == [Cancel(d.slot.id, "9.srv")]


def test_abandon_closes_the_books_and_withholds_what_is_not_proved() -> None:
    d = Dialogue()
    d.run("n1")
    d.destroy(abandon=True)
    assert (d.ws.state, d.ws.outcome) == (W.ENDED, Outcome.ABANDONED)
    node = d.books.node("n1")
    assert node is not None and node.state is NodeState.DIRTY and d.books.held
    assert d.asked(CloseSlot)[0].proved is False


def test_what_an_abandoned_slots_pilot_leaves_on_the_spool_is_put_away_later() -> None:
    d = Dialogue()
    d.run("n1")
    d.destroy(abandon=True)
    d.asked(CloseSlot)
    d.release("n1")
    assert d.asked(CloseSlot)[-1] == CloseSlot(d.slot.id, proved=True)


def test_a_started_from_another_boot_frees_withheld_addresses() -> None:
    d = Dialogue()
    d.run("n1")
    d.destroy(abandon=True)
    e = Dialogue()
    e.books = d.books
    e.books.put(replace(e.slot, id="other000", state=S.QUEUED, pilots=(), vms=()))
    e.now = d.now + 60
    note = Notification("other000", "n1", uuid("later"), 1, 1, Kind.STARTED, rfc3339(e.now), 1.0,
                        {"boot_id": "another", "age_s": 0})  # fmt: skip
    e.say(Heard(note))
    assert not e.books.held
    assert d.vms[0].state in (VmState.FAILED, VmState.TERMINATED)


def test_a_suspended_job_keeps_its_state_and_says_so() -> None:
    d = Dialogue()
    d.run("n1")
    d.poll(d.job(JobState.SUSPENDED, reason="preempted by m.sc"))
    assert d.slot.state is S.READY and d.slot.waits_for == "lrm: suspended (preempted by m.sc)"
    d.later(5).say(Listened(95))
    assert any("has suspended job" in text for text in d.texts())
    d.poll(d.job())
    assert d.slot.waits_for == ""


def test_silence_of_a_suspended_job_names_the_suspension() -> None:
    d = Dialogue()
    d.run("n1")
    d.poll(d.job(JobState.SUSPENDED))
    for _ in range(4):
        d.later(30).say(Listened(30))
    assert d.slot.state is S.UNKNOWN and "suspended its job" in d.slot.cause


def test_a_held_job_says_so_while_it_waits() -> None:
    d = Dialogue()
    d.accept()
    d.poll(d.job(JobState.HELD, reason="JobHeldUser"))
    assert (d.slot.state, d.slot.waits_for) == (S.QUEUED, "lrm: held (JobHeldUser)")


def test_a_poll_sent_before_the_qsub_answer_is_no_witness_of_the_jobs_end() -> None:
    d = Dialogue()
    sent = d.now + 1
    d.later(3)
    d.accept()
    d.destroy()
    d.claim(won=True)
    d.say(Polled(Listing(True), sent))
    d.later(5).poll()
    assert d.slot.state is S.RELEASING
    d.later(15).poll()
    assert d.slot.state is S.RELEASED


def test_a_job_gone_stays_gone_when_the_batch_system_forgets_it() -> None:
    d = Dialogue(2)
    d.run("n1", "n2")
    d.poll(d.job(JobState.DONE))
    for _ in range(8):
        d.later(15).poll()
    assert d.slot.state is S.FAILED


def test_a_job_whose_id_was_never_learned_is_over_when_it_is_forgotten() -> None:
    d = Dialogue()
    d.answer(Verdict.UNCLEAR, "time limit")
    d.start("n1")
    d.release("n1")
    for _ in range(6):
        d.later(15).poll()
    assert d.slot.state is S.RELEASED and not d.books.held


def test_a_job_that_is_back_after_its_slots_end_is_deleted() -> None:
    d = Dialogue()
    d.accept()
    d.destroy()
    d.claim(True)
    d.later(15).poll()
    d.later(15).poll()
    d.asked(Cancel)
    d.later(60).poll(d.job(JobState.QUEUED))
    assert d.asked(Cancel) == [Cancel(d.slot.id, "7.srv")]


def test_an_abandoned_slots_job_is_deleted_until_it_is_gone() -> None:
    d = Dialogue()
    d.accept()
    d.destroy(abandon=True)
    d.claim(True)
    d.asked(Cancel)
    d.later(15).poll(d.job(JobState.HELD))
    assert d.asked(Cancel) == [Cancel(d.slot.id, "7.srv")] and d.books.loose_jobs
    d.later(15).poll(d.job(JobState.HELD))
    assert d.asked(Cancel) == [Cancel(d.slot.id, "7.srv")]
    d.later(60).poll(d.job(JobState.DONE))
    assert not d.books.loose_jobs and d.slot.state is S.FAILED


def test_a_claim_that_a_crash_swallowed_is_made_again() -> None:
    d = Dialogue()
    d.accept()
    d.later(70).poll(d.job(JobState.DONE))
    assert d.asked(Claim) == [Claim(d.slot.id)]
    d.restart()
    d.say(Recovered())
    assert d.asked(Claim) == [Claim(d.slot.id)]


def test_the_job_of_an_abandoned_slot_whose_qsub_answer_was_lost_is_found_and_deleted() -> None:
    d = Dialogue()
    d.destroy(abandon=True)
    d.restart()
    d.say(Recovered())
    d.later(15).poll(d.job(JobState.HELD))
    assert d.asked(Cancel) == [Cancel(d.slot.id, "7.srv")]
    d.later(15).poll(d.job(JobState.DONE))
    assert not d.books.loose_jobs


def test_empty_answers_far_apart_do_not_add_up() -> None:
    d = Dialogue()
    d.accept()
    d.destroy(abandon=True)
    d.claim(True)
    for _ in range(4):
        d.later(30).poll()
        d.later(30).poll(d.job(JobState.HELD))
    assert d.books.loose_jobs

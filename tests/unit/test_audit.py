"""fsck: what does not agree is a step with its reason; what came back has its proof."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.core.dialogue import OWNER, Dialogue
from wspilot.daemon import audit
from wspilot.daemon.audit import Leftovers, Step
from wspilot.daemon.core.events import Listened
from wspilot.daemon.lrm.base import Job, JobState, Listing, Verdict
from wspilot.messages import Kind
from wspilot.model import SlotState

NOTHING = Leftovers()


def check(d: Dialogue, *jobs: Job, spool: Leftovers | None = NOTHING, **more: bool) -> list[Step]:
    listing = Listing(more.get("ok", True), {job.id: job for job in jobs}, more.get("whole", True))
    return audit.plan(d.books, listing, spool, OWNER)


def job(id: str, slot: str, state: JobState = JobState.RUNNING, owner: str = OWNER) -> Job:
    return Job(id, f"ws-{slot}-01", owner, state, state.value)


def written_off() -> Dialogue:
    """The job is gone, its node never spoke again, the lease has ended."""
    d = Dialogue()
    d.run("n1")
    d.destroy()
    d.poll(d.job(JobState.DONE))
    d.later(200)
    assert d.slot.state is SlotState.FAILED and d.books.held
    return d


def test_a_lease_that_runs_and_one_that_ended_agree() -> None:
    d = Dialogue(2)
    d.run("n1", "n2")
    assert check(d, d.job()) == []
    d.destroy()
    d.release("n1", "n2")
    d.poll(d.job(JobState.DONE))
    assert check(d, d.job(JobState.DONE)) == [] == check(d)


def test_a_job_that_no_slot_names_is_cancelled_if_it_is_ours() -> None:
    d = Dialogue()
    d.run("n1")
    steps = check(d, d.job(), job("8.srv", d.slot.id), job("9.srv", "zzzzzzzz"),
                  job("10.srv", "zzzzzzzz", owner="bob"), job("11.srv", "yyyyyyyy"),
                  job("12.srv", d.slot.id, JobState.EXITING), Job("13.srv", "mine", OWNER,
                  JobState.RUNNING), spool=Leftovers(slots=("zzzzzzzz",)))  # fmt: skip
    assert [(step.act, step.subject) for step in steps] == [
        ("cancel", (d.slot.id, "8.srv")), ("cancel", ("zzzzzzzz", "9.srv")), ("", ()),
    ]  # fmt: skip
    assert "another home" in steps[2].why  # the spool does not know it: perhaps not this daemon's


def test_a_submission_under_way_is_nobodys_stray() -> None:
    d = Dialogue()  # its qsub's answer has not come
    assert check(d, job("7.srv", d.slot.id)) == []


def test_the_job_of_an_ended_slot_is_cancelled() -> None:
    d = written_off()
    assert [step.subject for step in check(d, d.job()) if step.act == "cancel"] == [
        (d.slot.id, "7.srv")
    ]


def test_an_open_slot_whose_job_is_gone_is_asked_for_again_never_decided() -> None:
    d = Dialogue()
    d.run("n1")
    assert [step.act for step in check(d)] == ["poll"]
    assert check(d, whole=False) == []
    assert [step.kind for step in check(d, ok=False)] == ["lrm"]


def test_a_dirty_node_is_repaired_and_says_which_addresses_it_holds() -> None:
    d = written_off()
    node, address = check(d)
    assert (node.kind, node.act, node.subject) == ("node", "repair", ("n1",))
    assert d.slot.id in node.why and "wspilot nodes repair n1" in node.command
    assert address.kind == "address" and "10.0.0.1 of one/vm/1" in address.what
    assert "n1 (dirty)" in address.why and not address.act
    d.later(20)  # its repair job is on its way
    assert check(d)[0].act == ""
    assert "under way" in check(d)[0].why


def test_a_node_that_needs_the_operator_says_so() -> None:
    d = written_off()
    known = d.books.node("n1")
    d.books.put(replace(known, cause="needs the operator: no place"))
    assert "look at it" in check(d)[0].command


def test_a_slot_that_is_unknown_is_told_with_what_can_be_done() -> None:
    d = Dialogue()
    d.run("n1")
    for _ in range(4):
        d.say(Listened(30))
    step = next(one for one in check(d, d.job()) if one.kind == "slot")
    assert "unknown since" in step.what and "silent" in step.why and "--abandon" in step.command


def test_leftovers_are_removed_unless_something_may_still_need_them() -> None:
    d = Dialogue()
    d.run("n1")
    own, pilot = d.slot.id, f"{d.slot.id}_n1_6e310000"
    spool = Leftovers(
        slots=(own, "zzzzzzzz", "yyyyyyyy"), cmd=(pilot, "zzzzzzzz_n1_00000000"),
        beats=(f"{pilot}.json", "zzzzzzzz_n1_00000000.json"), bad=("x", "x.why"),
        stale=("old",), code=("a.pyz",),
    )  # fmt: skip
    done = job("9.srv", "yyyyyyyy", JobState.DONE)
    removed = [path for step in check(d, d.job(), done, spool=spool) for path in step.subject]
    assert removed == ["slots/zzzzzzzz", "cmd/zzzzzzzz_n1_00000000",
                       "hb/zzzzzzzz_n1_00000000.json", "bad/x", "bad/x.why", "tmp/old",
                       "bin/a.pyz"]  # fmt: skip
    blind = check(d, spool=spool, ok=False)  # who knows which jobs there are?
    assert not any(path.startswith("slots/") for step in blind for path in step.subject)
    assert check(d, d.job(), spool=None)[-1].kind == "spool"


# -- proofs


def rows(d: Dialogue) -> dict[tuple[str, str], str]:
    found = audit.proofs(d.books, d.books.workspaces(), repairs=True)
    assert all(row["proved"] == bool(row["by"]) for row in found)
    return {(row["kind"], row["name"]): row["by"] for row in found}


def test_everything_of_an_ended_lease_has_its_proof() -> None:
    d = Dialogue()
    d.run("n1")
    assert rows(d) == {}  # it has not ended
    d.destroy()
    d.release("n1")
    d.poll(d.job(JobState.DONE))
    by = rows(d)
    assert {kind for kind, _ in by} == {"address", "mac", "memory", "job", "process"}
    assert by["address", "10.0.0.1"] == by["mac", "mac1"] == "node"
    assert by["job", "7.srv"] == "lrm" and all(by.values())


def test_what_is_not_proved_is_shown_as_that_and_who_proves_it_later() -> None:
    d = written_off()
    assert rows(d)["address", "10.0.0.1"] == "" and rows(d)["job", "7.srv"] == "lrm"
    d.hear("n1", Kind.FAILED, {"cause": "killed", "clean": True}, of="n1")
    by = rows(d)
    assert by["address", "10.0.0.1"] == "guardian" and by["memory", "512 MiB"] == "guardian"


@pytest.mark.parametrize("asked", [True, False])
def test_what_was_never_given_out_is_proved_by_the_daemon(asked: bool) -> None:
    d = Dialogue()
    if asked:
        d.accept()
    d.destroy()
    if asked:
        d.claim(True)
        d.poll()
        d.later(70)
        d.poll()
    else:
        d.answer(Verdict.RETRY, "the server is down")
    assert all(rows(d).values()) and rows(d)["address", "10.0.0.1"] == "daemon"

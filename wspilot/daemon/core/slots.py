"""A slot's life with the batch system: asked for, found again, and seen. Its end is `endings`.

The rules are DESIGN.md section 8. A failed or empty poll is not an answer; a job is gone only after
several good polls, or when its pilots have said `released`; a lost qsub is looked for by name
before another.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from wspilot.daemon.core import benches, repairs, spares
from wspilot.daemon.core.endings import all_spoke, fail, job_gone, let_go, press
from wspilot.daemon.core.events import Cancel, Poll, Polled, Ran, Submit, Submitted
from wspilot.daemon.core.turn import Turn
from wspilot.daemon.lrm.base import Job, JobState, Listing, Verdict
from wspilot.model import FINAL_SLOT, LrmView, Slot, SlotState, Span

S = SlotState
_JOB_NAME = re.compile(r"ws-([a-z0-9]{8})-\d{2}")


def job_name(slot: str, calls: int) -> str:
    """`ws-<slot>-<nn>`: 14 characters, so that Torque's qstat shows it whole."""
    return f"ws-{slot}-{min(calls, 99):02d}"


# -- submission


def submit(turn: Turn, slot: Slot) -> Slot:
    """Ask for the slot's job. The books say `unclear` first: a crash looks before it repeats."""
    busy = sum(1 for id in turn.books.open_slots if _in_queue(turn, id))
    if busy >= turn.rules.max_jobs:
        return turn.slot(
            slot,
            slot.state,
            waits_for=f"one of our {turn.rules.max_jobs} jobs to end",
            retry_at=turn.now + turn.rules.retry_s[0],
        )
    if turn.now < turn.books.next_submit:
        wait = turn.books.next_submit
        return turn.slot(slot, slot.state, retry_at=wait, waits_for="its turn to be submitted")
    turn.books.next_submit = turn.now + turn.rules.submit_gap_s
    slot = turn.slot(
        slot,
        slot.state,
        calls=slot.calls + 1,
        asked=turn.now,
        unclear=True,
        looked=0,
        looked_at=turn.now,
        waits_for="the batch system to take its job",
    )
    turn.books.asking.add(slot.id)
    turn.do(Submit(slot.id, slot.calls))
    return slot


def _in_queue(turn: Turn, id: str) -> bool:
    slot = turn.books.slot(id)
    return slot is not None and bool(slot.job or slot.unclear)


def submitted(turn: Turn, event: Submitted) -> None:
    """qsub's answer has come (or its time limit has)."""
    turn.books.asking.discard(event.slot)
    slot = turn.books.slot(event.slot)
    if slot is None or slot.job or event.calls != slot.calls:
        return
    answer = event.answer
    if answer.verdict is Verdict.ACCEPTED:
        adopt(turn, slot, answer.job_id)
    elif slot.state in FINAL_SLOT:
        return
    elif answer.verdict is Verdict.REFUSED:
        fail(turn, replace(slot, unclear=False), f"the batch system refused the job: {answer.text}")
    elif answer.verdict is Verdict.RETRY and slot.wanted == "released":
        let_go(turn, replace(slot, unclear=False))  # nothing was created, nothing is wanted
    elif answer.verdict is Verdict.RETRY:
        wait = turn.rules.retry_s[min(slot.calls - 1, len(turn.rules.retry_s) - 1)]
        turn.slot(
            slot,
            slot.state,
            unclear=False,
            retry_at=turn.now + wait,
            waits_for=f"the batch system, asked again in {wait:g} s: {answer.text}",
        )
    else:
        turn.slot(
            slot,
            slot.state,
            looked=0,
            looked_at=turn.now,
            waits_for="a lost qsub answer: looking for the job by its name",
        )
        turn.do(Poll())


def adopt(turn: Turn, slot: Slot, job: str) -> None:
    """The slot's job is known by its id."""
    change: dict[str, Any] = {
        "job": job,
        "unclear": False,
        "submitted": turn.now,  # a poll sent before this answer may not know the job yet
    }
    if slot.state in FINAL_SLOT or slot.claimed:
        turn.books.put(replace(slot, **change))
        turn.do(Cancel(slot.id, job))
        return
    span = Span("lrm", slot.asked or turn.now, None, "receipt")
    slot = turn.slot(
        slot,
        S.QUEUED,
        **change,
        spans=(*slot.spans, span),
        waits_for="a place in the batch system's queue",
    )
    if slot.wanted == "released":
        let_go(turn, slot)


# -- polling


def polled(turn: Turn, event: Polled) -> None:
    """One query of the batch system. A bad one changes nothing."""
    if not event.listing.ok:
        return
    by_slot = _by_slot(event.listing, turn.rules.owner)
    for id in sorted(turn.books.open_slots):
        slot = turn.books.slot(id)
        if slot is None:
            continue
        if not slot.job and slot.unclear and id not in turn.books.asking:
            _look(turn, slot, event, by_slot.get(id, []))
        elif slot.job:
            job = event.listing.jobs.get(slot.job)
            _seen(turn, slot, job) if job else _absent(turn, slot, event.sent)
    for id in sorted(turn.books.loose_jobs):
        slot = turn.books.slot(id)
        if slot is not None and slot.job:
            _loose(turn, slot, event.listing.jobs.get(slot.job), event.sent)
        elif slot is not None and id not in turn.books.asking:
            _look(turn, slot, event, by_slot.get(id, []))
    _strays(turn, by_slot)


def _loose(turn: Turn, slot: Slot, job: Job | None, sent: float) -> None:
    """The slot was closed before its job (abandoned): the job is still deleted, and seen gone."""
    if job is not None and job.state is not JobState.DONE:
        if turn.now >= slot.cancel_at:
            tries = slot.cancel_tries
            wait = turn.rules.retry_s[min(tries, len(turn.rules.retry_s) - 1)]
            cancel_at = turn.now + max(wait, 10)
            slot = replace(slot, cancel_tries=tries + 1, cancel_at=cancel_at)
            turn.do(Cancel(slot.id, slot.job))
        turn.books.put(replace(slot, lrm=replace(slot.lrm, absent=0)))
        return
    absent = slot.lrm.absent + 1
    early = sent < (slot.submitted or 0) + turn.rules.absent_s
    gone = job is not None or (absent >= turn.rules.absent_polls and not early)
    state = "gone" if gone else slot.lrm.state
    view = replace(slot.lrm, state=state, absent=absent, at=turn.now)
    turn.books.put(replace(slot, lrm=view))


def _by_slot(listing: Listing, owner: str) -> dict[str, list[Job]]:
    found: dict[str, list[Job]] = {}
    for job in listing.jobs.values():
        match = _JOB_NAME.fullmatch(job.name)
        if match and owner in ("", job.owner):
            found.setdefault(match.group(1), []).append(job)
    return found


def _look(turn: Turn, slot: Slot, event: Polled, jobs: list[Job]) -> None:
    """A qsub whose answer was lost: find its job, or be sure that there is none."""
    living = [job for job in jobs if job.state is not JobState.DONE] or jobs
    if living:
        turn.note(
            "info",
            "lrm",
            f"found the lost job {living[0].id}",
            workspace=slot.workspace,
            slot=slot.id,
        )
        adopt(turn, slot, living[0].id)
        return
    late = event.sent >= slot.looked_at + turn.rules.look_gap_s
    if not event.listing.whole or not (late or (slot.looked == 0 and event.sent > slot.looked_at)):
        return
    slot = turn.slot(slot, slot.state, looked=slot.looked + 1, looked_at=event.sent)
    if slot.pilots:
        _ran_unseen(turn, slot, event.sent)
    elif (
        slot.looked >= turn.rules.look_polls
        and event.sent >= (slot.asked or 0) + turn.rules.look_gap_s
    ):
        slot = turn.slot(slot, slot.state, unclear=False, retry_at=turn.now)
        if slot.wanted == "released":
            let_go(turn, slot)


def _ran_unseen(turn: Turn, slot: Slot, sent: float) -> None:
    """Pilots spoke, so there was a job; when the batch system has forgotten it, it is over."""
    enough = 2 if all_spoke(turn, slot) else turn.rules.absent_polls
    if slot.looked >= enough and sent >= (slot.asked or 0) + turn.rules.absent_s:
        slot = turn.slot(slot, slot.state, unclear=False)
        job_gone(turn, slot, "its job, whose id was never learned, is no longer there")


def _seen(turn: Turn, slot: Slot, job: Job) -> None:
    if slot.lrm.state == "gone" and job.state is JobState.DONE:
        return  # known; what it waits for is the nodes' word
    state = slot.lrm.state if job.state is JobState.UNKNOWN else job.state.value
    if job.state is JobState.UNKNOWN and job.raw != slot.lrm.raw:
        turn.note(
            "warning",
            "lrm",
            f"job {job.id} is in a state not known here: {job.raw!r}",
            workspace=slot.workspace,
            slot=slot.id,
        )
    old = slot.lrm.state
    view = LrmView(state, job.raw, job.reason, turn.now, hosts=job.hosts or slot.lrm.hosts)
    if (view.state, view.reason) != (slot.lrm.state, slot.lrm.reason) or slot.lrm.absent:
        slot = turn.slot(slot, slot.state, lrm=view, waits_for=_waits(slot, job, state))
        if state in _STOPPED and state != old:
            _say_stopped(turn, slot, job, state)
    if job.state in (JobState.RUNNING, JobState.SUSPENDED) and slot.state in (
        S.SUBMITTING,
        S.QUEUED,
    ):
        slot = turn.slot(slot, S.STARTING, launched=turn.now, waits_for="the pilots' first word")
    if job.state is JobState.DONE:
        ended = f"job {job.id} ended in the batch system ({job.raw}"
        ended += "" if job.exit_status is None else f", exit {job.exit_status}"
        job_gone(turn, slot, ended + (f", {job.reason})" if job.reason else ")"))
    elif job.state is not JobState.EXITING and slot.wanted == "released":
        press(turn, slot)


_STOPPED = frozenset({JobState.HELD.value, JobState.SUSPENDED.value})


def _waits(slot: Slot, job: Job, state: str) -> str:
    """A job that is held or suspended keeps the slot's state; what it waits for says so."""
    if state in _STOPPED:
        return f"lrm: {state}" + (f" ({job.reason})" if job.reason else "")
    if slot.state is S.QUEUED:
        return f"the batch system ({job.reason or job.raw or state})"
    return "" if slot.waits_for.startswith("lrm: ") else slot.waits_for


def _say_stopped(turn: Turn, slot: Slot, job: Job, state: str) -> None:
    text = f"the batch system has {state} job {job.id}: {job.reason or job.raw}"
    turn.note("warning", "lrm", text, workspace=slot.workspace, slot=slot.id)


def _absent(turn: Turn, slot: Slot, sent: float) -> None:
    """A good poll that does not name the job: one of several that are needed."""
    if slot.lrm.state == "gone":
        return  # known; what it waits for is the nodes' word
    released = all_spoke(turn, slot)
    if sent < (slot.submitted or 0) + (0 if released or slot.claimed else turn.rules.absent_s):
        return
    view = replace(
        slot.lrm,
        state="absent",
        at=turn.now,
        absent=slot.lrm.absent + 1,
        absent_since=slot.lrm.absent_since or turn.now,
    )
    slot = turn.slot(slot, slot.state, lrm=view)
    needed = 2 if released or slot.claimed else turn.rules.absent_polls
    if view.absent >= needed:
        job_gone(turn, slot, f"job {slot.job} is no longer in the batch system")


def _strays(turn: Turn, by_slot: dict[str, list[Job]]) -> None:
    """Of two jobs of one slot the known one stays; and a job of an ended slot is deleted."""
    for id, jobs in by_slot.items():
        slot = turn.books.slot(id)
        if slot is None or slot.unclear or not slot.job:
            continue
        for job in jobs:
            if job.state in (JobState.DONE, JobState.EXITING, JobState.UNKNOWN):
                continue
            if job.id != slot.job:
                _delete(turn, slot, job, f"job {job.id} is a second job of slot {id}")
            elif _over(slot) and turn.now >= slot.cancel_at:
                text = f"job {job.id} is back, and its slot {id} has ended"
                turn.books.put(replace(slot, cancel_at=turn.now + turn.rules.retry_s[1]))
                _delete(turn, slot, job, text)


def _over(slot: Slot) -> bool:
    return slot.state in FINAL_SLOT and slot.lrm.state == "gone"


def _delete(turn: Turn, slot: Slot, job: Job, why: str) -> None:
    turn.note("warning", "lrm", f"{why}: deleted", workspace=slot.workspace, slot=slot.id)
    turn.do(Cancel(slot.id, job.id))


# -- time


def tick(turn: Turn) -> None:
    """What time alone decides about slots."""
    benches.tick(turn)
    for new in (*repairs.tick(turn), *spares.tick(turn)):
        submit(turn, new)
    for id in sorted(turn.books.open_slots):
        slot = turn.books.slot(id)
        if slot is None:
            continue
        if slot.state is S.SUBMITTING and not slot.job and not slot.unclear:
            if slot.wanted == "held" and turn.now >= slot.retry_at:
                submit(turn, slot)
        elif slot.state is S.STARTING and not slot.pilots:
            _no_first_word(turn, slot)
        elif slot.lrm.state == "gone" and (slot.pilots or slot.claimed is False):
            job_gone(turn, slot, slot.lrm.reason)
        if slot.wanted == "released" and slot.job and slot.lrm.state not in ("gone", "absent"):
            again = turn.books.slot(id)
            if again is not None and again.state not in FINAL_SLOT:
                press(turn, again)


def _no_first_word(turn: Turn, slot: Slot) -> None:
    if turn.now - (slot.launched or turn.now) > turn.rules.launch_s:
        turn.slot(slot, S.UNKNOWN, cause="no first word: the job runs and no pilot has spoken")


def ran(turn: Turn, event: Ran) -> None:
    """Keep the exact command for people."""
    slot = turn.books.slot(event.slot) if event.slot else None
    level = "info" if event.rc == 0 else "warning"
    how = "hit its time limit" if event.timed_out else f"exit {event.rc}"
    text = f"{' '.join(event.argv)} ({how}, {event.seconds:.2f} s)"
    turn.note(
        level,
        "lrm",
        f"{text}: {event.text}" if event.text else text,
        workspace=slot.workspace if slot else "",
        slot=event.slot,
        data={
            "argv": list(event.argv),
            "rc": event.rc,
            "seconds": round(event.seconds, 3),
            "timed_out": event.timed_out,
        },
    )

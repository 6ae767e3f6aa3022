"""The slot of `wspilot bench host`: asked for, its figures kept, ended; nothing of it stays."""

from __future__ import annotations

from tests.unit.core.dialogue import Dialogue, uuid
from wspilot.daemon.core import benches
from wspilot.daemon.core.events import (
    Bench,
    Cancel,
    Claim,
    EndBench,
    Event,
    Heard,
    Polled,
    Submit,
    Submitted,
)
from wspilot.daemon.lrm.base import Answer, JobState, Listing, Verdict
from wspilot.messages import Kind, Notification, rfc3339
from wspilot.model import NodeState, Slot, SlotState

ID = "b" * 8
ROW = {"what": "reduce", "n": 1, "mean": 1.0, "sd": 0.0, "median": 1.0}
FIGURES = {"mib": 64, "figures": [ROW]}


def _asked(**spec: object) -> Dialogue:
    d = Dialogue()
    d.say(Bench(ID, {"rounds": 2, "mib": 64, "guests": 0, **spec}, 1, 128, 600))
    return d


def _slot(d: Dialogue) -> Slot:
    slot = d.books.slot(ID)
    assert slot is not None
    return slot


def _runs(d: Dialogue) -> None:
    d.say(Submitted(ID, 1, Answer(Verdict.ACCEPTED, "9.srv")))
    d.later(2)
    _say(d, Kind.STARTED, 1, boot_id="boot-n1", age_s=0.5)


def _say(d: Dialogue, kind: Kind, seq: int, **data: object) -> None:
    d.say(Heard(Notification(ID, "n1", uuid(ID), 1, seq, kind, rfc3339(d.now), 1.0, data)))


def _gone(d: Dialogue) -> Event:
    job = d.job_of(_slot(d), JobState.DONE)
    return Polled(Listing(True, {job.id: job}), d.now)


def test_its_job_says_figures_and_the_node_is_clean() -> None:
    d = _asked(node="n1")
    assert Submit(ID, 1) in d.effects and _slot(d).whole_node
    _runs(d)
    assert d.books.node("n1").state is NodeState.IN_USE  # type: ignore[union-attr]
    _say(d, Kind.RELEASED, 2, clean=True, bench=FIGURES, node_clean=True, neighbours=[])
    d.later(2)
    d.say(_gone(d))
    assert _slot(d).state is SlotState.RELEASED
    (pilot,) = d.books.pilots_of(_slot(d))
    assert pilot.facts["bench"]["figures"] == [ROW]
    assert d.books.node("n1").state is NodeState.CLEAN  # type: ignore[union-attr]


def test_figures_are_kept_of_a_bench_alone_and_only_as_figures() -> None:
    d = _asked()
    _runs(d)
    _say(d, Kind.RELEASED, 2, clean=True, bench={"figures": "all of it"})
    assert "bench" not in d.books.pilots_of(_slot(d))[0].facts
    d.run("n2")
    d.hear("n2", Kind.RELEASED, {"clean": True, "bench": FIGURES})
    assert "bench" not in d.books.pilots_of(d.slot)[0].facts


def test_a_job_that_is_killed_leaves_its_node_dirty() -> None:
    d = _asked()
    _runs(d)
    d.later(10)
    d.say(_gone(d))
    d.later(200)
    assert _slot(d).state is SlotState.FAILED
    assert d.books.node("n1").state is NodeState.DIRTY  # type: ignore[union-attr]


def test_who_waits_no_longer_has_the_job_deleted_at_once() -> None:
    d = _asked()
    _runs(d)
    d.say(EndBench(ID))
    assert Cancel(ID, "9.srv") in d.effects and _slot(d).wanted == "released"
    d.say(EndBench(d.slot.id))  # no bench: nothing of anybody else's ends by it
    assert d.slot.wanted == "held"


def test_one_that_nobody_gives_a_place_is_given_up() -> None:
    d = _asked(node="drained")
    d.say(Submitted(ID, 1, Answer(Verdict.ACCEPTED, "9.srv")))
    d.later(benches.WAIT_S - 10)
    assert _slot(d).wanted == "held"
    d.later(20)
    assert _slot(d).wanted == "released" and Claim(ID) in d.effects
    assert _slot(d).cause == "no node within 1h: it waited for a place in the batch system's queue"


def test_whoever_waits_longer_or_not_so_long_is_served_so() -> None:
    d = _asked(wait_s=2 * benches.WAIT_S)
    d.say(Submitted(ID, 1, Answer(Verdict.ACCEPTED, "9.srv")))
    d.later(benches.WAIT_S + 10)
    assert _slot(d).wanted == "held"
    d.later(benches.WAIT_S)
    assert "no node within 2h" in _slot(d).cause and _slot(d).wanted == "released"


def test_one_that_the_batch_system_never_took_says_so() -> None:
    d = _asked(wait_s=60.0)
    d.say(Submitted(ID, 1, Answer(Verdict.RETRY, text="queue closed")))
    d.later(61)
    assert _slot(d).state is SlotState.RELEASED
    assert "no node within 1m" in _slot(d).cause and "queue closed" in _slot(d).cause

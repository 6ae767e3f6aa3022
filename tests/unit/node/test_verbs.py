"""What users ask of a living VM, as a dialogue with the pilot's core."""

from __future__ import annotations

import pytest

from tests.unit.node.dialogue import Talk
from wspilot.errors import Code
from wspilot.messages import Verb
from wspilot.node.core import events as e


def up() -> Talk:
    t = Talk().ready().create()
    t >> e.Created(t.now, "v1")
    t >> e.VmSaid(t.now, "v1", "ready")
    assert t.vm() == "running"
    return t


@pytest.mark.parametrize(
    ("verb", "during", "ends"),
    [
        (Verb.PAUSE, "pausing", "paused"),
        (Verb.SUSPEND, "suspending", "suspended"),
        (Verb.STOP, "stopping", "stopped"),
        (Verb.REBOOT, "rebooting", "booting"),
    ],
)
def test_a_verb_is_answered_when_it_is_done(verb: Verb, during: str, ends: str) -> None:
    t = up().order(verb, re="x", vm="v1", grace_s=3)
    assert t.vm() == during and not [one for one in t.said("answer") if one["re"] == "x"]
    (act,) = t.asked(e.Act)
    assert act.verb == verb.value and act.data["grace_s"] == 3
    t >> e.Acted(t.now, "v1", verb.value)
    assert t.vm() == ends
    assert [one["ok"] for one in t.said("answer") if one["re"] == "x"] == [True]


@pytest.mark.parametrize("first", [Verb.PAUSE, Verb.SUSPEND])
def test_resume_leads_back_and_a_failed_one_leaves_it_as_it_was(first: Verb) -> None:
    t = up().order(first, vm="v1")
    t >> e.Acted(t.now, "v1", first.value)
    was = t.vm()
    t.order(Verb.RESUME, re="r1", vm="v1")
    t >> e.ActFailed(t.now, "v1", "resume", "no memory")
    assert t.vm() == was and t.said("answer")[-1]["message"] == "no memory"
    assert t.said("answer")[-1]["code"] == Code.FAILED
    t.order(Verb.RESUME, vm="v1")
    t >> e.Acted(t.now, "v1", "resume")
    assert t.vm() == "running"


def test_a_save_has_the_time_that_its_lease_has_left_and_not_that_of_the_job() -> None:
    t = up().order(Verb.LEASE, seconds=100.0)
    t.now += 30.0
    (act,) = t.order(Verb.SAVE, vm="v1", image="mine").asked(e.Act)
    assert act.limit_s == 70.0
    t >> e.ActFailed(t.now, "v1", "save", "too long", Code.REFUSED)
    assert t.said("answer")[-1]["code"] == Code.REFUSED
    t.order(Verb.LEASE, seconds=500.0)  # extended: as the refusal advises
    assert t.order(Verb.SAVE, vm="v1", image="mine").asked(e.Act)[0].limit_s == 500.0


def test_a_stopped_vm_starts_and_is_running_when_its_guest_says_so() -> None:
    t = up().order(Verb.STOP, vm="v1")
    t >> e.Acted(t.now, "v1", "stop")
    t.order(Verb.START, vm="v1")
    t >> e.VmSaid(t.now, "v1", "booting")
    t >> e.Acted(t.now, "v1", "start")
    assert t.vm() == "booting"
    t >> e.VmSaid(t.now, "v1", "ready")
    assert t.vm() == "running"


def test_a_guest_that_boots_slowly_the_second_time_is_spoken_of_and_not_ended() -> None:
    t = up().order(Verb.REBOOT, vm="v1")
    t >> e.Acted(t.now, "v1", "reboot")
    t.later(1000)
    assert t.vm() == "booting" and "started again" in t.said("log")[-1]["text"]


def test_what_makes_no_sense_is_refused_and_what_is_so_already_is_done() -> None:
    t = up().order(Verb.RESUME, re="so", vm="v1").order(Verb.START, re="so2", vm="v1")
    assert [one["ok"] for one in t.said("answer")[-2:]] == [True, True]
    t.order(Verb.PAUSE, vm="v1").order(Verb.STOP, re="busy", vm="v1")
    assert "busy: pause" in t.said("answer")[-1]["message"]
    t >> e.Acted(t.now, "v1", "pause")
    t.order(Verb.REBOOT, re="no", vm="v1")
    assert "it is paused; reboot needs" in t.said("answer")[-1]["message"]
    t.order(Verb.PAUSE, re="none", vm="v9")
    assert t.said("answer")[-1]["code"] == 4


def test_destroy_wins_over_a_verb() -> None:
    t = up().order(Verb.SUSPEND, re="s", vm="v1").order(Verb.DESTROY, vm="v1")
    assert t.vm() == "stopping" and t.asked(e.Destroy)
    t >> e.ActFailed(t.now, "v1", "suspend", "destroyed")
    t >> e.Destroyed(t.now, "v1")
    assert t.vm() == "terminated"
    assert [one["ok"] for one in t.said("answer") if one["re"] == "s"] == [False]


def test_a_stop_that_does_not_end_the_process_is_a_failed_vm() -> None:
    t = up().order(Verb.STOP, vm="v1")
    t >> e.ActFailed(t.now, "v1", "stop", "state D")
    assert t.vm() == "failed" and t.asked(e.Destroy)


def test_a_guest_speaks_of_its_context_once() -> None:
    t = up()
    t >> e.VmSaid(t.now, "v1", "said", "all found")
    t >> e.VmSaid(t.now, "v1", "error", "changed my mind")
    assert t.said("context") == [{"vm": "v1", "ok": True, "text": "all found"}]


def test_an_image_is_brought_first_and_told_in_steps() -> None:
    t = Talk().ready().create(image={"kind": "disk", "files": {"disk": {}}})
    assert t.vm() == "propagating" and t.asked(e.Propagate) and not t.asked(e.Create)
    for part in range(100):
        t >> e.Progress(t.now, "v1", part / 100)
    assert 10 < len(t.said("progress")) <= 20
    t >> e.Propagated(t.now, "v1", {"kind": "disk", "disk": "/cache/x"})
    assert t.vm() == "starting" and t.asked(e.Create)[0].data["image"]["disk"] == "/cache/x"


def test_a_vm_destroyed_while_its_image_travels_is_never_begun() -> None:
    t = Talk().ready().create(image={"kind": "disk", "files": {"disk": {}}})
    t.order(Verb.DESTROY, vm="v1")
    t >> e.Destroyed(t.now, "v1")
    assert t.vm() == "stopping"
    t >> e.PropagateFailed(t.now, "v1", "given up")
    assert t.vm() == "terminated" and not t.asked(e.Create)


@pytest.mark.parametrize("verb", [Verb.SUSPEND, Verb.PAUSE])
def test_a_memory_that_is_saved_has_the_time_that_the_lease_has(verb: Verb) -> None:
    (act,) = up().order(verb, vm="v1").asked(e.Act)
    assert (act.limit_s > 900) == (verb is Verb.SUSPEND)

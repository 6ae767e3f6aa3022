"""The guardian's and the launcher's decisions."""

from __future__ import annotations

import pytest

from wspilot.errors import WspilotError
from wspilot.node.core import guard, launch
from wspilot.node.core.guard import TICK_S, Verdict, Watch


def ticks(watch: Watch, seconds: float, state: str = "S") -> tuple[Watch, Verdict]:
    verdict = Verdict.WAIT
    end = watch.ticked + seconds
    while watch.ticked < end and verdict is Verdict.WAIT:
        letter = state if guard.looks(watch) else ""
        watch, verdict = guard.tick(watch, watch.ticked + TICK_S, letter)
    return watch, verdict


def test_ten_silent_seconds_mean_that_it_hangs() -> None:
    watch, verdict = ticks(Watch(True, 100.0), 9.5)
    assert verdict is Verdict.WAIT
    assert guard.tick(watch, watch.ticked + TICK_S, "S")[1] is Verdict.KILL


def test_a_byte_begins_the_count_anew() -> None:
    watch, _ = ticks(Watch(True, 100.0), 9)
    watch = guard.heard(watch, 109.2)
    assert ticks(watch, 9.5)[1] is Verdict.WAIT


def test_a_late_tick_means_that_the_guardian_itself_was_stopped() -> None:
    watch, _ = ticks(Watch(True, 100.0), 9.5)
    watch, verdict = guard.tick(watch, 1000.0, "S")
    assert verdict is Verdict.WAIT and watch.silent == 0


def test_a_suspended_pilot_is_waited_for_where_nothing_was_taken() -> None:
    watch, verdict = ticks(Watch(True, 100.0), 3600, "T")
    assert verdict is Verdict.WAIT
    assert ticks(watch, 20, "S")[1] is Verdict.KILL


def test_a_suspended_pilot_loses_what_it_took() -> None:
    watch, verdict = ticks(Watch(False, 100.0), 60, "T")
    assert verdict is Verdict.PREEMPT and watch.silent < 3


# -- launcher


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n1", "n1"),
        ("n[1-3]", "n1 n2 n3"),
        ("n[08-10,12],login", "n08 n09 n10 n12 login"),
        ("a[1]b,c-d[2-3]", "a1b c-d2 c-d3"),
    ],
)
def test_slurms_folded_node_lists(text: str, names: str) -> None:
    assert launch.unfold(text) == tuple(names.split())


@pytest.mark.parametrize("text", ["n[", "n[1", "n]", "n[1-99999]", "n;x", "../n"])
def test_rubbish_in_a_node_list_is_refused(text: str) -> None:
    with pytest.raises(WspilotError):
        launch.unfold(text)


def test_the_batch_systems_word_holds_for_the_node_list() -> None:
    assert launch.given({"SLURM_JOB_NODELIST": "n[1-2]"}, "") == ("n1", "n2")
    assert launch.given({}, "n4\nn4\nn3\nn3\n") == ("n4", "n3")
    assert launch.given({"WSPILOT_LOCAL_NODES": "n1,n2"}, "") == ("n1", "n2")
    assert launch.given({}, "") == ()


def test_which_node_am_i() -> None:
    own = launch.own_node
    assert own("given", (), {"SLURMD_NODENAME": "x"}, "h") == "given"
    assert own("", ("a", "b"), {"SLURMD_NODENAME": "b"}, "samehost") == "b"
    assert own("", ("a", "b"), {"PBS_NODENUM": "1"}, "samehost") == "b"
    assert own("", ("a.site", "b.site"), {}, "b.other") == "b.site"
    assert own("", (), {}, "h.site") == "h"


def test_fewer_hosts_than_asked_for_is_packed_unless_that_is_wanted() -> None:
    assert launch.too_few(("a",), 2, False).startswith("packed")
    assert launch.too_few(("a",), 2, True) == "" == launch.too_few(("a", "b"), 2, False)


def test_the_start_prefix_and_srun_kept_out_of_the_jobs_signals() -> None:
    argv = launch.start_argv(("srun", "-N", "{nodes}", "-n{nodes}"), 4, ("python3", "x.pyz"))
    assert argv == ("srun", "-N", "4", "-n4", "python3", "x.pyz")
    assert launch.escapes(argv) and launch.escapes(("/usr/bin/srun",))
    assert not launch.escapes(("pbsdsh", "-u")) and not launch.escapes(())

"""The Slurm driver against recordings of Slurm 22.05."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.lrm.recordings import answer, steps
from wspilot.daemon.lrm.base import JobRequest, JobState, Result, Verdict
from wspilot.daemon.lrm.site import batch_settings
from wspilot.daemon.lrm.slurm import SlurmDriver, expand
from wspilot.errors import WspilotError

SLURM = SlurmDriver(batch_settings({}, 30.0))
REQUEST = JobRequest("ws-abcdefgh-01", 4, 2, 600, 5430, "/s/job.sh", "/s/job.out", whole_node=True,
                     exclude=("node09",))  # fmt: skip


def squeue_all() -> Result:
    """The recorded list of all states, its columns put in the driver's order."""
    recorded = answer("slurm_squeue_states", "squeue -h -t all")
    lines = []
    for line in recorded.out.decode().splitlines():
        id, name, state, reason, hosts, *rest = line.split("|")
        lines.append("|".join([id, rest[-2], state, hosts, reason, name]))
    return Result(recorded.argv, 0, "\n".join(lines).encode())


def test_every_recorded_sbatch_is_understood() -> None:
    for name in ("slurm_sbatch_ok", "slurm_sbatch_errors"):
        for step in steps(name):
            if not step.cmd.startswith("sbatch --parsable") or "test-only" in step.cmd:
                continue
            said = SLURM.submitted(step.result)
            if step.result.rc == 0:
                assert said.verdict is Verdict.ACCEPTED and said.job_id.isdigit(), step.cmd
            else:
                assert said.verdict is Verdict.REFUSED and said.text, step.cmd


def test_a_frozen_controller_may_have_queued_the_job() -> None:
    """Trap 11."""
    frozen = b"sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
    assert SLURM.submitted(Result(("sbatch",), 1, b"", frozen)).verdict is Verdict.UNCLEAR
    assert SLURM.submitted(Result(("sbatch",), None, timed_out=True)).verdict is Verdict.UNCLEAR
    down = answer("wrapper_controller_down", "sbatch s.sh")
    assert SLURM.submitted(down).verdict is Verdict.RETRY


def test_every_recorded_state() -> None:
    listing = SLURM.polled(squeue_all(), ())
    by_name = {job.name: job for job in listing.jobs.values()}
    assert listing.ok and listing.whole
    assert by_name["running"].state is JobState.RUNNING
    assert by_name["running"].hosts == ("node01", "node02", "node03", "node04")
    assert by_name["queued"].state is JobState.QUEUED and by_name["queued"].reason == "Resources"
    assert by_name["held"].state is JobState.HELD and by_name["a b"].state is JobState.DONE
    assert by_name["norerun"].raw == "NODE_FAIL" and by_name["norerun"].state is JobState.DONE
    assert listing.jobs["10"].raw == "TIMEOUT" and listing.jobs["10"].owner == "wspilot"


@pytest.mark.parametrize(
    "result",
    [
        Result(("squeue",), None, timed_out=True),
        Result(("squeue",), 0, b"<html>not squeue</html>\n"),
        Result(("squeue",), 1, b"", b"slurm_load_jobs error: Invalid job id specified"),
        answer("wrapper_controller_down", "squeue"),
    ],
)
def test_a_bad_answer_is_never_taken_for_an_empty_one(result: Result) -> None:
    assert not SLURM.polled(result, ()).ok


def test_an_empty_queue_is_a_good_answer() -> None:
    assert SLURM.polled(Result(("squeue",), 0), ()).ok


def test_one_query_for_all_of_ours_whatever_the_ids() -> None:
    """Trap 13: `squeue -j unknown` fails, so ids are never asked for."""
    argv = SLURM.poll(("1", "2")).argv
    assert "--me" in argv and "--states=all" in argv and "1" not in argv


def test_the_script_is_not_requeueable_and_asks_for_whole_nodes_and_memory() -> None:
    script = SLURM.script(REQUEST, ("python3", "x.pyz"))
    for line in ("--no-requeue", "--exclusive", "--mem=600M", "--time=91", "--nodes=4",
                 "--cpus-per-task=2", "--exclude=node09", "--mail-type=NONE"):  # fmt: skip
        assert f"#SBATCH {line}\n" in script
    assert script.startswith("#!/bin/sh\n") and script.endswith("exec python3 x.pyz\n")


def test_site_lines() -> None:
    table = {"extra": ["#SBATCH --licenses=x"], "drop": ["--mem", "#SBATCH --exclusive"],
             "queue": "long"}  # fmt: skip
    script = SlurmDriver(batch_settings(table, 30.0)).script(REQUEST, ("x",))
    assert "--mem" not in script and "--exclusive" not in script
    assert "#SBATCH --licenses=x\n" in script and "--partition=long" in script


def test_scancel() -> None:
    assert SLURM.cancelled(Result(("scancel",), 0)).verdict is Verdict.ACCEPTED
    gone = b"scancel: error: Kill job error on job id 9: Invalid job id specified"
    assert SLURM.cancelled(Result(("scancel",), 1, b"", gone)).verdict is Verdict.GONE
    assert (
        SLURM.cancelled(answer("wrapper_controller_down", "scancel 37")).verdict is Verdict.UNCLEAR
    )
    with pytest.raises(ValueError):
        SLURM.cancel("-u root")


@pytest.mark.parametrize(
    ("hosts", "names"),
    [
        ("", ()),
        ("node01", ("node01",)),
        ("node[01-03]", ("node01", "node02", "node03")),
        ("a[1,3-4],login,b[09-10]", ("a1", "a3", "a4", "login", "b09", "b10")),
        ("n[1-999999999999]", ()),
        ("n[\u00b2-\u00b3]", ()),
        ("n[" + "0" * 5000 + "-9]", ()),
    ],
)
def test_host_lists(hosts: str, names: tuple[str, ...]) -> None:
    assert expand(hosts) == names


def test_a_host_list_cannot_fill_the_memory() -> None:
    """Found by the fuzzer's rule: 9 bytes of it were 65,536 names."""
    assert len(expand("n[" + "1-65536," * 1000 + "]")) <= 65_536
    assert len(expand("n," * 100_000)) <= 65_536


def test_the_users_own_arrays_are_not_ours_and_do_not_spoil_the_poll() -> None:
    """Found by the fuzzer: their ids went into the listing, and no scancel takes them."""
    out = (b"14_[1-9%2]|ann|PENDING||Priority|ws-abcdefgh-01\n15+0|ann|RUNNING|n1|None|het\n"
           b"16|ann|RUNNING|n1|None|ws-abcdefgh-01\n")  # fmt: skip
    listing = SLURM.polled(Result(("squeue",), 0, out), ())
    assert listing.ok and set(listing.jobs) == {"16"}
    assert not SLURM.polled(Result(("squeue",), 0, b"16x|ann|RUNNING|n1|None|a\n"), ()).ok


@pytest.mark.parametrize("path", ["/s/a b", "/s/%j", "/s/a\\b", "/s/'x", "relative"])
def test_a_path_that_means_something_else_there_is_refused(path: str) -> None:
    with pytest.raises(WspilotError, match="cannot be given the path"):
        SLURM.script(replace(REQUEST, output=path), ("x",))


def test_a_silent_or_killed_sbatch_proves_nothing() -> None:
    for rc in (-9, 1):
        assert SLURM.submitted(Result(("sbatch",), rc)).verdict is Verdict.UNCLEAR
    busy = b"sbatch: error: Slurm controller in standby mode, unable to accept job"
    assert SLURM.submitted(Result(("sbatch",), 1, b"", busy)).verdict is Verdict.RETRY


def test_a_requeued_job_is_seen_waiting_or_held_under_its_id() -> None:
    """Trap 12; the states and reasons of the recording, in the driver's columns."""
    for reason, state in (("BeginTime", JobState.QUEUED),
                          ("job requeued in held state", JobState.HELD)):  # fmt: skip
        recorded = [step.result.out.decode() for step in steps("slurm_requeue")]
        assert any(f"52 PENDING {reason}" in out for out in recorded)
        line = f"52|ann|PENDING||{reason}|ws-abcdefgh-01\n".encode()
        assert SLURM.polled(Result(("squeue",), 0, line), ()).jobs["52"].state is state


def test_recorded_scancels() -> None:
    """Trap 13: an unknown or finished id is exit 0 and silence: asked, never proved."""
    for step in steps("slurm_scancel"):
        if step.cmd in ("scancel 49", "scancel 999999", "scancel 44"):
            assert step.result.rc == 0
            assert SLURM.cancelled(step.result).verdict is Verdict.ACCEPTED


def test_a_name_with_a_bar_or_a_line_separator_is_one_job() -> None:
    line = "7|ann|RUNNING|node01|None|a|b\x85c\u2028d\x0b8|x\n".encode()
    jobs = SLURM.polled(Result(("squeue",), 0, line), ()).jobs
    assert set(jobs) == {"7"} and jobs["7"].name.startswith("a|b")

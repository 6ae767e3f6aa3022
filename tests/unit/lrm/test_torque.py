"""The Torque driver against recordings of Torque 6 and of Slurm's look-alike commands."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.lrm.recordings import answer, steps
from wspilot.daemon.lrm.base import JobRequest, JobState, Result, Verdict
from wspilot.daemon.lrm.site import batch_settings
from wspilot.daemon.lrm.torque import TorqueDriver
from wspilot.errors import WspilotError

TORQUE = TorqueDriver(batch_settings({}, 5.0), "/opt/torque/bin/pbsdsh")
WRAPPER = TorqueDriver(batch_settings({"start": "srun"}, 30.0))
REQUEST = JobRequest("ws-abcdefgh-01", 4, 2, 600, 5430, "/s/slots/abcdefgh/job.sh",
                     "/s/slots/abcdefgh/job.out")  # fmt: skip
LAUNCH = ("python3", "/s/bin/x.pyz", "launch", "--slot", "abcdefgh")


# -- qsub


@pytest.mark.parametrize("name", ["torque_01_qsub_basic", "torque_02_qsub_errors"])
def test_every_recorded_qsub_is_understood(name: str) -> None:
    """Trap 8: the code is an error number modulo 256; trap 9: array ids carry brackets."""
    for step in steps(name):
        if not step.cmd.startswith("qsub") or ";" in step.cmd:
            continue
        said = TORQUE.submitted(step.result)
        if step.result.rc == 0:
            assert said.verdict is Verdict.ACCEPTED, step.cmd
            assert said.job_id == step.result.out.decode().strip()
        else:
            expected = Verdict.RETRY if "disabled" in said.text else Verdict.REFUSED
            if "cannot connect to server" in said.text:
                expected = Verdict.RETRY
            assert said.verdict is expected and said.text, (step.cmd, said)


def test_every_recorded_qsub_of_the_wrapper_is_understood() -> None:
    """Trap 2 of the wrapper: refusals on stdout, stderr empty."""
    for step in steps("wrapper_qsub_errors"):
        if not step.cmd.startswith("qsub") or ";" in step.cmd:
            continue
        said = WRAPPER.submitted(step.result)
        assert (said.verdict is Verdict.ACCEPTED) == (step.result.rc == 0), step.cmd
        if step.result.rc != 0:
            assert said.verdict is Verdict.REFUSED and said.text, step.cmd


def test_a_server_that_is_down_created_nothing_and_is_asked_again() -> None:
    down = answer("wrapper_controller_down", "qsub s.sh", 1)
    assert down.rc == 1
    assert WRAPPER.submitted(down).verdict is Verdict.RETRY
    torque = Result(("qsub",), 111, b"", b"Error in connection retries to trqauthd (15033)\n")
    assert TORQUE.submitted(torque).verdict is Verdict.RETRY


@pytest.mark.parametrize(
    "result",
    [
        Result(("qsub",), None, timed_out=True),
        Result(("qsub",), 1, b"sbatch: error: Batch job submission failed: Socket timed out on "
               b"send/recv operation\n"),
        Result(("qsub",), 0, b"", b""),
        Result(("qsub",), 0, b"Warning: something\n", b""),
        Result(("qsub",), -9, b"", b"End of File"),
        Result(("qsub",), -9, b"", b""),
        Result(("qsub",), 1, b"", b""),
    ],
)  # fmt: skip
def test_a_lost_answer_is_unclear_never_a_failure(result: Result) -> None:
    """Trap 17: the timed-out qsub still created its job."""
    assert TORQUE.submitted(result).verdict is Verdict.UNCLEAR
    assert WRAPPER.submitted(result).verdict is Verdict.UNCLEAR


def test_the_script_says_what_the_paper_and_the_traps_demand() -> None:
    script = TORQUE.script(REQUEST, LAUNCH)
    lines = script.splitlines()
    assert "#PBS -l nodes=4:ppn=2,walltime=01:30:30,mem=2400mb" in lines
    for line in ("-N ws-abcdefgh-01", "-r n", "-m n", "-j oe", "-S /s/slots/abcdefgh/shell"):
        assert f"#PBS {line}" in lines
    assert lines[-1] == "exec python3 /s/bin/x.pyz launch --slot abcdefgh"
    assert sum(line.startswith("#PBS -l") for line in lines) == 1 and "procs" not in script
    assert TORQUE.submit(REQUEST).argv == ("qsub", REQUEST.script)


def test_the_wrapper_gets_its_options_on_the_command_line_and_memory_a_node() -> None:
    """Traps 1, 3, 4: `#PBS -o` is ignored there, of two -l the last counts."""
    argv = WRAPPER.submit(REQUEST).argv
    assert argv[argv.index("-l") + 1] == "nodes=4:ppn=2,walltime=01:30:30,mem=600mb"
    assert argv.count("-l") == 1 and argv[-1] == REQUEST.script and "-S" not in argv
    assert "#PBS" not in WRAPPER.script(REQUEST, LAUNCH)


def test_site_lines_are_added_and_dropped() -> None:
    table = {
        "extra": ["#PBS -W group_list=physics"],
        "drop": ["-l mem", "#PBS -m"],
        "queue": "long",
        "account": "phys",
    }
    lines = TorqueDriver(batch_settings(table, 2.0)).script(REQUEST, LAUNCH).splitlines()
    assert "#PBS -l nodes=4:ppn=2,walltime=01:30:30" in lines
    assert not any(line.startswith("#PBS -m") for line in lines)
    assert {"#PBS -W group_list=physics", "#PBS -q long", "#PBS -A phys"} <= set(lines)


def test_the_launcher_is_the_jobs_shell_and_term_is_ignored_from_the_first_line() -> None:
    shell = TORQUE.shell(REQUEST, ("py thon", "launch"))
    assert shell is not None and shell.splitlines()[1] == "trap '' TERM INT HUP"
    assert "exec 'py thon' launch </dev/null" in shell
    assert WRAPPER.shell(REQUEST, LAUNCH) is None


def test_one_process_a_node_and_the_grace_that_is_really_given() -> None:
    assert TORQUE.start() == ("/opt/torque/bin/pbsdsh", "-u")
    assert WRAPPER.start()[0] == "srun"
    assert (TORQUE.grace_s(1), TORQUE.grace_s(4), WRAPPER.grace_s(4)) == (5.0, 0.0, 0.0)


# -- qstat


def test_every_state_in_xml_and_in_text() -> None:
    """Trap 13: -f folds, -x is XML with epochs; trap 14: exit codes."""
    for cmd in ("qstat -x 30.tqhead", "qstat -f 30.tqhead", "qstat -f -1 30.tqhead"):
        listing = TORQUE.polled(answer("torque_03_qstat_states", cmd), ("30.tqhead",))
        job = listing.jobs["30.tqhead"]
        assert listing.ok and (job.name, job.owner) == ("run_it", "wspilot")
        assert job.state is JobState.RUNNING
        assert job.hosts == ("node04", "node03", "node02", "node01")
    for id, name, state in (
        ("31", "queued", JobState.DONE),
        ("32", "hold_it", JobState.HELD),
        ("33", "later", JobState.QUEUED),
    ):
        result = answer("torque_03_qstat_states", f"qstat -f {id}.tqhead")
        job = TORQUE.polled(result, ()).jobs[f"{id}.tqhead"]
        assert (job.name, job.state) == (name, state)


def test_xml_and_text_tell_the_same_of_a_finished_job() -> None:
    text = TORQUE.polled(answer("torque_03_qstat_states", "qstat -f 30.tqhead", 1), ())
    xml = TORQUE.polled(answer("torque_03_qstat_states", "qstat -x 30.tqhead", 1), ())
    assert text.jobs == xml.jobs
    job = xml.jobs["30.tqhead"]
    assert job.state is JobState.DONE and job.exit_status == 271


def test_an_xml_answer_that_was_cut_off_is_no_answer() -> None:
    cut = answer("torque_03_qstat_states", "qstat -x")
    assert b"<Job_Id>5.tqhead</Job_Id>" in cut.out and not TORQUE.polled(cut, ()).ok


def test_an_unknown_id_is_a_good_answer_without_it() -> None:
    """Trap 12, 14: 153 right after the end means finished, status unknown."""
    for cmd in ("qstat -x 99999", "qstat -f 34.tqhead"):
        listing = TORQUE.polled(answer("torque_03_qstat_states", cmd), ("99999",))
        assert listing.ok and not listing.jobs and not listing.whole


def test_an_empty_list_is_no_output_at_all() -> None:
    assert TORQUE.polled(Result(("qstat",), 0), ()).ok


@pytest.mark.parametrize(
    "result",
    [
        answer("torque_03_qstat_states", "qstat nonsense"),
        Result(("qstat",), None, timed_out=True),
        Result(("qstat",), None, missing=True),
        Result(("qstat",), 111, b"", b"qstat: cannot connect to server tqhead (errno=111)"),
        Result(("qstat",), 33, b"", b"Unable to communicate with tqhead"),
        Result(("qstat",), 0, b"<?xml version='1.0'?>\n<Data><Job><Job_Id>1.a</Job"),
        Result(("qstat",), 0, b"segmentation fault"),
        Result(("qstat",), 0, b"\xff\xfe\x00"),
        Result(("qstat",), -11, b""),
        Result(
            ("qstat",),
            153,
            b"Job Id: 1.a\n",
            b"qstat: cannot connect to server tq (errno=111)\nqstat: Unknown Job Id Error 9.tq\n",
        ),
        answer("wrapper_qstat_states", "qstat -x"),
        answer("wrapper_controller_down", "qstat"),
    ],
)
def test_a_bad_answer_is_never_taken_for_an_empty_one(result: Result) -> None:
    assert not TORQUE.polled(result, ("1.a",)).ok


def test_an_unknown_state_letter_is_kept_as_unknown() -> None:
    xml = b"<Data><Job><Job_Id>1.a</Job_Id><job_state>B</job_state></Job></Data>"
    job = TORQUE.polled(Result(("qstat",), 0, xml), ()).jobs["1.a"]
    assert job.state is JobState.UNKNOWN and job.raw == "B"


def test_the_wrappers_text_indents_with_tab_and_does_not_fold() -> None:
    """Trap 7: TAB indent, id without server, host/COUNT."""
    result = answer("wrapper_qstat_states", "qstat -f 29 30")
    jobs = WRAPPER.polled(result, ()).jobs
    assert jobs["29"].state is JobState.RUNNING and jobs["30"].state is JobState.QUEUED
    assert jobs["29"].hosts == ("node01", "node02", "node03", "node04")
    assert jobs["29"].owner == "wspilot"
    suspended = WRAPPER.polled(answer("wrapper_qstat_states", "qstat -f 29", 1), ())
    assert {job.state for job in suspended.jobs.values()} & {JobState.SUSPENDED, JobState.RUNNING}


def test_ids_are_checked_before_they_reach_a_command() -> None:
    """Trap 12: `qstat nonsense` is taken for a queue."""
    argv = TORQUE.poll(("1.srv", "-f", "1.srv;id", "23[].srv", "$(id)")).argv
    assert argv == ("qstat", "-x", "1.srv", "23[].srv")
    for bad in ("-p", "1;2", "all", "", "1.srv 2.srv", "1.srv\n"):
        with pytest.raises(ValueError):
            TORQUE.cancel(bad)


def test_many_ids_are_one_query_for_all() -> None:
    ids = tuple(f"{n}.srv" for n in range(201))
    assert TORQUE.poll(ids).argv == ("qstat", "-x")
    assert WRAPPER.poll(("1",)).argv == ("qstat", "-f")


# -- qdel


def test_recorded_qdels() -> None:
    """Trap 15: exit 0 is "accepted", never proof; 170 of a finished job and 153 mean gone."""
    name = "torque_04_qdel_signals"
    assert TORQUE.cancelled(answer(name, "qdel 0.tqhead")).verdict is Verdict.ACCEPTED
    assert TORQUE.cancelled(answer(name, "qdel 0.tqhead", 1)).verdict is Verdict.GONE
    assert TORQUE.cancelled(answer(name, "qdel 99999")).verdict is Verdict.GONE
    unreachable = Result(("qdel",), 224, b"", b"qdel: Server could not connect to MOM 3.srv")
    assert TORQUE.cancelled(unreachable).verdict is Verdict.UNCLEAR
    assert TORQUE.cancelled(Result(("qdel",), None, timed_out=True)).verdict is Verdict.UNCLEAR


def test_the_wrappers_silent_refusal_means_gone_and_a_down_controller_does_not() -> None:
    """Trap 8 of the wrapper."""
    assert WRAPPER.cancelled(Result(("qdel",), 1)).verdict is Verdict.GONE
    down = answer("wrapper_controller_down", "qdel 37")
    assert WRAPPER.cancelled(down).verdict is Verdict.UNCLEAR


def test_a_pinned_job_names_its_node() -> None:
    one = replace(REQUEST, nodes=1, hosts=("node03",))
    assert "nodes=node03:ppn=2" in TORQUE.script(one, LAUNCH)


def test_known_and_unknown_ids_together() -> None:
    """Trap 12: the known ones on stdout, exit 153. Only the plain table of it was recorded, so its
    code and its words are put to the recorded XML of the known one."""
    xml = answer("torque_03_qstat_states", "qstat -x 30.tqhead").out
    said = answer("torque_03_qstat_states", "qstat 30.tqhead 99999 31.tqhead")
    assert said.rc == 153
    listing = TORQUE.polled(Result(("qstat",), 153, xml, said.err), ("30.tqhead", "99999.tqhead"))
    assert listing.ok and set(listing.jobs) == {"30.tqhead"} and not listing.whole


def test_a_job_that_was_deleted_while_queued_has_no_exit_code() -> None:
    """Trap 14: absent then, and 271 for one that never ran because its dependency failed."""
    shown = answer("torque_04_qdel_signals", 'qstat -f 0.tqhead | grep "state\\|exit')
    assert shown.out == b"    job_state = C\n"
    result = Result(("qstat",), 0, b"Job Id: 0.tqhead\n" + shown.out)
    deleted = TORQUE.polled(result, ()).jobs["0.tqhead"]
    assert (deleted.state, deleted.exit_status) == (JobState.DONE, None)
    never = TORQUE.polled(answer("torque_01_qsub_basic", "qstat -f 5.tqhead", 1), ()).jobs[
        "5.tqhead"
    ]
    assert (never.state, never.exit_status) == (JobState.DONE, 271)


def test_a_walltime_kill_is_minus_eleven() -> None:
    """Trap 4."""
    result = answer("torque_07_walltime", "qstat -f 20.tqhead")
    job = TORQUE.polled(result, ()).jobs["20.tqhead"]
    assert (job.state, job.exit_status) == (JobState.DONE, -11)


def test_right_after_its_start_a_job_has_its_hosts() -> None:
    """Trap 6: ranges and reverse order; the first node there is where the script runs."""
    job = TORQUE.polled(answer("torque_01_qsub_basic", "qstat -f 1.tqhead"), ()).jobs["1.tqhead"]
    assert job.state is JobState.RUNNING and job.hosts[0] == "node04" and len(job.hosts) == 4


@pytest.mark.parametrize("driver", [TORQUE, WRAPPER])
@pytest.mark.parametrize(
    "path", ["/s/x;touch PWNED", "/s/a b", "/s/h:o", "/s/$(id)", "/s/a,b", "o"]
)
def test_a_path_that_means_something_else_there_is_refused(driver: TorqueDriver, path: str) -> None:
    """Trap 4 of the wrapper: a `;` in -o was run by a shell; `host:/path` yielded no file."""
    for request in (replace(REQUEST, output=path), replace(REQUEST, script=path)):
        with pytest.raises(WspilotError, match="cannot be given the path"):
            driver.script(request, LAUNCH)


def test_the_wrapper_runs_what_it_is_given_through_a_shell() -> None:
    """The recording behind `check_paths`."""
    said = answer("wrapper_qsub_errors", "qsub -o 'x;touch PWNED' ok.sh; ls")
    assert b"\nPWNED\n" in said.out


def test_somebody_elses_job_name_neither_breaks_nor_forges_an_answer() -> None:
    name = b"x\x0bJob Id: 1.a\x0b    job_state = C\x00\xff"
    job = b"<Job_Id>1.a</Job_Id><Job_Name>%s</Job_Name><job_state>R</job_state>"
    xml = b"<Data><Job>" + job + b"</Job></Data>"
    text = b"Job Id: 1.a\n    Job_Name = %s\n    job_state = R\n"
    tabs = text.replace(b"    ", b"\t").replace(b"Id: ", b"Id:\t")
    for out in (xml % name, text % name, tabs % name):
        jobs = TORQUE.polled(Result(("qstat",), 0, out), ()).jobs
        assert set(jobs) == {"1.a"} and jobs["1.a"].state is JobState.RUNNING


def test_the_wrappers_completing_shows_as_done() -> None:
    """Trap 6 of the wrapper: C while the processes live. No grace is promised there, and a slot is
    released by its node's word too."""
    jobs = WRAPPER.polled(answer("wrapper_qdel", "qstat -f 1"), ()).jobs
    assert jobs["1"].state is JobState.DONE and jobs["1"].exit_status is None


def test_the_wrappers_held_and_dependent_jobs_all_show_q() -> None:
    """Trap 6 of the wrapper."""
    for step in steps("wrapper_qstat_states"):
        if step.cmd.startswith("qstat -f") and "|" not in step.cmd and step.result.rc == 0:
            listing = WRAPPER.polled(step.result, ())
            assert listing.ok, step.cmd
            assert all(job.state is not JobState.UNKNOWN for job in listing.jobs.values())


def test_recorded_qdels_of_the_wrapper() -> None:
    """Trap 8 of the wrapper, and a job of somebody else is never taken for one that is gone."""
    assert WRAPPER.cancelled(answer("wrapper_qdel", "qdel 3")).verdict is Verdict.ACCEPTED
    assert WRAPPER.cancelled(answer("wrapper_qdel", "qdel 3", 1)).verdict is Verdict.GONE
    assert WRAPPER.cancelled(answer("wrapper_qdel", "qdel 999999")).verdict is Verdict.GONE
    denied = answer("wrapper_qdel", "qdel 4")
    assert denied.rc == 1 and WRAPPER.cancelled(denied).verdict is Verdict.UNCLEAR


def test_trqauthd_that_is_gone_created_nothing_and_tells_nothing() -> None:
    """Trap 17: exit 33."""
    err = (b"Unable to communicate with tqhead(10.77.0.1)\nCommunication failure.\nqsub: cannot "
           b"connect to server tqhead (errno=15137) could not connect to trqauthd\n")  # fmt: skip
    assert TORQUE.submitted(Result(("qsub",), 33, b"", err)).verdict is Verdict.RETRY
    assert not TORQUE.polled(Result(("qstat",), 33, b"", err), ("1.a",)).ok
    assert TORQUE.cancelled(Result(("qdel",), 33, b"", err)).verdict is Verdict.UNCLEAR


def test_host_names_are_cleaned_like_every_other_text() -> None:
    """Found by the fuzzer."""
    out = "Job Id: 1.h\n    job_state = R\n    exec_host = n1/0+\u202en2/0\n".encode()
    assert TORQUE.polled(Result(("qstat",), 0, out), ()).jobs["1.h"].hosts == ("n1", "n2")

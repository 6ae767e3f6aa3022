"""Listed hosts without a batch system: greedy placement, and ends that reach the hosts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import Process, environ, everything, wait_until_gone
from tests.unit.lrm.test_local import until
from wspilot.daemon.lrm import open_driver
from wspilot.daemon.lrm.base import JobRequest, JobState, Verdict
from wspilot.daemon.lrm.local import SPREAD
from wspilot.daemon.lrm.local_spread import far_argv
from wspilot.daemon.lrm.runner import run_blocking

pytestmark = pytest.mark.slow

# Like ssh: another session, a shell that parses one word, and no signal but the end of input.
STAND_IN = """\
#!/bin/sh
echo "$1" >>{calls}
exec setsid -w sh -c "$2"
"""


class Pool:
    """Hosts n1, n2, n3 of 4 cores each behind a stand-in for ssh."""

    def __init__(self, home: Path) -> None:
        self.home = home
        ssh = home / "ssh"
        ssh.write_text(STAND_IN.format(calls=home / "calls"))
        ssh.chmod(0o700)
        self.table = {
            "nodes": ["n1", "n2", "n3"], "via": [str(ssh), "{node}", "{command}"],
            "cores": 4, "memory": "1GiB", "grace": "1s",
        }  # fmt: skip
        self.driver = open_driver("local", self.table, home)

    def submit(self, body: str, nodes: int = 1, ppn: int = 4, whole: bool = False) -> str:
        """A job whose script starts `body` on each of its nodes, as a launcher does."""
        number = len(list(self.home.glob("*.sh")))
        script = self.home / f"{number}.sh"
        words = " ".join(f"'{word}'" for word in self.driver.start())
        script.write_text(f"#!/bin/sh\nexec {words} sh -c '{body}'\n")
        script.chmod(0o700)
        request = JobRequest(
            f"ws-{number:08d}-01", nodes, ppn, 512 // 4 * ppn, 60, str(script),
            str(self.home / f"{number}.out"), whole,
        )  # fmt: skip
        answer = self.driver.submitted(run_blocking(self.driver.submit(request)))
        assert answer.verdict is Verdict.ACCEPTED, answer
        return answer.job_id

    def hosts(self, id: str) -> tuple[str, ...]:
        return self.jobs()[id].hosts

    def jobs(self):  # type: ignore[no-untyped-def]
        return self.driver.polled(run_blocking(self.driver.poll(())), ()).jobs

    def until(self, id: str, state: JobState) -> None:
        until(lambda: self.jobs()[id].state is state)

    def cancel(self, id: str) -> None:
        run_blocking(self.driver.cancel(id))

    def far(self) -> list[Process]:
        """What runs on the hosts, and whatever else was started for a job."""
        mark = f"WSPILOT_LOCAL_DIR={self.home / 'local'}"
        return [one for one in everything() if one.state not in "ZX" and mark in environ(one)]


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    one = Pool(tmp_path)
    yield one
    until(lambda: not one.far() or not one.jobs())
    left = [*one.far(), *(p for p in everything() if f"{tmp_path}" in p.command())]
    for process in left:
        process.kill(signal.SIGKILL)
    assert wait_until_gone(left, 5) == []


def test_one_process_a_host_in_the_order_of_the_list(pool: Pool) -> None:
    id = pool.submit('echo "$WSPILOT_NODE $WSPILOT_LOCAL_JOB it runs"', nodes=2)
    pool.until(id, JobState.DONE)
    assert sorted((pool.home / "0.out").read_text().splitlines()) == [
        f"n1 {id} it runs", f"n2 {id} it runs",
    ]  # fmt: skip
    assert sorted((pool.home / "calls").read_text().split()) == ["n1", "n2"]
    assert pool.jobs()[id].exit_status == 0


def test_greedy_the_first_host_with_room_is_filled_first(pool: Pool) -> None:
    jobs = [pool.submit("exec sleep 20", ppn=2) for _ in range(3)]
    jobs.append(pool.submit("exec sleep 20", ppn=4, whole=True))
    for id in jobs:
        pool.until(id, JobState.RUNNING)
    assert [pool.hosts(id) for id in jobs] == [("n1",), ("n1",), ("n2",), ("n3",)]
    late = pool.submit("exec sleep 20", ppn=3)
    until(lambda: pool.jobs()[late].reason == "waiting for nodes")  # it was looked at
    assert pool.jobs()[late].state is JobState.QUEUED
    pool.cancel(jobs[2])
    pool.until(late, JobState.RUNNING)
    assert pool.hosts(late) == ("n2",)
    for id in (*jobs, late):
        pool.cancel(id)
        pool.until(id, JobState.DONE)


def test_a_term_reaches_the_host_and_is_waited_for(pool: Pool) -> None:
    trapped = pool.home / "trapped"
    body = 'trap "sleep 0.3; echo put away; exit 0" TERM; : >%s; while :; do sleep 0.1; done'
    id = pool.submit(body % trapped)
    until(trapped.exists)
    pool.cancel(id)
    pool.until(id, JobState.DONE)
    assert "put away" in (pool.home / "0.out").read_text()


def test_what_ignores_a_term_is_killed_after_the_grace(pool: Pool) -> None:
    id = pool.submit('trap "" TERM; while :; do sleep 1; done')
    pool.until(id, JobState.RUNNING)
    until(lambda: any("while" in one.command() for one in pool.far()))
    pool.cancel(id)
    pool.until(id, JobState.DONE)
    until(lambda: not pool.far(), 6)


def test_a_job_that_is_killed_leaves_nothing_on_its_hosts(pool: Pool) -> None:
    id = pool.submit("exec sleep 30", nodes=2)
    pool.until(id, JobState.RUNNING)
    until(lambda: sum("sleep 30" in one.command() for one in pool.far()) >= 2)
    for process in pool.far():
        if "local_spread.py" in process.command():
            process.kill(signal.SIGKILL)
    pool.until(id, JobState.DONE)
    until(lambda: not pool.far(), 6)


def test_the_worst_exit_code_of_all_hosts_is_the_jobs(pool: Pool) -> None:
    id = pool.submit("case $WSPILOT_NODE in n2) exit 3;; esac", nodes=3)
    pool.until(id, JobState.DONE)
    assert pool.jobs()[id].exit_status == 3


def test_a_way_without_a_shell_gets_the_words_as_they_are() -> None:
    argv = far_argv(["ip", "netns", "exec", "{node}"], "n1", "5.0", ["echo", "a b"])
    assert argv[:4] == ["ip", "netns", "exec", "n1"] and argv[-2:] == ["echo", "a b"]
    (word,) = far_argv(["{command}"], "n1", "5.0", ["echo", "a  b", "$HOME", "it's"])
    child = subprocess.Popen(["sh", "-c", word], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None and child.stdout is not None
    with child, child.stdin, child.stdout:  # its input stays open until it has ended
        assert child.wait(10) == 0
        said = child.stdout.read().decode()
    assert said == "a  b $HOME it's\n"


def test_names_only_and_everything_runs_here(tmp_path: Path) -> None:
    env = {**os.environ, "WSPILOT_LOCAL_NODES": "a,b"}
    argv = [sys.executable, "-I", SPREAD, "sh", "-c", "echo $WSPILOT_NODE"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=20)
    assert sorted(done.stdout.split()) == ["a", "b"]

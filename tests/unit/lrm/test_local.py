"""The built-in batch system for real: its processes, its queue on disk, and what kills leave."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes import Process, environ, everything, wait_until_gone
from wspilot.daemon.lrm import open_driver
from wspilot.daemon.lrm.base import Answer, Job, JobRequest, JobState, Listing, Result, Verdict
from wspilot.daemon.lrm.runner import run_blocking

pytestmark = pytest.mark.slow  # processes and their ends: half a minute on a busy machine
GRACE_S = 1


class Cluster:
    """Two nodes of 4 cores and 1 GiB in a directory of their own."""

    def __init__(self, home: Path) -> None:
        self.home, self.place = home, home / "local"
        self.table = {"nodes": 2, "cores": 4, "memory": "1GiB", "grace": f"{GRACE_S}s"}
        self.driver = open_driver("local", self.table, home)

    def request(self, body: str, nodes: int = 1, **more: object) -> JobRequest:
        """A job whose script is `body`."""
        number = len(list(self.home.glob("*.sh")))
        script = self.home / f"{number}.sh"
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o700)
        wanted = {"ppn": 4, "memory_mib": 512, "walltime_s": 60, **more}
        return JobRequest(f"ws-{number:08d}-01", nodes, script=str(script),
                          output=str(self.home / f"{number}.out"), **wanted)  # type: ignore[arg-type] # fmt: skip

    def answer(self, request: JobRequest) -> Answer:
        return self.driver.submitted(run_blocking(self.driver.submit(request)))

    def submit(self, body: str, nodes: int = 1, **more: object) -> str:
        answer = self.answer(self.request(body, nodes, **more))
        assert answer.verdict is Verdict.ACCEPTED, answer
        return answer.job_id

    def verb(self, verb: str, **body: object) -> Result:
        base = self.driver.poll(()).argv[:-1]
        return run_blocking(_command((*base, verb, json.dumps(body))))

    def listing(self) -> Listing:
        listing = self.driver.polled(run_blocking(self.driver.poll(())), ())
        assert listing.ok, listing.text
        return listing

    def job(self, id: str) -> Job:
        return self.listing().jobs[id]

    def cancel(self, id: str) -> Verdict:
        return self.driver.cancelled(run_blocking(self.driver.cancel(id))).verdict

    def until(self, id: str, state: JobState, seconds: float = 10) -> Job:
        until(lambda: self.job(id).state is state, seconds)
        return self.job(id)

    def processes(self) -> list[Process]:
        """The server and every process of its jobs, also those that left their session."""
        mark = f"WSPILOT_LOCAL_DIR={self.place}"
        return [
            one for one in everything()
            if one.state not in "ZX" and (mark in environ(one) or self._is_server(one))
        ]  # fmt: skip

    def server(self) -> Process:
        found = [one for one in self.processes() if self._is_server(one)]
        return min(found, key=lambda one: one.start)  # beside it a job that has not exec'd yet

    def _is_server(self, process: Process) -> bool:
        return f"local_queue.py {self.place} " in process.command()

    def output(self, number: int) -> str:
        return (self.home / f"{number}.out").read_text()


def _command(argv: tuple[str, ...]):  # type: ignore[no-untyped-def]
    from wspilot.daemon.lrm.base import Command

    return Command(argv)


def until(true: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until it is true; a failure says what was waited for."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "not within its time"
        time.sleep(0.02)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    one = Cluster(tmp_path)
    yield one
    left = one.processes()
    for process in left:
        process.kill(signal.SIGKILL)
    assert wait_until_gone(left, 5) == []


def test_a_job_from_submission_to_its_end_and_then_nothing_is_left(cluster: Cluster) -> None:
    id = cluster.submit("echo $WSPILOT_LOCAL_NODES $WSPILOT_NODE $WSPILOT_LOCAL_JOB; exit 7")
    job = cluster.until(id, JobState.DONE)
    assert (job.exit_status, job.hosts, job.name) == (7, ("node01",), "ws-00000000-01")
    assert cluster.output(0) == f"node01 node01 {id}\n"
    assert wait_until_gone(cluster.processes(), 6) == []  # it ends 2 s after its last job
    files = [path for path in cluster.place.iterdir() if path.stat().st_mode & 0o077]
    assert files == [] and not (cluster.place / "lrm.sock").exists()
    assert cluster.job(id).exit_status == 7  # the next server has not forgotten


def test_one_process_a_node_each_knowing_its_name_and_term_reaches_them_all(
    cluster: Cluster,
) -> None:
    start = " ".join(cluster.driver.start())
    inner = 'trap "echo term $WSPILOT_NODE; exit 0" TERM; echo up $WSPILOT_NODE; sleep 30 & wait'
    id = cluster.submit(f"trap '' TERM; exec {start} sh -c '{inner}'", nodes=2)
    until(lambda: _said(cluster, 0) == {"up node01", "up node02"})
    assert cluster.cancel(id) is Verdict.ACCEPTED
    job = cluster.until(id, JobState.DONE)
    assert _said(cluster, 0) >= {"term node01", "term node02"} and job.exit_status == 0


def _said(cluster: Cluster, number: int) -> set[str]:
    try:
        return set(cluster.output(number).splitlines())
    except FileNotFoundError:
        return set()


def test_first_in_first_out_cores_and_memory_are_counted(cluster: Cluster) -> None:
    first = cluster.submit("sleep 30", ppn=2)
    beside = cluster.submit("sleep 30", ppn=2)
    wide = cluster.submit("sleep 30", nodes=2, ppn=1)
    small = cluster.submit("true", ppn=1)
    states = {id: job.state for id, job in cluster.listing().jobs.items()}
    assert states[first] is states[beside] is JobState.RUNNING
    assert cluster.job(beside).hosts == ("node01",)  # 2 + 2 cores, 512 + 512 MiB
    # node01 has no memory left, so the wide job waits, and nobody overtakes it.
    assert states[wide] is states[small] is JobState.QUEUED
    cluster.cancel(first)
    cluster.until(wide, JobState.RUNNING)


def test_a_whole_node_is_shared_with_nobody(cluster: Cluster) -> None:
    alone = cluster.submit("sleep 30", ppn=1, memory_mib=1, whole_node=True)
    other = cluster.submit("sleep 30", ppn=1, memory_mib=1)
    assert cluster.until(alone, JobState.RUNNING).hosts == ("node01",)
    assert cluster.until(other, JobState.RUNNING).hosts == ("node02",)


def test_pinned_and_excluded_nodes(cluster: Cluster) -> None:
    pinned = cluster.submit("sleep 30", ppn=1, hosts=("node02",))
    other = cluster.submit("sleep 30", ppn=1, exclude=("node01",))
    assert cluster.until(pinned, JobState.RUNNING).hosts == ("node02",)
    assert cluster.until(other, JobState.RUNNING).hosts == ("node02",)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"nodes": 3}, "3 nodes"),
        ({"ppn": 5}, "5 cores"),
        ({"memory_mib": 2000}, "2000 MiB"),
        ({"hosts": ("node09",)}, "1 nodes are more than the 0"),
        ({"exclude": ("node01", "node02")}, "the 0 that"),
        ({"walltime_s": 0}, "walltime_s: 0"),
        ({"ppn": -1}, "ppn: -1"),
    ],
)
def test_what_can_never_run_is_refused_in_words(
    cluster: Cluster, change: dict[str, object], word: str
) -> None:
    answer = cluster.answer(cluster.request("true", **change))  # type: ignore[arg-type]
    assert answer.verdict is Verdict.REFUSED and word in answer.text
    assert cluster.listing().jobs == {}


def test_walltime_term_grace_and_kill_even_for_one_that_ignores_term(cluster: Cluster) -> None:
    body = "trap 'echo term' TERM; echo up; while :; do sleep 0.1; done"
    id = cluster.submit(body, walltime_s=1)
    begin = time.monotonic()
    job = cluster.until(id, JobState.DONE)
    took = time.monotonic() - begin
    assert job.reason == "walltime exceeded" and job.exit_status == 256 + signal.SIGKILL
    assert "term" in _said(cluster, 0) and took > GRACE_S + 0.5


def test_a_second_cancel_does_not_begin_the_grace_again(cluster: Cluster) -> None:
    id = cluster.submit("trap '' TERM; echo up; while :; do sleep 0.1; done")
    until(lambda: "up" in _said(cluster, 0))
    begin = time.monotonic()
    while cluster.job(id).state is not JobState.DONE:
        cluster.cancel(id)
        assert time.monotonic() < begin + GRACE_S + 5
    assert cluster.cancel(id) is Verdict.GONE and cluster.cancel("99") is Verdict.GONE


def test_what_left_the_jobs_session_survives_as_on_the_real_ones(cluster: Cluster) -> None:
    """torque.md 3: so does the guardian."""
    body = "setsid sh -c 'echo guard; sleep 60' & sh -c 'sleep 60' & echo up; wait"
    id = cluster.submit(body)
    until(lambda: _said(cluster, 0) == {"guard", "up"})
    inside = len(cluster.processes())
    cluster.cancel(id)
    cluster.until(id, JobState.DONE)
    left = [one.command() for one in cluster.processes()]
    assert inside > len(left) and any("echo guard" in one for one in left)
    assert not any(one.startswith("sh -c sleep") for one in left)


def test_a_killed_server_finds_its_jobs_again_and_starts_none_twice(cluster: Cluster) -> None:
    go = cluster.home / "go"
    running = cluster.submit(f"echo up; until [ -e {go} ]; do sleep 0.05; done; echo done", nodes=2)
    queued = cluster.submit("echo second")
    until(lambda: "up" in _said(cluster, 0))
    server = cluster.server()
    server.kill()
    assert wait_until_gone([server], 5) == []
    assert cluster.job(running).state is JobState.RUNNING
    assert cluster.job(queued).state is JobState.QUEUED
    go.touch()
    cluster.until(queued, JobState.DONE)
    assert cluster.output(0) == "up\ndone\n" and cluster.output(1) == "second\n"


def test_killed_between_the_intent_and_the_pid(cluster: Cluster) -> None:
    """The process runs, the books say "running" without a pid: adopted, not started again."""
    id = cluster.submit("echo up; sleep 30")
    lost = cluster.submit("echo up; sleep 30", ppn=1)
    until(lambda: "up" in _said(cluster, 0) and "up" in _said(cluster, 1))
    server = cluster.server()
    server.kill()
    assert wait_until_gone([server], 5) == []
    queue = cluster.place / "queue.json"
    doc = json.loads(queue.read_text())
    os.killpg(doc["jobs"][lost]["pid"], signal.SIGKILL)
    for job in doc["jobs"].values():
        job.update(pid=0, born=0)
    queue.write_text(json.dumps(doc))
    assert cluster.until(lost, JobState.DONE).exit_status is None
    assert cluster.job(id).state is JobState.RUNNING
    assert cluster.output(0) == cluster.output(1) == "up\n"
    cluster.cancel(id)
    cluster.until(id, JobState.DONE)


def test_a_submission_that_is_sent_again_is_one_job(cluster: Cluster) -> None:
    command = cluster.driver.submit(cluster.request("true"))
    body = json.loads(command.argv[-1])
    again = [cluster.verb("submit", token="t1", **body) for _ in range(2)]
    assert again[0].out == again[1].out and len(cluster.listing().jobs) == 1


def test_an_answer_is_only_given_when_it_is_on_disk(cluster: Cluster) -> None:
    id = cluster.submit("sleep 30")
    server = cluster.server()
    server.kill()
    assert wait_until_gone([server], 5) == []
    assert id in json.loads((cluster.place / "queue.json").read_text())["jobs"]
    (cluster.place / "queue.tmp").mkdir()  # now nothing can be written
    answer = cluster.answer(cluster.request("true"))
    # A disk that is full now is no lost lease: it is asked again.
    assert answer.verdict is Verdict.RETRY and "could not be written" in answer.text
    assert set(cluster.listing().jobs) == {id}
    server = cluster.server()
    os.kill(json.loads((cluster.place / "queue.json").read_text())["jobs"][id]["pid"], 9)
    assert cluster.until(id, JobState.DONE) and server.is_alive()
    (cluster.place / "queue.tmp").rmdir()
    until(lambda: '"done"' in (cluster.place / "queue.json").read_text())


def test_the_operators_verbs(cluster: Cluster) -> None:
    busy = cluster.submit("while :; do echo x; sleep 0.1; done", nodes=2)
    waiting = cluster.submit("true")
    assert cluster.verb("hold", id=waiting).rc == 0
    assert cluster.job(waiting).state is JobState.HELD
    assert cluster.verb("release", id=waiting).rc == 0
    assert cluster.job(waiting).state is JobState.QUEUED
    assert cluster.verb("suspend", id=busy).rc == 0
    assert cluster.job(busy).state is JobState.SUSPENDED
    assert cluster.verb("suspend", id=busy).rc == 5  # it is no longer running
    assert cluster.verb("resume", id=busy).rc == 0
    assert cluster.job(busy).state is JobState.RUNNING
    assert cluster.verb("hold", id="99").rc == cluster.verb("dance", id=busy).rc == 5


def test_requeued_by_the_operator_a_job_runs_again_under_its_id(cluster: Cluster) -> None:
    id = cluster.submit("echo up; sleep 30")
    until(lambda: "up" in _said(cluster, 0))
    assert cluster.verb("requeue", id=id).rc == 0
    until(lambda: cluster.output(0) == "up\nup\n")
    assert cluster.until(id, JobState.RUNNING)


def test_a_smaller_cluster_ends_what_can_no_longer_run(cluster: Cluster) -> None:
    first = cluster.submit("sleep 30", nodes=2)
    second = cluster.submit("true", nodes=2)
    server = cluster.server()
    server.kill()
    assert wait_until_gone([server], 5) == []
    cluster.driver = open_driver("local", {**cluster.table, "nodes": 1}, cluster.home)
    assert cluster.job(first).state is JobState.RUNNING
    assert "2 nodes are more" in cluster.job(second).reason


def test_a_script_that_cannot_be_started_is_told(cluster: Cluster) -> None:
    request = cluster.request("true")
    Path(request.script).chmod(0o600)
    id = cluster.answer(request).job_id
    job = cluster.until(id, JobState.DONE)
    assert job.exit_status == 127 and "could not be started" in job.reason


@pytest.mark.parametrize(
    "line",
    [b"\n", b"{}\n", b"[]\n", b"\xff\xfe\n", b'{"verb": "submit"}\n', b'{"verb": "serve"}\n',
     b'{"verb": "cancel"}\n', b'{"verb": "submit", "nodes": "x", "id": {}}\n', b"x" * 70000 + b"\n",
     b'{"verb": "hold", "id": ["a"]}\n'],
)  # fmt: skip
def test_rubbish_gets_words_and_the_server_lives_on(
    cluster: Cluster, line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    assert cluster.listing().jobs == {}
    server = cluster.server()
    monkeypatch.chdir(cluster.place)  # a socket's path has a limit
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(5)
        link.connect("lrm.sock")
        link.sendall(line)
        assert "error" in json.loads(link.makefile().readline())
    assert cluster.listing().ok and server.is_alive()


def test_answers_that_are_no_answers() -> None:
    driver = open_driver("local", {}, Path("/nonexistent"))
    for result in (Result((), None, timed_out=True), Result((), 3), Result((), 1, b"", b"Trace"),
                   Result((), 0, b"{"), Result((), 0, b"[]"), Result((), -9)):  # fmt: skip
        assert driver.submitted(result).verdict is Verdict.UNCLEAR
        assert driver.cancelled(result).verdict is Verdict.UNCLEAR
        assert not driver.polled(result, ()).ok


@pytest.mark.parametrize(
    "out",
    [b"{}", b'{"jobs": 3}', b'{"jobs": [3]}', b'{"jobs": [{"id": "1"}]}', b"[" * 100_000,
     b'{"jobs": [{"id": "-x", "name": "a", "owner": "b", "state": "running", "hosts": [],'
     b' "exit": null, "reason": ""}]}'],
)  # fmt: skip
def test_a_listing_of_another_shape_is_none(out: bytes) -> None:
    """Found by the fuzzer: it ended the daemon's poll loop for a second."""
    driver = open_driver("local", {}, Path("/nonexistent"))
    assert not driver.polled(Result(("x",), 0, out), ()).ok


def test_the_verbs_are_quick(cluster: Cluster) -> None:
    """The median of ten, with the interpreter's own start taken off."""
    cluster.listing()
    verbs = sorted(run_blocking(cluster.driver.poll(())).elapsed_s for _ in range(10))
    bare = _command((sys.executable, "-I", "-c", "pass"))
    empty = sorted(run_blocking(bare).elapsed_s for _ in range(10))
    assert verbs[5] - empty[5] < 5  # 20 ms on an idle machine; this only catches a hang

"""The helper's frame on Xen: time limits, its lock, and who still listens."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wspilot.node import root_balloon as balloon
from wspilot.node import root_helper as base
from wspilot.node.root_helper import Refused


@pytest.fixture
def xl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An `xl` that the helper finds first: a script of the test's."""
    monkeypatch.setattr(balloon, "ENV", {"PATH": f"{tmp_path}:/usr/bin:/bin"})
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "xl"


def write(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_an_xl_that_hangs_as_without_xenstored_is_killed_in_time(xl: Path) -> None:
    write(xl, f"echo $$ >{xl}.pid; exec sleep 600")
    with pytest.raises(Refused, match=r"xl list took longer than 0.5 s") as refused:
        balloon.xl("list", "-v", limit_s=0.5)
    assert "xenstored" in refused.value.hint
    pid = int(Path(f"{xl}.pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_monitor_that_outlives_xl_holds_nobody_up(xl: Path) -> None:
    write(xl, f"sleep 600 & echo $! >{xl}.pid; echo done")
    try:
        assert balloon.xl("create", "-q", limit_s=30) == (0, "done\n", "")
    finally:
        os.kill(int(Path(f"{xl}.pid").read_text()), 9)


def test_an_exit_code_is_an_error_in_one_sentence_and_stderr_alone_is_none(xl: Path) -> None:
    write(xl, "echo out; echo 'Parsing config from x' >&2")
    assert balloon.must("create", limit_s=30) == "out\n"
    write(xl, "echo 'nosuch is an invalid domain identifier (rc=-6)' >&2; exit 1")
    with pytest.raises(Refused, match=r"^xl destroy: no such domain$"):
        balloon.must("destroy", "nosuch", limit_s=30)


def test_a_node_without_xl_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(balloon, "ENV", {"PATH": str(tmp_path)})
    with pytest.raises(Refused, match="xl cannot be started") as refused:
        balloon.xl("list")
    assert "Xen node" in refused.value.hint


STOPPED = """
import os, signal, subprocess, sys
from pathlib import Path
from wspilot.node import root_helper as base
base.RECORDS = Path(sys.argv[1])
base.Path.lstat = lambda self: os.stat_result((0o040700, *[0] * 9))
with base.locked("xen.lock", 1.0):
    step = subprocess.Popen(["sh", "-c", "kill -STOP $$"])
    os.waitid(os.P_PID, step.pid, os.WSTOPPED | os.WNOWAIT)
    print("in", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    sys.exit(step.wait(20))
"""


def test_a_call_that_a_batch_system_has_stopped_with_its_job_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "RECORDS", tmp_path)
    root_s = os.stat_result((0o040700, *[0] * 9))
    argv = [sys.executable, "-c", STOPPED, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as stopped:
        try:
            assert stopped.stdout is not None and stopped.stdout.readline() == "in\n"
            os.waitid(os.P_PID, stopped.pid, os.WSTOPPED | os.WNOWAIT)
            with monkeypatch.context() as patch:
                patch.setattr(base.Path, "lstat", lambda self: root_s)
                with base.locked("xen.lock", 20.0):
                    pass
            assert stopped.wait(20) == 0, "it went on, and what it ran"
        finally:
            stopped.kill()


def test_one_call_at_a_time_and_the_second_says_why_it_gave_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "RECORDS", tmp_path)
    root_s = os.stat_result((0o040700, *[0] * 9))
    monkeypatch.setattr(base.Path, "lstat", lambda self: root_s)
    with base.locked("xen.lock", 1.0):
        with pytest.raises(Refused, match="another call has been at work"):
            with base.locked("xen.lock", 0.2):
                raise AssertionError("both are in")
        with base.locked("lock", 0.2):  # the network's verbs do not wait for Xen's
            pass
    with base.locked("xen.lock", 0.2), open(tmp_path / "xen.lock") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


HEARD = "import time; from wspilot.node.root_helper import is_heard; time.sleep({}); "
HEARD += "open({!r}, 'w').write(str(is_heard()))"


@pytest.mark.parametrize("leaves", [True, False])
def test_whether_the_caller_still_waits_is_seen_on_the_pipe(tmp_path: Path, leaves: bool) -> None:
    answer = tmp_path / "answer"
    code = HEARD.format(1.0 if leaves else 0.0, str(answer))
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    if leaves:
        child.stdout.close()
    assert child.wait(60) == 0
    child.stdout.close()
    assert answer.read_text() == str(not leaves)

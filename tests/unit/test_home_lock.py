"""One daemon a home, on one host and on two."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from wspilot.daemon.lock import HomeLock
from wspilot.errors import Refused, WspilotError
from wspilot.home import (
    LockRecord,
    boot_id,
    home_dir,
    own_dir,
    read_record,
    socket_path,
    start_time,
    write_record,
)

HOLD = """
import sys, time
from pathlib import Path
from wspilot.daemon.lock import HomeLock
lock = HomeLock(Path(sys.argv[1])); lock.acquire(); print("held", flush=True); sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))


def test_the_second_daemon_on_one_host_is_told_who_holds_the_home(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "h")],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(Refused, match=f"pid {holder.pid}"):
            HomeLock(tmp_path / "h").acquire()
    finally:
        holder.kill()
        holder.communicate()
    lock = HomeLock(tmp_path / "h")  # killed -9: the kernel has dropped its lock
    lock.acquire()
    lock.release()


def test_a_record_of_another_host_stands_until_it_is_taken_over(tmp_path: Path) -> None:
    home = tmp_path / "h"
    lock = HomeLock(home)
    lock.acquire()
    record = read_record(home)
    assert record is not None
    lock.release()
    write_record(home, replace(record, host="elsewhere", pid=7))
    with pytest.raises(Refused, match=r"elsewhere.*pid 7"):
        HomeLock(home).acquire()
    again = HomeLock(home)
    again.acquire(take_over=True)
    assert read_record(home) == record
    again.release()
    assert read_record(home) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": 1}', "\x00"])
def test_a_broken_record_is_no_record(tmp_path: Path, text: str) -> None:
    (tmp_path / "lock.json").write_text(text)
    assert read_record(tmp_path) is None


def test_the_home_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WSPILOT_HOME", str(tmp_path / "a"))
    assert home_dir() == tmp_path / "a"
    monkeypatch.delenv("WSPILOT_HOME")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert home_dir() == tmp_path / "wspilot"


def test_a_socket_path_is_short_whatever_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(str(socket_path(tmp_path / ("x" * 200)))) < 108
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / ("y" * 120)))
    with pytest.raises(WspilotError, match="too long"):
        socket_path(tmp_path)


def test_a_directory_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(Refused):
        own_dir(tmp_path / "link")


# -- two whole daemons


def _daemon(home: Path, *more: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "wspilot", "--home", str(home), "daemon", "--detach", *more]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def _end(home: Path, number: int = signal.SIGTERM) -> None:
    record = read_record(home)
    if record is not None and start_time(record.pid) == record.start:
        os.kill(record.pid, number)
        deadline = time.monotonic() + 20
        while start_time(record.pid) == record.start and time.monotonic() < deadline:
            time.sleep(0.02)


@pytest.mark.slow
def test_two_daemons_on_one_home_on_one_host(tmp_path: Path) -> None:
    """The second says who holds it and exits with 5, however it insists; a killed one is no
    obstacle, and its lock record of this host is replaced."""
    home = tmp_path / "h"
    try:
        assert _daemon(home).returncode == 0
        first = read_record(home)
        assert first is not None and first.boot_id == boot_id()
        for more in ((), ("--take-over",)):
            second = _daemon(home, *more)
            assert second.returncode == 5 and f"pid {first.pid}" in second.stderr
        assert read_record(home) == first and start_time(first.pid) == first.start
        _end(home, signal.SIGKILL)
        assert _daemon(home).returncode == 0
        third = read_record(home)
        assert third is not None and third.pid != first.pid
    finally:
        _end(home)
    assert read_record(home) is None


@pytest.mark.slow
def test_a_home_of_another_host_is_refused_until_it_is_taken_over(tmp_path: Path) -> None:
    """NFS: the lock of another host cannot be asked, so its record stands, whatever the pid."""
    home = tmp_path / "h"
    own_dir(home)
    theirs = LockRecord("elsewhere", "0" * 36, os.getpid(), start_time(os.getpid()) or 0, "/x")
    write_record(home, theirs)
    try:
        refused = _daemon(home)
        assert refused.returncode == 5
        assert "elsewhere" in refused.stderr and "--take-over" in refused.stderr
        assert read_record(home) == theirs, "a refused daemon changed the record"
        assert not (home / "store").exists()
        assert _daemon(home, "--take-over").returncode == 0
        ours = read_record(home)
        assert ours is not None and ours.host != "elsewhere" and ours.boot_id == boot_id()
    finally:
        _end(home)


def test_a_record_of_this_host_before_its_reboot_is_no_obstacle(tmp_path: Path) -> None:
    """The fcntl lock has told that nobody holds it here; pids of another boot mean nothing."""
    lock = HomeLock(tmp_path / "h")
    lock.acquire()
    record = read_record(tmp_path / "h")
    lock.release()
    assert record is not None
    write_record(tmp_path / "h", replace(record, boot_id="0" * 36, pid=1))
    again = HomeLock(tmp_path / "h")
    again.acquire()
    assert read_record(tmp_path / "h") == record
    again.release()

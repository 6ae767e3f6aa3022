"""One daemon a home, on one host and on two."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from wspilot.daemon.lock import HomeLock
from wspilot.errors import Refused, WspilotError
from wspilot.home import home_dir, own_dir, read_record, socket_path, write_record

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

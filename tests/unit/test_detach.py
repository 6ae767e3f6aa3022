"""`wspilot daemon --detach`: back when it serves, or with the reason why it does not."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wspilot.cli import main
from wspilot.client import call
from wspilot.home import LockRecord, read_record, write_record


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home whose daemon, if one came up, is ended by its pid."""
    monkeypatch.delenv("PYTHONPATH", raising=False)  # a clone that is not installed will do
    monkeypatch.delenv("WSPILOT_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    place = tmp_path / "h"
    yield place
    record = read_record(place)
    if record is not None and record.host == socket.gethostname():
        os.kill(record.pid, signal.SIGTERM)
        _gone(place)


def _gone(home: Path) -> None:
    end = time.monotonic() + 10
    while read_record(home) is not None:
        assert time.monotonic() < end, "the daemon did not end within 10 s of its SIGTERM"
        time.sleep(0.02)


def run(home: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["--home", str(home), *words])
    return code, *capsys.readouterr()


def test_it_serves_when_the_command_is_back(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(home, capsys, "daemon", "--detach", "--json")
    assert code == 0
    pid = json.loads(out)["pid"]
    assert call(home, "ping", {}, 2)["schema"] == 1
    assert os.getsid(pid) == pid and home.stat().st_mode & 0o777 == 0o700
    log = home / "log" / "daemon.log"
    assert "daemon ready" in log.read_text() and log.stat().st_mode & 0o777 == 0o600

    code, out, err = run(home, capsys, "daemon", "--detach")  # the second says who holds it
    assert code == 5 and str(pid) in err and "Traceback" not in err
    assert call(home, "ping", {}, 2)["schema"] == 1
    os.kill(pid, signal.SIGTERM)
    _gone(home)
    assert run(home, capsys, "list")[0] == 3


def test_a_mistake_in_the_settings_is_told_at_once(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "site.toml").write_text('[site]\nlrm = "lsf"\n')
    words = ("daemon", "--detach", "--config", str(tmp_path / "site.toml"))
    code, _, err = run(home, capsys, *words)
    assert code == 2 and "lsf" in err and read_record(home) is None


def test_a_start_that_fails_shows_the_logs_last_words(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "site.toml").write_text(f'[site]\nspool = "{tmp_path}/file/spool"\n')
    words = ("daemon", "--detach", "--config", str(tmp_path / "site.toml"))
    code, _, err = run(home, capsys, *words)
    assert code in (1, 5) and "file" in err and read_record(home) is None


def test_another_hosts_record_stands_until_taken_over(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home.mkdir(mode=0o700)
    write_record(home, LockRecord("otherhead", "b", 7, 1, "/nonexistent"))
    code, _, err = run(home, capsys, "daemon", "--detach")
    assert code == 5 and "otherhead" in err and "--take-over" in err
    code, _, _ = run(home, capsys, "daemon", "--detach", "--take-over")
    assert code == 0 and call(home, "ping", {}, 2)["schema"] == 1

"""`--watch`, the plain twin of each view: it follows a daemon's changes until it is interrupted."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.fake_daemon import NODE, SLOT, VM2, WS, FakeApi, books, served, site_answers
from wspilot.daemon.core.books import Books
from wspilot.model import NodeState, SlotState, VmState

HANG_S = 60.0


@pytest.fixture
def made() -> Books:
    return books()


@pytest.fixture
def api(tmp_path: Path, made: Books) -> Iterator[FakeApi]:
    with served(tmp_path / "h", FakeApi(site_answers(made))) as one:
        yield one


class Watcher:
    """One `wspilot VERB --watch`, and what it has printed."""

    def __init__(self, home: Path, *words: str) -> None:
        argv = [sys.executable, "-m", "wspilot", "--home", str(home), *words, "--watch"]
        self.process = subprocess.Popen(argv, stdout=-1, stderr=-1)
        self.text = ""

    def until(self, word: str) -> str:
        """What it has printed since the last time, up to a word."""
        assert self.process.stdout is not None
        end = time.monotonic() + HANG_S
        while word not in self.text:
            left = end - time.monotonic()
            assert left > 0 and select.select([self.process.stdout], [], [], left)[0], self.text
            data = os.read(self.process.stdout.fileno(), 65536)
            assert data, self.process.stderr and self.process.stderr.read()
            self.text += data.decode()
        seen, self.text = self.text, ""
        return seen

    def end(self) -> tuple[int, str]:
        """Its exit code, and what it said last."""
        _, err = self.process.communicate(timeout=HANG_S)
        return self.process.returncode, err.decode()


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[list[Watcher]]:
    started: list[Watcher] = []
    yield started
    for one in started:
        one.process.kill()
        one.process.communicate()


@pytest.mark.parametrize("words", [["list"], ["show", "osg"], ["slots"], ["nodes"]])
def test_a_view_is_printed_again_after_a_change_and_ctrl_c_ends_it(
    tmp_path: Path, api: FakeApi, made: Books, watching: list[Watcher], words: list[str]
) -> None:
    one = Watcher(tmp_path / "h", *words)
    watching.append(one)
    before = {"list": "active", "show": "booting", "slots": "ready", "nodes": "in use"}[words[0]]
    assert "\x1b" not in one.until(before)
    made.put(replace(WS, name="renamed"))
    made.put(replace(VM2, state=VmState.RUNNING))
    made.put(replace(SLOT, state=SlotState.RELEASING))
    made.put(replace(NODE, state=NodeState.DIRTY))
    api.tell({"kind": "workspace", "id": WS.id})
    one.until({"list": "renamed", "show": "releasing", "slots": "releasing", "nodes": "dirty"}[
        words[0]])  # fmt: skip
    one.process.send_signal(signal.SIGINT)
    code, err = one.end()
    assert code == 128 + signal.SIGINT and "Traceback" not in err


def test_a_watch_says_that_the_daemon_has_gone(tmp_path: Path, watching: list[Watcher]) -> None:
    with served(tmp_path / "h", FakeApi(site_answers())):
        one = Watcher(tmp_path / "h", "list")
        watching.append(one)
        one.until("osg")
    code, err = one.end()
    assert code == 3 and "daemon" in err and "Traceback" not in err

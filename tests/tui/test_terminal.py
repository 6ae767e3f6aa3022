"""The demo in a real terminal (tmux): it draws, `q` ends it, and the terminal is as it was."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


class Terminal:
    """A tmux server of its own with one window."""

    def __init__(self, place: Path) -> None:
        self._tmux = ["tmux", "-S", str(place / "tmux.sock"), "-f", "/dev/null"]
        self.run("new-session", "-d", "-x", "100", "-y", "30", "sh")

    def run(self, *words: str) -> str:
        done = subprocess.run([*self._tmux, *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def type(self, text: str) -> None:
        self.run("send-keys", text)

    def until(self, text: str, seconds: float = 60) -> str:
        deadline = time.monotonic() + seconds
        while text not in (screen := self.run("capture-pane", "-p")):
            assert time.monotonic() < deadline, f"{text!r} never came:\n{screen}"
            time.sleep(0.1)
        return screen

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], capture_output=True, timeout=60)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    made = Terminal(tmp_path)
    yield made
    made.close()


def test_the_demo_draws_and_q_gives_the_terminal_back(terminal: Terminal) -> None:
    command = f"LC_ALL=C.UTF-8 {sys.executable} -m wspilot tui --demo; echo code=$?"
    terminal.run("send-keys", "-l", command)
    terminal.type("Enter")
    screen = terminal.until("● running")
    assert "mpi-2026" in screen and "NAME" in screen
    terminal.type("q")
    screen = terminal.until("code=0")
    assert "mpi-2026" not in screen.replace(command, "")


def test_without_a_terminal_it_names_the_plain_verb() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wspilot", "tui", "--demo"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2 and "wspilot list" in done.stderr and "\x1b" not in done.stdout

"""A real terminal to try things in: tmux, its keys, and what it shows."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.processes import Process, descendants

SHOWN_S = 60.0  # a limit against hanging, no more


class Terminal:
    """A tmux server of its own with one window, in which a shell runs."""

    def __init__(self, place: Path, columns: int = 100, lines: int = 30) -> None:
        self._tmux = ["tmux", "-S", str(place / "tmux.sock"), "-f", "/dev/null"]
        size = ("-x", str(columns), "-y", str(lines))
        self.run("new-session", "-d", *size, "env PS1='$ ' LC_ALL=C.UTF-8 bash --norc -i")

    def run(self, *words: str) -> str:
        done = subprocess.run([*self._tmux, *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def type(self, *keys: str) -> None:
        """Keys by the names that tmux knows; a text that is none is typed."""
        self.run("send-keys", *keys)

    def step(self, key: str) -> None:
        """One key, and the change that it makes to how the screen looks: the next one waits."""
        before = self.run("capture-pane", "-e", "-p")
        self.type(key)
        deadline = time.monotonic() + SHOWN_S
        while self.run("capture-pane", "-e", "-p") == before:
            assert time.monotonic() < deadline, f"{key} changed nothing:\n{before}"
            time.sleep(0.05)

    def enter(self, text: str) -> None:
        """A line for whatever reads lines."""
        self.run("send-keys", "-l", text)
        self.type("Enter")

    def wspilot(self, *words: str, env: str = "") -> None:
        """Start it from the shell, which tells its exit code: `code=0`."""
        command = shlex.join([sys.executable, "-m", "wspilot", *words])
        self.enter(f"clear; {env} {command}; echo code=$?")

    def screen(self) -> str:
        return self.run("capture-pane", "-p")

    def until(self, text: str, seconds: float = SHOWN_S) -> str:
        """The screen, once this is on it."""
        return self.until_true(lambda screen: text in screen, seconds, repr(text))

    def until_true(
        self, true: Callable[[str], bool], seconds: float = SHOWN_S, what: str = "it"
    ) -> str:
        """The screen, once this holds of it."""
        deadline = time.monotonic() + seconds
        while not true(screen := self.screen()):
            assert time.monotonic() < deadline, f"{what} never came:\n{screen}"
            time.sleep(0.1)
        return screen

    def flag(self, name: str) -> str:
        """What the program has asked of the terminal: `alternate_on`, `cursor_flag`, ..."""
        return self.run("display-message", "-p", f"#{{{name}}}").strip()

    def programs(self) -> list[Process]:
        """What runs in it, below the shell."""
        return descendants(int(self.flag("pane_pid")))

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], capture_output=True, timeout=60)

"""A terminal with a program in it, as a person has one: what it shows, and is it put back?"""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import termios
import time
from collections.abc import Mapping
from typing import Any


class Window:
    """`argv` in a pseudo-terminal of its own; kill it at the end with `close`."""

    def __init__(self, argv: list[str], env: Mapping[str, str]) -> None:
        self._master, slave = pty.openpty()
        self._slave = slave  # held, or the terminal would be gone with the program
        self.before = termios.tcgetattr(slave)
        self.shown = b""
        self.process = subprocess.Popen(
            argv, stdin=slave, stdout=slave, stderr=slave, env=dict(env), start_new_session=True
        )

    def modes(self) -> list[Any]:
        """The terminal's settings now."""
        return termios.tcgetattr(self._slave)

    def type(self, data: bytes) -> None:
        os.write(self._master, data)

    def until(self, text: bytes, seconds: float = 20) -> bytes:
        """Read until it shows a text; what was shown up to there, each byte once."""
        end = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < end, self.shown[-2000:]
            if select.select([self._master], [], [], 0.1)[0]:
                self.shown += os.read(self._master, 1 << 16)
        at = self.shown.index(text) + len(text)
        seen, self.shown = self.shown[:at], self.shown[at:]
        return seen

    def ends(self, seconds: float = 10, read: bool = True) -> int:
        """Its exit code; meanwhile what it shows is read, or not."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, self.shown[-2000:]
            if read and select.select([self._master], [], [], 0.02)[0]:
                self.shown += os.read(self._master, 1 << 16)
            elif not read:
                time.sleep(0.02)
        while select.select([self._master], [], [], 0)[0]:
            self.shown += os.read(self._master, 1 << 16)
        return int(self.process.returncode)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)
        os.close(self._master)
        os.close(self._slave)

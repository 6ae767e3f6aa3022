"""A program in a pseudo-terminal: every write of it with its time, its keys, its processor time."""

from __future__ import annotations

import os
import re
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

COLUMNS, LINES = 140, 45
WAIT_S = 60.0
_TICKS = os.sysconf("SC_CLK_TCK")
_SEQUENCE = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_].*?\x1b\\|.)", re.DOTALL
)
SCREEN = b"\x1b[?1049h"  # the program takes the screen


class Pty:
    """Runs `argv` in a terminal; `close` ends it."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        self._master, slave = os.openpty()
        termios.tcsetwinsize(slave, (LINES, COLUMNS))
        self._writes: list[tuple[float, bytes]] = []
        self._more = threading.Condition()
        self.total = 0
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            argv,
            env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor",
                 "LC_ALL": "C.UTF-8", **env},
            stdin=slave, stdout=slave, stderr=slave,
            preexec_fn=lambda: os.login_tty(slave),
        )  # fmt: skip
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 1 << 16)
            except OSError:  # the program has ended
                return
            with self._more:
                self._writes.append((time.monotonic(), data))
                self.total += len(data)
                self._more.notify_all()

    def press(self, keys: bytes) -> float:
        """Type; when. What was written before is forgotten: `when` looks at what comes now."""
        with self._more:
            self._writes.clear()
        now = time.monotonic()
        os.write(self._master, keys)
        return now

    def resize(self, columns: int, lines: int) -> None:
        """As a window manager does it."""
        termios.tcsetwinsize(self._master, (lines, columns))

    def when(self, seen: Callable[[bytes], bool]) -> float:
        """The time of the write after which `seen` first holds of all since the last key."""
        end = time.monotonic() + WAIT_S
        written, looked = b"", 0
        with self._more:
            while True:
                for moment, data in self._writes[looked:]:
                    written += data
                    if seen(written):
                        return moment
                looked = len(self._writes)
                left = end - time.monotonic()
                came = left > 0 and self._more.wait(left)
                assert came, f"it never came: {text_of(written)[-3000:]!r}"

    def cpu(self) -> float:
        """Processor seconds so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def rss_kib(self) -> int:
        """Memory that it holds now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self._reader.join(5)
        os.close(self._master)


def text_of(written: bytes) -> bytes:
    """What was painted, without the sequences that say where and how."""
    return _SEQUENCE.sub(b"", written)


def painted(*words: bytes) -> Callable[[bytes], bool]:
    """True once every cell of the screen has been painted, and these words among them."""

    def seen(written: bytes) -> bool:
        after = written.partition(SCREEN)[2]
        if len(after) < COLUMNS * LINES:
            return False
        text = text_of(after)
        cells = len(text.decode("utf-8", "replace").replace("\r", "").replace("\n", ""))
        return cells >= COLUMNS * LINES and all(word in text for word in words)

    return seen

"""The user's window while a console has it: raw, never blocking us, put back whatever happens.

What a guest prints goes to the terminal as it is: that is a console's nature. So at the end modes
that a guest may have set are undone, and what the terminal still answers to a guest's questions is
thrown away: else it would be typed into the user's shell.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

ANSWERS_S = 0.1  # for the terminal's last answers to arrive
LEAVE_S = 1.0  # for a terminal that does not read
# Colours, cursor, alternate screen, mouse, bracketed paste, application keys, margins, charset.
RESET = (
    b"\x1b[0m\x1b[?25h\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1004l"
    b"\x1b[?2004l\x1b[?1l\x1b>\x1b[r\x1b[?7h\x1b[4l\x1b(B\x0f\r\n"
)
SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Ended(BaseException):
    """A signal has ended the program; its exit code is 128 + `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Window:
    """The terminal of stdin and stdout, in raw mode. `out` never blocks."""

    def __init__(self) -> None:
        self.stdin = sys.stdin.fileno()
        # A description of its own: O_NONBLOCK on stdout's would be set for the shell too.
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            self.out = os.open(os.ttyname(sys.stdout.fileno()), flags)
        except OSError:  # a terminal of another mount namespace has no name here
            self.out = os.dup(sys.stdout.fileno())

    def write(self, data: bytes) -> int:
        """How many bytes it took; 0 when it takes none now."""
        try:
            return os.write(self.out, data)
        except BlockingIOError:
            return 0


@contextlib.contextmanager
def raw() -> Iterator[Window]:
    """The window in raw mode, restored at the end, also by SIGTERM and SIGHUP (raises Ended)."""
    window = Window()
    before = termios.tcgetattr(window.stdin)
    handlers = {number: signal.signal(number, _ended) for number in SIGNALS}
    try:
        tty.setraw(window.stdin, termios.TCSANOW)
        yield window
    finally:
        _leave(window, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _ended(number: int, frame: FrameType | None) -> NoReturn:
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise Ended(number)


def _leave(window: Window, before: Any) -> None:
    with contextlib.suppress(termios.error, OSError):  # the terminal itself may be gone
        termios.tcflush(window.out, termios.TCOFLUSH)
        _write_all(window, RESET)
        time.sleep(ANSWERS_S)
        termios.tcflush(window.stdin, termios.TCIFLUSH)
    with contextlib.suppress(termios.error, OSError):
        termios.tcsetattr(window.stdin, termios.TCSANOW, before)
    os.close(window.out)


def _write_all(window: Window, data: bytes) -> None:
    end = time.monotonic() + LEAVE_S
    while data and (left := end - time.monotonic()) > 0:
        if select.select([], [window.out], [], left)[1]:
            data = data[window.write(data) :]

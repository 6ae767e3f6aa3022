"""The demo's private site: a directory, a daemon on it, and the proof that both are gone."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from wspilot.client import call
from wspilot.daemon.detach import environment
from wspilot.demo.interrupts import Interrupts
from wspilot.demo.site import Guests
from wspilot.errors import NoDaemon, TimedOut, WspilotError
from wspilot.home import read_record
from wspilot.text import clean

START_S = 20.0
DESTROY_S = 60.0  # TERM, stop and restore of every VM, and two polls
STOP_S = 10.0
QUIET_S = 10.0  # the built-in batch system ends 2 s after its last job
TUI_S = 3.0
STEP_S = 0.1


class Stage:
    """Everything that the demo starts. `open` and `close` may each be cut short by the other."""

    def __init__(self, guests: Guests, interrupts: Interrupts) -> None:
        self._guests, self._interrupts = guests, interrupts
        self.home = Path(tempfile.gettempdir()) / f"wspilot-demo-{secrets.token_hex(4)}"
        self._daemon: subprocess.Popen[bytes] | None = None
        self._tui: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The daemon's."""
        return self._daemon.pid if self._daemon else 0

    def open(self) -> None:
        """Start the daemon; back when it answers. Raises WspilotError with its last words."""
        self.home.mkdir(mode=0o700)
        config = self._guests.write(self.home)
        argv = [*self._argv(), "daemon", "--config", str(config)]
        with self._interrupts.hold(), open(self.home / "daemon.log", "ab") as log:
            self._daemon = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(),
                start_new_session=True,  # Ctrl-C is the demo's; it ends its daemon in order
            )  # fmt: skip
        if not _until(self._answers, START_S):
            raise WspilotError(f"the demo's daemon does not serve\n{self.log_tail()}")

    def call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """One call to the demo's daemon."""
        return call(self.home, method, params)

    def log_tail(self) -> str:
        """The last lines of the daemon's log, for an error."""
        try:
            text = (self.home / "daemon.log").read_bytes()[-3000:]
        except OSError:
            return ""
        return "\n".join(clean(text, 3000, lines=True).splitlines()[-8:])

    def show_tui(self) -> None:
        """The terminal interface on the running lease, until it is left."""
        before = _terminal()
        try:
            with self._interrupts.hold():
                self._tui = subprocess.Popen([*self._argv(), "tui"], env=environment())
            self._tui.wait()
        finally:
            self._end(self._tui, TUI_S)
            if self._tui is not None and self._tui.returncode:
                _restore(before)
                text = f"the terminal interface ended with code {self._tui.returncode}"
                with contextlib.suppress(OSError):
                    print(text, file=sys.stderr)

    # -- the end

    def close(self) -> str:
        """End all of it within time limits; in words what could not be ended."""
        in_order = False
        with contextlib.suppress(WspilotError):
            in_order = self._destroy()
        slots = self._slots()
        self._end(self._daemon, STOP_S)
        if in_order:
            _until(lambda: not self._ours(slots), QUIET_S)
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self._ours(slots):
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
            if _until(lambda: not self._ours(slots), STOP_S / 2):
                break
        record = read_record(self.home)
        if record is not None:  # it was killed
            Path(record.socket).unlink(missing_ok=True)
        shutil.rmtree(self.home, ignore_errors=True)
        _forget_outbox(slots)
        left = [f"pid {pid}" for pid in self._ours(slots)]
        return ", ".join(left + ([str(self.home)] if self.home.exists() else []))

    def _destroy(self) -> bool:
        """Whether the daemon confirmed the end of every lease."""
        if self._daemon is None or self._daemon.poll() is not None:
            return False
        self.call("destroy", {"all": True, "token": secrets.token_hex(16)})
        return _until(lambda: not self.call("list", {})["workspaces"], DESTROY_S)

    def _slots(self) -> list[str]:
        with contextlib.suppress(OSError):
            return [path.name for path in (self.home / "spool" / "slots").iterdir()]
        return []

    def _ours(self, slots: list[str]) -> list[int]:
        """Processes that name this demo's directory (a random name) or one of its slots."""
        marks = [os.fsencode(self.home), *(f"slot={slot}".encode() for slot in slots)]
        return [pid for pid, argv in _processes() if any(mark in argv for mark in marks)]

    def _end(self, child: subprocess.Popen[bytes] | None, limit_s: float) -> None:
        if child is None or child.poll() is not None:
            return
        child.terminate()
        try:
            child.wait(limit_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(limit_s)

    # -- how it is started

    def _argv(self) -> list[str]:
        return [sys.executable, "-m", "wspilot", "--home", str(self.home)]

    def _answers(self) -> bool:
        if self._daemon is None or self._daemon.poll() is not None:
            raise WspilotError(f"the demo's daemon ended at once\n{self.log_tail()}")
        try:
            call(self.home, "ping", {}, timeout_s=2)
        except (NoDaemon, TimedOut):
            return False
        return True


def _forget_outbox(slots: list[str]) -> None:
    """Last words that nobody is left to hear. Journals stay: they say what is still to undo."""
    keep = Path(f"/var/tmp/wspilot-{os.getuid()}")
    for slot in slots:
        for path in keep.glob(f"*/outbox/*_{slot}_*.json"):
            path.unlink(missing_ok=True)
    for place in (*keep.glob("*/outbox"), *keep.glob("*"), keep):
        with contextlib.suppress(OSError):  # not empty: somebody else's
            place.rmdir()


def _until(true: Callable[[], bool], limit_s: float) -> bool:
    """Whether something came to hold within the limit."""
    end = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(STEP_S)
    return True


def _processes() -> Iterator[tuple[int, bytes]]:
    """Our user's living processes, but for this one, with their argument lists."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if place.stat().st_uid == os.getuid() and int(place.name) != os.getpid():
                yield int(place.name), (place / "cmdline").read_bytes()
        except OSError:
            continue  # it has just ended


def _terminal() -> Any:
    import termios

    try:
        return termios.tcgetattr(0)
    except termios.error:
        return None


def _restore(before: Any) -> None:
    """The terminal as it was, also when the interface was killed."""
    import termios

    if before is not None:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(0, termios.TCSANOW, before)
        modes = (1049, 1000, 1003, 1004, 1006, 1015, 2004)
        leave = "".join(f"\x1b[?{mode}l" for mode in modes)
        with contextlib.suppress(OSError):
            print(leave + "\x1b[?25h\x1b[?7h\x1b[0m", end="", flush=True)

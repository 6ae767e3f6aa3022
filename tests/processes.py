"""What the stage runner knows of processes: start one in a group of its own, find what is left.

The runner is a subreaper: what a test leaves behind, double-forked or not, becomes its child and
can neither hide nor outlive it. Invariant: a process is signalled only as (pid, start time).
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Process:
    """One process, told apart from a later one with the same number."""

    pid: int
    start: int
    """Clock ticks since boot."""
    parent: int
    state: str
    """The kernel's letter: Z is a zombie, which only waits to be reaped."""

    def command(self) -> str:
        """Its command line, or nothing when it is gone."""
        try:
            raw = Path(f"/proc/{self.pid}/cmdline").read_bytes()
        except OSError:
            return ""
        return raw.replace(b"\0", b" ").decode(errors="replace").strip()[:200]

    def is_alive(self) -> bool:
        """True while this very process runs (a zombie does not)."""
        now = look_up(self.pid)
        return now is not None and now.start == self.start and now.state not in "ZX"

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Signal it, if it still is the one that was looked up."""
        if self.is_alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass


def look_up(pid: int) -> Process | None:
    """The process of this number now, or None."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The command's name may hold blanks and parentheses: what counts comes after the last one.
    fields = text.rpartition(")")[2].split()
    return Process(pid, int(fields[19]), int(fields[1]), fields[0])


def everything() -> list[Process]:
    """All processes that can be seen now."""
    found = (look_up(int(e.name)) for e in Path("/proc").iterdir() if e.name.isdigit())
    return [process for process in found if process is not None]


def descendants(pid: int) -> list[Process]:
    """All living processes below `pid`, parents first."""
    children: dict[int, list[Process]] = {}
    for process in everything():
        children.setdefault(process.parent, []).append(process)
    found, queue = [], [pid]
    while queue:
        for child in children.get(queue.pop(0), []):
            queue.append(child.pid)
            if child.state not in "ZX":
                found.append(child)
    return found


def become_subreaper() -> None:
    """From now on orphans below this process become its children."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent(number: int = signal.SIGKILL) -> Callable[[], None]:
    """A preexec_fn: the child gets this signal when whoever started it dies, even by kill -9."""

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        # A shell starts what it puts into the background with SIGINT ignored, and that is
        # inherited: Python would then raise no KeyboardInterrupt and fixtures would not end.
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    return prepare


def start(
    argv: Sequence[str], env: Mapping[str, str], output: IO[bytes] | None, cwd: Path
) -> Process:
    """Start `argv` in a session of its own, without a terminal, to be interrupted if we die."""
    child = subprocess.Popen(  # reaped by the caller's own wait loop
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output else None,
        env=dict(env),
        cwd=cwd,
        start_new_session=True,
        preexec_fn=die_with_parent(signal.SIGINT),
    )
    child.returncode = 0  # not Popen's to wait for
    return look_up(child.pid) or Process(child.pid, 0, os.getpid(), "R")


def wait_until_gone(
    processes: Iterable[Process], seconds: float, tick: Callable[[], object] = lambda: None
) -> list[Process]:
    """Those of `processes` that still live after at most `seconds`."""
    end = time.monotonic() + seconds
    while True:
        tick()
        left = [process for process in processes if process.is_alive()]
        if not left or time.monotonic() >= end:
            return left
        time.sleep(0.02)


def me() -> Process:
    """This process."""
    mine = look_up(os.getpid())
    assert mine is not None
    return mine


def environ(process: Process) -> list[str]:
    """The environment it was started with, `NAME=value` each; empty when it cannot be read."""
    try:
        raw = Path(f"/proc/{process.pid}/environ").read_bytes()
    except OSError:
        return []
    return raw.decode(errors="replace").split("\0")


def open_files(process: Process) -> list[str]:
    """Paths of the files it has open; empty when they cannot be read."""
    try:
        return [str(fd.readlink()) for fd in Path(f"/proc/{process.pid}/fd").iterdir()]
    except OSError:
        return []

"""Ends QEMUs that may have lost their pilot: for the guardian, the next pilot and kill-all.

Works from the journal's `identity` alone: {"uuid", "pid", "start", "qmp", "files"}; `pid` is None
in an entry written before the start: then the uuid is looked for among this user's processes.
Plain blocking code on the standard library, because it runs where there is no event loop.

Invariant: no signal and no `quit` goes to a process whose command line does not bear the uuid, or
whose start time is not the one on record. A process that is dying has no command line any more: it
is waited for, since its memory is not back before it is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

QUIT_S = 1.0
DEATH_S = 2.0
_POLL_S = 0.005
_QUIT = b"".join(
    json.dumps({"execute": name}).encode() + b"\n" for name in ("qmp_capabilities", "quit")
)


def kill_stale(identity: Mapping[str, Any]) -> bool:
    """True when that VM is gone (or never was), and its run-time files with it: see `end_all`."""
    return end_all([identity])[0]


def end_all(identities: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Which of these VMs are gone (or never were), their run-time files with them.

    At most about 3 s for all together: QMP `quit` with 1 s, unless a process is stopped; then
    SIGKILL with 2 s. One after the other, silent ones would cost that each.
    """
    there = {n: one for n, identity in enumerate(identities) if (one := _there(identity))}
    with contextlib.ExitStack() as open_channels:
        asked = {n for n, (pid, _) in there.items() if state(pid) not in "Tt"}
        for n in asked:
            _ask(str(identities[n].get("qmp") or ""), open_channels)
        _wait({n: there[n] for n in asked}, QUIT_S)
    for n, process in there.items():
        if lives(process):
            _kill(identities[n], process[0])
    stuck = _wait(there, DEATH_S)
    for n, identity in enumerate(identities):
        for name in (identity.get("qmp"), *identity.get("files", ())) if n not in stuck else ():
            if name:
                with contextlib.suppress(OSError):
                    Path(name).unlink()
    return [n not in stuck for n in range(len(identities))]


def _there(identity: Mapping[str, Any]) -> Optional[tuple[int, int]]:
    """(pid, start time) of that VM's process, also while it is dying."""
    pid = find(identity)
    start = identity.get("start") if pid is None else start_time(pid)
    if pid is None:
        pid = identity.get("pid")
        if not isinstance(pid, int) or _argv(pid) != [b""]:
            return None
    if not isinstance(start, int) or not lives((pid, start)):
        return None
    return pid, start


def lives(process: tuple[int, int]) -> bool:
    """Is (pid, start time) still there? A zombie whose other threads run holds its memory."""
    fields = _stat(process[0])
    if len(fields) <= 19 or int(fields[19]) != process[1]:
        return False
    return fields[0] not in "ZX" or int(fields[17]) > 1


def _wait(there: Mapping[int, tuple[int, int]], limit_s: float) -> set[int]:
    """Which of them are still there when all are gone or the time is over."""
    end, left = time.monotonic() + limit_s, set(there)
    while True:
        left = {n for n in left if lives(there[n])}
        if not left or time.monotonic() > end:
            return left
        time.sleep(_POLL_S)


def _ask(path: str, stack: contextlib.ExitStack) -> None:
    """Send `quit` without waiting for an answer: its death is the answer.

    While the pilot's own connection is open, QEMU serves nobody else and nothing comes of it. The
    channel stays open in `stack`, for QEMU drops what a closed one has sent.
    """
    try:
        channel = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        channel.setblocking(False)
        channel.connect(path)
        channel.send(_QUIT)
    except (OSError, ValueError):
        pass


def end_process(pid: int, start: int, number: int = signal.SIGKILL) -> bool:
    """Signal exactly that process; False when it is gone.

    Through a pidfd checked after it was opened: the pid cannot change hands between.
    """
    return _signal(pid, number, lambda: lives((pid, start)))


def find(identity: Mapping[str, Any]) -> Optional[int]:
    """The pid of that VM's living process; None when there is none."""
    pid = identity.get("pid")
    if isinstance(pid, int) and not isinstance(pid, bool):
        return pid if is_it(identity, pid) else None
    if not identity.get("uuid"):
        return None
    return next((one for one in processes(os.geteuid()) if is_it(identity, one)), None)


def is_it(identity: Mapping[str, Any], pid: int) -> bool:
    """Is `pid` alive, with the uuid as an argument of its own, and the start time on record?"""
    uuid = str(identity.get("uuid") or "")
    try:
        if not uuid or Path(f"/proc/{pid}").stat().st_uid != os.geteuid():
            return False
        argv = _argv(pid)
    except OSError:
        return False
    if (b"-uuid", uuid.encode()) not in zip(argv, argv[1:]):
        return False  # also every zombie: it has no command line any more
    start = identity.get("start")
    return start is None or start == start_time(pid)


def _argv(pid: int) -> list[bytes]:
    """The command line; [b""] of a process that is dying (or of the kernel)."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def processes(uid: Optional[int] = None) -> Iterator[int]:
    """The pids of a user's processes, or of all. Of others' nothing is read but whose they are:
    a node has hundreds, and kill-all walks over them more than once."""
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdigit() and (uid is None or _owner(entry) == uid):
                yield int(entry.name)


def _owner(entry: os.DirEntry[str]) -> Optional[int]:
    try:
        return entry.stat().st_uid
    except OSError:
        return None  # it is gone


def start_time(pid: int) -> Optional[int]:
    """Clock ticks from boot to its start; with the pid, and until the next boot, it is unique."""
    fields = _stat(pid)
    return int(fields[19]) if len(fields) > 19 else None


def state(pid: int) -> str:
    """One letter as in ps: R, S, D, T (stopped), Z; empty when it is gone."""
    fields = _stat(pid)
    return fields[0] if fields else ""


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat from the state on: what is before it may hold blanks and brackets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return []


def _kill(identity: Mapping[str, Any], pid: int) -> None:
    _signal(pid, signal.SIGKILL, lambda: is_it(identity, pid))


def _signal(pid: int, number: int, still: Callable[[], bool]) -> bool:
    try:
        fd = os.pidfd_open(pid)
    except (AttributeError, OSError):  # Linux before 5.3
        fd = -1
    try:
        if not still():
            return False
        if fd < 0:
            os.kill(pid, number)
        else:
            signal.pidfd_send_signal(fd, number)
    except OSError:
        return False
    finally:
        if fd >= 0:
            os.close(fd)
    return True

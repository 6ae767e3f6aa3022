"""Ends a QEMU that may have lost its pilot: for the guardian, the next pilot and kill-all.

Works from the journal's `identity` alone: {"uuid", "pid", "start", "qmp", "files"}; `pid` is None
in an entry written before the start: then the uuid is looked for among this user's processes.
Plain blocking code on the standard library, because it runs where there is no event loop.

Invariant: no signal and no `quit` goes to a process whose command line does not bear the uuid, or
whose start time is not the one on record.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

QUIT_S = 1.0
DEATH_S = 2.0
_POLL_S = 0.005


def kill_stale(identity: Mapping[str, Any]) -> bool:
    """True when that VM is gone (or never was), and its run-time files with it.

    At most about 3 s: QMP `quit` with 1 s, unless the process is stopped; then SIGKILL with 2 s.
    """
    pid = find(identity)
    if pid is not None:
        asked = state(pid) not in "Tt" and _quit(str(identity.get("qmp") or ""), QUIT_S)
        if not (asked and _gone(identity, pid, QUIT_S)):
            _kill(identity, pid)
            if not _gone(identity, pid, DEATH_S):
                return False
    for name in (identity.get("qmp"), *identity.get("files", ())):
        if name:
            with contextlib.suppress(OSError):
                Path(name).unlink()
    return True


def find(identity: Mapping[str, Any]) -> Optional[int]:
    """The pid of that VM's living process; None when there is none."""
    pid = identity.get("pid")
    if isinstance(pid, int) and not isinstance(pid, bool):
        return pid if is_it(identity, pid) else None
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and is_it(identity, int(entry.name)):
            return int(entry.name)
    return None


def is_it(identity: Mapping[str, Any], pid: int) -> bool:
    """Is `pid` alive, with the uuid as an argument of its own, and the start time on record?"""
    uuid = str(identity.get("uuid") or "")
    try:
        if not uuid or Path(f"/proc/{pid}").stat().st_uid != os.geteuid():
            return False
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    if (b"-uuid", uuid.encode()) not in zip(argv, argv[1:]):
        return False  # also every zombie: it has no command line any more
    start = identity.get("start")
    return start is None or start == start_time(pid)


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


def _gone(identity: Mapping[str, Any], pid: int, limit_s: float) -> bool:
    end = time.monotonic() + limit_s
    while is_it(identity, pid):
        if time.monotonic() > end:
            return False
        time.sleep(_POLL_S)
    return True


def _kill(identity: Mapping[str, Any], pid: int) -> None:
    """SIGKILL through a pidfd checked after it was opened: the pid cannot change hands between."""
    try:
        fd = os.pidfd_open(pid)
    except (AttributeError, OSError):
        if is_it(identity, pid):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        return
    try:
        if is_it(identity, pid):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    except OSError:
        pass
    finally:
        os.close(fd)


def _quit(path: str, limit_s: float) -> bool:
    """Ask for `quit`, all of it within the limit; True when QEMU took it.

    While the pilot's own connection is open, QEMU serves nobody else and this times out.
    """
    end = time.monotonic() + limit_s
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            channel.settimeout(limit_s)
            channel.connect(path)
            buffer = bytearray()
            _reply(channel, buffer, "QMP", end)
            for command in ("qmp_capabilities", "quit"):
                channel.sendall(json.dumps({"execute": command}).encode() + b"\n")
                _reply(channel, buffer, "return", end)
    except (OSError, ValueError):
        return False
    return True


def _reply(channel: socket.socket, buffer: bytearray, key: str, end: float) -> None:
    """Read up to a line with `key`, leaving out events. Raises OSError or ValueError."""
    while True:
        line, newline, rest = bytes(buffer).partition(b"\n")
        if newline:
            buffer[:] = rest
            if key in json.loads(line):
                return
            continue
        left = end - time.monotonic()
        if left <= 0 or len(buffer) > 65536:
            raise OSError("no reply in time")
        channel.settimeout(left)
        data = channel.recv(4096)
        if not data:
            raise OSError("closed")
        buffer += data

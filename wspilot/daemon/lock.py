"""One daemon a home: an fcntl lock for one host, and a record of the holder for the others.

The record is a file of its own, because closing any descriptor of a locked file drops the lock. A
record of another host stands until that host is known to be gone (`--take-over`): a lock on NFS
cannot be asked (DESIGN.md section 8).
"""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from wspilot.errors import Refused
from wspilot.home import (
    LockRecord,
    boot_id,
    own_dir,
    read_record,
    socket_path,
    start_time,
    write_record,
)


class HomeLock:
    """The right to be the daemon of `home`."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._descriptor: int | None = None

    def acquire(self, take_over: bool = False) -> None:
        """Take the home. Raises Refused, naming the holder."""
        own_dir(self._home)
        descriptor = os.open(self._home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise Refused(
                f"another daemon holds {self._home}: {self._holder()}",
                "use that one, or end it first",
            ) from None
        try:
            self._check_record(take_over)
            write_record(self._home, self._own_record())
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the home back; the record goes first, the lock last."""
        if self._descriptor is None:
            return
        (self._home / "lock.json").unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = None

    def _holder(self) -> str:
        record = read_record(self._home)
        return f"pid {record.pid} on {record.host}" if record else "its record is not readable"

    def _check_record(self, take_over: bool) -> None:
        record = read_record(self._home)
        if record is None or take_over or record.host == socket.gethostname():
            return  # same host: the fcntl lock has just told that the holder is gone
        raise Refused(
            f"{self._home} belongs to a daemon on {record.host} (pid {record.pid})",
            f"end it there; or, when {record.host} is known to be gone, say --take-over",
        )

    def _own_record(self) -> LockRecord:
        pid = os.getpid()
        return LockRecord(
            socket.gethostname(), boot_id(), pid, start_time(pid) or 0, str(socket_path(self._home))
        )

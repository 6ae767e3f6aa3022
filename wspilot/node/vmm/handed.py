"""What QEMU is handed as open descriptors at its start: it has no path to open or to wait for."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A listening socket of 0600. QEMU gets its descriptor, so a client never has to try again."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(2)
        yield listener


@contextlib.contextmanager
def opened(memory: str) -> Iterator[int]:
    """A suspended guest's state, open for reading; -1: there is none."""
    fd = os.open(memory, os.O_RDONLY | os.O_CLOEXEC) if memory else -1
    try:
        yield fd
    finally:
        if fd >= 0:
            os.close(fd)

"""One guest's cable: the stream on which its QEMU listens (`-netdev stream`), frame by frame.

A stream and not datagrams: a unix socket holds ten of those, so what a busy QEMU did not fetch at
once was lost, and a lost frame costs a guest's TCP more than all of the switch. Many frames go with
one system call, too. Each is `length (4) | frame`.
"""

from __future__ import annotations

import socket
from typing import Optional

READ = 32 << 10  # of one guest before the next has its turn
MOST_FRAME = 65600
MOST_WAITING = 1 << 20  # bytes that a guest does not fetch; then an Ethernet drops frames


class Link:
    """Joined whenever QEMU is there: it may come later than its port, and come again."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.socket: Optional[socket.socket] = None
        self._read = b""  # a frame's beginning
        self._waiting: list[bytes] = []
        self._bytes = 0

    def join(self) -> bool:
        """Does it listen?"""
        box = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        box.setblocking(False)
        try:
            box.connect(self._path)
        except OSError:
            box.close()
            return False
        self.socket = box
        return True

    def part(self) -> None:
        """The cable is out, and what was on it is gone."""
        if self.socket is not None:
            self.socket.close()
        self.socket, self._read, self._waiting, self._bytes = None, b"", [], 0

    def take(self) -> list[bytes]:
        """The frames that have come. Raises EOFError when QEMU is gone, or speaks nonsense."""
        assert self.socket is not None
        try:
            got = self.socket.recv(READ)
        except BlockingIOError:
            return []
        except OSError as error:
            raise EOFError from error
        if not got:
            raise EOFError
        data, found, at = self._read + got, [], 4
        while at <= len(data):
            end = at + int.from_bytes(data[at - 4 : at], "big")
            if end - at > MOST_FRAME:
                raise EOFError
            if end > len(data):
                break
            found.append(data[at:end])
            at = end + 4
        self._read = data[at - 4 :]
        return found

    def put(self, frame: bytes) -> None:
        """Goes with the next `flush`."""
        if self.socket is not None and self._bytes < MOST_WAITING:
            self._waiting += (len(frame).to_bytes(4, "big"), frame)
            self._bytes += len(frame)

    def flush(self) -> bool:
        """Is all of it on its way? Raises EOFError when QEMU is gone."""
        assert self.socket is not None
        data = b"".join(self._waiting)
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise EOFError from error
        rest = data[sent:]
        self._waiting, self._bytes = [rest] if rest else [], len(rest)
        return not rest

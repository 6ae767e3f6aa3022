"""What a guest says: lines on `org.wspilot.0`, and its console, both from a hostile mouth.

PROTOCOLS.md section 8. A line is at most 400 bytes, a guest at most 40 lines at once and 4 a second
after that, and its bytes are taken no faster than 256 KiB/s: beyond that the guest waits, not the
pilot. Logs are bounded: past `LOG_LIMIT` the old half moves to `NAME.1`. No I/O in `Voice`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from wspilot.text import clean

LINE_LIMIT = 400
BURST_LINES = 40
LINES_A_SECOND = 4.0
BYTES_A_SECOND = 256 * 1024
LOG_LIMIT = 1024 * 1024
OUT_LIMIT = 16 * 1024
_CHUNK = 16 * 1024
_SAID = re.compile(r"WSPILOT (ready|ok|error)(?: (.*))?")


@dataclass
class Voice:
    """Turns bytes into (word, text) pairs; what is no such line, or too much, is dropped."""

    allowance: float = BURST_LINES
    at: float = 0.0
    dropped: int = 0
    _rest: bytes = b""
    _skipping: bool = False

    def feed(self, data: bytes, now: float) -> Iterator[tuple[str, str]]:
        """The lines completed by `data`; `now` is any monotonic clock, in seconds."""
        self.allowance += max(0.0, now - self.at) * LINES_A_SECOND
        self.allowance, self.at = min(self.allowance, BURST_LINES), now
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            skip, self._skipping = self._skipping or len(line) > LINE_LIMIT, False
            match = None if skip else _SAID.fullmatch(clean(line, LINE_LIMIT))
            if match is None or self.allowance < 1:
                self.dropped += 1
                continue
            self.allowance -= 1
            yield match.group(1), match.group(2) or ""
        self._skipping = self._skipping or len(rest) > LINE_LIMIT
        self._rest = b"" if self._skipping else rest


class BoundedLog:
    """A file of 0600 that holds the newest 1 to 2 `LOG_LIMIT` bytes (with its `.1`)."""

    def __init__(self, path: Path, limit: int = LOG_LIMIT) -> None:
        self._path, self._limit = path, limit
        self._fd = self._open()
        self._size = os.fstat(self._fd).st_size

    def write(self, data: bytes) -> None:
        """Append; a full disk loses log lines, never a VM."""
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):
            if self._size + len(data) > self._limit:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
                os.close(self._fd)
                self._fd, self._size = self._open(), 0
            self._size += os.write(self._fd, data)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self._path, flags, 0o600)


@dataclass
class Channel:
    """Our end of a socket pair whose other end is a guest's port; throttled."""

    take: Callable[[bytes], None]
    ours: socket.socket = field(init=False)
    theirs: socket.socket = field(init=False)
    _out: bytearray = field(init=False, default_factory=bytearray)

    def __post_init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self._loop = asyncio.get_running_loop()

    def open(self) -> None:
        """Begin to listen; what was said before is waiting in the socket."""
        self._again()

    def _readable(self) -> None:
        data = self._read()
        if data:  # armed again first: `take` may raise
            self._loop.remove_reader(self.ours)
            self._loop.call_later(len(data) / BYTES_A_SECOND, self._again)
            self.take(data)

    def _again(self) -> None:
        if self.ours.fileno() >= 0:
            self._loop.add_reader(self.ours, self._readable)

    def put(self, data: bytes) -> bool:
        """To the guest; False: it has not read what it was told before, this was not taken."""
        if self.ours.fileno() < 0 or len(self._out) > OUT_LIMIT:
            return False
        self._out += data
        self._write()
        return True

    def _write(self) -> None:
        try:
            while self._out:
                del self._out[: self.ours.send(self._out)]
        except BlockingIOError:
            self._loop.add_writer(self.ours, self._write)
            return
        except OSError:
            self._out.clear()  # the reader's side sees that it is gone
        self._loop.remove_writer(self.ours)

    def _read(self) -> bytes:
        try:
            data = self.ours.recv(_CHUNK)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self.close()
        return data

    def drain(self) -> None:
        """Take what is left when the process is gone, a socket buffer at the most, and close."""
        while self.ours.fileno() >= 0:
            data = self._read()
            if not data:
                break
            self.take(data)
        self.close()

    def close(self) -> None:
        if self.ours.fileno() >= 0:
            self._loop.remove_reader(self.ours)
            self._loop.remove_writer(self.ours)
        self.ours.close()
        self.theirs.close()


class Pattern:
    """Looks for a text in a stream of console output, keeping only what a match may need."""

    def __init__(self, text: str) -> None:
        self._wanted = text.encode()
        self._tail = b""

    def feed(self, data: bytes) -> bool:
        """True when the text was in what came so far."""
        seen = self._tail + data
        self._tail = seen[-len(self._wanted) :]
        return self._wanted in seen

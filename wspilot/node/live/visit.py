"""One visitor of the live channel: the handshake, then frames both ways, all of it bounded.

Invariant: what a visitor does not read holds up its own visit only; at most `UNREAD` bytes are kept
for it by us, and as much by the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Mapping
from typing import Any, Optional

from wspilot import channel

UNREAD = 1 << 17
CHUNK = 1 << 15
_ALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))


class Visit:
    """An authenticated connection. OSError, EOFError and BadChannel end it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, parley: channel.Parley
    ) -> None:
        self._reader, self._writer = reader, writer
        self._sealer, self._opener = parley.sealer(True), parley.opener(True)
        self._frames: deque[tuple[int, bytes]] = deque()

    async def next(self) -> tuple[int, bytes]:
        """The next frame. Raises EOFError when the visitor is gone."""
        while not self._frames:
            data = await self._reader.read(CHUNK)
            if not data:
                raise EOFError
            self._frames.extend(self._opener.feed(data))
        return self._frames.popleft()

    async def send(self, kind: int, payload: bytes = b"") -> None:
        """One frame; waits while the visitor does not read."""
        self._writer.write(self._sealer.seal(kind, payload))
        await self._writer.drain()

    async def say(self, doc: Mapping[str, Any]) -> None:
        """An answer."""
        self._writer.write(self._sealer.words(channel.SAID, doc))
        await self._writer.drain()

    async def refuse(self, why: str) -> None:
        """Its wish is not granted, in words."""
        await self.say({"error": why})

    def leave(self, why: str) -> None:
        """The end, told where that is possible without waiting."""
        with contextlib.suppress(OSError, RuntimeError):
            if not self._writer.is_closing():
                self._writer.write(self._sealer.seal(channel.OVER, why.encode()[:1000]))
            unread = self._writer.transport.get_write_buffer_size()
            self._writer.transport.abort() if unread > CHUNK else self._writer.close()


async def open_visit(link: socket.socket, key: bytes, pilot: str) -> Visit:
    """The handshake. Raises OSError, EOFError, BadChannel; then the caller closes `link`."""
    loop = asyncio.get_running_loop()
    ours = channel.nonce()
    await loop.sock_sendall(link, channel.greeting(ours))
    line = await _line(link)
    parley = channel.read_hello(key, pilot, ours, line)
    await loop.sock_sendall(link, parley.welcome())
    keep_alive(link)
    reader, writer = await streams(link)
    return Visit(reader, writer, parley)


async def _line(link: socket.socket) -> bytes:
    """One line of the handshake, and not a byte more: what follows are frames."""
    loop, line = asyncio.get_running_loop(), b""
    while not line.endswith(b"\n"):
        part = await loop.sock_recv(link, channel.HELLO - len(line))
        if not part:
            raise channel.BadChannel("it ended")
        line += part
        if len(line) >= channel.HELLO and not line.endswith(b"\n"):
            raise channel.BadChannel("a line that is too long")
    return line


def keep_alive(link: socket.socket) -> None:
    """A peer that vanished is noticed within a minute."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in _ALIVE:
        link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def streams(link: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """asyncio's streams over a connected socket, with bounded buffers."""
    reader, writer = await asyncio.open_connection(sock=link, limit=CHUNK)
    writer.transport.set_write_buffer_limits(high=UNREAD)
    return reader, writer


class Unread:
    """What a visitor has not been sent yet: bounded; when it is too slow the oldest is lost."""

    def __init__(self) -> None:
        self._data, self._lost = bytearray(), 0
        self._wake = asyncio.Event()

    def put(self, data: bytes) -> None:
        """Never waits."""
        if len(self._data) + len(data) > UNREAD:
            self._lost += len(self._data)
            self._data.clear()
        self._data += data
        self._wake.set()

    async def take(self) -> bytes:
        """At most a frame's worth; says where something is missing."""
        await self._wake.wait()
        return self.rest()

    def rest(self) -> bytes:
        """The same without waiting; empty when there is nothing."""
        told: Optional[bytes] = None
        if self._lost:
            told = b"\r\n[wspilot: %d bytes were lost: this reader is too slow]\r\n" % self._lost
            self._lost = 0
        data = (told or b"") + bytes(self._data[:CHUNK])
        del self._data[:CHUNK]
        if not self._data:
            self._wake.clear()
        return data

"""A live channel on loopback with VMs that only pretend, and visitors of every kind."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Callable

from wspilot import channel
from wspilot.errors import WspilotError
from wspilot.node.live import Live
from wspilot.node.live.services import Services
from wspilot.node.vmm.console import Console

KEY = bytes(range(32))
PILOT = "0645efec-1be7-4079-86c7-980ca1f19f2b"
SETTINGS: Mapping[str, Any] = {"network": "127.0.0.0/8", "ports": [0, 0], "forward": [22]}
SOON_S = 5.0


class Host:
    """The VMs of a node: consoles, and an echo behind each port 22. Implements a part of `Vmm`."""

    def __init__(self) -> None:
        self.consoles: dict[str, Console] = {}
        self.typed = bytearray()
        self.looked = 0
        self.left = asyncio.Event()
        self.deaf = False

    def look(self) -> None:
        self.looked += 1

    def add(self, vm: str) -> Console:
        console = self.consoles[vm] = Console()
        console.wire(self._take)
        return console

    def _take(self, data: bytes) -> bool:
        if not self.deaf:
            self.typed += data
        return not self.deaf

    def console(self, vm: str) -> Console | None:
        return self.consoles.get(vm)

    async def dial(self, vm: str, port: int) -> tuple[socket.socket, Callable[[], Awaitable[None]]]:
        if vm not in self.consoles:
            raise WspilotError("it does not run")
        with socket.create_server(("127.0.0.1", 0)) as server:
            ours = socket.create_connection(server.getsockname())
            theirs, _ = server.accept()
        ours.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=theirs)

        async def echo() -> None:
            while data := await reader.read(4096):
                writer.write(data)
            writer.write(b"bye")
            writer.close()

        self.echoing = asyncio.ensure_future(echo())

        async def leave() -> None:
            self.left.set()

        return ours, leave


class Visitor:
    """A client of the live channel in the same event loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.frames: list[tuple[int, bytes]] = []

    async def prove(self, key: bytes = KEY, pilot: str = PILOT) -> None:
        """The handshake. Raises BadChannel."""
        server = channel.read_greeting(await self.reader.readline())
        parley = channel.Parley(key, pilot, server, channel.nonce())
        self.sealer, self.opener = parley.sealer(server=False), parley.opener(server=False)
        self.writer.write(parley.hello())
        parley.check_welcome(await self.reader.readline())

    async def ask(self, **wish: Any) -> Mapping[str, Any]:
        self.writer.write(self.sealer.words(channel.ASK, wish))
        kind, payload = await self.next()
        assert kind == channel.SAID
        return channel.words(payload)

    def say(self, kind: int, payload: bytes = b"") -> None:
        self.writer.write(self.sealer.seal(kind, payload))

    async def next(self) -> tuple[int, bytes]:
        """Raises EOFError at the end."""
        while not self.frames:
            data = await asyncio.wait_for(self.reader.read(1 << 16), SOON_S)
            if not data:
                raise EOFError
            self.frames += self.opener.feed(data)
        return self.frames.pop(0)

    async def until(self, text: bytes) -> bytes:
        """All that a console said, up to a text."""
        seen = b""
        while text not in seen:
            kind, payload = await self.next()
            assert kind == channel.DATA, (kind, payload)
            seen += payload
        return seen

    async def rest(self) -> list[tuple[int, bytes]]:
        """All until the end."""
        found = []
        try:
            while True:
                found.append(await self.next())
        except (EOFError, ConnectionError):
            return found


class Yard:
    """One live channel and its visitors."""

    def __init__(self) -> None:
        self.host = Host()
        self.live = Live(
            SETTINGS,
            KEY,
            PILOT,
            Services(self.host, SETTINGS, self.host.look),  # type: ignore[arg-type]
        )
        where = self.live.facts()["live"]
        self.where: tuple[str, int] = (where["host"], where["port"])
        self._writers: list[asyncio.StreamWriter] = []

    async def stranger(self) -> Visitor:
        reader, writer = await asyncio.open_connection(*self.where)
        self._writers.append(writer)
        return Visitor(reader, writer)

    async def visitor(self) -> Visitor:
        one = await self.stranger()
        await one.prove()
        return one

    async def console(self, vm: str) -> Visitor:
        one = await self.visitor()
        assert "error" not in await one.ask(do="console", vm=vm)
        return one

    async def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        await self.live.close()


@asynccontextmanager
async def yard() -> AsyncIterator[Yard]:
    one = Yard()
    one.live.start()
    try:
        yield one
    finally:
        await one.close()
        await asyncio.sleep(0)

"""What a visitor of the live channel may have: a VM's console, a port of a guest, or to say that
commands lie in cmd/. One wish a visit.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from wspilot import channel
from wspilot.errors import WspilotError
from wspilot.node.live.visit import CHUNK, Unread, Visit, keep_alive, streams
from wspilot.node.vmm.base import Vmm
from wspilot.node.vmm.console import Console
from wspilot.text import clean

MOST_VISITORS = 64
WISH_S = 5.0
LAST_S = 1.0  # for a slow visitor to take a console's last words
SSH = 22
DEAF = b"\r\n[wspilot: the guest does not read its console; what you typed was dropped]\r\n"


class Services:
    """Those of one node. `look` makes the courier list commands now."""

    def __init__(self, vmm: Vmm, settings: Mapping[str, Any], look: Callable[[], None]) -> None:
        self._vmm, self._look = vmm, look
        ports = settings.get("forward")
        self._ports = frozenset(ports if isinstance(ports, list) else [SSH])

    async def serve(self, visit: Visit) -> None:
        """Its one wish. Raises OSError, EOFError or BadChannel when the visitor is gone."""
        kind, payload = await asyncio.wait_for(visit.next(), WISH_S)
        wish = channel.words(payload) if kind == channel.ASK else {}
        what, vm = wish.get("do"), str(wish.get("vm"))
        if what == "look":
            self._look()
            await visit.say({})
        elif what == "console":
            await self._console(visit, vm)
        elif what == "forward":
            await self._forward(visit, vm, wish.get("port"))
        else:
            await visit.refuse(f"this pilot has no service {clean(repr(what), 40)}")

    # -- a console

    async def _console(self, visit: Visit, vm: str) -> None:
        console = self._vmm.console(vm)
        if console is None:
            await visit.refuse("that VM is not on this node any more")
            return
        unread = Unread()
        past, stop = console.listen(unread.put)
        sides: list[asyncio.Future[Any]] = []
        try:
            await visit.say({"others": console.listeners - 1})
            if past:
                await visit.send(channel.DATA, past)
            sides = [asyncio.ensure_future(_show(visit, unread)),
                     asyncio.ensure_future(_typed(visit, console, unread)),
                     asyncio.ensure_future(console.over.wait())]  # fmt: skip
            await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop()
            await _end(sides)
        if console.over.is_set():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(_last_words(visit, unread), LAST_S)

    # -- a port

    async def _forward(self, visit: Visit, vm: str, port: object) -> None:
        if not isinstance(port, int) or port not in self._ports:
            allowed = ", ".join(map(str, sorted(self._ports))) or "none"
            await visit.refuse(f"port {clean(repr(port), 20)} is not forwarded here; allowed: "
                               f"{allowed} ([site] live_forward)")  # fmt: skip
            return
        try:
            link, leave = await self._vmm.dial(vm, port)
        except WspilotError as error:
            await visit.refuse(error.message)
            return
        try:
            keep_alive(link)
            reader, writer = await streams(link)
            try:
                await visit.say({})
                await _both_ways(visit, reader, writer)
            finally:
                writer.transport.abort()
        finally:
            link.close()
            with contextlib.suppress(WspilotError):  # the VM has ended, its door with it
                await asyncio.shield(leave())


async def _show(visit: Visit, unread: Unread) -> None:
    while True:
        await visit.send(channel.DATA, await unread.take())


async def _typed(visit: Visit, console: Console, unread: Unread) -> None:
    while True:
        kind, data = await visit.next()
        if kind != channel.DATA:
            return
        if data and not await console.type(data):
            unread.put(DEAF)


async def _last_words(visit: Visit, unread: Unread) -> None:
    while data := unread.rest():
        await visit.send(channel.DATA, data)
    await visit.send(channel.OVER, b"the VM has ended")


async def _both_ways(
    visit: Visit, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Until both sides have ended, or one is gone."""
    sides = [asyncio.ensure_future(_out(visit, reader)), asyncio.ensure_future(_in(visit, writer))]
    try:
        await asyncio.wait(sides, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        await _end(sides)


async def _out(visit: Visit, reader: asyncio.StreamReader) -> None:
    while data := await reader.read(CHUNK):
        await visit.send(channel.DATA, data)
    await visit.send(channel.END)


async def _in(visit: Visit, writer: asyncio.StreamWriter) -> None:
    while True:
        kind, data = await visit.next()
        if kind == channel.END:
            writer.write_eof()
            return
        if kind == channel.DATA:
            writer.write(data)
            await writer.drain()


async def _end(sides: Sequence[asyncio.Future[Any]]) -> None:
    """No side goes on; what one of them raised was its visitor's end."""
    for one in sides:
        one.cancel()
    await asyncio.gather(*sides, return_exceptions=True)

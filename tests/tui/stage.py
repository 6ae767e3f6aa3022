"""A stage for the terminal interface: the demo's site standing still, and eyes on the screen."""

from __future__ import annotations

import asyncio
import time
import unicodedata
from collections.abc import AsyncIterator
from typing import Any

from rich.segment import Segment

from wspilot.client import Update
from wspilot.errors import NoDaemon, WspilotError
from wspilot.tui.app import WspilotApp
from wspilot.tui.demo import DemoSource

HOSTILE = "\x1b]0;pwned\x07\x1b[31m[red]x[/nope]\x9b2J"


class Scripted(DemoSource):
    """The demo's site, standing still, with a record of what was asked; it may go away."""

    def __init__(self) -> None:
        super().__init__(step_s=3600)
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.alive = asyncio.Event()
        self.alive.set()
        self.inbox: asyncio.Queue[Update | None] = asyncio.Queue()
        self.refusal: WspilotError | None = None
        self.slow_s = 0.0

    async def updates(self) -> AsyncIterator[Update]:
        if not self.alive.is_set():
            raise NoDaemon("no daemon runs here", "start one: wspilot daemon --detach")
        yield Update(1, True, tuple(dict(item) for item in self._items.values()))
        while (update := await self.inbox.get()) is not None:
            yield update
        raise NoDaemon("the connection has ended", "start it again")

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self.calls.append((method, params))
        await asyncio.sleep(self.slow_s)
        if self.refusal is not None:
            raise self.refusal
        answer = await super().call(method, **params)
        while not self._out.empty():
            changed, gone = self._out.get_nowait()
            self.inbox.put_nowait(Update(2, False, tuple(changed), tuple(gone)))
        return answer


def app() -> tuple[WspilotApp, Scripted]:
    source = Scripted()
    return WspilotApp(source), source


async def settle(pilot: Any, seconds: float = 0.12) -> None:
    """Longer than a flush, until the source has said something and nothing is left to do."""
    shown, deadline = pilot.app, time.monotonic() + 5
    while not (shown.connected or shown.error) and time.monotonic() < deadline:
        await pilot.pause(0.02)
    await pilot.pause(seconds)


def lines(shown: WspilotApp) -> list[str]:
    table = shown.table
    return [table.render_line(y).text.rstrip() for y in range(table.size.height)]


def painted(shown: WspilotApp) -> list[str]:
    """Every line of the screen as it goes out to the terminal, dialogs and toasts included."""
    update = shown.screen._compositor.render_update(full=True)
    rendered = shown.console.render(update)
    rows = Segment.split_lines(segment for segment in rendered if not segment.control)
    return ["".join(segment.text for segment in row) for row in rows]


def harmless(screen: str) -> bool:
    """No character that a terminal would act upon."""
    return not any(unicodedata.category(char) == "Cc" for char in screen.replace("\n", ""))


def key_of(source: DemoSource, name: str) -> str:
    """The line of a workspace or a VM, by its name."""
    found = (item for item in source._items.values() if item["name"] == name)
    item = next(found)
    return f"{item['table']}/{item['id']}"


def told(shown: WspilotApp) -> list[str]:
    """What toasts have said, oldest first."""
    return [str(one.message) for one in shown._notifications]

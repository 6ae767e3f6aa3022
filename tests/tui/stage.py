"""A stage for the terminal interface: the demo's site standing still, and eyes on the screen."""

from __future__ import annotations

import asyncio
import time
import unicodedata
from collections.abc import AsyncIterator, Callable
from typing import Any

from rich.segment import Segment

from wspilot.client import Update
from wspilot.errors import NoDaemon, WspilotError
from wspilot.tui.app import WspilotApp
from wspilot.tui.demo import DemoSource
from wspilot.tui.habits import Memory
from wspilot.tui.screens import base
from wspilot.tui.shots import NOW, busy

LIMIT_S = 30.0  # only a hang takes longer
HOSTILE = "\x1b]0;pwned\x07\x1b[31m[red]x[/nope]\x9b2J"


class Scripted(DemoSource):
    """The demo's site, standing still, with a record of what was asked; it may go away."""

    def __init__(self) -> None:
        self.now = NOW
        super().__init__(3600, lambda: self.now)
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


def app(read_only: bool = False, theme: str = "") -> tuple[WspilotApp, Scripted]:
    """The screen and its site, at a time that stands still."""
    source, memory = Scripted(), Memory()
    memory.keep("theme", theme)
    return WspilotApp(source, read_only, clock=lambda: source.now, memory=memory), source


async def until(pilot: Any, true: Callable[[], object], what: str = "what was waited for") -> None:
    """Until it is true; after a time that only a hang takes, what the screen shows instead."""
    deadline = time.monotonic() + LIMIT_S
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} never came:\n" + "\n".join(painted(pilot.app)))
        await pilot.pause(0.01)


async def settle(pilot: Any) -> None:
    """Until the source has said something and nothing that follows is left to do.

    Nothing is left when the loop has nothing ready, no check runs and all is drawn: twice, with
    time for a flush between. It takes as long as it takes, so that a slow machine fails nothing.
    """
    shown, quiet = pilot.app, 0
    await until(pilot, lambda: shown.connected or shown.error, "the source's first word")
    deadline = time.monotonic() + LIMIT_S
    while quiet < 2:
        assert time.monotonic() < deadline, f"never at rest: {_busy(shown)}"
        await pilot.pause(base.FLUSH_S * 1.3)
        quiet = 0 if _busy(shown) else quiet + 1


def _busy(shown: WspilotApp) -> str:
    """What is left to do; empty for nothing."""
    if asyncio.get_running_loop()._ready:  # type: ignore[attr-defined]
        return "callbacks"
    return busy(shown)


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

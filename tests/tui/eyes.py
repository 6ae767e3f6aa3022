"""Waiting for what is to be seen, never for a time; and a source that only notes what is asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from tests.tui.stage import Scripted, key_of, painted, told
from wspilot.tui.app import WspilotApp

PATIENCE_S = 40.0  # a hang; not what anything should take


class Still(Scripted):
    """Answers and changes nothing. `faults`: what a method is refused with; `gates`: what it waits
    for before it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: dict[str, Exception] = {}
        self.gates: dict[str, asyncio.Event] = {}

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self.calls.append((method, params))
        if method in self.gates:
            await self.gates[method].wait()
        if method in self.faults:
            raise self.faults[method]
        return {}

    def asked(self, *methods: str) -> list[dict[str, Any]]:
        """The params of some methods, in order."""
        return [params for method, params in self.calls if method in methods]

    def item(self, name: str) -> dict[str, Any]:
        """A workspace or VM by its name."""
        return self._items[key_of(self, name)]

    def all_of(self, name: str, **fields: Any) -> None:
        """Set something of every VM of a workspace."""
        for id in self.item(name)["vms"]:
            self._items[f"vms/{id}"].update(fields)


async def until(pilot: Any, seen: Callable[[], Any], what: str = "") -> None:
    """Goes on as soon as it is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not seen():
        if time.monotonic() > deadline:
            shown = "\n".join(painted(pilot.app))
            raise AssertionError(f"never: {what or seen}\n{shown}\ntold: {told(pilot.app)}")
        await pilot.pause(0.02)


async def until_told(pilot: Any, words: str) -> str:
    """The toast with these words."""
    await until(pilot, lambda: any(words in one for one in told(pilot.app)), f"told {words!r}")
    return next(one for one in told(pilot.app) if words in one)


async def until_seen(pilot: Any, words: str) -> None:
    """On the screen, dialogs included."""
    await until(pilot, lambda: words in "\n".join(painted(pilot.app)), f"seen {words!r}")


async def until_gone(pilot: Any, words: str) -> None:
    """No longer on the screen."""
    await until(pilot, lambda: words not in "\n".join(painted(pilot.app)), f"gone {words!r}")


async def ready(pilot: Any) -> None:
    """The first data are drawn."""
    await until(pilot, lambda: pilot.app.table.keys, "the first lines")


async def at(pilot: Any, source: Scripted, name: str) -> str:
    """The cursor on a workspace or VM (WORKSPACE/GROUP/N), or on a group (WORKSPACE/GROUP)."""
    if name.count("/") == 1:
        ws, _, group = name.partition("/")
        key = f"groups/{key_of(source, ws).partition('/')[2]}/{group}"
    else:
        key = key_of(source, name)
    pilot.app.table.select(key)
    await until(pilot, lambda: pilot.app.table.cursor_key == key, f"the cursor on {name}")
    return key


def row_of(shown: WspilotApp, key: str) -> str:
    """What is drawn for a key."""
    return shown.table._line(shown.table._row(key), False, 200).text

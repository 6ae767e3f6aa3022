"""The builder on its stage: opened, typed into, looked at."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import tomllib
from textual.widgets import Input, Select, Static

from tests.tui.stage import Scripted, settle
from wspilot.tui.app import WspilotApp
from wspilot.tui.builder.form import Form, Groups
from wspilot.tui.screens.build import Build


class Gated(Scripted):
    """Answers nothing while its gate is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        if not self.gate.is_set():
            await self.gate.wait()
        return await super().call(method, **params)


class Bench:
    """A builder that is open."""

    def __init__(self, pilot: Any, source: Scripted) -> None:
        self.pilot, self.source, self.app = pilot, source, pilot.app

    @property
    def screen(self) -> Build:
        found = next(one for one in self.app.screen_stack if isinstance(one, Build))
        return found  # type: ignore[no-any-return]

    @property
    def text(self) -> str:
        return self.screen._area.text

    @property
    def doc(self) -> dict[str, Any]:
        return tomllib.loads(self.text)

    @property
    def verdict(self) -> str:
        return str(self.screen._verdict.render())

    @property
    def state(self) -> str:
        return str(self.screen._state.render())

    @property
    def groups(self) -> list[str]:
        return [line.plain.strip() for line in self.screen._form._lines]

    @property
    def catalogue(self) -> str:
        return str(self.screen.query_one("#catalogue", Static).render())

    def field(self, name: str) -> Any:
        """What stands in a field: `w-name`, `g-count`, ..."""
        return self.screen.query_one(f"#{name}", Select if name in CHOICES else Input).value

    async def write(self, text: str) -> None:
        """As somebody would who pastes it over everything."""
        self.screen._area.select_all()
        self.screen._area.replace(text, (0, 0), self.screen._area.document.end)
        await self.checked()

    async def type(self, field: str, text: str) -> None:
        """Another text in a field."""
        self.screen.query_one(f"#{field}", Input).focus()
        self.screen.query_one(f"#{field}", Input).value = text
        await self.checked()

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.checked()

    async def checked(self) -> None:
        """Until the check is over."""
        await self.pilot.pause()
        await self.until(lambda: not self.screen.is_attached or not self.screen._checking)
        await self.pilot.pause()

    async def until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not _safely(true):
            assert time.monotonic() < deadline, "it does not come"
            await self.pilot.pause(0.02)

    def to_groups(self) -> None:
        self.screen.query_one(Groups).focus()

    @property
    def form(self) -> Form:
        return self.screen._form


CHOICES = ("g-type", "g-image", "g-placement", "g-ready")


def _safely(true: Callable[[], bool]) -> bool:
    try:
        return true()
    except StopIteration:  # the builder is closed
        return True
    except IndexError:  # nothing is told yet, or toasts have gone
        return False


@asynccontextmanager
async def bench(
    home: Path | None = None,
    size: tuple[int, int] = (120, 40),
    source: Scripted | None = None,
    text: str = "",
) -> AsyncIterator[Bench]:
    """The builder, with a draft where a text is given."""
    source = source or Scripted()
    source.home = home
    if text and home:
        (home / "tui").mkdir(parents=True, exist_ok=True)
        (home / "tui" / "draft.toml").write_text(text, "utf-8")
    shown = WspilotApp(source)
    async with shown.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("n")
        await settle(pilot)
        one = Bench(pilot, source)
        await one.checked()
        yield one

"""How every screen looks: as pictures, beside those that somebody has looked at.

A picture that differs fails, with a report of both side by side in .cache/snapshots.html. Look at
it; when the new ones are as they should be, keep them:

    .venv/bin/python -m pytest tests/tui/test_snapshots.py --snapshot-update
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_textual_snapshot
from textual.app import App

from tests.tui.stage import Scripted, app, settle, until
from wspilot.tui.app import WspilotApp
from wspilot.tui.shots import narrowed

Setting = Callable[[WspilotApp, Scripted], None]
Scene = Callable[[Any, Scripted], Awaitable[None]]
SIZES = ((80, 24), (120, 40), (200, 60))
THEMES = ("night", "day", "contrast-dark")


@dataclass(frozen=True)
class Look:
    """A screen: the keys that lead there, and what is arranged before or seen to afterwards."""

    name: str
    keys: tuple[str, ...] = ()
    before: Setting | None = None
    after: Scene | None = None
    read_only: bool = False
    toasts: bool = False


# -- what keys alone do not bring about


def empty(_: WspilotApp, source: Scripted) -> None:
    for key in list(source._items):
        if not key.startswith("status/"):
            del source._items[key]


def never_there(_: WspilotApp, source: Scripted) -> None:
    source.alive.clear()


async def gone(pilot: Any, source: Scripted) -> None:
    source.alive.clear()
    source.now += 42
    source.inbox.put_nowait(None)
    await until(pilot, lambda: pilot.app.error, "the end of the connection")


async def fetched(pilot: Any, _: Scripted) -> None:
    await until(pilot, lambda: pilot.app.main.detail.lines._given, "the log")


async def unknown_node(pilot: Any, _: Scripted) -> None:
    pilot.app.table.select("nodes/node33")
    await pilot.press("enter")


SETTLED = "..."  # between keys: what the first ones brought has come
VM = ("down", "down", "down")
OSG = ("slash", SETTLED, *"osg", "enter", SETTLED)
COURSE = ("n", SETTLED, "f7", SETTLED, "down", "down", "down", "enter", SETTLED)

LOOKS = (
    Look("leases"),
    Look("slots", ("2",)),
    Look("nodes", ("3",)),
    Look("events", ("4",)),
    Look("timeline", ("5",)),
    Look("history", ("6",)),
    Look("detail", (*VM, "enter")),
    Look("builder", COURSE),
    Look("help", ("question_mark",)),
    Look("confirm", ("d",)),
    Look("detail-workspace", ("enter",)),
    Look("detail-group", ("down", "enter")),
    Look("detail-slot", ("2", SETTLED, "enter")),
    Look("detail-node", ("3",), after=unknown_node),
    Look("detail-event", ("4", SETTLED, "enter")),
    Look("page-events", (*VM, "enter", "right_square_bracket")),
    Look("page-commands", (*VM, "enter", *["right_square_bracket"] * 2)),
    Look("page-raw", (*VM, "enter", "left_square_bracket")),
    Look("page-logs", (*VM, "L"), after=fetched),
    Look("page-console", (*VM, "L", SETTLED, "right_square_bracket"), after=fetched),
    Look("builder-new", ("n",)),
    Look("builder-fault", ("n", SETTLED, *"Bad", "space", *"Name")),
    Look("builder-load", ("n", SETTLED, "f7", SETTLED, "down")),
    Look("builder-script", (*COURSE, "f6")),
    Look("palette", ("colon",)),
    Look("palette-typed", ("colon", SETTLED, *"them")),
    Look("act", (*OSG, "a")),
    Look("extend", (*OSG, "x")),
    Look("confirm-vm", (*VM, "d")),
    Look("filter", OSG),
    Look("marked", (*VM, "space", "space", "space")),
    Look("sort", ("s",)),
    Look("columns", ("c",)),
    Look("empty", before=empty),
    Look("away", after=gone),
    Look("no-daemon", before=never_there),
    Look("read-only", read_only=True),
    Look("toast", ("2", SETTLED, "d"), toasts=True),
)
CASES = [(look, size, theme) for look in LOOKS for size in SIZES for theme in THEMES]


async def pictures(look: Look, size: tuple[int, int], themes: tuple[str, ...]) -> dict[str, str]:
    """A screen by theme: begun in the first one, the others switched to where it stands."""
    shown, source = app(look.read_only, themes[0])
    if look.before is not None:
        look.before(shown, source)
    found = {}
    async with shown.run_test(size=size, notifications=look.toasts) as pilot:
        await settle(pilot)
        for keys in " ".join(look.keys).split(SETTLED):
            await pilot.press(*keys.split())
            await settle(pilot)
        if look.after is not None:
            await look.after(pilot, source)
            await settle(pilot)
        for theme in themes:
            if shown.theme != theme:
                shown.theme = theme
                await settle(pilot)
            found[theme] = shown.export_screenshot(simplify=True)
    return found


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = pytest_textual_snapshot.normalize_svg
    monkeypatch.setattr(pytest_textual_snapshot, "normalize_svg", lambda svg: narrowed(plain(svg)))
    monkeypatch.setattr(WspilotApp, "NOTIFICATION_TIMEOUT", 3600)


@pytest.fixture(scope="module")
def drawn() -> dict[tuple[str, tuple[int, int]], dict[str, str]]:
    """The screen that was drawn last, in every theme: one start serves all of them."""
    return {}


@pytest.mark.parametrize(
    ("look", "size", "theme"),
    CASES,
    ids=[f"{look.name}-{width}x{height}-{theme}" for look, (width, height), theme in CASES],
)
def test_a_screen_looks_as_it_did(
    look: Look,
    size: tuple[int, int],
    theme: str,
    small_files: None,
    drawn: dict[tuple[str, tuple[int, int]], dict[str, str]],
    snap_compare: Any,
    pytestconfig: pytest.Config,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if (look.name, size) not in drawn:
        drawn.clear()
        drawn[look.name, size] = asyncio.run(pictures(look, size, THEMES))
    picture = drawn[look.name, size][theme]
    # The plugin compares and reports; the picture it would take is there already.
    monkeypatch.setattr("textual._doc.take_svg_screenshot", lambda **_: picture)
    where = pytestconfig.getoption("snapshot_report")
    assert snap_compare(App()), (
        f"it looks otherwise: see {where}; --snapshot-update keeps what it shows"
    )


@pytest.mark.parametrize(
    "name", ["leases", "timeline", "builder-fault", "builder-load", "palette", "toast"]
)
async def test_a_theme_that_is_switched_to_looks_as_one_that_was_begun_with(
    name: str, small_files: None
) -> None:
    look = next(one for one in LOOKS if one.name == name)
    switched = await pictures(look, SIZES[1], THEMES)
    for theme in THEMES[1:]:
        begun = await pictures(look, SIZES[1], (theme,))
        assert plain(begun[theme]) == plain(switched[theme]), theme
    assert len({plain(one) for one in switched.values()}) == len(THEMES), "or none was switched"


def plain(svg: str) -> str:
    """Without the number that makes a picture its own."""
    return pytest_textual_snapshot.normalize_svg(svg)  # type: ignore[no-any-return]

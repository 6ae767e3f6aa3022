"""Foreign text in every view: shown, never interpreted, and never wider than its place."""

from __future__ import annotations

from typing import Any

import pytest
from textual.events import Paste
from textual.widgets import Input

from tests.tui.stage import HOSTILE, Scripted, app, harmless, painted, settle
from wspilot.errors import NoDaemon
from wspilot.tui.screens.confirm import Confirm

WIDE = "集群-e\u0301\u0301-👩‍🔬-ﷺ"
FIELDS = ("name", "cause", "text", "waits_for", "kind", "type", "image", "seen_by", "level")


def poison(source: Scripted, word: str) -> None:
    """Put a word into every text that a stranger could have chosen."""
    for item in source._items.values():
        for key in FIELDS:
            if key in item and item["table"] != "status":
                item[key] = word
        if item["table"] == "vms":
            item.update(node=word, nics=[{"network": word, "ip": word, "mac": word}])
            item["spans"] = [{**span, "name": word} for span in item["spans"]]
        if item["table"] == "slots":
            item.update(nodes=[word], job=word, lrm={"state": word, "reason": word, "raw": word})
        if item["table"] == "workspaces":
            item.update(outcome=word, causes=[word])
            for group in item["groups"]:
                group.update(type=word, image=word)
    source._items["status/daemon"].update(
        lrm=word,
        poll={"ok": False, "at": None, "text": word},
        spool={"at": None, "backlog": 3, "bad": 2, "text": word},
    )


@pytest.mark.parametrize("size", [(160, 50), (80, 24), (20, 5)])
@pytest.mark.parametrize("word", [HOSTILE, WIDE], ids=["hostile", "wide"])
async def test_every_view_with_strange_names(word: str, size: tuple[int, int]) -> None:
    shown, source = app()
    poison(source, word)
    async with shown.run_test(size=size) as pilot:
        await settle(pilot)
        kinds = {key.partition("/")[0]: key for key in reversed(shown.table.keys)}
        screens = []
        for key in kinds.values():
            shown.table.select(key)
            await settle(pilot)
            screens.append("\n".join(painted(shown)))
            assert all(
                shown.table.render_line(y).cell_length == shown.table.size.width
                for y in range(shown.table.size.height)
            )
            for press in ("enter", "enter", "d", "escape"):
                await pilot.press(press)
                await settle(pilot)
                screens.append("\n".join(painted(shown)))
        assert all(harmless(screen) for screen in screens)
        if size == (160, 50):
            assert "[red]x[/nope]" in screens[0] or "集群" in screens[0]


async def test_a_hostile_name_is_asked_for_as_it_is_shown() -> None:
    shown, source = app()
    poison(source, HOSTILE)
    async with shown.run_test(size=(160, 50)) as pilot:
        await settle(pilot)
        await pilot.press("home", "d")
        await settle(pilot)
        assert isinstance(shown.screen, Confirm)
        assert any("type its name" in line and "[red]x[/nope]" in line for line in painted(shown))


@pytest.mark.parametrize("way", ["slash", "d", "colon"])
async def test_what_is_pasted_is_shown_and_does_nothing(way: str) -> None:
    shown, _ = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press(way)
        await settle(pilot)
        if way == "d":
            shown.screen.query_one(Input).focus()
            await settle(pilot)
        field = shown.focused
        assert isinstance(field, Input)
        shown.post_message(Paste(f"ab\t{HOSTILE}\nmore"))
        await settle(pilot)
        assert "[red]x[/nope]" in field.value and "more" not in field.value
        assert harmless(field.value)
        screen = "\n".join(painted(shown))
        assert "[red]x[/nope]" in screen and harmless(screen)
        assert harmless(shown.main.how.filter.text)


async def test_the_banner_is_text() -> None:
    shown, source = app()

    async def updates() -> Any:
        raise NoDaemon(HOSTILE, HOSTILE)
        yield

    source.updates = updates  # type: ignore[method-assign]
    async with shown.run_test(size=(120, 30)) as pilot:
        await settle(pilot)
        screen = "\n".join(painted(shown))
        assert "[red]x[/nope]" in screen and harmless(screen)

"""The terminal interface through Textual's pilot: what is seen, and what is sent."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from textual._styles_cache import StylesCache
from textual.widgets import Button, Input, Static

from tests.tui.stage import (
    HOSTILE,
    Scripted,
    app,
    harmless,
    key_of,
    lines,
    painted,
    settle,
    told,
    until,
)
from wspilot.client import Update
from wspilot.errors import Refused
from wspilot.tui import following, look
from wspilot.tui.screens.act import Act
from wspilot.tui.screens.confirm import Confirm
from wspilot.tui.widgets.detail import Detail


@pytest.mark.parametrize("size", [(80, 24), (160, 50), (200, 60), (40, 10), (20, 5)])
async def test_it_draws_at_every_size(size: tuple[int, int]) -> None:
    shown, _ = app()
    async with shown.run_test(size=size) as pilot:
        await settle(pilot)
        text = "\n".join(lines(shown))
        if size[1] > 5:
            assert "mpi-2026" in text and "NAME" in text
        await pilot.press("down", "enter", "escape", "question_mark", "escape")
        await settle(pilot)


async def test_a_dialog_that_is_closed_leaves_nothing_painted_behind() -> None:
    def kept() -> int:
        gc.collect()
        return sum(type(one) is StylesCache for one in gc.get_objects())

    shown, _ = app()
    async with shown.run_test(size=(160, 50)) as pilot:
        await settle(pilot)
        found = []
        for _ in range(6):
            await pilot.press("question_mark")
            await settle(pilot)
            await pilot.press("escape")
            await settle(pilot)
            found.append(kept())
        assert found[-1] <= found[1], found


async def test_the_tree_goes_from_workspaces_to_vms_and_folds() -> None:
    shown, _ = app()
    async with shown.run_test(size=(160, 60)) as pilot:
        await settle(pilot)
        text = lines(shown)
        at = next(n for n, line in enumerate(text) if line.startswith(" ▾ mpi-2026"))
        assert text[at + 1].startswith("   ▾ rank") and text[at + 2].startswith("       rank/1")
        await pilot.press("home", "left")
        await settle(pilot)
        assert any(line.startswith(" ▸ mpi-2026") for line in lines(shown))
        assert not any("rank/1 " in line for line in lines(shown))


async def test_the_cursor_stays_on_its_object_when_lines_come_and_go() -> None:
    shown, source = app()
    async with shown.run_test(size=(160, 60)) as pilot:
        await settle(pilot)
        await pilot.press("down", "down", "down")
        await settle(pilot)
        key = shown.table.cursor_key
        first = next(item for item in source._items.values() if item["table"] == "workspaces")
        newer = {
            **first,
            "id": "new00000",
            "name": "aaa",
            "created": "2999-01-01T00:00:00.0Z",
            "vms": [],
            "slots": [],
            "state": "pending",
        }
        source.inbox.put_nowait(Update(2, False, (newer,)))
        await settle(pilot)
        assert shown.table.cursor_key == key
        source.inbox.put_nowait(Update(3, False, (), ("workspaces/new00000",)))
        await settle(pilot)
        assert shown.table.cursor_key == key


async def test_destroying_a_workspace_wants_its_name_and_stands_on_cancel() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("home")
        key = shown.table.cursor_key
        await pilot.press("d")
        await settle(pilot)
        assert isinstance(shown.screen, Confirm)
        assert shown.focused is shown.screen.query_one("#cancel", Button)
        destroy = shown.screen.query_one("#destroy", Button)
        assert destroy.disabled
        shown.screen.query_one(Input).value = "wrong"
        await settle(pilot)
        assert destroy.disabled
        shown.screen.query_one(Input).value = "mpi-2026"
        await until(pilot, lambda: not destroy.disabled, "the button")
        await pilot.click("#destroy")
        await settle(pilot)
        method, params = source.calls[-1]
        assert method == "wait"
        method, params = source.calls[-2]
        assert method == "destroy" and f"workspaces/{params['ids'][0]}" == key


async def test_a_verb_is_chosen_by_its_letter_and_its_outcome_is_told() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        shown.table.select(key_of(source, "osg"))
        await pilot.press("a")
        await settle(pilot)
        assert isinstance(shown.screen, Act) and "suspend" in "\n".join(painted(shown))
        await pilot.press("s")
        await settle(pilot)
        calls = dict(source.calls)
        assert f"workspaces/{calls['suspend']['ids'][0]}" == shown.table.cursor_key
        assert calls["wait"]["for"] == "done"
        assert told(shown)[-1] == "suspend: workspace osg: done"


async def test_what_a_node_refuses_is_told_and_escape_asks_for_nothing() -> None:
    shown, source = app()
    source.refusal = Refused("osg/ce/1: pause: it is [b]running[/b]", "see: wspilot events")
    async with shown.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        shown.table.select(key_of(source, "osg"))
        await pilot.press("a", "escape")
        await settle(pilot)
        assert source.calls == []
        await pilot.press("a", "enter")
        await settle(pilot)
        last = list(shown._notifications)[-1]
        assert "it is [b]running[/b]" in last.message and last.severity == "error"
        assert not last.markup


async def test_escape_and_enter_on_cancel_destroy_nothing() -> None:
    shown, source = app()
    async with shown.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        for answer in ("escape", "enter"):
            await pilot.press("down", "d")
            await settle(pilot)
            await pilot.press(answer)
            await settle(pilot)
        assert not source.calls


async def test_a_single_vm_needs_no_name_but_a_button() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("home", "down", "down", "d")
        await settle(pilot)
        await pilot.click("#destroy")
        await settle(pilot)
        assert f"vms/{dict(source.calls)['destroy']['ids'][0]}" == shown.table.cursor_key


async def test_a_daemon_that_goes_leaves_a_banner_and_comes_back() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        source.alive.clear()
        source.inbox.put_nowait(None)
        banner = shown.query_one("#banner", Static)
        await until(pilot, lambda: banner.display, "the banner")
        assert str(banner.render()).startswith("The connection has ended; start it again. What you")
        assert shown.table.stale and any("mpi-2026" in line for line in lines(shown))
        source.alive.set()
        await pilot.press("r")
        await until(pilot, lambda: not banner.display, "the end of the banner")
        assert not shown.table.stale


async def test_a_daemon_that_comes_back_is_found_without_a_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(following, "RETRY_S", (0.05,))
    shown, source = app()
    source.alive.clear()
    async with shown.run_test(size=(120, 40)) as pilot:
        banner = shown.query_one("#banner", Static)
        await until(pilot, lambda: banner.display, "the banner")
        source.alive.set()
        await until(pilot, lambda: not banner.display, "the end of the banner")
        await settle(pilot)
        assert shown.connected and any("mpi-2026" in line for line in lines(shown))


async def test_no_daemon_at_all_is_said_and_not_a_traceback() -> None:
    shown, source = app()
    source.alive.clear()
    async with shown.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        said = str(shown.query_one("#banner", Static).render())
        assert said.startswith("No daemon runs here; start one: wspilot daemon --detach. It is")


async def test_q_quits_at_once() -> None:
    shown, _ = app()
    async with shown.run_test() as pilot:
        await settle(pilot)
        await pilot.press("q")
        await until(pilot, lambda: not shown.is_running, "the end")


async def test_read_only_hides_what_would_change_something() -> None:
    shown, source = app(read_only=True)
    async with shown.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("d", "n")
        await settle(pilot)
        assert len(shown.screen_stack) == 1 and not source.calls


async def test_themes_change_live() -> None:
    shown, _ = app()
    async with shown.run_test() as pilot:
        await settle(pilot)
        before = shown.theme
        await pilot.press("t")
        await settle(pilot)
        assert before == "night" and shown.theme == "day"


async def test_a_wrong_name_is_refused_by_enter_too() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("home", "d")
        await settle(pilot)
        shown.screen.query_one(Input).focus()
        await pilot.press(*"mpi", "enter")
        await settle(pilot)
        assert isinstance(shown.screen, Confirm) and not source.calls
        await pilot.press(*"-2026", "enter")
        await settle(pilot)
        assert [method for method, _ in source.calls] == ["destroy", "wait"]


async def test_the_target_is_what_stood_there_when_the_key_was_pressed() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("home", "down", "down")
        key = shown.table.cursor_key
        await pilot.press("d")
        await settle(pilot)
        assert key is not None
        source.inbox.put_nowait(Update(2, False, (), (key,)))
        await settle(pilot)
        await pilot.click("#destroy")
        await settle(pilot)
        assert shown.table.cursor_key != key
        assert f"vms/{dict(source.calls)['destroy']['ids'][0]}" == key


async def test_on_a_slot_destroy_says_what_can_be_destroyed() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40), notifications=True) as pilot:
        await settle(pilot)
        shown.table.select(next(key for key in shown.table.keys if key.startswith("slots/")))
        await pilot.press("d")
        await settle(pilot)
        assert not isinstance(shown.screen, Confirm) and not source.calls
        assert any("Nothing to act on here" in line for line in painted(shown))


async def test_a_refused_act_is_told_and_not_interpreted() -> None:
    shown, source = app()
    source.refusal = Refused(f"not now {HOSTILE}", "try later")
    async with shown.run_test(size=(120, 40), notifications=True) as pilot:
        await settle(pilot)
        await pilot.press("home", "down", "down", "d")
        await settle(pilot)
        await pilot.click("#destroy")
        await settle(pilot)
        screen = "\n".join(painted(shown))
        assert "destroy: VM" in screen and "[red]x[/nope]" in screen
        assert harmless(screen)


async def test_an_error_of_another_kind_is_a_banner_too_and_is_tried_again() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        banner = shown.query_one("#banner")
        source.inbox.put_nowait(Update(2, False, ("rubbish",)))  # type: ignore[arg-type]
        await until(pilot, lambda: banner.display, "the banner")
        assert shown.table.stale
        await pilot.press("r")
        await until(pilot, lambda: not banner.display, "the end of the banner")


async def test_after_a_reconnect_no_event_stands_there_twice() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        source.inbox.put_nowait(None)
        await until(pilot, lambda: not shown.connected, "the end of the connection")
        await pilot.press("r")
        await until(pilot, lambda: shown.connected, "the new connection")
        await settle(pilot)
        assert sum("teaching active" in line for line in painted(shown)) == 1


async def test_the_cursor_keeps_its_place_on_the_screen_when_lines_come_above() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 30)) as pilot:
        await settle(pilot)
        await pilot.press("end", *["up"] * 5)
        await settle(pilot)
        key, before = shown.table.cursor_key, painted(shown)
        assert key is not None
        source.inbox.put_nowait(Update(2, False, tuple(_newer(source, n) for n in range(3))))
        await settle(pilot)
        assert shown.table.cursor_key == key
        assert before[3].split()[0] == painted(shown)[3].split()[0]


def _newer(source: Scripted, n: int) -> dict[str, Any]:
    first = next(item for item in source._items.values() if item["table"] == "workspaces")
    more = {"id": f"new{n}", "name": f"aaa{n}", "created": f"2999-01-01T00:00:0{n}.0Z"}
    return {**first, **more, "vms": [], "slots": [], "state": "pending"}


async def test_enter_shows_the_details_on_the_whole_width_and_goes_back() -> None:
    shown, _ = app()
    async with shown.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert not shown.query_one(Detail).display
        await pilot.press("home", "enter")
        await settle(pilot)
        assert shown.query_one(Detail).display and not shown.table.display
        assert any("All or nothing" in line for line in painted(shown))
        await pilot.press("enter")
        await settle(pilot)
        assert shown.table.display and shown.focused is shown.table


async def test_a_click_selects_and_its_mark_folds() -> None:
    shown, _ = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        count = len(shown.table.keys)
        await pilot.click("#tree", offset=(1, 1))
        await settle(pilot)
        assert shown.table.cursor_key == shown.table.keys[0]
        assert len(shown.table.keys) < count


async def test_a_site_without_leases_says_what_to_do() -> None:
    shown, source = app()
    source._items.clear()
    async with shown.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert any("Press n to build" in line for line in painted(shown))
        await pilot.press("d", "enter", "left", "right", "down", "end")
        await settle(pilot)


@pytest.mark.parametrize("name", ["ansi-dark", "textual-light", "nord"])
async def test_textuals_own_themes_can_be_chosen(name: str) -> None:
    shown, _ = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        shown.theme = name
        await settle(pilot)
        assert any("mpi-2026" in line for line in painted(shown))


async def test_a_terminal_with_nothing_but_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "linux")
    look.ascii_only.cache_clear()
    try:
        shown, _ = app()
        async with shown.run_test(size=(120, 40)) as pilot:
            await settle(pilot)
            text = "\n".join(lines(shown)) + str(shown.main.detail._page.render())
            assert text.isascii() and "o booting" in text and "v mpi-2026" in text
    finally:
        look.ascii_only.cache_clear()


async def test_without_colour_phases_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shown, _ = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        screen = "\n".join(painted(shown))
        assert "#" in screen and "==" in screen and "● running" in screen


async def test_every_dialog_opens_in_the_smallest_terminal() -> None:
    shown, _ = app()
    async with shown.run_test(size=(20, 5)) as pilot:
        await settle(pilot)
        for key in ("d", "n", "question_mark", "enter"):
            await pilot.press(key)
            await settle(pilot)
            await pilot.press("escape")
            await settle(pilot)
        await pilot.resize_terminal(200, 60)
        await settle(pilot)
        assert any("mpi-2026" in line for line in painted(shown))


async def test_what_is_typed_behind_the_first_slash_is_the_filter() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("slash")
        await settle(pilot)
        await pilot.press(*"osg")
        await settle(pilot)
        assert shown.main.how.filter.text == "osg" and not shown.main.how.sort
        assert shown.table.cursor_key == key_of(source, "osg")


async def test_a_bar_stands_where_its_view_is_from_the_first_frame_on() -> None:
    for _ in range(8):  # whether bar or place came first was a matter of chance
        shown, _ = app()
        async with shown.run_test(size=(80, 24)) as pilot:
            await settle(pilot)
            strip = shown.main.strip
            assert strip.scroll_y == strip.max_scroll_y > 0
            assert strip.vertical_scrollbar.position == strip.scroll_y

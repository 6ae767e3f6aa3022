"""The terminal interface through Textual's pilot: what is seen, and what is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from textual.widgets import Button, Input, Static

from wspilot.client import Update
from wspilot.errors import NoDaemon
from wspilot.tui.app import WspilotApp
from wspilot.tui.demo import DemoSource
from wspilot.tui.live import LiveModel
from wspilot.tui.screens.confirm import Confirm
from wspilot.tui.screens.deploy import Deploy
from wspilot.tui.widgets.detail import Detail
from wspilot.tui.widgets.events import Events

HOSTILE = "\x1b]0;pwned\x07\x1b[31m[red]x[/nope]\x9b2J"


class Scripted(DemoSource):
    """The demo's site, standing still, with a record of what was asked; it may go away."""

    def __init__(self) -> None:
        super().__init__(step_s=3600)
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.alive = asyncio.Event()
        self.alive.set()
        self.inbox: asyncio.Queue[Update | None] = asyncio.Queue()

    async def updates(self) -> AsyncIterator[Update]:
        if not self.alive.is_set():
            raise NoDaemon("no daemon runs here", "start one: wspilot daemon --detach")
        yield Update(1, True, tuple(dict(item) for item in self._items.values()))
        while (update := await self.inbox.get()) is not None:
            yield update
        raise NoDaemon("the connection has ended", "start it again")

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self.calls.append((method, params))
        answer = await super().call(method, **params)
        while not self._out.empty():
            changed, gone = self._out.get_nowait()
            self.inbox.put_nowait(Update(2, False, tuple(changed), tuple(gone)))
        return answer


def app() -> tuple[WspilotApp, Scripted]:
    source = Scripted()
    return WspilotApp(source), source


async def settle(pilot: Any, seconds: float = 0.6) -> None:
    await pilot.pause(seconds)


def lines(shown: WspilotApp) -> list[str]:
    table = shown.table
    return [table.render_line(y).text.rstrip() for y in range(table.size.height)]


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
        await pilot.pause()
        assert destroy.disabled
        shown.screen.query_one(Input).value = "mpi-2026"
        await pilot.pause()
        await pilot.click("#destroy")
        await settle(pilot)
        method, params = source.calls[-1]
        assert method == "destroy" and f"workspaces/{params['ids'][0]}" == key


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
        assert f"vms/{source.calls[-1][1]['ids'][0]}" == shown.table.cursor_key


async def test_a_daemon_that_goes_leaves_a_banner_and_comes_back() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        source.alive.clear()
        source.inbox.put_nowait(None)
        await settle(pilot)
        banner = shown.query_one("#banner", Static)
        assert banner.display and "old" in str(banner.render())
        assert shown.table.stale and any("mpi-2026" in line for line in lines(shown))
        source.alive.set()
        await pilot.press("r")
        await settle(pilot)
        assert not banner.display and not shown.table.stale


async def test_no_daemon_at_all_is_said_and_not_a_traceback() -> None:
    shown, source = app()
    source.alive.clear()
    async with shown.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert "wspilot daemon --detach" in str(shown.query_one("#banner", Static).render())


async def test_deploying_an_example_shows_its_plan_first() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("n")
        await settle(pilot)
        assert isinstance(shown.screen, Deploy)
        assert source.calls[-1][1]["dry_run"] is True
        plan = str(shown.screen.query_one("#plan", Static).render())
        assert "node hours" in plan and "[[group]]" in plan
        await pilot.press("ctrl+s")
        await settle(pilot, 1.0)
        assert source.calls[-1][0] == "deploy" and "dry_run" not in source.calls[-1][1]
        assert shown.table.cursor_key == f"workspaces/{_newest(source)}"


def _newest(source: Scripted) -> str:
    spaces = [item for item in source._items.values() if item["table"] == "workspaces"]
    return str(max(spaces, key=lambda ws: ws["created"])["id"])


async def test_a_bad_file_is_told_in_words_and_cannot_be_deployed(tmp_path: Any) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("[[group]\n")
    shown, _ = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("n")
        await settle(pilot)
        path = shown.screen.query_one("#path", Input)
        path.value = str(bad)
        path.focus()
        await pilot.press("enter")
        await settle(pilot)
        assert "bad.toml" in str(shown.screen.query_one("#plan", Static).render())
        assert shown.screen.query_one("#deploy", Button).disabled


async def test_hostile_names_are_shown_and_never_interpreted() -> None:
    shown, source = app()
    for item in source._items.values():
        for key in ("name", "cause", "text", "node", "waits_for"):
            if key in item and item["table"] != "status":
                item[key] = HOSTILE
    async with shown.run_test(size=(160, 50)) as pilot:
        await settle(pilot)
        await pilot.press("down", "down", "d")
        await settle(pilot)
        await pilot.press("escape")
        await settle(pilot)
        events = shown.query_one(Events)
        said = [events.render_line(y).text for y in range(events.size.height)]
        drawn = "\n".join(lines(shown)) + "\n".join(said)
        assert all("[red]x[/nope]" in line for line in said[:4])
        drawn += str(shown.query_one(Detail).query_one(Static).render())
        assert "[red]x[/nope]" in drawn
        assert not any(char in drawn for char in "\x1b\x07\x9b")


async def test_q_quits_at_once() -> None:
    shown, _ = app()
    async with shown.run_test() as pilot:
        await settle(pilot, 0.1)
        await pilot.press("q")
        await pilot.pause()
        assert not shown.is_running


async def test_read_only_hides_what_would_change_something() -> None:
    source = Scripted()
    shown = WspilotApp(source, read_only=True)
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
        await pilot.pause()
        assert before == "night" and shown.theme == "day"


def test_ten_thousand_vms_are_a_list_of_keys() -> None:
    vms = [
        {"table": "vms", "id": f"v{n:05d}", "workspace": "w", "group": "vm", "index": n}
        for n in range(10_000)
    ]
    ws = {
        "table": "workspaces",
        "id": "w",
        "name": "big",
        "state": "active",
        "created": "x",
        "vms": [vm["id"] for vm in vms],
        "slots": [],
        "groups": [{"name": "vm"}],
    }
    model = LiveModel()
    model.apply(Update(1, True, (ws, *vms)))
    keys = model.keys()
    assert len(keys) == 10_002
    model.apply(Update(2, False, ({**vms[5], "state": "running"},)))
    assert model.keys() is keys  # a state alone moves nothing

"""What only the palette has: themes to look at, the density, the job script; and times in logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.tui.eyes import at, ready, until, until_gone, until_seen, until_told
from tests.tui.stage import Scripted, app, painted
from wspilot.errors import Refused
from wspilot.tui.app import WspilotApp
from wspilot.tui.habits import Memory
from wspilot.tui.screens.paper import Paper


async def test_a_theme_is_shown_under_the_cursor_and_esc_takes_it_back(tmp_path: Path) -> None:
    shown, _ = app()
    shown.memory = Memory(tmp_path / "kept.json")
    async with shown.run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        await pilot.press("colon", *"theme: ")
        await until(pilot, lambda: shown.theme != "night", "a theme under the cursor")
        first = shown.theme
        await pilot.press("down")
        await until(pilot, lambda: shown.theme not in (first, "night"), "the next theme")
        await pilot.press("escape", "escape")
        await until(pilot, lambda: shown.screen is shown.main)
        await until(pilot, lambda: shown.theme == "night", "the theme before")
        assert not (tmp_path / "kept.json").exists()


async def test_a_command_that_is_no_theme_takes_it_back_too() -> None:
    shown, _ = app()
    async with shown.run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        await pilot.press("colon", *"theme: ")
        await until(pilot, lambda: shown.theme != "night")
        await pilot.press(*["backspace"] * 7, *"sort left")
        await until(pilot, lambda: shown.theme == "night")


async def test_a_theme_that_is_chosen_stays_and_is_kept(tmp_path: Path) -> None:
    shown, _ = app()
    shown.memory = Memory(tmp_path / "kept.json")
    async with shown.run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        await pilot.press("colon", *"theme: paper")
        await until(pilot, lambda: shown.theme == "paper")
        await pilot.press("enter")
        await until(pilot, lambda: shown.screen is shown.main)
        await until(pilot, (tmp_path / "kept.json").exists)
        assert shown.theme == "paper"
    assert json.loads((tmp_path / "kept.json").read_text()) == {"theme": "paper"}


async def test_compact_gives_lines_to_the_table_and_is_kept(tmp_path: Path) -> None:
    shown, _ = app()
    shown.memory = Memory(tmp_path / "kept.json")
    async with shown.run_test(size=(120, 30)) as pilot:
        await ready(pilot)
        height = shown.table.size.height
        await pilot.press("colon", *"density: compact", "enter")
        await until(pilot, lambda: shown.table.size.height >= height + 5, "more lines")
    again, _ = app()
    again.memory = Memory(tmp_path / "kept.json")
    async with again.run_test(size=(120, 30)) as pilot:
        await ready(pilot)
        assert again.table.size.height >= height + 5
        await pilot.press("colon", *"density: standard", "enter")
        await until(pilot, lambda: again.table.size.height == height, "as it was")


async def script_asked_for(pilot: Any, shown: WspilotApp, source: Scripted) -> None:
    """By the palette, of a lease; its page is there."""
    await ready(pilot)
    await at(pilot, source, "mpi-2026")
    await pilot.press("colon", *"job script", "enter")
    await until(pilot, lambda: isinstance(shown.screen, Paper))


async def test_the_job_script_for_a_lease_is_asked_for_and_shown() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await script_asked_for(pilot, shown, source)
        await until_seen(pilot, "#PBS -l nodes=8")
        method, params = source.calls[-1]
        assert method == "deploy" and params["show_script"] is True and "token" not in params
        assert "name" not in params["ensemble"]["workspace"]


async def test_the_job_script_is_the_one_that_was_submitted_where_there_is_one() -> None:
    shown, source = app()
    call = source.call

    async def answered(method: str, **params: Any) -> dict[str, Any]:
        found = await call(method, **params)
        log = {"slot": "s1", "name": "job.sh", "text": "#PBS -l nodes=99\x1b[2J"}
        return {"logs": [*found["logs"], log]} if method == "logs" else found

    source.call = answered  # type: ignore[method-assign]
    async with shown.run_test(size=(120, 40)) as pilot:
        await script_asked_for(pilot, shown, source)
        await until_seen(pilot, "mpi-2026: the job script, as submitted")
        await until_seen(pilot, "#PBS -l nodes=99")
        await until(pilot, lambda: "Wrap" in painted(shown)[-1] and "Copy" in painted(shown)[-1])
        for dead in ("Older", "Newer", "Only these", "Follow", "Save"):
            assert dead not in painted(shown)[-1], "it stands still: there is no such thing"
        assert source.calls[-1][0] == "logs", "nothing was asked of the batch system"


async def test_a_job_script_that_is_refused_is_said() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await at(pilot, source, "mpi-2026")
        source.refusal = Refused("the disk is full", "free some")
        await pilot.press("colon", *"job script", "enter")
        await until_told(pilot, "no job script: the disk is full")


async def test_times_before_the_lines_of_a_log_go_and_come() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await at(pilot, source, "genomes/worker/1")
        await pilot.press("enter")
        shown.main.detail.turn("Console")
        await until_seen(pilot, "[    1.204417] eth0: link up")
        await until(pilot, lambda: shown.main.detail.lines.has_focus)
        await pilot.press("T")
        await until_gone(pilot, "1.204417")
        await until_seen(pilot, "eth0: link up")
        await pilot.press("T")
        await until_seen(pilot, "[    1.204417] eth0: link up")


def test_only_a_time_is_taken_for_one() -> None:
    from wspilot.tui.widgets.lineview import _STAMP

    for line in (
        "2026-11-27T12:00:01Z up",
        "2026-11-27 12:00:01,123 up",
        "12:00:01.5 up",
        "[  0.1] up",
    ):
        assert _STAMP.sub("", line) == "up"
    for line in ("[warning] up", "12 up", "at 12:00:01 up", "10.77.0.1 up"):
        assert _STAMP.sub("", line) == line

"""The views: filter, sorting, columns and what of them is kept; history, slots, nodes, events, the
timeline; and what the first and the last lines say."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.tui.eyes import Still, at, ready, until, until_gone, until_seen, until_told
from tests.tui.stage import HOSTILE, Scripted, app, harmless, key_of, lines, painted, told
from tests.tui.test_hostile import WIDE, poison
from wspilot.client import Update
from wspilot.messages import rfc3339
from wspilot.tui import lines as says
from wspilot.tui import look
from wspilot.tui.app import WspilotApp
from wspilot.tui.habits import Memory
from wspilot.tui.live import LiveModel
from wspilot.tui.screens.base import Base
from wspilot.tui.screens.choose import Choose
from wspilot.tui.screens.columns import Columns
from wspilot.tui.views import VIEWS
from wspilot.tui.widgets import treetable
from wspilot.tui.widgets.detail import PAGES, Detail
from wspilot.tui.words import seconds_of


def plain(name: str) -> str:
    """A colour's name as its style, to see which was taken."""
    return {"error": "red", "warning": "yellow"}.get(name, "")


def model(**status: Any) -> LiveModel:
    """The demo's site, with another status."""
    source, made = Still(), LiveModel()
    source._items["status/daemon"].update(status)
    made.apply(Update(1, True, tuple(source._items.values())))
    return made


# -- the filter


async def test_a_filter_counts_holds_through_views_and_esc_takes_it_off() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        every = len(shown.table.keys)
        await pilot.press("slash", *"state:paused")
        await until(pilot, lambda: shown.outline.found == 1)
        await until_seen(pilot, f"1/{shown.outline.all}")
        assert [key for key in shown.table.keys if key.startswith("vms/")] == [
            f"vms/{source._items[key]['id']}"
            for key in source._items if source._items[key].get("state") == "paused"
        ]  # fmt: skip
        await pilot.press("enter", "2", "1")
        await until(pilot, lambda: shown.main.how.view == "leases")
        await until(pilot, lambda: shown.outline.found == 1)
        await pilot.press("escape")
        await until(pilot, lambda: len(shown.table.keys) == every)


async def test_what_a_filter_hides_is_said_where_nothing_is_left() -> None:
    shown, _ = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await pilot.press("slash", *"nosuchthing[", "enter")
        await until_seen(pilot, "The filter hides")
        await pilot.press("escape")
        await until_gone(pilot, "The filter hides")


async def test_one_state_is_chosen_with_its_count() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        booting = [one["id"] for one in source._items.values()
                   if one["table"] == "vms" and one["state"] == "booting"]  # fmt: skip
        await pilot.press("v")
        await until(pilot, lambda: isinstance(shown.screen, Choose))
        await until_seen(pilot, f"booting  {len(booting)}")
        await pilot.press("enter")
        await until(pilot, lambda: len(shown.screen_stack) == 1)
        await until(pilot, lambda: sum(one.startswith("vms/") for one in shown.table.keys)
                    == len(booting))  # fmt: skip
        assert shown.main.how.filter.text == "state:^booting$"


# -- sorting and columns


async def test_sorting_and_columns_are_kept_for_the_next_session(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    shown = WspilotApp(Still(), memory=Memory(path))
    async with shown.run_test(size=(160, 50)) as pilot:
        await ready(pilot)
        await pilot.press("3")
        await until_seen(pilot, "SKEW")
        first = shown.table.keys[0]
        await pilot.press("greater_than_sign")
        await until_seen(pilot, "NODE ▴")
        await pilot.press("s")
        await until(pilot, lambda: isinstance(shown.screen, Choose))
        await pilot.press("enter")  # the same again turns it round
        await until_seen(pilot, "NODE ▾")
        await until(pilot, lambda: shown.table.keys[-1] == first)
        await pilot.press("c")
        await until(pilot, lambda: isinstance(shown.screen, Columns))
        await pilot.press("space", "enter")
        await until(pilot, lambda: len(shown.screen_stack) == 1)
        await until(pilot, lambda: "STATE" not in lines(shown)[0])
        await pilot.press("b")
    kept = json.loads(path.read_text())
    assert kept == {"sort.nodes": "-name", "hidden.nodes": ["state"], "strip": False}
    again = WspilotApp(Still(), memory=Memory(path))
    async with again.run_test(size=(160, 50)) as pilot:
        await ready(pilot)
        assert not again.main.strip.display
        await pilot.press("3")
        await until(pilot, lambda: "NODE ▾" in lines(again)[0])
        assert "STATE" not in lines(again)[0] and again.table.keys[-1] == first
        for _ in range(20):
            await pilot.press("less_than_sign")
            if not again.main.how.sort:
                break
        assert not again.main.how.sort


@pytest.mark.parametrize("text", ["{", "[1]", '{"theme": 3, "sort.nodes": {}, "strip": "no"}'])
async def test_a_broken_kept_json_is_forgotten(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kept.json"
    path.write_text(text)
    shown = WspilotApp(Still(), memory=Memory(path))
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await pilot.press("3", "c", "escape", "1")
        assert shown.theme == "night" and shown.main.strip.display
        await pilot.press("t")
        await until(pilot, lambda: json.loads(path.read_text())["theme"] == "day")


async def test_an_unknown_theme_is_said_with_those_that_there_are() -> None:
    memory = Memory()
    memory.keep("theme", "nosuch[/b]")
    shown = WspilotApp(Still(), memory=memory)
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        said = await until_told(pilot, "there is no theme 'nosuch[/b]'")
        assert "night" in said and shown.theme == "night"


# -- the views


@pytest.mark.parametrize(
    ("view", "wanted"),
    [
        ("slots", ["LRM SAYS", "queued", "4768.head"]),
        ("nodes", ["TAKEN", "silent for 90 s", "node38"]),
        ("events", ["LEVEL", "genomes degraded", "WHERE"]),
        ("timeline", ["mpi-2026", "now"]),
        ("history", ["OUTCOME", "preempted", "image `default2` is not in the repository"]),
    ],
)
async def test_a_view_shows_what_it_promises(view: str, wanted: list[str]) -> None:
    shown, _ = app()
    async with shown.run_test(size=(200, 50)) as pilot:
        await ready(pilot)
        await pilot.press(VIEWS[view].key)
        for words in wanted:
            await until_seen(pilot, words)


async def test_how_and_why_a_lease_ended_is_read_in_a_narrow_terminal() -> None:
    shown, _ = app()
    async with shown.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await pilot.press("6")
        await until(pilot, lambda: any("paper-fig2" in line for line in lines(shown)))
        line = next(line for line in lines(shown) if "paper-fig2" in line)
        assert "✖ preempted" in line and "1h30m" in line and "SIGTERM from the b" in line, line


@pytest.mark.parametrize(
    ("width", "keys", "hidden", "said"),
    [
        (200, "1", "", ["15m", "waits for its node"]),
        (200, "1", "age", ["waits 15m for the batch"]),
        (80, "1", "", ["waits 15m for"]),
        (200, "2", "", ["15m", "waits for the"]),
    ],
)
async def test_since_when_it_waits_is_said_and_only_once(
    width: int, keys: str, hidden: str, said: list[str]
) -> None:
    shown, _ = app()
    shown.memory.keep("hidden.leases", [hidden])
    async with shown.run_test(size=(width, 40)) as pilot:
        await ready(pilot)
        await pilot.press(*keys, "end", "home")
        await until(pilot, lambda: any(said[-1] in line for line in lines(shown)), said[-1])
        line = next(line for line in lines(shown) if said[-1] in line)
        assert line.count("15m") == 1 and all(one in line for one in said), line


@pytest.mark.parametrize("width", [80, 120, 200])
async def test_a_running_vms_address_is_in_its_line_at_every_width_and_once(width: int) -> None:
    shown, _ = app()
    async with shown.run_test(size=(width, 60)) as pilot:
        await ready(pilot)
        await until(pilot, lambda: any("worker/1" in line for line in lines(shown)))
        line = next(line for line in lines(shown) if "worker/1" in line)
        assert line.count("10.77.0.47") == 1, line


async def test_events_follow_their_end_until_one_goes_up() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await pilot.press("4")
        await until(pilot, lambda: shown.main.how.view == "events")
        for n in range(3):
            source.inbox.put_nowait(Update(n + 2, False, (source._event("you", f"news {n}", {}),)))
        await until_seen(pilot, "news 2")
        last = shown.table.keys[-1]
        await until(pilot, lambda: shown.table.cursor_key == last)
        await pilot.press("up")
        here = shown.table.cursor_key
        source.inbox.put_nowait(Update(9, False, (source._event("you", "news 3", {}),)))
        await until(pilot, lambda: shown.table.keys[-1] != last)
        assert shown.table.cursor_key == here


async def test_the_events_of_the_selection_alone() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await until_seen(pilot, "teaching active")
        await at(pilot, source, "genomes")
        await pilot.press("f")
        await until_seen(pilot, "Events of genomes")
        await until_gone(pilot, "teaching active")
        await pilot.press("f")
        await until_seen(pilot, "teaching active")


async def test_the_events_of_the_selection_are_what_the_view_of_events_shows() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40), notifications=True) as pilot:
        await ready(pilot)
        await at(pilot, source, "genomes")
        await pilot.press("f", "4")
        await until(pilot, lambda: shown.main.how.view == "events")
        about = shown.model.about(key_of(source, "genomes"))
        meant = [f"events/{id}" for id, one in shown.model.items["events"].items() if about(one)]
        await until(pilot, lambda: shown.table.keys == meant, "its events alone")
        await pilot.press("1")
        await until_seen(pilot, "Events of genomes")
        await pilot.press("4", "f")
        await until(pilot, lambda: len(shown.table.keys) > len(meant), "all events")
        await pilot.press("1")
        await until_gone(pilot, "Events of genomes")


async def test_on_an_event_what_it_is_about_is_followed() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40), notifications=True) as pilot:
        await ready(pilot)
        await pilot.press("4")
        key = next(f"events/{one['id']}" for one in source._items.values()
                   if one["table"] == "events" and one["vm"])  # fmt: skip
        shown.table.select(key)
        await until(pilot, lambda: shown.table.cursor_key == key)
        await pilot.press("f")
        vm = source._items[key]["vm"]
        await until(pilot, lambda: shown.main.how.about == f"vms/{vm}")
        await until(pilot, lambda: key in shown.table.keys and len(shown.table.keys) < 4)
        await pilot.press("f")
        none = next(
            f"events/{one['id']}"
            for one in source._items.values()
            if one["table"] == "events" and not shown.model.subject(f"events/{one['id']}")
        )
        shown.table.select(none)
        await until(pilot, lambda: shown.table.cursor_key == none)
        await pilot.press("f")
        await until_told(pilot, "Nothing here has events of its own")
        assert not shown.main.how.about


async def test_nothing_that_happened_to_the_selection_is_not_nothing_at_all() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await at(pilot, source, "teaching/student/3")
        for key, item in list(shown.model.items["events"].items()):
            if item["slot"] or item["vm"]:
                del shown.model.items["events"][key]
        await pilot.press("f")
        await until_seen(pilot, "No events of")
        await pilot.press("4")
        await until(pilot, lambda: not shown.table.keys)
        await until_seen(pilot, "f shows all events")
        assert "No events yet" not in "\n".join(painted(shown))


@pytest.mark.parametrize("plain", [False, True], ids=["utf8", "ascii"])
async def test_the_signs_of_the_timeline_are_told_in_80_columns(
    plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plain:
        monkeypatch.setenv("TERM", "linux")
        look.ascii_only.cache_clear()
    shown, source = app()
    legend = [f"{look.chart(kind)} {word}" for kind, word, _ in look.LEGEND]
    utf8, ascii = ("░ waits ▓ phase █ up ▒ paused/unknown ┈ ahead ▐ end ✖ lost",
                   ". waits + phase = up % paused/unknown - ahead ] end X lost")  # fmt: skip
    assert " ".join(legend) == (ascii if plain else utf8)
    async with shown.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await at(pilot, source, "mpi-2026/rank/1")
        assert legend[-1] not in "\n".join(painted(shown))
        await pilot.press("5")
        await until_seen(pilot, " ".join(legend))
        shown.table.select(key_of(source, "mpi-2026"))
        await pilot.press("f")
        await until_seen(pilot, f" Of mpi-2026  {' '.join(legend)}")
        await pilot.press("1")
        await until_gone(pilot, legend[-1])


async def test_the_timeline_zooms_pans_and_comes_back() -> None:
    shown, _ = app()
    async with shown.run_test(size=(160, 50)) as pilot:
        await ready(pilot)
        await pilot.press("5")
        await until_seen(pilot, "now")
        chart = shown.main.timeline
        start, seconds = chart.window().start, chart.window().seconds
        await pilot.press("plus")
        assert chart.window().seconds < seconds
        await pilot.press("minus")
        assert chart.window().seconds == seconds
        await pilot.press("less_than_sign", "comma")
        assert chart.window().start < start - seconds / 4
        for _ in range(8):
            await pilot.press("comma")
        await until(pilot, lambda: "now" not in lines(shown)[0])
        await pilot.press("0")
        await until(pilot, lambda: "now" in lines(shown)[0])
        await pilot.press("F")
        window = chart.window()
        oldest = min(shown.model.items["workspaces"].values(), key=lambda ws: (
            ws["state"] == "ended", ws["created"]))  # fmt: skip
        assert window.start < seconds_of(oldest["created"]) < window.start + window.seconds


async def test_a_line_that_has_just_come_is_marked_and_what_is_unfolded_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(treetable, "FRESH_S", 60.0)
    shown, source = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await pilot.press("home", "left")
        await until(pilot, lambda: shown.table.keys[1].startswith("workspaces/"))
        await pilot.press("right")
        await until(pilot, lambda: shown.table.keys[1].startswith("groups/"))
        assert not any(line.startswith("•") for line in lines(shown))
        first = next(one for one in source._items.values() if one["table"] == "workspaces")
        ws = {**first, "id": "new1", "name": "aaa", "vms": [], "slots": [], "state": "pending",
              "created": "2999-01-01T00:00:00.0Z"}  # fmt: skip
        source.inbox.put_nowait(Update(2, False, (ws,)))
        await until(pilot, lambda: shown.table.keys[0] == "workspaces/new1")
        await pilot.press("home")  # the cursor had kept its place
        await until(pilot, lambda: any(line.startswith("•") and "aaa" in line
                                       for line in lines(shown)))  # fmt: skip


async def paused_before_news(pilot: Any, shown: WspilotApp, source: Scripted) -> None:
    """The screen is held, and something has come since."""
    await ready(pilot)
    await pilot.press("p")
    await until_seen(pilot, "PAUSED")
    source.inbox.put_nowait(Update(2, False, (source._event("you", "news", {}),)))
    await until(pilot, lambda: any(one["text"] == "news" for one in
                                   shown.model.items["events"].values()))  # fmt: skip


async def test_pause_holds_the_screen_and_says_so() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await paused_before_news(pilot, shown, source)
        assert not any("news" in line for line in painted(shown))
        await pilot.press("p")
        await until_seen(pilot, "news")


async def test_what_is_asked_for_is_shown_though_the_screen_is_paused() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await paused_before_news(pilot, shown, source)
        for press, kind in (("3", "nodes/"), ("2", "slots/"), ("1", "workspaces/")):
            await pilot.press(press)
            await until(pilot, lambda kind=kind: shown.table.keys[0].startswith(kind), kind)
        count = len(shown.table.keys)
        await pilot.press("z")
        await until(pilot, lambda: len(shown.table.keys) < count, "all folded")
        await pilot.press("slash", *"osg", "enter")
        await until(pilot, lambda: shown.table.keys == [key_of(source, "osg")], "the filter's")


# -- what is not drawn


def count(monkeypatch: pytest.MonkeyPatch, owner: type[Any], name: str) -> list[Any]:
    """The first arguments of every call from now on."""
    calls: list[Any] = []
    real = getattr(owner, name)

    def counted(self: Any, *args: Any, **more: Any) -> Any:
        calls.append(args)
        return real(self, *args, **more)

    monkeypatch.setattr(owner, name, counted)
    return calls


async def test_lines_of_young_vms_are_painted_again_in_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown, source = app()
    for item in source._items.values():
        item["since"] = rfc3339(source.now - 20)
    async with shown.run_test(size=(160, 40)) as pilot:
        await ready(pilot)
        await until_seen(pilot, " 20s ")
        await pilot.pause(0.2)
        assert sum(" 20s" in one for one in lines(shown)) > 10
        seen = count(monkeypatch, treetable.TreeTable, "_line")
        for _ in range(4):
            source.now += 1
            shown.main._each_second()
            await pilot.pause(0.1)
        assert len(seen) < 4  # 23 s are shown as 20 s; what ends soon counts seconds
        source.now += 1
        shown.main._each_second()
        await until(pilot, lambda: len(seen) > 10)
        await until_seen(pilot, " 25s ")


async def test_the_details_are_drawn_for_their_own_news_and_not_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Base, "_each_second", lambda _: None)  # that draws them, too
    shown, source = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await at(pilot, source, "mpi-2026/rank/1")
        await until(pilot, lambda: "mpi-2026/rank/1" in str(shown.main.detail._text))
        drawn = count(monkeypatch, Detail, "show")
        flushed = count(monkeypatch, treetable.TreeTable, "show")
        other = {**source._items[key_of(source, "mpi-2026/rank/2")], "cause": "other news"}
        source.inbox.put_nowait(Update(2, False, (other,)))
        await until(pilot, lambda: flushed)
        assert not drawn
        mine = {**source._items[key_of(source, "mpi-2026/rank/1")], "cause": "my news"}
        source.inbox.put_nowait(Update(3, False, (mine,)))
        await until(pilot, lambda: drawn)
        await until_seen(pilot, "my news")


# -- the first and the last lines


@pytest.mark.parametrize("size", [(80, 24), (60, 20), (120, 40), (200, 60)])
async def test_capacity_and_the_site_are_there_at_every_width(size: tuple[int, int]) -> None:
    shown, _ = app()
    async with shown.run_test(size=size) as pilot:
        await ready(pilot)
        up, of = shown.model.running()
        wide = size[0] >= 110
        await until_seen(pilot, f"{up} of {of} VMs running" if wide else f"{up}/{of} up")
        first = painted(shown)[0]
        assert ("━" in first) and ("▲ 1 node" in first) and ("◑ 1" in first)


def test_the_first_line_gives_up_words_before_it_is_cut() -> None:
    made = model()
    texts = [says.summary(made, [], plain, room).plain for room in (200, 70, 30)]
    assert "ended" in texts[0] and "provisioning" in texts[1] and "ended" not in texts[1]
    assert "provisioning" not in texts[2] and "◑ 1" in texts[2] and len(texts[2]) <= 32


def styles(made: LiveModel, now: float, wide: bool = False) -> tuple[str, set[str]]:
    """(what the last line says, the colours in it)."""
    text = says.daemon(made, now, plain, wide)
    return text.plain, {str(span.style) for span in text.spans if span.style}


def test_the_last_line_is_amber_when_old_and_red_when_failing() -> None:
    now = float(int(time.time()))
    poll = {"ok": True, "at": rfc3339(now), "text": ""}
    spool = {"at": rfc3339(now - 7), "backlog": 0, "bad": 0, "text": ""}
    text, colours = styles(model(poll=poll, spool=spool), now, True)
    assert "torque asked <5s ago" in text and "spool read 5s ago" in text and not colours
    text, colours = styles(model(poll={**poll, "at": rfc3339(now - 900)}, spool=spool), now)
    assert "15m ago, long ago" in text and colours == {"yellow"}
    text, colours = styles(model(poll={**poll, "ok": False, "text": "qstat: 1"}, spool=spool), now)
    assert "failing: qstat: 1" in text and colours == {"red"}
    text, colours = styles(model(poll=poll, spool={**spool, "text": "EIO"}), now)
    assert "spool: EIO" in text and colours == {"red"}


def test_a_daemon_that_has_no_jobs_to_ask_about_is_not_late() -> None:
    now = float(int(time.time()))
    made = model(poll={"ok": True, "at": rfc3339(now - 900), "text": ""})
    assert styles(made, now)[1] == {"yellow"}
    for slot in made.items["slots"].values():
        slot["state"] = "released"
    assert not styles(made, now)[1]


def test_errors_of_the_last_hour_are_counted() -> None:
    now = time.time()
    made = model()
    assert "error" not in styles(made, now)[0]
    made.note("bad", "error", now - 60)
    made.note("worse", "error", now - 30)
    made.note("long ago", "error", now - 7200)
    text, colours = styles(made, now)
    assert "✖ 2 errors" in text and "red" in colours


async def test_the_footer_offers_only_what_there_is_something_for() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await at(pilot, source, "osg/ce/1")
        await until(pilot, lambda: "Destroy" in painted(shown)[-1])
        shown.table.select(next(key for key in shown.table.keys if key.startswith("slots/")))
        await until(pilot, lambda: "Destroy" not in painted(shown)[-1])
        assert " Act" not in painted(shown)[-1] and "Filter" in painted(shown)[-1]
        shown.table.select(next(key for key in shown.table.keys
                                if key in shown.outline.folded))  # fmt: skip
        await pilot.pause()
        assert "Destroy" not in painted(shown)[-1]


async def test_the_empty_word_is_not_flashed_before_the_first_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown, _ = app()
    seen: list[tuple[str, bool]] = []
    heard = shown.main.heard

    def spy(first: bool) -> None:
        heard(first)
        seen.append((shown.table.empty, bool(shown.table.keys)))

    monkeypatch.setattr(shown.main, "heard", spy)
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        assert seen[0][1]


# -- foreign text on every view and every page


@pytest.mark.parametrize("word", [HOSTILE, WIDE], ids=["hostile", "wide"])
async def test_every_view_and_page_with_strange_words(word: str) -> None:
    shown, source = app()
    poison(source, word)
    for item in source._items.values():
        if item["table"] == "events":
            item["data"] = {"argv": [word, word], "rc": word, "seconds": word}
        if item["table"] == "nodes":
            item.update(owes=[word], slots=[word])
    plain_call = source.call

    async def call(method: str, **params: Any) -> dict[str, Any]:
        if method == "logs":
            text = f"{word}\n" * 3
            return {"logs": [{"slot": word, "name": f"{kind}{word}", "text": text}
                             for kind in ("pilot-", "console-")]}  # fmt: skip
        return await plain_call(method, **params)

    source.call = call  # type: ignore[method-assign]
    sign = "[red]x[/nope]" if word is HOSTILE else "集群"
    async with shown.run_test(size=(160, 50), notifications=True) as pilot:
        await ready(pilot)
        for view in VIEWS.values():
            await pilot.press(view.key)
            await until(pilot, lambda name=view.name: shown.main.how.view == name)
            await until_seen(pilot, sign)
            for page in PAGES:
                shown.main.detail.turn(page)
                await pilot.pause()
                if page in ("Logs", "Console") and view.name == "leases":
                    await until(pilot, lambda: len(shown.main.detail.lines._lines) > 2)
                    assert any(sign in line for line in shown.main.detail.lines._lines)
                screen = "\n".join(painted(shown))
                assert harmless(screen), (view.name, page)
            shown.main.detail.turn("Overview")
        for press in ("v", "s", "c", "question_mark", "colon", "Y", "y"):
            await pilot.press(press)
            await pilot.pause()
            assert harmless("\n".join(painted(shown))), press
            await pilot.press("escape")
            await until(pilot, lambda: len(shown.screen_stack) == 1)
        assert not any("has failed" in one for one in told(shown))

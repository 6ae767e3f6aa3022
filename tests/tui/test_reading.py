"""What is read: the pages of the details, logs and consoles and what can be done in them, copies,
notices, and where a new workspace is shown."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input

from tests.tui.eyes import Still, at, ready, until, until_gone, until_seen, until_told
from tests.tui.stage import Scripted, app, key_of, painted, told
from tests.tui.test_acts import order
from wspilot.client import Update
from wspilot.errors import Refused
from wspilot.home import LockRecord, boot_id, write_record
from wspilot.messages import rfc3339
from wspilot.tui.app import WspilotApp
from wspilot.tui.habits import Taste
from wspilot.tui.live import SICK_NODES
from wspilot.tui.screens.ask import Ask
from wspilot.tui.source import ClientSource
from wspilot.tui.widgets.lineview import LineView


async def page(pilot: Any, name: str) -> None:
    """Turn to a page of the details."""
    for _ in range(8):
        if pilot.app.main.detail.page == name:
            return
        await pilot.press("right_square_bracket")
    raise AssertionError(name)


def log_of(shown: WspilotApp) -> LineView:
    return shown.main.detail.lines


# -- pages


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("osg", ["● active", "6 small", "VMs", "boot"]),
        ("osg/worker", ["6 VMs", "default", "mean of 6"]),
        ("osg/ce/1", ["10.77.0.17", "medium: 2 cpu", "Phases", "propagate"]),
        ("genomes/worker/5", ["? unknown", "has been silent for 90 s"]),
        ("night-run", ["All or nothing", "0/1 held", "0/4 up", "waits for"]),
    ],
)
async def test_the_overview_says_all(name: str, wanted: list[str]) -> None:
    shown, source = app()
    async with shown.run_test(size=(200, 60)) as pilot:
        await ready(pilot)
        await at(pilot, source, name)
        for words in wanted:
            await until_seen(pilot, words)


async def test_commands_are_shown_as_they_were_run() -> None:
    shown, source = app()
    async with shown.run_test(size=(200, 60)) as pilot:
        await ready(pilot)
        await at(pilot, source, "osg")
        ws = source._items[shown.table.cursor_key or ""]
        made = source._event("lrm", "qsub (rc 1, 0.5 s): no such queue", {})
        made.update(slot=ws["slots"][0], workspace=ws["id"],
                    data={"argv": ["qsub", "-N", "a b"], "rc": 1, "seconds": 0.5})  # fmt: skip
        source.inbox.put_nowait(Update(2, False, (made,)))
        await page(pilot, "Commands")
        for words in ("$ qsub -N 'a b'", "exit 1, 0.5 s", "no such queue"):
            await until_seen(pilot, words)
        await page(pilot, "Raw")
        await until_seen(pilot, '"name": "osg"')


async def test_events_page_tells_what_happened_newest_first() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 60)) as pilot:
        await ready(pilot)
        await at(pilot, source, "genomes")
        await page(pilot, "Events")
        await until_seen(pilot, "What happened, newest first")


# -- logs


class Logging(Still):
    """One log and one console, which grow."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = [f"line {n} {'odd' if n % 2 else 'even'}" for n in range(300)]

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        await super().call(method, **params)
        text = "\n".join(self.lines)
        console = {"slot": "s1", "name": "console-v1.log", "text": "login: \x1b[2J"}
        return {"logs": [{"slot": "s1", "name": "pilot-n1.log", "text": text}, console]}


async def reading(pilot: Any, source: Still) -> LineView:
    """The log of a VM has the focus."""
    await ready(pilot)
    await at(pilot, source, "osg/ce/1")
    await pilot.press("L")
    if pilot.app.size.width >= 110:  # else they have the whole width, and the focus, already
        await pilot.press("enter")
    view = log_of(pilot.app)
    await until(pilot, lambda: view.has_focus and len(view._lines) > 1, "the log")
    return view


async def test_logs_are_asked_for_the_selection_follow_and_stop_following() -> None:
    source = Logging()
    shown = WspilotApp(source)
    async with shown.run_test(size=(120, 40)) as pilot:
        view = await reading(pilot, source)
        vm = source.item("osg/ce/1")["id"]
        assert {params["id"] for params in source.asked("logs")} == {vm}
        await until_seen(pilot, "line 299")
        source.lines.append("line 300")
        await until_seen(pilot, "line 300")  # by itself, at the end
        await pilot.press("g")
        await until_seen(pilot, "==> s1/pilot-n1.log <==")
        source.lines.append("line 301")
        await until(pilot, lambda: view._lines[-1] == "line 301")
        assert not view.follows and not any("line 301" in one for one in painted(shown))
        await pilot.press("F")
        await until_seen(pilot, "line 301")
        assert "Older" in painted(shown)[-1]  # a log's own keys
        await pilot.press("right_square_bracket")
        await until_seen(pilot, "login: ")
        assert not any("\x1b" in line for line in painted(shown))


async def test_a_word_is_found_from_the_end_and_n_goes_on_and_round() -> None:
    source = Logging()
    shown = WspilotApp(source)
    async with shown.run_test(size=(120, 40)) as pilot:
        view = await reading(pilot, source)
        await pilot.press("slash", *"LINE 7")
        await until(pilot, lambda: view.word == "line 7")
        await pilot.press("enter")
        await until(pilot, lambda: view.has_focus)

        def stands() -> str:
            return view._lines[view._at or 0]

        assert stands().startswith("line 79 ")
        assert len(view._lines) == 301, "all lines stay"
        await pilot.press("n")
        assert stands().startswith("line 78 ")
        await pilot.press("N", "N")
        assert stands().startswith("line 7 ")  # round
        await until_seen(pilot, "line 7 odd")
        await pilot.press("o")
        assert len(view._lines) == 11 and len(source.asked("deploy")) == 0
        await pilot.press("o")
        assert len(view._lines) == 301
        assert len(shown.screen_stack) == 1, "n is not the builder here"


async def test_a_log_is_written_to_a_new_file_and_never_over_another(tmp_path: Path) -> None:
    source = Logging()
    shown = WspilotApp(source)
    async with shown.run_test(size=(120, 40)) as pilot:
        await reading(pilot, source)
        path = tmp_path / "mine.log"
        for words in (f"saved: {path}", f"not saved: {path}: File exists"):
            await pilot.press("W")
            await until(pilot, lambda: isinstance(shown.screen, Ask))
            await until(pilot, lambda: shown.screen.query(Input))
            assert shown.screen.query_one(Input).value.endswith("ce-1-logs.log")
            shown.screen.query_one(Input).value = str(path)
            await pilot.press("enter")
            await until_told(pilot, words)
        assert path.read_text().splitlines() == ["==> s1/pilot-n1.log <==", *source.lines]


async def test_who_may_only_look_writes_no_file(tmp_path: Path) -> None:
    source = Logging()
    shown = WspilotApp(source, read_only=True)
    async with shown.run_test(size=(120, 40)) as pilot:
        await reading(pilot, source)
        await pilot.press("W")
        await until_told(pilot, "read-only: nothing is written")
        assert len(shown.screen_stack) == 1


async def test_long_lines_are_folded_or_cut() -> None:
    source = Logging()
    source.lines = ["word " * 60 + "last"]
    shown = WspilotApp(source)
    async with shown.run_test(size=(80, 24)) as pilot:
        view = await reading(pilot, source)
        assert not any("last" in line for line in painted(shown)) and len(view._lines) == 2
        await pilot.press("w")
        await until_seen(pilot, "last")


async def test_logs_that_are_refused_say_why_and_what_has_none_says_so() -> None:
    source = Still()
    source.faults["logs"] = Refused("the spool is away [/x]", "wait")
    shown = WspilotApp(source)
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await at(pilot, source, "osg/ce/1")
        await pilot.press("L")
        await until_seen(pilot, "the spool is away [/x]. wait")
        await pilot.press("3")
        await until(pilot, lambda: (shown.table.cursor_key or "").startswith("nodes/"))
        await until_seen(pilot, "There are no logs of this.")
        source.faults.clear()
        await pilot.press("1")
        await until_seen(pilot, "It has written no log yet.")


# -- copies


async def copy(pilot: Any, shown: WspilotApp, key: str) -> str:
    """What a key sends to the terminal by OSC 52."""
    written: list[str] = []
    assert shown._driver is not None
    shown._driver.write = written.append  # type: ignore[method-assign]
    await pilot.press(key)
    await until(pilot, lambda: any("\x1b]52;c;" in one for one in written), "OSC 52")
    found = next(one for one in written if "\x1b]52;c;" in one)
    return base64.b64decode(found.partition("52;c;")[2].rstrip("\a")).decode()


@pytest.mark.parametrize(("name", "count"), [("osg/ce/1", 1), ("osg/worker", 6), ("osg", 8)])
async def test_addresses_go_to_the_clipboard(name: str, count: int) -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        key = await at(pilot, source, name)
        ips = [nic["ip"] for vm in shown.model.vms_of(key) for nic in vm["nics"]]
        assert await copy(pilot, shown, "y") == "\n".join(ips) and len(ips) == count
        await until_told(pilot, "copied address" if count == 1 else f"copied {count} addresses")


async def test_a_row_goes_to_the_clipboard_as_json() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        key = await at(pilot, source, "osg/ce/1")
        assert json.loads(await copy(pilot, shown, "Y")) == shown.model.doc(key)


async def test_a_group_goes_to_the_clipboard_as_its_part_of_the_workspace() -> None:
    shown, source = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await at(pilot, source, "osg/worker")
        group = json.loads(await copy(pilot, shown, "Y"))
        assert group in source._items[key_of(source, "osg")]["groups"] and group["name"] == "worker"


@pytest.mark.parametrize("press", ["y", "Y"])
async def test_where_there_is_nothing_to_copy_it_is_said(press: str) -> None:
    shown, _ = app()
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        shown.table.select(SICK_NODES)
        await until(pilot, lambda: shown.table.cursor_key == SICK_NODES)
        await pilot.press(press)
        await until_told(pilot, "There is nothing to copy here.")


# -- notices


async def ring(
    taste: Taste, change: Callable[[Scripted], dict[str, Any]], words: str
) -> tuple[int, list[str]]:
    """(how often the bell rang, what was told) after a change."""
    source, bells = Scripted(), [0]
    for item in source._items.values():
        if item["table"] == "workspaces" and item["ends"]:
            item["ends"] = rfc3339(source._now + 5000)
    shown = WspilotApp(source, taste=taste, clock=lambda: source._now)

    def bell() -> None:
        bells[0] += 1

    shown.bell = bell  # type: ignore[method-assign]
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await until(pilot, lambda: shown._watch and shown._watch._states)
        assert bells == [0] and not told(shown), "what stands there is no news"
        source.inbox.put_nowait(Update(2, False, (change(source),)))
        await until_told(pilot, words)
        return bells[0], told(shown)


def _turned(name: str, **fields: Any) -> Callable[[Scripted], dict[str, Any]]:
    def change(source: Scripted) -> dict[str, Any]:
        ws = next(one for one in source._items.values() if one["name"] == name)
        ends = rfc3339(source._now + fields["ends"]) if "ends" in fields else ws["ends"]
        return {**ws, **fields, "ends": ends}

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_turned("mpi-2026", state="active"), "mpi-2026 is active"),
        (_turned("osg", ends=500), "osg ends in"),
        (_turned("osg", state="degraded", cause="lost one"), "osg is degraded: lost one"),
        (_turned("osg", state="ended", outcome="preempted", cause="TERM"), "has ended, preempted"),
    ],
    ids=["active", "about to end", "degraded", "preempted"],
)
async def test_the_bell_rings_once_for_what_deserves_it(change: Any, words: str) -> None:
    bells, said = await ring(Taste(), change, words)
    assert bells == 1 and len(said) == 1


async def test_a_bell_that_is_not_wanted_is_silent_and_still_told() -> None:
    bells, said = await ring(Taste(bell=False), _turned("osg", ends=500), "osg ends in")
    assert bells == 0 and len(said) == 1


# -- after a deployment


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
async def test_a_new_workspace_is_shown_with_its_barrier(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, source = app()
    async with shown.run_test(size=size) as pilot:
        await ready(pilot)
        shown.main.detail.turn("Raw")
        answer = await source.call("deploy", ensemble={
            "workspace": {"name": "fresh", "duration": "1h"},
            "group": [{"name": "vm", "type": "small", "count": 3, "image": "default"}],
        })  # fmt: skip

        async def built(screen: Any) -> str:
            return str(answer["workspace"]["id"])

        monkeypatch.setattr(shown, "push_screen_wait", built)
        await pilot.press("2", "n")
        await until_seen(pilot, "All or nothing")
        await until_seen(pilot, "0/1 held")
        assert shown.main.how.view == "leases"
        assert (shown.model.doc(shown.table.cursor_key or "") or {})["name"] == "fresh"
        if size == (80, 24):
            await pilot.press("escape")
            await until_gone(pilot, "All or nothing")


# -- a daemon on a real socket that dies in mid-call


class Daemon:
    """Speaks the protocol on a real socket; what it does with `pause` is the test's."""

    def __init__(self, home: Path) -> None:
        self._home, self._items = home, list(Still()._items.values())
        self._server: asyncio.Server | None = None
        self.pause: dict[str, Any] | None = None  # its answer; None: it dies
        self.asked: list[str] = []

    async def start(self) -> None:
        path = self._home / "socket"
        path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, path)
        record = LockRecord(socket.gethostname(), boot_id(), os.getpid(), 0, str(path))
        write_record(self._home, record)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            asked = json.loads(line)
            self.asked.append(asked["method"])
            answer: dict[str, Any] | None = {"schema": 1, "revision": 1, "items": self._items}
            if asked["method"] == "pause":
                answer = self.pause
            if answer is None:
                await self.stop()
                break
            said = {"jsonrpc": "2.0", "id": asked["id"], "result": answer}
            writer.write(json.dumps(said).encode() + b"\n")
        writer.close()

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None


async def test_a_daemon_that_dies_in_mid_call_is_told_and_comes_back(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    await daemon.start()
    shown = WspilotApp(ClientSource(tmp_path))
    try:
        async with shown.run_test(size=(120, 40)) as pilot:
            await ready(pilot)
            vm = next(id for id, one in shown.model.items["vms"].items()
                      if one["name"] == "osg/ce/1")  # fmt: skip
            shown.table.select(f"vms/{vm}")
            await order(pilot, "p")
            said = await until_told(pilot, "Whether it was taken is not known")
            assert said.startswith("pause: VM osg/ce/1: the connection to the daemon has ended")
            await until(pilot, lambda: shown.main._banner.display)
            assert shown.table.stale and shown.table.keys
            await order(pilot, "p")
            await until_told(pilot, "there is no connection to the daemon")
            daemon.pause = {"schema": 0}
            await daemon.start()
            await pilot.press("r")
            await until(pilot, lambda: not shown.main._banner.display and shown.connected)
            await order(pilot, "p")
            await until_told(pilot, "the daemon speaks version 0 of the documents, this wspilot 1")
            daemon.pause = {"schema": 1}
            await order(pilot, "p")
            await until_told(pilot, "pause: VM osg/ce/1: done")
            assert daemon.asked.count("pause") == 3 and daemon.asked.count("wait") == 1
    finally:
        await daemon.stop()

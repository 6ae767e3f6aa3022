"""Every verb on one, many and a whole workspace: the very requests of the command line; and every
way in which an act can go wrong ends with a word and a mark."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import re
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Button, Input

from tests.tui.eyes import Still, at, ready, row_of, until, until_seen, until_told
from tests.tui.stage import told
from wspilot import client
from wspilot.cli import act, verbs
from wspilot.cli.parse import parse
from wspilot.errors import NoDaemon, NotFound, Refused, TimedOut, UsageError, WspilotError
from wspilot.tui.acting import VERBS
from wspilot.tui.app import WspilotApp
from wspilot.tui.screens.act import Act
from wspilot.tui.screens.ask import Ask
from wspilot.tui.screens.confirm import Confirm

STATE = {"resume": "paused", "start": "stopped"}  # of the VMs, so that the verb fits
WHOM = {
    "a VM": ["osg/ce/1"], "a group": ["osg/worker"], "a workspace": ["osg"],
    "many": ["osg/ce/1", "osg/worker/2", "teaching"],
}  # fmt: skip
ON_MANY = ["start", "stop", "pause", "resume", "reboot", "suspend", "destroy"]


class Enough(Exception):
    """The command line has sent its request."""


def cli_requests(command: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What `wspilot ...` sends when it is typed as it was copied."""
    sent: list[tuple[str, dict[str, Any]]] = []

    def call(home: Path, method: str, params: dict[str, Any], *_: Any) -> dict[str, Any]:
        sent.append((method, params))
        raise Enough

    monkeypatch.setattr(act, "call", call)
    for one in command.split(" && "):
        words = shlex.split(one)
        assert words[0] == "wspilot"
        with contextlib.suppress(Enough):
            verbs.run(parse(words[1:]))
    return sent


def ids_for_names(source: Still, words: list[str]) -> list[str]:
    """As the daemon finds them."""
    found = []
    for word in words:
        if word.count("/") == 1:
            ws, _, group = word.partition("/")
            found.append(f"{source.item(ws)['id']}/{group}")
        else:
            found.append(source.item(word)["id"])
    return found


def as_bytes(method: str, params: dict[str, Any]) -> bytes:
    """The line on the socket; of the token only its form."""
    assert re.fullmatch("[0-9a-f]{32}", params["token"])
    return client._request(1, method, {**params, "token": "T"})


def by_name(source: Still, sent: list[tuple[str, dict[str, Any]]]) -> list[bytes]:
    """Requests of the command line, one a target (the interface asks for each alone, so that one
    refusal stops no other), with the ids of their names."""
    lines = []
    for method, params in sent:
        if "id" in params:
            (id,) = ids_for_names(source, [params["id"]])
            lines.append(as_bytes(method, {**params, "id": id}))
        else:
            lines += [as_bytes(method, {**params, "ids": [id]})
                      for id in ids_for_names(source, params["ids"])]  # fmt: skip
    return lines


async def choose(pilot: Any, source: Still, names: list[str]) -> None:
    """The cursor on one, or marks on many."""
    for name in names:
        await at(pilot, source, name)
        if len(names) > 1:
            await pilot.press("space")
    await until(pilot, lambda: len(pilot.app.table.marks) == (len(names) if len(names) > 1 else 0))


async def copied(pilot: Any, letter: str) -> str:
    """The command that shift and a verb's letter copies."""
    pilot.app._clipboard = ""
    await pilot.press("a")
    await until(pilot, lambda: isinstance(pilot.app.screen, Act))
    await pilot.press(letter.upper())
    await until(pilot, lambda: pilot.app.clipboard)
    return str(pilot.app.clipboard)


async def order(pilot: Any, letter: str) -> None:
    """A verb by its letter."""
    await until(pilot, lambda: len(pilot.app.screen_stack) == 1)
    await pilot.press("a")
    await until(pilot, lambda: isinstance(pilot.app.screen, Act))
    await pilot.press(letter)


async def answer(pilot: Any, verb: str, typed: str) -> None:
    """What a verb asks before it is done."""
    if verb == "destroy":
        await until(pilot, lambda: isinstance(pilot.app.screen, Confirm))
        screen = pilot.app.screen
        if screen._loss.typed:
            await until(pilot, lambda: screen.query(Input))
            screen.query_one(Input).value = screen._loss.typed
            screen.query_one(Input).focus()
            await until(pilot, lambda: not screen.query_one("#destroy", Button).disabled)
            await pilot.press("enter")
        else:
            await pilot.press("y")
    elif verb in ("extend", "save"):
        await until(pilot, lambda: isinstance(pilot.app.screen, Ask))
        await until(pilot, lambda: pilot.app.screen.query(Input))
        if typed:
            pilot.app.screen.query_one(Input).value = typed
        await pilot.press("enter")


async def compare(
    pilot: Any, source: Still, verb: str, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Do it here and by the copied command."""
    source.calls.clear()
    await choose(pilot, source, names)
    command = await copied(pilot, VERBS[verb].key)
    await until(pilot, lambda: len(pilot.app.screen_stack) == 1)
    assert not source.calls, "copying asks for nothing"
    await order(pilot, VERBS[verb].key)
    typed = "kept" if verb == "save" else ""
    await answer(pilot, verb, typed)
    await until(pilot, lambda: len(source.asked(verb)) == len(names))
    await until(pilot, lambda: told(pilot.app)[-1].endswith("done"), "its outcome")
    ours = [as_bytes(method, params) for method, params in source.calls if method == verb]
    theirs = by_name(source, cli_requests(command.replace("IMAGE", typed), monkeypatch))
    assert ours == theirs and len(ours) == len(names)
    assert all(json.loads(line)["method"] == verb for line in ours)


@pytest.mark.parametrize("verb", ON_MANY)
async def test_a_verb_sends_what_the_command_line_sends(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Still()
    for name in ("osg", "teaching"):
        source.all_of(name, state=STATE.get(verb, "running"))
    shown = WspilotApp(source)
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        for names in WHOM.values():
            await compare(pilot, source, verb, names, monkeypatch)
            assert len(shown.table.marks) == 0
        assert len(source.asked("wait")) == 3
        goal = "ended" if verb == "destroy" else "done"
        assert all(one["for"] == goal for one in source.asked("wait"))


@pytest.mark.parametrize(
    ("verb", "whom"), [("extend", [["osg"], ["osg", "teaching"]]), ("save", [["osg/ce/1"]])]
)
async def test_extend_and_save_send_what_the_command_line_sends(
    verb: str, whom: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Still()
    shown = WspilotApp(source)
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        for names in whom:
            await compare(pilot, source, verb, names, monkeypatch)


async def test_x_on_a_vm_extends_its_workspace_once() -> None:
    source = Still()
    shown = WspilotApp(source)
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await choose(pilot, source, ["osg/ce/1", "osg/worker/1"])
        await pilot.press("x")
        await answer(pilot, "extend", "1h")
        await until_told(pilot, "extend: workspace osg: done")
        (params,) = source.asked("extend")
        assert params["id"] == source.item("osg")["id"] and params["by"] == "1h"


async def test_a_duration_and_a_name_are_checked_before_anything_is_sent() -> None:
    source = Still()
    shown = WspilotApp(source)
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await at(pilot, source, "osg/ce/1")
        for verb, typed in (("extend", "30"), ("save", "BAD NAME")):
            await pilot.press("a")
            await until(pilot, lambda: isinstance(shown.screen, Act))
            if verb == "extend":
                await pilot.press("escape", "x")
            else:
                await pilot.press(VERBS[verb].key)
            await until(pilot, lambda: isinstance(shown.screen, Ask))
            await until(pilot, lambda: shown.screen.query(Input))
            shown.screen.query_one(Input).value = typed
            await until(pilot, lambda: shown.screen.query_one("#ok", Button).disabled)
            await pilot.press("enter", "escape")
            await until(pilot, lambda: len(shown.screen_stack) == 1)
        assert not source.calls


# -- into a guest


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The arguments that the command line's code was run with, in a terminal of its own."""
    ran: list[Any] = []

    def run(args: Any) -> int:
        ran.append(args)
        outcome = _OUTCOMES.pop() if _OUTCOMES else 0
        if callable(outcome):
            outcome = outcome()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(verbs, "run", run)
    _TERMINAL.truncate(0)
    monkeypatch.setattr(WspilotApp, "suspend", lambda _: contextlib.redirect_stdout(_TERMINAL))
    yield ran
    _OUTCOMES.clear()


_OUTCOMES: list[Any] = []
_TERMINAL = io.StringIO()


@pytest.mark.parametrize(("verb", "key"), [("console", "o"), ("ssh", "S")])
async def test_console_and_ssh_run_the_command_lines_own_code(
    verb: str, key: str, reached: list[Any], tmp_path: Path
) -> None:
    source = Still()
    source.home = tmp_path
    shown = WspilotApp(source)
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await at(pilot, source, "osg/ce/1")
        command = await copied(pilot, VERBS[verb].key)
        await until(pilot, lambda: len(shown.screen_stack) == 1)
        await pilot.press(key)
        await until_told(pilot, f"{verb}: back from osg/ce/1")
    want = vars(parse(shlex.split(command)[1:]))
    have = vars(reached[0])
    (id,) = ids_for_names(source, [want["id"]])
    assert {**want, "id": id, "home": str(tmp_path)} == {name: have[name] for name in want}
    assert "connecting to osg/ce/1 ..." in _TERMINAL.getvalue()
    assert not source.calls


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (WspilotError("node n1 cannot be reached", "go there"), "node n1 cannot be reached. go"),
        (ValueError("a fault [b]of[/b] ours"), "ValueError: a fault [b]of[/b] ours"),
        (7, "back from osg/ce/1 (exit 7)"),
    ],
)
async def test_a_guest_that_is_not_reached_is_told(
    outcome: Any, words: str, reached: list[Any], tmp_path: Path
) -> None:
    source = Still()
    source.home = tmp_path
    _OUTCOMES.append(outcome)
    shown = WspilotApp(source)
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await at(pilot, source, "osg/ce/1")
        await pilot.press("o")
        await until_told(pilot, words)
        assert len(reached) == 1


async def test_ctrl_c_ends_the_way_to_a_guest_and_not_the_interface(
    reached: list[Any], tmp_path: Path
) -> None:
    """To the loop each signal is a byte for later: ctrl+C must not be one, the others must."""
    loop, heard = asyncio.get_running_loop(), list[str]()
    source = Still()
    source.home = tmp_path
    shown = WspilotApp(source)
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await at(pilot, source, "osg/ce/1")

        def stuck() -> int:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGINT)
            return sum(0 for _ in range(1000))  # code in which an interrupt can be raised

        _OUTCOMES.append(stuck)
        try:
            for number in (signal.SIGINT, signal.SIGHUP):
                loop.add_signal_handler(number, heard.append, number.name)
            await pilot.press("o")
            await until_told(pilot, "console: back from osg/ce/1 (exit 130)")
            await until(pilot, lambda: heard)
            assert heard == ["SIGHUP"] and shown.is_running
            os.kill(os.getpid(), signal.SIGINT)  # and from here on it is the loop's again
            await until(pilot, lambda: heard == ["SIGHUP", "SIGINT"])
        finally:
            for number in (signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)


# -- what can go wrong

PATHS = {
    "refused": ("pause", Refused("it is stopped", "wspilot start it"), "it is stopped. wspilot"),
    "not found": ("pause", NotFound("no VM is called so"), "no VM is called so"),
    "gone in mid-call": ("pause", NoDaemon("the connection has ended"), "Whether it was taken is"),
    "no answer": ("pause", TimedOut("the daemon did not answer pause"), "Whether it was taken is"),
    "old schema": ("pause", WspilotError("the daemon speaks version 0", "end it"), "version 0"),
    "unknown verb": ("pause", UsageError("the daemon does not know this"), "does not know this"),
    "a fault of ours": ("pause", RuntimeError("boom [/x]"), "RuntimeError: boom [/x]"),
    "refused by the node": ("wait", Refused("n1 refused it"), "n1 refused it"),
    "not done in time": ("wait", TimedOut("120 s have passed"), "not done after 120 s; it goes on"),
    "gone while waiting": ("wait", NoDaemon("the connection has ended"), "taken, but its end was"),
    "a fault while waiting": ("wait", KeyError("ws"), "KeyError"),
}  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
async def test_every_way_to_fail_ends_with_a_word_and_a_mark(path: str) -> None:
    method, error, words = PATHS[path]
    source = Still()
    source.faults[method] = error
    shown = WspilotApp(source)
    async with shown.run_test(size=(160, 50)) as pilot:
        await ready(pilot)
        key = await at(pilot, source, "osg/ce/1")
        await order(pilot, "p")
        said = await until_told(pilot, words)
        assert said.startswith("pause: VM osg/ce/1: ")
        assert list(shown._notifications)[-1].severity == "error"
        assert "✖ pause: " in row_of(shown, key)
        assert key not in shown.model.pending
        assert any(words in one["text"] for one in shown.model.items["events"].values())
        source.faults.clear()
        await order(pilot, "p")
        await until_told(pilot, "pause: VM osg/ce/1: done")
        assert "✖" not in row_of(shown, key)


@pytest.mark.parametrize(("verb", "key", "again"), [("pause", "p", True), ("extend", "x", False)])
async def test_to_ask_again_is_advised_only_where_twice_is_the_same_as_once(
    verb: str, key: str, again: bool
) -> None:
    source = Still()
    source.faults[verb] = TimedOut(f"the daemon did not answer {verb}")
    shown = WspilotApp(source)
    async with shown.run_test(size=(160, 50)) as pilot:
        await ready(pilot)
        await at(pilot, source, "osg")
        await order(pilot, key)
        await answer(pilot, verb, "1h")
        said = await until_told(pilot, "Whether it was taken is not known: see ")
        assert ("ask again" in said) is again


async def test_one_refusal_stops_no_other_and_is_counted() -> None:
    source = Still()
    bad = source.item("osg/worker/2")["id"]
    plain = source.call

    async def call(method: str, **params: Any) -> dict[str, Any]:
        await plain(method, **params)
        if params.get("ids") == [bad]:
            raise Refused("not this one")
        return {}

    source.call = call  # type: ignore[method-assign]
    shown = WspilotApp(source)
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await choose(pilot, source, ["osg/worker/1", "osg/worker/2", "osg/worker/3"])
        await order(pilot, "p")
        said = await until_told(pilot, "failed")
        assert said == "pause: 3 marked: 2 ok, 1 failed: osg/worker/2: not this one"
        marked = [key for key in shown.table.keys if "✖ pause" in row_of(shown, key)]
        assert marked == [f"vms/{bad}"]


async def test_a_slow_daemon_is_shown_and_keeps_no_key_waiting() -> None:
    source = Still()
    gate = source.gates["pause"] = asyncio.Event()
    shown = WspilotApp(source)
    async with shown.run_test(size=(160, 50)) as pilot:
        await ready(pilot)
        key = await at(pilot, source, "osg/ce/1")
        await order(pilot, "p")
        await until(pilot, lambda: source.asked("pause"))
        await until_seen(pilot, "pause: asked for ...")
        await pilot.press("home", "2")
        await until_seen(pilot, "LRM SAYS")
        await pilot.press("1")
        assert not any("done" in one for one in told(shown))
        gate.set()
        await until_told(pilot, "pause: VM osg/ce/1: done")
        assert "asked for" not in row_of(shown, key)


async def test_an_answer_that_never_comes_does_not_keep_the_screen_open() -> None:
    source = Still()
    source.gates["pause"] = asyncio.Event()
    shown = WspilotApp(source)
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await at(pilot, source, "osg/ce/1")
        await order(pilot, "p")
        await until(pilot, lambda: source.asked("pause"))
        await pilot.press("q")
        await until(pilot, lambda: not shown.is_running)


async def test_a_mark_of_failure_goes_when_its_object_moves() -> None:
    source = Still()
    source.faults["pause"] = Refused("not now")
    shown = WspilotApp(source)
    async with shown.run_test(size=(160, 50)) as pilot:
        await ready(pilot)
        key = await at(pilot, source, "osg/ce/1")
        await order(pilot, "p")
        await until(pilot, lambda: "✖ pause: not now" in row_of(shown, key))
        vm = {**source.item("osg/ce/1"), "state": "stopping"}
        source.inbox.put_nowait(client.Update(2, False, (vm,)))
        await until(pilot, lambda: "✖" not in row_of(shown, key))


async def test_a_fault_in_a_dialogs_worker_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no dialog [/x]")

    monkeypatch.setattr("wspilot.tui.loss.loss_of", broken)
    source = Still()
    shown = WspilotApp(source)
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await at(pilot, source, "osg/ce/1")
        await pilot.press("d")
        await until_told(pilot, "do has failed: RuntimeError: no dialog [/x]")
        assert not source.calls


async def test_what_fits_nothing_is_said_and_not_sent() -> None:
    source = Still()
    shown = WspilotApp(source)
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await at(pilot, source, "osg")
        await pilot.press("o")
        await until_told(pilot, "console is for one VM")
        shown.table.select(next(key for key in shown.table.keys if key.startswith("slots/")))
        await pilot.press("a")
        await until_told(pilot, "Nothing to act on here")
        assert len(shown.screen_stack) == 1 and not source.calls


# -- destroying


async def test_y_destroys_one_vm_and_never_a_whole_workspace() -> None:
    source = Still()
    shown = WspilotApp(source)
    async with shown.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await at(pilot, source, "osg")
        await pilot.press("d")
        await until(pilot, lambda: isinstance(shown.screen, Confirm))
        await until_seen(pilot, "To destroy it, type its name: osg")
        await until_seen(pilot, "Cancel")
        await pilot.press("y", "y")
        assert isinstance(shown.screen, Confirm) and not source.calls
        await pilot.press("escape")
        await until(pilot, lambda: len(shown.screen_stack) == 1)
        await at(pilot, source, "osg/ce/1")
        await pilot.press("d")
        await until(pilot, lambda: isinstance(shown.screen, Confirm))
        await pilot.press("y")
        await until_told(pilot, "destroy: VM osg/ce/1: done")
        assert len(source.asked("destroy")) == 1


async def test_abandon_is_offered_where_a_node_is_silent_and_says_what_it_means(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Still()
    shown = WspilotApp(source)
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await at(pilot, source, "osg")
        await pilot.press("d")
        await until(pilot, lambda: isinstance(shown.screen, Confirm))
        assert not shown.screen.query("#abandon")  # all its nodes speak
        await pilot.press("escape")
        await until(pilot, lambda: len(shown.screen_stack) == 1)
        await at(pilot, source, "genomes")
        await pilot.press("d")
        node = source.item("genomes/worker/5")["node"]
        await until_seen(pilot, f"{node}: nobody has heard from there")
        await until_seen(pilot, "such nodes stay dirty")
        abandon = shown.screen.query_one("#abandon", Button)
        assert abandon.disabled
        shown.screen.query_one(Input).value = "genomes"
        await until(pilot, lambda: not abandon.disabled)
        await pilot.click("#abandon")
        await until_told(pilot, "destroy: workspace genomes: done")
        ours = [as_bytes("destroy", params) for params in source.asked("destroy")]
        cli = cli_requests("wspilot destroy genomes --abandon --yes", monkeypatch)
        assert ours == by_name(source, cli) and b'"abandon": true' in ours[0]


async def test_of_many_only_those_with_a_silent_node_are_abandoned() -> None:
    names = ["osg", "teaching", "climate", "genomes", "night-run"]
    source = Still()
    shown = WspilotApp(source)
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await choose(pilot, source, names)
        await pilot.press("d")
        await until(pilot, lambda: isinstance(shown.screen, Confirm))
        await until(pilot, lambda: shown.screen.query(Input))
        await until_seen(pilot, "closes the books of genomes alone")
        shown.screen.query_one(Input).value = "destroy 5"
        await until(pilot, lambda: not shown.screen.query_one("#abandon", Button).disabled)
        await pilot.click("#abandon")
        await until_told(pilot, "destroy: 5 marked: all 5 done")
        sent = {params["ids"][0]: params["abandon"] for params in source.asked("destroy")}
        assert sent == {source.item(name)["id"]: name == "genomes" for name in names}

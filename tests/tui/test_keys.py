"""Every key on every place: nothing crashes, and who may only look changes nothing. The user's own
keymap: what is wrong with it is said, the rest of it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from textual.binding import Binding
from textual.screen import Screen

from tests.tui.eyes import Still, at, ready, until, until_told
from tests.tui.stage import told
from wspilot.tui import crash, keymap
from wspilot.tui.acting import VERBS
from wspilot.tui.app import WspilotApp
from wspilot.tui.habits import Taste, read_taste
from wspilot.tui.screens.act import Act
from wspilot.tui.screens.ask import Ask
from wspilot.tui.screens.build import Build
from wspilot.tui.screens.choose import Choose
from wspilot.tui.screens.columns import Columns
from wspilot.tui.screens.confirm import Confirm
from wspilot.tui.screens.help import Help
from wspilot.tui.screens.main import MainScreen
from wspilot.tui.views import VIEWS
from wspilot.tui.widgets.lineview import LineView
from wspilot.tui.widgets.treetable import TreeTable

LOOKS = {"logs", "types", "images"}  # what looking may ask the daemon for
LEAVING = ("app.quit", "app.suspend_process")  # tried apart


def keys_of(*owners: Any) -> list[str]:
    """Every key of some places, but those that leave."""
    return [key for owner in owners for one in owner.BINDINGS
            if isinstance(one, Binding) and one.action not in LEAVING
            for key in one.key.split(",")]  # fmt: skip


async def walk(pilot: Any, keys: list[str], reset: Any) -> None:
    """Press each, from the same place."""
    for key in keys:
        await reset()
        await pilot.press(key)
        await pilot.pause()
    await reset()


async def alone(pilot: Any) -> None:
    """Close whatever is open."""
    for _ in range(4):
        if len(pilot.app.screen_stack) == 1:
            return
        await pilot.press("escape")
        await pilot.pause(0.01)
    await until(pilot, lambda: len(pilot.app.screen_stack) == 1, "back on the main screen")


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("view", VIEWS)
async def test_every_key_of_the_main_screen_in_every_view(
    view: str, read_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Still()
    shown = WspilotApp(source, read_only)
    reached: list[str] = []
    opened: set[type[Screen[Any]]] = set()
    monkeypatch.setattr(WspilotApp, "reach", lambda self, verb, target: reached.append(verb))
    push = WspilotApp.push_screen

    def pushed(self: WspilotApp, screen: Any, *rest: Any, **more: Any) -> Any:
        opened.add(type(screen))
        return push(self, screen, *rest, **more)

    monkeypatch.setattr(WspilotApp, "push_screen", pushed)
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        vm = await at(pilot, source, "osg/ce/1")

        async def reset() -> None:
            await alone(pilot)
            shown.main.go_to(vm, view)  # without a key: this is done often

        await walk(pilot, keys_of(MainScreen, TreeTable), reset)
        assert shown.is_running and not any("has failed" in one for one in told(shown))
        changing = opened & {Act, Ask, Confirm, Build}
        asked = {method for method, _ in source.calls}
        if read_only:
            assert not changing and not reached and asked <= LOOKS
        elif view in ("leases", "timeline"):  # what the walk would have found
            assert changing == {Act, Ask, Confirm, Build} and reached == ["console", "ssh"]
            assert "deploy" in asked


@pytest.mark.parametrize("read_only", [True, False])
async def test_every_letter_of_the_verbs_is_dead_for_who_may_only_look(read_only: bool) -> None:
    source = Still()
    shown = WspilotApp(source, read_only)
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await at(pilot, source, "osg/ce/1")
        for verb in ("pause", "stop", "reboot"):
            await pilot.press("a")
            if not read_only:
                await until(pilot, lambda: isinstance(shown.screen, Act))
            await pilot.press(VERBS[verb].key)
            await alone(pilot)
        if not read_only:
            await until(pilot, lambda: source.asked("reboot"))
    asked = {method for method, _ in source.calls}
    assert asked == (set() if read_only else {"pause", "stop", "reboot", "wait"})


OPENERS = {Act: "a", Confirm: "d", Ask: "x", Choose: "s", Columns: "c", Help: "question_mark",
           Build: "n"}  # fmt: skip


@pytest.mark.parametrize("screen", OPENERS)
async def test_every_key_of_every_dialog(screen: Any, tmp_path: Path) -> None:
    source = Still()
    shown = WspilotApp(source)
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await at(pilot, source, "osg/ce/1")

        async def reset() -> None:
            if not isinstance(shown.screen, screen):
                await alone(pilot)
                await pilot.press(OPENERS[screen])
            await until(pilot, lambda: isinstance(shown.screen, screen))

        await reset()
        keys = [key for node in (shown.screen, *shown.screen.query("*")) for key in keys_of(node)]
        keys += ["tab", "shift+tab", "space", "up", "down", "pagedown", "end", "home", "escape"]
        await walk(pilot, sorted(set(keys) - {"ctrl+q", "ctrl+c"}), reset)
        await alone(pilot)
        assert shown.is_running and not any("has failed" in one for one in told(shown))


async def test_every_key_of_a_log() -> None:
    source = Still()
    shown = WspilotApp(source, read_only=True)
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await at(pilot, source, "osg/ce/1")

        async def reset() -> None:
            await alone(pilot)
            shown.main.action_logs()
            shown.main.detail.show_lines([f"line {n}" for n in range(200)], "")
            shown.main.detail.take_focus()
            await until(pilot, lambda: shown.main.detail.lines.has_focus)

        await walk(pilot, keys_of(LineView, MainScreen), reset)
        assert shown.is_running and {method for method, _ in source.calls} <= LOOKS


async def test_keys_that_leave_leave_and_no_letter_in_a_filter_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left: list[str] = []
    for name in ("suspend_process", "quit"):
        act = f"action_{name}"

        async def leave(self: WspilotApp, name: str = name) -> None:
            left.append(name)

        monkeypatch.setattr(WspilotApp, act, leave)
    source = Still()
    shown = WspilotApp(source)
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await pilot.press("slash", *"qdnax")
        assert shown.main.find is not None and shown.main.find.word.value == "qdnax"
        await pilot.press("escape", "ctrl+z", "q")
        await until(pilot, lambda: left == ["suspend_process", "quit"])
        assert not source.calls and len(shown.screen_stack) == 1


# -- the user's keymap

KNOWN = keymap.places()


def test_every_binding_has_an_id_and_a_key_stands_for_one_thing_in_a_place() -> None:
    for place in KNOWN:
        keys: dict[str, str] = {}
        for id, names in place.items():
            for key in names.split(","):
                other = keys.setdefault(key, id)
                shared = {"app.pan.-0.25", "app.pan.0.25", "app.sort_next.-1", "app.sort_next.1"}
                assert other == id or {other, id} <= shared, (key, other, id)


@pytest.mark.parametrize(
    ("keys", "good", "said"),
    [
        ({"app.destroy": "D"}, {"app.destroy": "D"}, []),
        ({"build.deploy": "ctrl+r"}, {"build.deploy": "ctrl+r"}, []),
        ({"app.pause": "j"}, {}, ["the key j of app.pause is table.down's"]),
        ({"app.help": "slash"}, {}, ["the key slash of app.help is app.filter's"]),
        ({"app.help": "/"}, {}, ["the key slash of app.help is app.filter's"]),
        ({"app.pause": "x", "app.extend": "p"}, {"app.pause": "x", "app.extend": "p"}, []),
        ({"build.add": "escape"}, {}, ["the key escape of build.add is build.leave's"]),
        ({"log.save": "d"}, {"log.save": "d"}, []),  # another place
        ({"app.destory": "D"}, {}, ["no key is called 'app.destory'; did you mean 'app.destroy'"]),
        ({"app.pause": ""}, {}, ["app.pause has no key"]),
    ],
)
def test_a_keymap_is_judged(keys: dict[str, str], good: dict[str, str], said: list[str]) -> None:
    have, faults = keymap.judged(keys, KNOWN)
    assert have == good and len(faults) == len(said)
    assert all(words in fault for words, fault in zip(said, faults))


async def test_one_fault_in_a_keymap_costs_nothing_else() -> None:
    source = Still()
    keys = {"app.destroy": "D", "app.pause": "j", "app.nothing": "K", "dialog.cancel": "f12"}
    shown = WspilotApp(source, taste=Taste(keys=keys))
    async with shown.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await until_told(pilot, "tui.toml: the key j of app.pause is table.down's")
        await until_told(pilot, "tui.toml: no key is called 'app.nothing'")
        await at(pilot, source, "osg/ce/1")
        key = shown.table.cursor_key
        await pilot.press("d", "j")
        assert len(shown.screen_stack) == 1 and shown.table.cursor_key != key
        await pilot.press("p")
        assert shown.main.paused
        await pilot.press("p", "D")
        await until(pilot, lambda: isinstance(shown.screen, Confirm))
        await pilot.press("f12")
        await until(pilot, lambda: len(shown.screen_stack) == 1)


def test_a_broken_tui_toml_is_a_warning_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "tui.toml"
    path.write_text('theme = "day"\nbell = \n')
    taste, warnings = read_taste(path)
    assert taste == Taste() and "tui.toml" in warnings[0] and "line 2" in warnings[0]
    path.write_text('theme = "day"\nbell = "loud"\ncolour = 1\n[keys]\n"app.help" = "h"\n')
    taste, warnings = read_taste(path)
    assert taste.theme == "day" and taste.bell and taste.keys == {"app.help": "h"}
    assert [one for one in warnings if "bell is true or false" in one]
    assert [one for one in warnings if "unknown key 'colour'" in one]


# -- a crash


async def test_a_crash_leaves_a_file_and_no_traceback_on_the_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def boom(self: MainScreen) -> None:
        raise RuntimeError("boom \x1b[31m")

    monkeypatch.setattr(MainScreen, "action_times", boom)
    source = Still()
    source.home = tmp_path
    shown = WspilotApp(source)
    with pytest.raises(RuntimeError, match="boom"):
        async with shown.run_test(size=(120, 40)) as pilot:
            await ready(pilot)
            await pilot.press("T")
            await until(pilot, lambda: not shown.is_running)
    path = tmp_path / "tui" / "crash.log"
    assert str(path) in shown.crash and "RuntimeError: boom" in shown.crash
    assert "\x1b" not in shown.crash and "Traceback" not in shown.crash
    text = path.read_text()
    assert text.startswith("wspilot ") and "action_times" not in shown.crash
    assert "RuntimeError: boom" in text and "test_keys.py" in text and "\x1b" not in text
    assert "teaching active" in text.partition("The last events:")[2]
    assert not shown._exit_renderables


def test_a_crash_where_nothing_can_be_written_is_told_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> str:
        raise OSError("disk full")

    (tmp_path / "file").write_text("")
    said = crash.keep(tmp_path / "file", KeyError("x"), [{"text": "one"}])
    elsewhere = Path(said.partition("stands in ")[2].partition(": report")[0])
    assert elsewhere.read_text().count("one") == 1
    elsewhere.unlink()
    elsewhere.parent.rmdir()
    monkeypatch.setattr(crash.tempfile, "mkdtemp", full)
    said = crash.keep(tmp_path / "file", KeyError("x"), [{"text": "one"}])
    assert "KeyError: 'x'" in said and "The last events:" in said
    assert json.dumps(said).count("crash.log") == 0

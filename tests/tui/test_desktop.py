"""The notice on the desktop: what is written to a real terminal, and what never is."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bench.ptys import Pty, painted
from wspilot.tui import desktop
from wspilot.tui.habits import read_taste

UNKNOWN = {"TERM_PROGRAM": "", "LC_TERMINAL": "", "VTE_VERSION": "", "TMUX": ""}
NOTICE = re.compile(rb"\x1b\]9;([^\x07\x1b]*)\x07")
DEMO = [sys.executable, "-m", "wspilot", "tui", "--demo"]
ATTACK = "a\x07\x1b]0;pwned\x07\x1b\\\x9c\x9d0;pwned\x9c\x1b[2J;4"
HOSTILE = f"""
from wspilot.tui.app import WspilotApp
from wspilot.tui.demo import DemoSource
source = DemoSource()
for item in source._items.values():
    if item["name"] == "teaching":
        item["name"] = {ATTACK!r}
WspilotApp(source).run()
"""


@contextmanager
def terminal(argv: list[str], **env: str) -> Iterator[Pty]:
    shown = Pty(argv, {**UNKNOWN, **env})
    try:
        yield shown
    finally:
        shown.close()


def written(shown: Pty, toast: bytes) -> bytes:
    """All that it has written from its start until `q`; the notice is in it, for its toast is."""
    shown.when(painted(toast))
    kept = b"".join(data for _, data in shown._writes)
    shown.press(b"q")
    assert shown.process.wait(60) == 0
    return kept + b"".join(data for _, data in shown._writes)


def test_a_lease_about_to_end_is_told_to_a_terminal_that_knows_how() -> None:
    with terminal(DEMO, TERM_PROGRAM="WezTerm") as shown:
        said = NOTICE.findall(written(shown, b"teaching ends in"))
    assert len(said) == 1 and said[0].startswith(b"wspilot: teaching ends in ")


def test_not_to_one_that_is_not_known() -> None:
    with terminal(DEMO) as shown:
        everything = written(shown, b"teaching ends in")
    assert b"\x1b]9;" not in everything and b"]777;" not in everything


def test_not_where_it_is_switched_off(tmp_path: Path) -> None:
    place = tmp_path / "wspilot"
    place.mkdir()
    (place / "tui.toml").write_text('desktop = "off"\n')
    with terminal(DEMO, TERM_PROGRAM="WezTerm", XDG_CONFIG_HOME=str(tmp_path)) as shown:
        everything = written(shown, b"teaching ends in")
    assert b"\x1b]9;" not in everything and b"]777;" not in everything


def test_a_name_cannot_break_out_of_it() -> None:
    with terminal([sys.executable, "-c", HOSTILE], TERM="xterm-kitty") as shown:
        everything = written(shown, b" ends in")
    said = NOTICE.findall(everything)
    assert len(said) == 1 and said[0].startswith(b"wspilot: a") and b" ends in " in said[0]
    assert b"\x1b]0;" not in everything and "\x9d".encode() not in everything


@pytest.mark.parametrize("way", ["osc9", "osc777"])
@pytest.mark.parametrize("tmux", ["", "/tmp/tmux-0/default,1,0"])
def test_it_is_one_sequence_whatever_is_said(way: str, tmux: str) -> None:
    made = desktop.sequence(f"4;{ATTACK}\n{'x' * 999}", way, {"TMUX": tmux})
    if tmux:
        assert made.startswith("\x1bPtmux;\x1b\x1b]") and made.endswith("\a\x1b\\")
        made = made[len("\x1bPtmux;") : -2].replace("\x1b\x1b", "\x1b")
    inner = made.removeprefix("\x1b]").removesuffix("\a")
    assert len(inner) == len(made) - 3 and inner.isprintable() and len(inner) < 300
    assert inner.startswith("9;wspilot: 4;" if way == "osc9" else "777;notify;wspilot;4,")
    if way == "osc777":
        assert inner.count(";") == 3  # its fields


def test_who_is_known_to_take_which() -> None:
    for env, found in (
        ({"TERM": "xterm-256color"}, "off"), ({}, "off"), ({"TERM": "linux"}, "off"),
        ({"TERM": "xterm-kitty"}, "osc9"), ({"LC_TERMINAL": "iTerm2"}, "osc9"),
        ({"TERM": "foot"}, "osc9"), ({"VTE_VERSION": "7600"}, "osc777"),
        ({"TERM": "rxvt-unicode-256color"}, "osc777"),
    ):  # fmt: skip
        assert desktop.way("auto", env) == found, env
        assert desktop.way("off", env) == "off" and desktop.way("osc9", env) == "osc9"
    assert desktop.sequence("news", "off", {}) == ""


def test_another_word_in_the_settings_is_said(tmp_path: Path) -> None:
    (tmp_path / "tui.toml").write_text('desktop = "loud"\n')
    taste, warnings = read_taste(tmp_path / "tui.toml")
    assert taste.desktop == "auto"
    assert warnings == ["tui.toml: desktop is auto, off, osc9 or osc777"]

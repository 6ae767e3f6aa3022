"""The demo in a real terminal (tmux): it draws, ends, makes room and comes back, and the terminal
is as it was."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.ptys import Pty, painted, text_of
from tests.processes import Process, wait_until_gone
from tests.tui.tmux import Terminal

KEPT = ("alternate_on", "cursor_flag", "mouse_any_flag", "keypad_cursor_flag")


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    made = Terminal(tmp_path)
    yield made
    made.close()


@pytest.fixture
def demo(terminal: Terminal) -> Terminal:
    """With the demo in it."""
    terminal.wspilot("tui", "--demo")
    terminal.until("● running")
    return terminal


def interface(terminal: Terminal) -> Process:
    """The program itself."""
    return next(one for one in terminal.programs() if "wspilot" in one.command())


def test_the_demo_draws_and_q_gives_the_terminal_back(terminal: Terminal) -> None:
    terminal.until("$")
    before = [terminal.flag(name) for name in KEPT]
    terminal.wspilot("tui", "--demo")
    screen = terminal.until("● running")
    assert "mpi-2026" in screen and "NAME" in screen
    assert [terminal.flag(name) for name in KEPT] != before
    terminal.type("q")
    screen = terminal.until("code=0")
    assert "mpi-2026" not in screen
    assert [terminal.flag(name) for name in KEPT] == before


def test_the_mouse_is_the_terminals_where_it_is_wished(terminal: Terminal) -> None:
    for words, mouse in (((), "1"), (("--no-mouse",), "0")):
        terminal.wspilot("tui", "--demo", *words)
        terminal.until("● running")
        assert terminal.flag("mouse_any_flag") == mouse
        terminal.type("q")
        terminal.until("code=0")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_and_the_terminal_is_as_it_was(demo: Terminal, number: int) -> None:
    program = interface(demo)
    program.kill(number)
    demo.until(f"code={128 + number}")
    assert not wait_until_gone([program], 20)
    assert demo.flag("alternate_on") == "0" and demo.flag("cursor_flag") == "1"
    assert demo.flag("mouse_any_flag") == "0"
    demo.enter("echo typed-$((40 + 2))")  # it echoes and folds lines again
    demo.until("typed-42")


def test_ctrl_z_goes_to_the_shell_and_fg_comes_back(demo: Terminal) -> None:
    program = interface(demo)
    demo.type("C-z")
    demo.until_true(lambda screen: "Stopped" in screen and "mpi-2026" not in screen)
    demo.enter("echo in-the-shell-$((40 + 2))")
    demo.until("in-the-shell-42")
    demo.enter("fg")
    demo.until("mpi-2026")
    assert interface(demo).pid == program.pid
    demo.type("2")  # and it hears keys
    demo.until("WORKSPACE")
    demo.type("q")
    demo.until("in-the-shell-42")
    demo.enter("echo ended-with-$?")
    demo.until("ended-with-0")


def test_a_storm_of_sizes_down_to_20x5() -> None:
    """In a pseudo-terminal of our own: tmux makes one change of many."""
    screen = Pty([sys.executable, "-m", "wspilot", "tui", "--demo"], {})
    try:
        screen.when(painted(b"mpi-2026"))
        chance = random.Random(1)
        for _ in range(60):
            screen.resize(chance.randint(20, 220), chance.randint(5, 70))
            time.sleep(0.01)
        screen.resize(20, 5)
        screen.press(b"j")
        screen.when(lambda written: b"rank" in text_of(written))
        screen.resize(120, 40)
        screen.when(lambda written: b"Quit" in text_of(written))
        screen.press(b"q")
        assert screen.process.wait(60) == 0
    finally:
        screen.close()


def test_what_is_typed_after_the_slash_is_the_filter(demo: Terminal) -> None:
    """The first one, too: its line is made then, and letters must not do what they do elsewhere."""
    demo.step("/")
    demo.until("word, state:running")
    for letter in "mpi":
        demo.step(letter)
    demo.until(" / mpi")


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_terminal_that_cannot_draw_is_refused(terminal: Terminal, term: str) -> None:
    terminal.wspilot("tui", "--demo", env=f"TERM={term}")
    screen = terminal.until("code=2")
    assert "wspilot list" in screen and "mpi-2026" not in screen


def test_without_a_terminal_it_names_the_plain_verb() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wspilot", "tui", "--demo"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2 and "wspilot list" in done.stderr and "\x1b" not in done.stdout

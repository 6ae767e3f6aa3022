"""The terminal interface as its users have it: a real terminal, a real daemon, real guests.

Everything is done by keys and seen on the screen; the daemon is asked only whether what the screen
says is so.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.lab import Lab
from tests.tui.tmux import Terminal
from wspilot.guest import GuestImage, build_guest, default_cache

pytestmark = pytest.mark.real
BOOT_S = 240.0  # two guests under TCG on a busy machine; 5 s when quiet


@pytest.fixture(scope="module")
def guest() -> GuestImage:
    return build_guest(default_cache() / "guest", default_cache() / "deb")


@pytest.fixture
def lab(tmp_path: Path, guest: GuestImage) -> Iterator[Lab]:
    one = Lab(tmp_path, guest)
    yield one
    one.close()


@pytest.fixture
def terminal(tmp_path: Path, lab: Lab) -> Iterator[Terminal]:
    """Closed before the lab is: nothing of the home may run then."""
    made = Terminal(tmp_path, 140, 45)
    yield made
    made.close()


def test_build_deploy_watch_console_destroy(lab: Lab, terminal: Terminal) -> None:
    terminal.wspilot("--home", str(lab.home), "tui", env="XDG_RUNTIME_DIR=")
    terminal.until("No leases yet")

    terminal.type("n")
    terminal.until("1 VM on")
    _fill(terminal, 'name = "', "pty")
    terminal.step("Tab")
    terminal.step("C-u")
    terminal.until_true(lambda screen: 'duration = "2h"' not in screen)
    _fill(terminal, 'duration = "', "30m")
    terminal.step("Tab")
    terminal.step("Tab")
    terminal.step("C-u")
    terminal.until_true(lambda screen: 'name = "vm"' not in screen)
    _fill(terminal, 'name = "', "pair")
    terminal.step("Tab")
    terminal.step("Tab")
    terminal.step("C-u")
    terminal.until_true(lambda screen: "count = 1" not in screen)
    _fill(terminal, "count = ", "2")
    terminal.until("2 VMs on")  # the check of this, not of what stood there before
    terminal.type("F5")

    terminal.until("All or nothing")  # the barrier, while it is waited at
    screen = terminal.until("of 2 up")
    assert "pair/2" in screen
    terminal.until("active for", BOOT_S)
    assert lab.show("pty")["state"] == "active"
    assert "All or nothing" not in terminal.screen()

    terminal.type("j", "j")
    terminal.until("pty/pair/1")
    terminal.type("o")
    terminal.until("leaves it")
    terminal.type("Enter")
    terminal.enter("echo the-answer-is-$((6 * 7))")
    screen = terminal.until("the-answer-is-42")
    assert "Leases" not in screen  # the interface has made room
    terminal.type("C-]")
    terminal.until("back from pty/pair/1")

    terminal.type("g", "d")
    terminal.until("type its name")
    terminal.type("Enter")  # Cancel has the focus: a second key is not enough
    terminal.until_true(lambda screen: "type its name" not in screen)
    assert lab.show("pty")["wanted"] == "active"
    terminal.type("d")
    terminal.until("type its name")
    for key in ("BTab", *"pty"):
        terminal.step(key)
    terminal.type("Enter")
    terminal.until("outcome    destroyed", BOOT_S)
    ws = lab.until("pty", lambda ws: ws["state"] == "ended")
    assert ws["outcome"] == "destroyed"

    terminal.type("q")
    terminal.until("code=0")
    assert terminal.flag("alternate_on") == "0"


def test_the_daemon_is_killed_and_comes_again(lab: Lab, terminal: Terminal) -> None:
    terminal.wspilot("--home", str(lab.home), "tui", env="XDG_RUNTIME_DIR=")
    terminal.until("No leases yet")
    os.kill(lab.pid, signal.SIGKILL)
    terminal.until("It is tried again by itself")
    terminal.until("no daemon")
    lab.start()
    terminal.until_true(lambda screen: "tried again" not in screen and "No leases yet" in screen)
    lab.cli("deploy", "--type", "small", "--name", "later", "--duration", "10m")
    terminal.until("later")  # the subscription is a living one
    terminal.type("q")
    terminal.until("code=0")


def _fill(terminal: Terminal, begin: str, text: str) -> None:
    """Into the field that has the focus; each letter is seen in the TOML beside it."""
    for n, letter in enumerate(text, 1):
        terminal.type(letter)
        terminal.until(begin + text[:n])

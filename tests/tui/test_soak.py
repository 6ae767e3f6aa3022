"""The interface in a terminal for long: 2,000 VMs, 200 events a second, somebody at the keys.

A minute here; ten by hand: `WSPILOT_SOAK_S=600 python -m pytest -s tests/tui/test_soak.py`.
Every key must have its effect on the screen, memory must stand still once the event list is full,
and the one subscription must hold from the first second to the last.
"""

from __future__ import annotations

import os
import re
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import pytest

from tests.bench.crowd import crowd
from tests.bench.ptys import Pty, painted, text_of

pytestmark = pytest.mark.slow
SOAK_S = float(os.environ.get("WSPILOT_SOAK_S", "60"))
CONTROL_S = 20.0
PAUSE_S = 0.15
MAY_GROW_MIB = 6.0
LEAKY = """
import sys
from wspilot.tui.live import LiveModel
kept, apply = [], LiveModel.apply
def leak(self, update):
    kept.append(update)
    apply(self, update)
LiveModel.apply = leak
from wspilot.cli import main
sys.exit(main())
"""  # the likeliest leak: whatever has come stays referred to by somebody
Effect = Callable[[bytes], bool]


def says(pattern: bytes) -> Effect:
    """It is painted."""
    return lambda written: re.search(pattern, text_of(written)) is not None


def cursor_on(name: bytes) -> Effect:
    """It is painted as the cursor's line is: bold."""
    return lambda written: re.search(rb"\x1b\[1;[^m]*m[^\x1b]*" + name + rb" ", written) is not None


KEYS: tuple[tuple[bytes, Effect], ...] = (
    (b"g", cursor_on(rb"lease-w0000")),
    (b"j", cursor_on(rb"vm")),
    *((b"j", cursor_on(rb"vm/%d" % n)) for n in range(1, 9)),
    *((b"k", cursor_on(rb"vm/%d" % n)) for n in range(7, 2, -1)),
    (b"G", cursor_on(rb"vm/100")),
    (b"2", says(rb"WORKSPACE")),
    (b"3", says(rb"TAKEN")),
    (b"4", says(rb"KIND")),
    (b"5", says(rb"\bnow\b")),
    (b"6", says(rb"OUTCOME")),
    (b"1", says(rb"NODE")),
    (b"?", says(rb"\bKeys\b")),
    (b"\x1b", says(rb"Leases")),
    (b"/", says(rb"2000/2000")),
    (b"vm/77", cursor_on(rb"vm/77")),
    (b"\x1b", says(rb"vm/76 ")),
    (b"p", says(rb"PAUSED")),
    (b"p", says(rb"running")),
)


@dataclass
class Seen:
    """What a soak has measured."""

    memory: list[float] = field(default_factory=list)
    """MiB, one a key."""
    waits: list[float] = field(default_factory=list)
    """Seconds from a key to its effect."""

    def growth(self) -> float:
        """MiB from after the warm-up to the end; medians, for one sample proves nothing."""
        fifth = max(1, len(self.memory) // 5)
        return statistics.median(self.memory[-fifth:]) - statistics.median(
            self.memory[2 * fifth : 3 * fifth]
        )

    def __str__(self) -> str:
        worst, middle = max(self.waits), statistics.median(self.waits)
        return (f"{len(self.waits)} keys answered, median {middle * 1e3:.0f} ms, "
                f"worst {worst * 1e3:.0f} ms; memory {self.memory[0]:.1f} MiB at first, "
                f"{max(self.memory):.1f} at most, {self.memory[-1]:.1f} at last, "
                f"{self.growth():+.2f} after the warm-up")  # fmt: skip


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Pty]]:
    """Starts the interface of the home; ends it afterwards."""
    made: list[Pty] = []

    def begin(entry: Sequence[str] = ("-m", "wspilot")) -> Pty:
        argv = [sys.executable, *entry, "--home", str(tmp_path / "home"), "tui"]
        made.append(Pty(argv, {"XDG_CONFIG_HOME": str(tmp_path)}))
        made[-1].when(painted(b"vm/3"))
        return made[-1]

    yield begin
    for one in made:
        one.close()


def soak(screen: Pty, seconds: float) -> Seen:
    """Press keys and wait for what each of them does."""
    seen, end = Seen(), time.monotonic() + seconds
    for key, effect in cycle(KEYS):
        seen.waits.append(-screen.press(key) + screen.when(effect))
        seen.memory.append(screen.rss_kib() / 1024)
        if time.monotonic() > end:
            return seen
        time.sleep(PAUSE_S)
    raise AssertionError


def test_memory_stands_still_and_keys_are_answered(
    tmp_path: Path, start: Callable[..., Pty]
) -> None:
    with crowd(tmp_path / "home", 2000, 200) as counts:
        screen = start()
        seen, told = soak(screen, SOAK_S), counts()
        print(f"\n{SOAK_S:.0f} s, {told['sent']} events: {seen}")
        assert told["sent"] > 0.8 * 200 * SOAK_S, told  # the load was there
        assert (told["subscribed"], told["snapshots"], told["listening"]) == (1, 1, 1), told
        assert seen.growth() < MAY_GROW_MIB


def test_a_leak_would_be_seen(tmp_path: Path, start: Callable[..., Pty]) -> None:
    with crowd(tmp_path / "home", 2000, 200):
        seen = soak(start(("-c", LEAKY)), CONTROL_S)
        print(f"\n{seen}")
        assert seen.growth() > MAY_GROW_MIB


def test_a_screen_that_was_stopped_for_long_begins_again_and_goes_on(
    tmp_path: Path, start: Callable[..., Pty]
) -> None:
    """As by ctrl+z. That a new beginning is counted here shows that one would be seen above."""
    with crowd(tmp_path / "home", 2000, 2000) as counts:
        screen = start()
        screen.process.send_signal(signal.SIGSTOP)
        time.sleep(4)  # 8,000 events: more than the daemon keeps, and the socket holds
        screen.process.send_signal(signal.SIGCONT)
        end = time.monotonic() + 60
        while (told := counts())["snapshots"] == 1:
            assert time.monotonic() < end, told
            time.sleep(0.1)
        assert (told["subscribed"], told["listening"]) == (1, 1), told
        screen.press(b"2")
        screen.when(says(rb"WORKSPACE"))

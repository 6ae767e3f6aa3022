"""What the terminal interface costs: first frame, loading, a key under load, standing still.

Run by hand: `python -m tests.bench tui` (`python -m tests.bench.tui` takes more runs). It is the
real `wspilot tui` in a real pseudo-terminal, with a tui.toml and what it keeps between sessions, on
a real socket (`crowd`). Figures, no verdicts; the budgets stand beside them.
"""

from __future__ import annotations

import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.crowd import QUIET_S, crowd
from tests.bench.measure import machine
from tests.bench.ptys import Pty, painted

BARE = "from textual.app import App\nApp().run()"
"""The smallest Textual app: it paints an empty screen."""
SKELETON = b"NAME"  # the head of the table: there before any data
TASTE = 'theme = "day"\nbell = false\n[keys]\n"app.destroy" = "D"\n'
KEPT = '{"sort.slots": "-age", "hidden.nodes": ["kvm"], "strip": true}'

# (VMs, events a second, what is said of it, how old they are)
CROWDS = (
    (100, 0, " (budget 1 %)", QUIET_S),
    (100, 0, ", younger than a minute (budget 1 %)", 0.0),  # their ages tick each second
    (2_000, 200, "", QUIET_S),
    (10_000, 200, "", QUIET_S),
)


class Bench:
    """A home, and the interface on it."""

    def __init__(self, place: Path) -> None:
        self.home, self._config = place / "home", place / "config"
        (self.home / "tui").mkdir(mode=0o700, parents=True)
        (self.home / "tui" / "kept.json").write_text(KEPT)
        (self._config / "wspilot").mkdir(parents=True)
        (self._config / "wspilot" / "tui.toml").write_text(TASTE)

    @contextmanager
    def tui(self) -> Iterator[Pty]:
        """`wspilot tui`."""
        entry = str(Path(sys.executable).with_name("wspilot"))
        with closing(Pty([entry, "tui"], self._env())) as shown:
            yield shown

    @contextmanager
    def bare(self) -> Iterator[Pty]:
        """The smallest Textual app."""
        with closing(Pty([sys.executable, "-c", BARE], self._env())) as shown:
            yield shown

    def _env(self) -> dict[str, str]:
        return {"WSPILOT_HOME": str(self.home), "XDG_CONFIG_HOME": str(self._config)}

    # -- figures

    def first_frames(
        self, runs: int
    ) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
        """(the smallest app, ours) in turn: seconds of the clock and of the processor.

        From the start of the process until every cell of the screen has been painted.
        """
        bare, ours = [], []
        with crowd(self.home, 100):
            for _ in range(runs + 1):
                with self.bare() as shown:
                    bare.append((shown.when(painted()) - shown.began, shown.cpu()))
                with self.tui() as shown:
                    ours.append((shown.when(painted(SKELETON)) - shown.began, shown.cpu()))
        return bare[1:], ours[1:]  # the first of each fills the disk's cache

    def loads(self, vms: int, runs: int) -> list[float]:
        """Seconds from the request for everything until the first lines are on the screen.

        Making the JSON, the socket, reading it, the model, its order and the frame are in it.
        """
        took = []
        with crowd(self.home, vms) as counts:
            for _ in range(runs):
                with self.tui() as shown:
                    drawn = shown.when(painted(b"vm/3", b"%d active" % (vms // 100)))
                    took.append(drawn - counts()["asked_at"])
        return took

    def standing(
        self, vms: int, per_second: float, seconds: float, age_s: float = QUIET_S
    ) -> tuple[float, float]:
        """(share of a core, bytes a second to the terminal)."""
        with crowd(self.home, vms, per_second, age_s), self.tui() as shown:
            shown.when(painted(b"vm/3"))
            time.sleep(3)
            cpu, bytes, begun = shown.cpu(), shown.total, time.monotonic()
            time.sleep(seconds)
            took = time.monotonic() - begun
            return (shown.cpu() - cpu) / took, (shown.total - bytes) / took

    def keys(self, vms: int, per_second: float, presses: int) -> tuple[list[float], float]:
        """(seconds from a key to the write that shows the cursor on the next VM, events/s sent)."""
        took = []
        with crowd(self.home, vms, per_second) as counts, self.tui() as shown:
            shown.when(painted(b"vm/3"))
            _press(shown, b"g", rb"lease-w0000")
            _press(shown, b"j", rb"vm")
            _press(shown, b"j", rb"vm/1")
            sent, begun = counts()["sent"], time.monotonic()
            for n in range(presses):
                down, at = n % 180 < 90, n % 180
                number = at + 2 if down else 180 - at
                time.sleep(0.05 + 0.013 * (n % 7))
                took.append(_press(shown, b"j" if down else b"k", rb"vm/%d" % number))
            return took, (counts()["sent"] - sent) / (time.monotonic() - begun)


@contextmanager
def closing(shown: Pty) -> Iterator[Pty]:
    try:
        yield shown
    finally:
        shown.close()


def _press(shown: Pty, key: bytes, name: bytes) -> float:
    """Seconds until this line is painted as the cursor's: bold."""
    cursor = re.compile(rb"\x1b\[1;[^m]*m[^\x1b]*" + name + rb" ")
    return -shown.press(key) + shown.when(lambda written: cursor.search(written) is not None)


def spread(seconds: list[float]) -> str:
    """n, median, 95th percentile and maximum."""
    ranks = sorted(seconds)
    high = ranks[min(len(ranks) - 1, int(len(ranks) * 0.95))]
    return (f"n={len(ranks)}, median {statistics.median(ranks) * 1e3:.0f} ms, min "
            f"{ranks[0] * 1e3:.0f}, p95 {high * 1e3:.0f}, max {ranks[-1] * 1e3:.0f}")  # fmt: skip


def rows(bench: Bench, quick: bool) -> Iterator[tuple[str, str]]:
    """Every figure, as it is measured."""
    bare, ours = bench.first_frames(5 if quick else 15)
    for kind, word in ((0, "clock"), (1, "processor")):
        low, high = [one[kind] for one in bare], [one[kind] for one in ours]
        yield f"first frame, smallest Textual app ({word})", spread(low)
        yield f"first frame, wspilot tui ({word})", spread(high)
        over = [(much - less) for less, much in zip(low, high)]
        yield "  over it, pair by pair (budget 200 ms)", spread(over)
    took, sent = bench.keys(2_000, 200, 60 if quick else 300)
    yield f"key to effect, 2,000 VMs, {sent:.0f} events/s (budget 50 ms)", spread(took)
    yield (
        "10,000 VMs asked for until drawn (budget 1.5 s)",
        spread(bench.loads(10_000, 2 if quick else 5)),
    )
    seconds = 5.0 if quick else 20.0
    for vms, rate, budget, age_s in CROWDS:
        share, bytes = bench.standing(vms, rate, seconds, age_s)
        yield (
            f"{vms} VMs, {rate} events/s{budget}",
            (f"{share * 100:.1f} % of a core, {bytes / 1e3:.1f} kB/s to the terminal"),
        )


def run(quick: bool = False) -> None:
    """Print the table."""
    print(f"\nThe terminal interface [{machine()}]")
    with tempfile.TemporaryDirectory(prefix="wspilot-bench-tui-") as place:
        for name, value in rows(Bench(Path(place)), quick):
            print(f"{name:60} {value}", flush=True)


if __name__ == "__main__":
    run()

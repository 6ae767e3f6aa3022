"""What the terminal interface costs: first frame, loading, updates, a key under load.

Run by hand: `python -m tests.bench.bench_tui [--quick]`. Figures, no verdicts. Processor seconds
where the machine's load would spoil the clock; medians of n.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

from textual import events

from tests.bench.measure import machine
from wspilot.client import Update
from wspilot.tui import canned
from wspilot.tui.app import WspilotApp

Doc = dict[str, Any]
SIZE = (140, 45)
_FRAME = """
import time
import asyncio
{make}
class Timed({base}):
    def on_mount(self):
        if hasattr(super(), "on_mount"):
            super().on_mount()
        self.call_after_refresh(self._first)
    def _first(self):
        print(time.perf_counter() - {begun}, time.process_time(), flush=True)
        self.exit()
async def main():
    async with Timed({args}).run_test(size=(140, 45)) as pilot:
        await pilot.pause()
asyncio.run(main())
"""
BARE = _FRAME.format(
    make="from textual.app import App\nfrom textual.widgets import Static, Footer",
    base="App",
    args="",
    begun="{begun}",
)
OURS = _FRAME.format(
    make="from pathlib import Path\nfrom wspilot.tui.app import ClientSource, WspilotApp",
    base="WspilotApp",
    args="ClientSource(Path('nowhere'))",
    begun="{begun}",
)


class Flood:
    """A site of n VMs and so many changes a second."""

    place = "bench"

    def __init__(self, vms: int, per_second: int = 0) -> None:
        at = time.time()
        self._ws = canned.workspace("w0", "big", [("vm", "small", vms)], "active", at)
        self.vms = [
            canned.vm(f"v{n}", self._ws, "vm", "small", n, "running", at,
                      node=f"node{n % 64}", octet=n % 250)
            for n in range(1, vms + 1)
        ]  # fmt: skip
        self._ws["vms"] = [vm["id"] for vm in self.vms]
        self._per_second, self.sent = per_second, 0

    async def updates(self) -> AsyncIterator[Update]:
        yield Update(1, True, (canned.status(time.time(), 0), self._ws, *self.vms))
        chance = random.Random(1)
        while True:
            await asyncio.sleep(0.1)
            some = [chance.choice(self.vms) for _ in range(self._per_second // 10)]
            changed = [{**vm, "state": chance.choice(("running", "booting"))} for vm in some]
            event = canned.event(str(self.sent), "vm", "something", time.time())
            self.sent += len(changed)
            if changed:
                yield Update(2 + self.sent, False, (*changed, event))

    async def call(self, method: str, **params: Any) -> Doc:
        return {}


async def load(vms: int) -> float:
    """Processor seconds from the empty screen until n VMs are drawn."""
    app = WspilotApp(Flood(vms))
    begun = time.process_time()
    async with app.run_test(size=SIZE) as pilot:
        await _until(app, pilot, vms)
        return time.process_time() - begun


async def churn(vms: int, per_second: int, seconds: float) -> float:
    """Share of one core while so many changes a second come."""
    source = Flood(vms, per_second)
    app = WspilotApp(source)
    async with app.run_test(size=SIZE) as pilot:
        await _until(app, pilot, vms)
        await pilot.pause(0.5)
        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.sleep(seconds)
        return (time.process_time() - cpu) / (time.perf_counter() - wall)


class Watched(WspilotApp):
    """Notes when a frame with the cursor elsewhere goes out to the terminal."""

    seen: asyncio.Future[float]
    cursor: str | None = None

    def _display(self, screen: Any, renderable: Any) -> None:
        super()._display(screen, renderable)
        if self.table.cursor_key != self.cursor:
            self.cursor = self.table.cursor_key
            if not self.seen.done():
                self.seen.set_result(time.perf_counter())


async def key(vms: int, per_second: int, presses: int) -> list[float]:
    """Seconds from a key, as the driver hands it in, to the frame that shows its effect."""
    app = Watched(Flood(vms, per_second))
    app.seen = asyncio.get_running_loop().create_future()
    took = []
    async with app.run_test(size=SIZE) as pilot:
        await _until(app, pilot, vms)
        for _ in range(presses):
            await asyncio.sleep(0.07)
            app.cursor, app.seen = app.table.cursor_key, asyncio.Future()
            begun = time.perf_counter()
            app.post_message(events.Key("down", None))
            took.append(await asyncio.wait_for(app.seen, 5) - begun)
    return took


async def _until(app: WspilotApp, pilot: Any, vms: int) -> None:
    while app.table.virtual_size.height < vms:
        await pilot.pause(0.02)
    await pilot.pause()


def first_frames(runs: int) -> tuple[list[float], list[float]]:
    """(a bare Textual app, ours): seconds of the clock and of the processor, medians, in turn.

    From the start of the process to its first frame.
    """
    took: dict[str, list[list[float]]] = {BARE: [], OURS: []}
    for _ in range(runs):
        for code in took:
            full = code.replace("{begun}", repr(time.perf_counter()))
            done = subprocess.run(
                [sys.executable, "-c", full], capture_output=True, text=True, timeout=60, check=True
            )
            took[code].append([float(word) for word in done.stdout.split()])
    bare, ours = ([statistics.median(one) for one in zip(*taken)] for taken in took.values())
    return bare, ours


def rows(quick: bool) -> Iterable[tuple[str, str]]:
    """Every figure, as it is measured."""
    runs = 3 if quick else 7
    bare, ours = first_frames(runs)
    for what, less, more in zip(("", " (CPU)"), bare, ours):
        yield (f"first frame{what}, bare Textual (n={runs})", f"{less * 1e3:.0f} ms")
        over = f"{(more - less) * 1e3:+.0f} ms, x {more / less:.2f}"
        yield (f"first frame{what}, wspilot (n={runs})", f"{more * 1e3:.0f} ms ({over})")
    empty, full = asyncio.run(load(1)), asyncio.run(load(10_000))
    yield ("10,000 VMs loaded and drawn, over one VM", f"{(full - empty) * 1e3:.0f} ms of CPU")
    seconds = 2.0 if quick else 5.0
    for vms, rate in ((100, 0), (2_000, 100), (10_000, 100)):
        share = asyncio.run(churn(vms, rate, seconds))
        yield (f"{vms} VMs, {rate} changes/s", f"{share * 100:.1f} % of a core")
    took = sorted(asyncio.run(key(2_000, 200, 20 if quick else 60)))
    median, worst = statistics.median(took), took[int(len(took) * 0.95)]
    yield (
        f"key to effect, 2,000 VMs, 200 changes/s (n={len(took)})",
        f"median {median * 1e3:.1f} ms, p95 {worst * 1e3:.1f} ms",
    )


def run(quick: bool = False) -> None:
    """Print the table."""
    print(f"\nThe terminal interface [{machine()}]")
    for name, value in rows(quick):
        print(f"{name:54} {value}", flush=True)


def main() -> int:
    """The table alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    run(parser.parse_args().quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Timing for the benchmarks: n, median, spread, and the machine they were taken on."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """Seconds of several runs of one thing."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def sample(name: str, runs: int, do: Callable[[], object]) -> Sample:
    """Time `do`, `runs` times."""
    taken = []
    for _ in range(runs):
        begin = time.perf_counter()
        do()
        taken.append(time.perf_counter() - begin)
    return Sample(name, tuple(taken))


def show(title: str, samples: list[Sample], unit: float = 1e3, name: str = "ms") -> None:
    """A table; the ratio is to the first line."""
    print(f"\n{title} [{machine()}]")
    print(f"{'':44} {'n':>4} {'median':>9} {'min':>9} {'max':>9} {'ratio':>6}   ({name})")
    for one in samples:
        ratio = one.median / samples[0].median if samples[0].median else 0.0
        low, high = min(one.seconds), max(one.seconds)
        print(f"{one.name:44} {len(one.seconds):4} {one.median * unit:9.2f} {low * unit:9.2f} "
              f"{high * unit:9.2f} {ratio:6.2f}")  # fmt: skip


def machine() -> str:
    """Cores, Python, and how busy the machine is: figures of a busy one prove little."""
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, load {load:.1f}"

"""`python -m tests.sim --seeds A:B`: half open; exit 1 on a violation; the count comes last.

A failing seed is played again with fewer and fewer faults, and the shortest history that still
fails is printed with the command that replays it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from tests.sim import table
from tests.sim.play import Play, active, play
from wspilot.daemon.core import events as d

CHUNK = 25  # seeds that one worker takes at a time


@dataclass
class Result:
    """What came of some seeds."""

    seeds: int = 0
    leases: int = 0
    bad: list[tuple[int, str]] = field(default_factory=list)
    counts: Counter[table.Cell] = field(default_factory=Counter)

    def __iadd__(self, other: Result) -> Result:
        self.seeds += other.seeds
        self.leases += other.leases
        self.bad += other.bad
        self.counts.update(other.counts)
        return self


def attempt(seed: int, without: Collection[str] = ()) -> tuple[Play | None, str]:
    """The play, or None and what was violated."""
    try:
        return play(seed, without=without), ""
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


def run(seeds: Sequence[int]) -> Result:
    """Play them one after the other."""
    total = Result()
    for seed in seeds:
        total.seeds += 1
        one, fault = attempt(seed)
        if one is None:
            total.bad.append((seed, fault))
        else:
            total.leases += active(one)
            total.counts.update(one.moves.counts)
    return total


def run_all(seeds: range, jobs: int) -> Result:
    """Play them on `jobs` cores."""
    chunks = [seeds[n : n + CHUNK] for n in range(0, len(seeds), CHUNK)]
    total = Result()
    if jobs < 2:
        parts: Iterable[Result] = map(run, chunks)
        for part in parts:
            total += part
        return total
    with ProcessPoolExecutor(jobs) as pool:
        for part in pool.map(run, chunks):
            total += part
    return total


# -- a failing one


def replay(seed: int, without: Collection[str]) -> tuple[Play, str]:
    """One seed, with its history whatever comes of it."""
    kept: list[Play] = []
    try:
        play(seed, without=without, keep=kept)
    except Exception as error:
        return kept[0], f"{type(error).__name__}: {error}"
    return kept[0], ""


def shrink(seed: int) -> tuple[str, ...]:
    """Faults to leave out, so that the seed still fails and fewer strike."""
    without: tuple[str, ...] = ()
    one, _ = replay(seed, without)
    fewest = len(one.chance.injected)

    def tried(more: str) -> None:
        nonlocal without, fewest
        left, fault = replay(seed, (*without, more))
        if fault and len(left.chance.injected) < fewest:
            without, fewest = (*without, more), len(left.chance.injected)

    for kind in sorted({injection.fault.value for injection in one.chance.injected}):
        tried(kind)
    one, _ = replay(seed, without)
    for injection in one.chance.injected:
        tried(injection.key)
    return without


def tell(seed: int, without: Collection[str]) -> int:
    """Print one seed's history; 1 when it violates something."""
    one, fault = replay(seed, without)
    begin = 1_000_000.0
    lines = [(at, f"  {words(text)}") for at, text in one.head.history]
    lines += [(event.at, f"    = {event.text:.200}") for event in one.head.books.events()]
    lines += [(it.at, f"* {it.key} {it.what}") for it in one.chance.injected]
    last = ""
    for at, line in sorted(lines, key=lambda pair: pair[0]):
        if line.strip() and line != last:
            print(f"{at - begin:9.2f} {line}")
            last = line if "Polled" in line else last
    print(f"seed {seed}: {fault or 'holds'}")
    return 1 if fault else 0


def words(event: object) -> str:
    """An event of the history on one line; empty for those that only let time pass."""
    if isinstance(event, (d.Tick, d.Listened)):
        return ""
    if isinstance(event, d.Heard):
        note = event.note
        who = f"{note.pilot[:8]}{' for ' + note.of[:8] if note.of else ''} seq {note.seq}"
        data = {key: note.data[key] for key in note.data if key not in ("spans", "cpus", "uid")}
        return f"Heard {note.slot} {note.node} {who} {note.kind.value} {data!s:.160}"
    if isinstance(event, d.Polled):
        jobs = " ".join(f"{job.id}:{job.state.value}" for job in event.listing.jobs.values())
        return f"Polled {'' if event.listing.ok else 'FAILED '}{jobs}"
    return f"{event!s:.200}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", default="0:200", metavar="A:B", help="half open")
    parser.add_argument("--seed", type=int, help="one seed, with its history")
    parser.add_argument("--without", action="append", default=[], metavar="FAULT[:N]")
    parser.add_argument("--jobs", type=int, default=1, help="cores")
    parser.add_argument("--table", action="store_true", help="a column for every single fault")
    parser.add_argument("--judge", action="store_true", help="fail on cells that were never hit")
    args = parser.parse_args()
    if args.seed is not None:
        return tell(args.seed, args.without)
    first, _, last = args.seeds.partition(":")
    seeds, begin = range(int(first), int(last)), time.perf_counter()
    total = run_all(seeds, args.jobs)
    rate = len(seeds) / (time.perf_counter() - begin)
    unhit = table.show(total.counts, whole=args.table)
    judged = args.judge or len(seeds) >= table.ENOUGH
    for seed, fault in total.bad:
        print(f"seed {seed}: {fault}", flush=True)
    for seed, fault in total.bad[:3]:
        without = shrink(seed)
        print(f"\nseed {seed}: {fault}")
        tell(seed, without)
        left = " ".join(f"--without '{one}'" for one in without)
        print(f"replay: python -m tests.sim --seed {seed} {left}")
    for row, fault in unhit if judged else ():
        print(f"never tried: {row} under {fault}")
    print(f"{total.leases} leases became active, {rate:.1f} seeds a second on {args.jobs} core(s)")
    print(f"{total.seeds} seeds, {len(total.bad)} violations")
    return 1 if total.bad or (judged and unhit) else 0


if __name__ == "__main__":
    sys.exit(main())

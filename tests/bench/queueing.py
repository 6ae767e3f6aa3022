"""A batch system under load in virtual time, and the day of requests that policies are tried on.

First in first out with EASY backfill, whole nodes, a scheduling cycle: what a Torque or Slurm of a
small site does. Days are generated from a seed, or other people's jobs read from a trace in the
Standard Workload Format (one job a line, 18 numbers, `;` comments).
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

DAY_S = 86400.0
CYCLE_S = 15.0


@dataclass
class Job:
    """One job in the queue or on nodes; `run_s` None: whoever asked for it ends it."""

    nodes: int
    walltime_s: float
    run_s: float | None = None
    begun: Callable[[], None] = lambda: None
    started: float | None = None
    ended: bool = False


@dataclass(frozen=True)
class Wish:
    """One user's request: leases that end early end at a share `used` of their time, and their
    users come back `tries` times, 3 minutes later each (something was not right yet); others want
    `more_s` when the time is up."""

    at: float
    nodes: int
    lease_s: int
    used: float
    more_s: int
    tries: int = 0


class Cluster:
    """Nodes, a queue, and a clock."""

    def __init__(self, nodes: int) -> None:
        self.now, self.nodes, self.free = 0.0, nodes, nodes
        self.queue: list[Job] = []
        self.running: list[Job] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0
        self._cycling = False

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Something that happens later."""
        self._serial += 1
        heapq.heappush(self._events, (max(when, self.now), self._serial, act))

    def run(self, until: float) -> None:
        """Let time pass."""
        while self._events and self._events[0][0] <= until:
            self.now, _, act = heapq.heappop(self._events)
            act()
        self.now = until

    def submit(self, job: Job) -> None:
        """A job comes into the queue."""
        self.queue.append(job)
        self._wake()

    def end(self, job: Job) -> None:
        """A job is over, or taken out of the queue."""
        if job.ended:
            return
        job.ended = True
        if job.started is None:
            self.queue.remove(job)
        else:
            self.running.remove(job)
            self.free += job.nodes
        self._wake()

    def _wake(self) -> None:
        if not self._cycling:
            self._cycling = True
            self.at(math.floor(self.now / CYCLE_S + 1) * CYCLE_S, self._cycle)

    def _cycle(self) -> None:
        self._cycling = False
        while self.queue and self.queue[0].nodes <= self.free:
            self._start(self.queue.pop(0))
        if self.queue:
            self._backfill()

    def _backfill(self) -> None:
        """Jobs behind the first that do not put it off."""
        first, free, when = self.queue[0], self.free, self.now
        for job in sorted(self.running, key=lambda one: (one.started or 0) + one.walltime_s):
            free += job.nodes
            when = (job.started or 0) + job.walltime_s
            if free >= first.nodes:
                break
        spare = free - first.nodes
        for job in self.queue[1:]:
            short = self.now + job.walltime_s <= when
            if job.nodes <= self.free and (short or job.nodes <= spare):
                spare -= 0 if short else job.nodes
                self.queue.remove(job)
                self._start(job)

    def _start(self, job: Job) -> None:
        job.started = self.now
        self.free -= job.nodes
        assert self.free >= 0, "a node was given out twice"
        self.running.append(job)
        run_s = job.walltime_s if job.run_s is None else min(job.run_s, job.walltime_s)
        self.at(self.now + run_s, lambda: self.end(job))
        job.begun()


@dataclass(frozen=True)
class Alien:
    """Somebody else's job."""

    at: float
    nodes: int
    run_s: float
    walltime_s: float


@dataclass(frozen=True)
class Day:
    """What a day brings."""

    wishes: tuple[Wish, ...]
    aliens: tuple[Alien, ...] = field(default=())


def generated(seed: int, nodes: int, load: float, requests: int = 40) -> Day:
    """Other people's jobs for a share `load` of the nodes' time, and `requests` leases, more of
    both in working hours."""
    rng = random.Random(seed)
    aliens, work = [], 0.0
    while work < load * nodes * DAY_S:
        run = min(rng.lognormvariate(7.6, 1.1), 12 * 3600)  # median half an hour
        size = min(rng.choice([1, 1, 1, 2, 2, 4, 8]), nodes)
        asked = run * rng.choice([1.1, 1.5, 3, 5])  # people ask for more than they use
        aliens.append(Alien(_moment(rng), size, run, asked))
        work += size * run
    wishes = [
        Wish(
            _moment(rng),
            rng.choice([1, 1, 1, 2, 4]),
            rng.choice([600, 1800, 3600, 7200]),
            rng.uniform(0.1, 0.9) if rng.random() < 0.5 else 1.0,
            rng.choice([0, 0, 900]),
            rng.choice([0, 0, 1, 3]),
        )
        for _ in range(requests)
    ]
    return Day(tuple(sorted(wishes, key=lambda one: one.at)), tuple(aliens))


def _moment(rng: random.Random) -> float:
    """A time of day: two thirds of them between 9 and 18."""
    if rng.random() < 0.67:
        return rng.uniform(9, 18) * 3600
    return rng.uniform(0, 24) * 3600


def read_swf(path: Path, cores: int) -> tuple[Alien, ...]:
    """Other people's jobs of a recorded trace, as from `cores` to a node. Raises ValueError naming
    the line."""
    found = []
    with open(path, encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            words = line.split(";")[0].split()
            if not words:
                continue
            try:
                values = [float(word) for word in words]
                at, run, used, asked, wall = (values[n] for n in (1, 3, 4, 7, 8))
            except (ValueError, IndexError):
                raise ValueError(f"{path}:{number}: not a line of 18 numbers") from None
            size = max(used, asked)
            if run > 0 and size > 0:
                nodes = math.ceil(size / cores)
                found.append(Alien(at, nodes, run, max(wall, run)))
    return tuple(found)


def first_day(aliens: Iterable[Alien]) -> tuple[Alien, ...]:
    """Those of a trace's first day, from its first job on."""
    jobs = sorted(aliens, key=lambda one: one.at)
    begin = jobs[0].at if jobs else 0.0
    return tuple(
        Alien(job.at - begin, job.nodes, job.run_s, job.walltime_s)
        for job in jobs
        if job.at - begin < DAY_S
    )

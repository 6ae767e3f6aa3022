"""The world around the real cores, in virtual time: clock, batch system, network filesystem.

Holds no rule of wspilot: what the daemon does is `daemon.core` and `daemon.store`, what a node does
is `node.core`. Everything here may be late, repeated, lost or a lie, by the seed's will.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from wspilot.daemon.lrm.base import Answer, Job, JobState, Listing, Verdict
from wspilot.messages import Notification

OWNER = "ann"


@dataclass(frozen=True)
class Faults:
    """How often what goes wrong; all zero: a perfect world."""

    lost_answer: float = 0.0
    retry: float = 0.0
    bad_poll: float = 0.0
    forgetful_poll: float = 0.0  # a good poll that names no job
    slow_file: float = 0.0  # seconds, at most, until another host sees a file
    repeat: float = 0.0
    daemon_crash: float = 0.0  # at each turn
    pilot_kill: float = 0.0  # for each pilot, once in its life
    node_death: float = 0.0  # the guardian dies too
    create_fails: float = 0.0
    reserve_fails: float = 0.0
    preempt: float = 0.0  # for each job
    rerun: float = 0.0
    qdel_fails: float = 0.0


class Clock:
    """Virtual time and what is to happen."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        self._serial += 1
        heapq.heappush(self._queue, (self.now + max(0.0, seconds), self._serial, do))

    def run(self, until: float) -> None:
        while self._queue and self._queue[0][0] <= until:
            self.now, _, do = heapq.heappop(self._queue)
            do()
        self.now = until


@dataclass
class SimJob:
    """One job of the modelled batch system."""

    id: str
    name: str
    slot: str
    nodes: int
    walltime_s: float
    state: JobState = JobState.QUEUED
    hosts: tuple[str, ...] = ()
    starts: int = 0
    kill_at: float | None = None


class Lrm:
    """A batch system of `nodes` nodes that may lie as real ones were seen to."""

    def __init__(
        self,
        clock: Clock,
        chance: random.Random,
        faults: Faults,
        nodes: int,
        start: Callable[[SimJob], None],
        signal: Callable[[SimJob, bool], None],
    ) -> None:
        self._clock, self._chance, self._faults = clock, chance, faults
        self._names = [f"n{n}" for n in range(1, nodes + 1)]
        self._start, self._signal = start, signal
        self.jobs: dict[str, SimJob] = {}
        self.grace_s = 5.0

    def submit(self, slot: str, name: str, nodes: int, walltime_s: float) -> Answer:
        chance, faults = self._chance, self._faults
        if chance.random() < faults.retry:
            return Answer(Verdict.RETRY, text="server down")
        lost = chance.random() < faults.lost_answer
        if lost and chance.random() < 0.5:
            return Answer(Verdict.UNCLEAR, text="no answer")
        job = SimJob(str(len(self.jobs) + 1), name, slot, nodes, walltime_s)
        self.jobs[job.id] = job
        self._clock.after(chance.uniform(0.1, 3.0), self.schedule)
        return Answer(Verdict.UNCLEAR) if lost else Answer(Verdict.ACCEPTED, job.id)

    def schedule(self) -> None:
        """First in, first out."""
        for job in list(self.jobs.values()):
            if job.state is JobState.QUEUED:
                busy = {
                    host
                    for other in self.jobs.values()
                    for host in other.hosts
                    if other.state is JobState.RUNNING
                }
                free = [name for name in self._names if name not in busy]
                if len(free) < job.nodes:
                    return
                self._run(job, tuple(free[: job.nodes]))

    def _run(self, job: SimJob, hosts: tuple[str, ...]) -> None:
        job.state, job.hosts, job.starts = JobState.RUNNING, hosts, job.starts + 1
        start = job.starts
        self._clock.after(job.walltime_s, lambda: self._over(job, start))
        if self._chance.random() < self._faults.preempt:
            self._clock.after(self._chance.uniform(1, 300), lambda: self._over(job, start))
        if job.starts == 1 and self._chance.random() < self._faults.rerun:
            self._clock.after(self._chance.uniform(5, 200), lambda: self._again(job))
        self._start(job)

    def _over(self, job: SimJob, start: int) -> None:
        if job.state is JobState.RUNNING and job.starts == start:
            self._terminate(job)

    def _terminate(self, job: SimJob) -> None:
        if job.kill_at is None:
            job.kill_at = self._clock.now + self.grace_s
            self._signal(job, False)
            self._clock.after(self.grace_s, lambda: self._kill(job))

    def _kill(self, job: SimJob) -> None:
        if job.state is JobState.RUNNING and job.kill_at is not None:
            self._signal(job, True)
            self.ended(job)

    def _again(self, job: SimJob) -> None:
        """An operator's requeue: same id, a second start."""
        if job.state is JobState.RUNNING:
            self._signal(job, True)
            job.state, job.hosts, job.kill_at = JobState.QUEUED, (), None
            self._clock.after(2, self.schedule)

    def ended(self, job: SimJob) -> None:
        """Its script has ended."""
        if job.state is JobState.RUNNING:
            job.state = JobState.DONE
            self._clock.after(0.2, self.schedule)

    def cancel(self, id: str) -> Answer:
        job = self.jobs.get(id)
        if self._chance.random() < self._faults.qdel_fails:
            return Answer(Verdict.UNCLEAR, text="could not connect to MOM")
        if job is None or job.state is JobState.DONE:
            return Answer(Verdict.GONE)
        if job.state is JobState.QUEUED:
            job.state = JobState.DONE
        else:
            self._terminate(job)
        return Answer(Verdict.ACCEPTED)

    def poll(self) -> Listing:
        if self._chance.random() < self._faults.bad_poll:
            return Listing(False, text="qstat hung")
        if self._chance.random() < self._faults.forgetful_poll:
            return Listing(True)
        return Listing(
            True,
            {
                job.id: Job(job.id, job.name, OWNER, job.state, job.state.value, job.hosts)
                for job in self.jobs.values()
            },
        )


@dataclass
class File:
    """A notification on the shared filesystem."""

    note: Notification
    visible_at: float


@dataclass
class Files:
    """new/, as the daemon's host sees it: late, in any order, some of them twice."""

    clock: Clock
    chance: random.Random
    faults: Faults
    files: list[File] = field(default_factory=list)
    beats: dict[str, File] = field(default_factory=dict)

    def put(self, note: Notification) -> None:
        self.files.append(File(note, self._seen()))
        if self.chance.random() < self.faults.repeat:
            self.files.append(File(note, self._seen() + 5))

    def beat(self, note: Notification) -> None:
        self.beats[note.pilot] = File(note, self._seen())

    def visible(self) -> list[File]:
        found = [file for file in self.files if file.visible_at <= self.clock.now]
        found.sort(key=lambda file: (file.note.slot, file.note.pilot, file.note.seq))
        return found

    def _seen(self) -> float:
        return self.clock.now + self.chance.uniform(0.0, self.faults.slow_file)

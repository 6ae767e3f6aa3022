"""A batch system: a queue, nodes as whole, walltime, signals; and every lie that was recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.sim.clock import Clock
from tests.sim.faults import Chance, Fault
from wspilot.daemon.lrm.base import Answer, Job, JobState, Listing, Verdict

OWNER = "ann"
GRACE_S = 5.0
_LIVE = (JobState.QUEUED, JobState.RUNNING, JobState.SUSPENDED)
LIE_GAP_S = 45.0  # two polls in a row never lie: that is all that "several good polls" can be worth


@dataclass
class SimJob:
    """One job as it really is. `starts` counts how often its script was started."""

    id: str
    slot: str
    name: str
    nodes: int
    walltime_s: float
    pinned: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    state: JobState = JobState.QUEUED
    hosts: tuple[str, ...] = ()
    starts: int = 0
    killing: bool = False
    done_at: float = 0.0
    held: bool = False


@dataclass
class Signals:
    """What the batch system does to a job's processes; bound by the play."""

    start: Callable[[SimJob], None] = lambda job: None
    term: Callable[[SimJob], None] = lambda job: None
    kill: Callable[[SimJob], None] = lambda job: None
    overdue: Callable[[SimJob], None] = lambda job: None  # the grace is over
    stop: Callable[[SimJob], None] = lambda job: None
    resume: Callable[[SimJob], None] = lambda job: None


class Lrm:
    """FIFO, whole nodes."""

    def __init__(self, clock: Clock, chance: Chance, hosts: tuple[str, ...]) -> None:
        self._clock, self._chance = clock, chance
        self.up = dict.fromkeys(hosts, True)
        self.jobs: dict[str, SimJob] = {}
        self.signals = Signals()
        self._keeps_s = chance.random.choice([5.0, 60.0, 300.0])  # finished jobs stay listed
        self._lied = 0.0
        self._serial = 0

    # -- commands

    def submit(self, slot: str, name: str, nodes: int, walltime_s: float,
               pinned: tuple[str, ...], exclude: tuple[str, ...]) -> Answer:  # fmt: skip
        """qsub."""
        hits = self._chance.hits
        if hits(Fault.QSUB_REFUSED, name):
            return Answer(Verdict.REFUSED, text="no such queue")
        if hits(Fault.QSUB_DOWN, name):
            return Answer(Verdict.RETRY, text="server is down")
        if hits(Fault.QSUB_VANISHED, name):
            return Answer(Verdict.UNCLEAR, text="time limit")
        living = [one.id for one in self.jobs.values() if one.slot == slot and one.state in _LIVE]
        assert not living, f"slot {slot} is submitted twice: {living} live"
        self._serial += 1
        job = SimJob(f"{self._serial}.srv", slot, name, nodes, walltime_s, pinned, exclude)
        self.jobs[job.id] = job
        if hits(Fault.HELD, job.id):
            job.held = True
            if self._chance.random.random() < 0.7:  # else until somebody deletes it
                self._clock.after(self._chance.between(20, 200), lambda: self._release(job))
        self._soon()
        if hits(Fault.QSUB_LOST, name):
            return Answer(Verdict.UNCLEAR, text="time limit")
        return Answer(Verdict.ACCEPTED, job.id)

    def cancel(self, id: str) -> Answer:
        """qdel."""
        if self._chance.hits(Fault.QDEL_FAILED, id):
            return Answer(Verdict.UNCLEAR, text="could not connect to MOM")
        job = self.jobs.get(id)
        if job is None or job.state is JobState.DONE:
            return Answer(Verdict.GONE)
        if self._chance.hits(Fault.QDEL_UNHEARD, id):
            return Answer(Verdict.ACCEPTED)
        if job.state is JobState.QUEUED:
            self._over(job)
        else:
            self.terminate(job)
        return Answer(Verdict.ACCEPTED)

    def poll(self) -> Listing:
        """qstat, or a lie; never two lies soon after each other."""
        honest = self._clock.now - self._lied < LIE_GAP_S
        if not honest and self._chance.hits(Fault.POLL_FAILED):
            return Listing(False, text="qstat hung")
        if not honest and self._chance.hits(Fault.POLL_EMPTY):
            self._lied = self._clock.now
            return Listing(True)
        found = {job.id: _shown(job) for job in self.jobs.values() if self._listed(job)}
        if not honest and self._chance.hits(Fault.POLL_INVENTS):
            self._lied = self._clock.now
            found = {id: _bent(job, n) for n, (id, job) in enumerate(sorted(found.items()))}
            found["999.srv"] = Job("999.srv", "STDIN", "eve", JobState.RUNNING, "R")
        return Listing(True, found)

    def _listed(self, job: SimJob) -> bool:
        return job.state is not JobState.DONE or self._clock.now - job.done_at < self._keeps_s

    # -- a job's life

    def _release(self, job: SimJob) -> None:
        job.held = False
        self.schedule()

    def _soon(self) -> None:
        self._clock.after(self._chance.between(0.1, 20), self.schedule)

    def schedule(self) -> None:
        """Start what fits, in order; a job that cannot start does not block those behind it."""
        for job in list(self.jobs.values()):
            if job.state is JobState.QUEUED and not job.held:
                hosts = self._place(job)
                if hosts:
                    self._run(job, hosts)

    def _place(self, job: SimJob) -> tuple[str, ...]:
        alive = (JobState.RUNNING, JobState.EXITING, JobState.SUSPENDED)
        busy = {name for one in self.jobs.values() if one.state in alive for name in one.hosts}
        free = [
            name
            for name, up in self.up.items()
            if up and name not in busy and name not in job.exclude
            and (not job.pinned or name in job.pinned)
        ]  # fmt: skip
        return tuple(free[: job.nodes]) if len(free) >= job.nodes else ()

    def _run(self, job: SimJob, hosts: tuple[str, ...]) -> None:
        job.state, job.hosts, job.starts = JobState.RUNNING, hosts, job.starts + 1
        job.killing, start = False, job.starts
        chance, after = self._chance, self._clock.after
        after(job.walltime_s, lambda: self._walltime(job, start))
        if chance.hits(Fault.PREEMPTED, job.id):
            after(chance.between(0, 250), lambda: self._if(job, start, self.terminate))
        if chance.hits(Fault.NO_GRACE, job.id):
            latest = chance.random.choice([3, 250])
            after(chance.between(0, latest), lambda: self._if(job, start, self.strike))
        if chance.hits(Fault.SUSPENDED, job.id):
            latest = chance.random.choice([5, 15, 200])
            after(chance.between(0.5, latest), lambda: self._if(job, start, self._suspend))
        if start == 1 and chance.hits(Fault.RERUN, job.id):
            after(chance.between(0, 200), lambda: self._if(job, start, self._again))
        self.signals.start(job)

    def _if(self, job: SimJob, start: int, act: Callable[[SimJob], None]) -> None:
        if job.state is JobState.RUNNING and job.starts == start:
            act(job)

    def _walltime(self, job: SimJob, start: int) -> None:
        if job.state in (JobState.RUNNING, JobState.SUSPENDED) and job.starts == start:
            job.state = JobState.RUNNING
            self.signals.resume(job)
            self.terminate(job)

    def terminate(self, job: SimJob) -> None:
        """TERM, some grace, KILL."""
        if not job.killing:
            job.killing, start = True, job.starts
            self.signals.term(job)
            self._clock.after(GRACE_S, lambda: self._if(job, start, self._graceless))

    def _graceless(self, job: SimJob) -> None:
        self.signals.overdue(job)
        self.strike(job)

    def strike(self, job: SimJob) -> None:
        """KILL, with no warning."""
        self.signals.kill(job)
        self.ended(job)

    def _suspend(self, job: SimJob) -> None:
        job.state = JobState.SUSPENDED
        self.signals.stop(job)
        self._clock.after(self._chance.between(5, 200), lambda: self._resume(job))

    def _resume(self, job: SimJob) -> None:
        if job.state is JobState.SUSPENDED:
            job.state = JobState.RUNNING
            self.signals.resume(job)

    def _again(self, job: SimJob) -> None:
        """An operator's requeue: the same id, a second start."""
        self.signals.kill(job)
        job.state, job.hosts = JobState.QUEUED, ()
        self._soon()

    def ended(self, job: SimJob) -> None:
        """Its script has ended."""
        if job.state in (JobState.RUNNING, JobState.SUSPENDED):
            job.state = JobState.EXITING
            self._clock.after(self._chance.between(0, 3), lambda: self._over(job))

    def _over(self, job: SimJob) -> None:
        if job.state is not JobState.DONE:
            job.state, job.done_at = JobState.DONE, self._clock.now
            self._soon()

    def node_down(self, host: str) -> None:
        """The batch system finds out after a while."""
        self.up[host] = False
        for job in self.jobs.values():
            if host in job.hosts and job.state in (JobState.RUNNING, JobState.SUSPENDED):
                start = job.starts
                wait = self._chance.between(5, 90)
                self._clock.after(wait, lambda one=job, n=start: self._if(one, n, self.strike))

    def node_up(self, host: str) -> None:
        """It is back."""
        self.up[host] = True
        self.schedule()


def _shown(job: SimJob) -> Job:
    state = JobState.HELD if job.held and job.state is JobState.QUEUED else job.state
    return Job(job.id, job.name, OWNER, state, state.value, job.hosts)


def _bent(job: Job, n: int) -> Job:
    """An answer that is wrong in one way: a word nobody knows, or another's name."""
    if n % 2:
        return Job(job.id, job.name, job.owner, JobState.UNKNOWN, "X", job.hosts)
    return Job(job.id, job.name, job.owner, JobState.UNKNOWN, "?", ())


@dataclass
class Epochs:
    """slots/<slot>/epoch.<n>: who claimed it first, launchers or the daemon."""

    taken: dict[str, int] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)

    def launch(self, slot: str) -> int:
        """A launcher's exclusive mkdir: the epoch that is its own."""
        self.taken[slot] = self.taken.get(slot, 0) + 1
        return self.taken[slot]

    def close(self, slot: str) -> bool:
        """The daemon's own: True when no launcher was first."""
        if self.taken.get(slot):
            return slot in self.closed
        self.taken[slot] = 1
        self.closed.add(slot)
        return True

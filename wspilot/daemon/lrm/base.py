"""What the daemon needs of a batch system: four questions, each a pure `argv` and a pure `parse`.

A driver never runs anything and keeps no state. It turns a request into a `Command`, and the
`Result` of that command into a value; the one runner (`runner.py`) does the running. So every
recorded answer of a real batch system is a unit test, and a hung server is the runner's business.

The rule behind the shapes (DESIGN.md section 8): nothing is inferred from silence. A failed poll is
a `Listing` with `ok=False` and changes no state; a job that a good listing does not name is simply
not in `jobs`, and the core decides what that means.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol


class JobState(Enum):
    """The states that matter to a slot; a batch system's own word is kept in `Job.raw`."""

    QUEUED = "queued"
    HELD = "held"
    RUNNING = "running"
    SUSPENDED = "suspended"
    EXITING = "exiting"  # no longer runs, not yet gone: Torque E, Slurm COMPLETING
    DONE = "done"
    UNKNOWN = "unknown"  # a word this driver does not know: keep the last state, say so


@dataclass(frozen=True)
class JobRequest:
    """One job to submit: the slot's shape and where its files are."""

    name: str  # ws-<slot>-<nn>
    nodes: int
    ppn: int  # cores per node
    memory_mib: int  # per node, overhead included
    walltime_s: int  # whole minutes
    script: str  # absolute path of job.sh
    output: str  # absolute path for the job's stdout and stderr
    whole_node: bool = False  # nobody else's job beside it
    hosts: tuple[str, ...] = ()  # pinned there (repair jobs)
    exclude: tuple[str, ...] = ()  # dirty nodes, where the batch system can


@dataclass(frozen=True)
class Job:
    """One job as the batch system tells it. `raw` is its own word for the state."""

    id: str
    name: str
    owner: str
    state: JobState
    raw: str = ""
    hosts: tuple[str, ...] = ()
    exit_status: int | None = None
    reason: str = ""  # why it waits or ended, as told


@dataclass(frozen=True)
class Command:
    """An argument list (never a shell string), its input, and its time limit in seconds."""

    argv: tuple[str, ...]
    stdin: bytes = b""
    timeout_s: float = 20.0
    env: tuple[tuple[str, str], ...] = ()  # beside the runner's own small environment


@dataclass(frozen=True)
class Result:
    """What came of a `Command`. `rc` is None when it was not found or hit its time limit."""

    argv: tuple[str, ...]
    rc: int | None
    out: bytes = b""
    err: bytes = b""
    elapsed_s: float = 0.0
    timed_out: bool = False
    missing: bool = False  # the program is not installed or not in PATH


class Verdict(Enum):
    """How a submission or a cancellation ended."""

    ACCEPTED = "accepted"
    REFUSED = "refused"  # the batch system said no and nothing was created: `text` says why
    RETRY = "retry"  # it said no for now (server down before it took the request): nothing created
    UNCLEAR = "unclear"  # time limit, lost answer: it may have happened; look before trying again
    GONE = "gone"  # cancel only: no such job any more


@dataclass(frozen=True)
class Answer:
    """The meaning of a submit's or a cancel's result."""

    verdict: Verdict
    job_id: str = ""
    text: str = ""  # cleaned, for people


@dataclass(frozen=True)
class Listing:
    """One poll. `ok=False` means "we learned nothing": no state may change because of it."""

    ok: bool
    jobs: dict[str, Job] = field(default_factory=dict)
    whole: bool = True  # every job of ours is in it; False: only the ids asked for
    text: str = ""  # what went wrong, cleaned


class Driver(Protocol):
    """One batch system. All methods are pure; `settings` were given to the constructor."""

    name: str

    def submit(self, request: JobRequest) -> Command:
        """The command that submits `request.script`. Not rerunnable, no mail."""
        ...

    def submitted(self, result: Result) -> Answer:
        """ACCEPTED with the job's id, REFUSED, RETRY or UNCLEAR."""
        ...

    def poll(self, ids: tuple[str, ...]) -> Command:
        """One query for `ids` (all of ours when empty or beyond about 200)."""
        ...

    def polled(self, result: Result, ids: tuple[str, ...]) -> Listing:
        """Every job the answer names, by id as `submitted` gave it."""
        ...

    def find(self, owner: str) -> Command:
        """All jobs of `owner` with full names, to find a lost submission; parsed by `polled`."""
        ...

    def cancel(self, job_id: str) -> Command:
        """Ask for the end of one job (queued or running)."""
        ...

    def cancelled(self, result: Result) -> Answer:
        """ACCEPTED (asked, not proved), GONE, REFUSED, RETRY or UNCLEAR."""
        ...

    def script(self, request: JobRequest, launch: tuple[str, ...]) -> str:
        """The job script: shebang, directives, site lines, and `launch` run the right way."""
        ...

    def shell(self, request: JobRequest, launch: tuple[str, ...]) -> str | None:
        """A stand-in for the job's shell, written beside job.sh as `shell`; None: none is needed.

        On Torque the job's leader must survive TERM, or mom kills the rest at once (torque.md 2).
        """
        ...

    def start(self) -> tuple[str, ...]:
        """How the launcher starts one process per node: an argv prefix, with `{nodes}` in it
        replaced by the number of nodes; empty: the launcher starts it itself (one node)."""
        ...

    def node_list(self) -> str:
        """Where the launcher finds its nodes: `slurm` (SLURM_JOB_NODELIST and SLURMD_NODENAME),
        `pbs` (PBS_NODEFILE; on sisters the host name) or `local` (WSPILOT_LOCAL_NODES)."""
        ...

    def grace_s(self, nodes: int) -> float:
        """Seconds between TERM and KILL that this batch system really gives such a job."""
        ...

"""Driver of Slurm by its own commands: sbatch, squeue, scancel, srun.

Traps (recordings in tests/unit/lrm/data): an unknown id makes `squeue -j` fail, so all of our own
jobs are asked for, finished ones too; scancel of an unknown id exits 0 in silence; a frozen
controller says "Socket timed out" although the job was queued; jobs are never requeued unless an
operator says so. sbatch(1), squeue(1), scancel(1) of Slurm 22.05.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from wspilot.daemon.lrm.base import (
    Answer,
    Command,
    Job,
    JobRequest,
    JobState,
    Listing,
    Result,
    Verdict,
)
from wspilot.daemon.lrm.directives import check_paths, job_script
from wspilot.daemon.lrm.site import BatchSettings
from wspilot.text import clean

JOB_ID = re.compile(r"[1-9][0-9]{0,17}")
MOST_HOSTS = 65_536
_PART_OF_ANOTHER = re.compile(r"[1-9][0-9]*[_+]\S*")  # arrays and heterogeneous jobs: never ours
_SUBMITTED = re.compile(r"([1-9][0-9]{0,17})(;[\w.-]+)?\s*")  # --parsable: ID, or ID;CLUSTER
_FIELDS = "%i|%u|%T|%N|%r|%j"  # the name comes last: it may hold any character
_HOST_SET = re.compile(r"([^\[\],]+)(?:\[([^\[\]]*)\])?,?")
_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_STATES: Mapping[str, JobState] = {
    "PENDING": JobState.QUEUED, "CONFIGURING": JobState.QUEUED, "REQUEUED": JobState.QUEUED,
    "REQUEUE_FED": JobState.QUEUED, "REQUEUE_HOLD": JobState.HELD, "SPECIAL_EXIT": JobState.HELD,
    "RESV_DEL_HOLD": JobState.HELD, "RUNNING": JobState.RUNNING, "SIGNALING": JobState.RUNNING,
    "RESIZING": JobState.RUNNING, "STAGE_OUT": JobState.EXITING, "COMPLETING": JobState.EXITING,
    "SUSPENDED": JobState.SUSPENDED, "STOPPED": JobState.SUSPENDED, "COMPLETED": JobState.DONE,
    "CANCELLED": JobState.DONE, "FAILED": JobState.DONE, "TIMEOUT": JobState.DONE,
    "NODE_FAIL": JobState.DONE, "PREEMPTED": JobState.DONE, "BOOT_FAIL": JobState.DONE,
    "DEADLINE": JobState.DONE, "OUT_OF_MEMORY": JobState.DONE, "REVOKED": JobState.DONE,
}  # fmt: skip
_HELD_REASONS = ("JobHeldUser", "JobHeldAdmin", "job requeued in held state")
# The controller did not take the request for sure; anything else that smells of time is unclear.
_DOWN = ("Unable to contact slurm controller (connect failure)", "Connection refused")
_LATER = ("standby mode", "temporarily unable to accept job",
          "Resource temporarily unavailable")  # fmt: skip
_UNSURE = ("timed out", "Timeout", "Zero Bytes were transmitted", "Unexpected message received",
           "Socket", "connect failure", "Transport endpoint")  # fmt: skip


class SlurmDriver:
    """One Slurm cluster."""

    name = "slurm"

    def __init__(self, settings: BatchSettings) -> None:
        self._settings = settings

    def submit(self, request: JobRequest) -> Command:
        return Command(("sbatch", "--parsable", request.script), timeout_s=60)

    def submitted(self, result: Result) -> Answer:
        match = _SUBMITTED.fullmatch(result.out.decode("ascii", "replace"))
        if result.rc == 0 and match:
            return Answer(Verdict.ACCEPTED, match.group(1))
        text = _said(result)
        if result.missing:
            return Answer(Verdict.RETRY, text="sbatch is not installed here, or not in PATH")
        if any(word in text for word in _DOWN + _LATER):
            return Answer(Verdict.RETRY, text=text)
        lost = (
            result.rc is None or result.rc <= 0 or not text
        )  # killed, or silent: it proves nothing
        if lost or any(word in text for word in _UNSURE):
            return Answer(Verdict.UNCLEAR, text=text or "no answer within the time limit")
        return Answer(Verdict.REFUSED, text=text)

    def poll(self, ids: tuple[str, ...]) -> Command:
        return Command(("squeue", "--me", "--noheader", "--states=all", f"--format={_FIELDS}"))

    def polled(self, result: Result, ids: tuple[str, ...]) -> Listing:
        if result.rc != 0:
            why = "squeue did not answer within its time limit" if result.timed_out else ""
            return Listing(False, text=why or _said(result) or "squeue failed")
        jobs: dict[str, Job] = {}
        for line in result.out.decode("utf-8", "replace").split("\n"):
            job = _job(line)
            if job is not None:
                jobs[job.id] = job
            elif line.strip() and not _PART_OF_ANOTHER.fullmatch(line.partition("|")[0]):
                return Listing(False, text=f"squeue said something unknown: {clean(line, 120)}")
        return Listing(True, jobs)

    def find(self, owner: str) -> Command:
        return self.poll(())

    def cancel(self, job_id: str) -> Command:
        if not JOB_ID.fullmatch(job_id):
            raise ValueError(f"not a Slurm job id: {job_id!r}")
        return Command(("scancel", job_id))

    def cancelled(self, result: Result) -> Answer:
        if result.rc == 0:
            return Answer(Verdict.ACCEPTED)
        text = _said(result)
        if "Invalid job id" in text:
            return Answer(Verdict.GONE, text=text)
        return Answer(Verdict.UNCLEAR, text=text or "no answer within the time limit")

    def script(self, request: JobRequest, launch: tuple[str, ...]) -> str:
        check_paths(request)
        return job_script("#SBATCH", self._directives(request), self._settings, launch)

    def _directives(self, request: JobRequest) -> list[str]:
        s = self._settings
        minutes = -(-request.walltime_s // 60)
        lines = [
            f"--job-name={request.name}",
            f"--nodes={request.nodes}",
            f"--ntasks={request.nodes}",
            "--ntasks-per-node=1",
            f"--cpus-per-task={request.ppn}",
            f"--mem={request.memory_mib}M",
            f"--time={minutes}",
            f"--output={request.output}",
            "--open-mode=append",
            "--no-requeue",
            "--mail-type=NONE",
        ]
        if request.whole_node:
            lines.append("--exclusive")
        if request.hosts:
            lines.append(f"--nodelist={','.join(request.hosts)}")
        if request.exclude:
            lines.append(f"--exclude={','.join(request.exclude)}")
        for option, value in (("partition", s.queue), ("account", s.account), ("qos", s.qos),
                              ("nice", s.priority), ("reservation", s.reservation)):  # fmt: skip
            if value:
                lines.append(f"--{option}={value}")
        return lines

    def shell(self, request: JobRequest, launch: tuple[str, ...]) -> str | None:
        return None

    def start(self) -> tuple[str, ...]:
        return SRUN

    def node_list(self) -> str:
        return "slurm"

    def grace_s(self, nodes: int) -> float:
        return self._settings.kill_delay_s


# One pilot a node; a node whose pilot ends early takes nothing else down with it.
SRUN = ("srun", "--nodes={nodes}", "--ntasks={nodes}", "--ntasks-per-node=1", "--overlap",
        "--kill-on-bad-exit=0", "--wait=0", "--unbuffered", "--cpu-bind=none")  # fmt: skip


def _job(line: str) -> Job | None:
    parts = line.split("|", 5)
    if len(parts) != 6 or not JOB_ID.fullmatch(parts[0]):
        return None
    id, owner, raw, hosts, reason, name = parts
    state = _STATES.get(raw, JobState.UNKNOWN)
    if state is JobState.QUEUED and reason in _HELD_REASONS:
        state = JobState.HELD
    why = "" if reason == "None" else clean(reason, 120)
    return Job(
        id, clean(name, 80), clean(owner, 64), state, clean(raw, 40), expand(hosts), None, why
    )


def expand(hosts: str) -> tuple[str, ...]:
    """`node[01-03,07],login` as single names (scontrol(1), show hostnames), at most MOST_HOSTS."""
    found: list[str] = []
    for prefix, ranges in _HOST_SET.findall(clean(hosts, 1 << 20)):
        if not ranges:
            found.append(prefix)
            continue
        for part in ranges.split(","):
            match = _RANGE.fullmatch(part)
            if match is None:
                continue
            low, high = match.group(1), match.group(2) or match.group(1)
            if int(high) - int(low) + len(found) > MOST_HOSTS:
                return tuple(found[:MOST_HOSTS])
            found += [f"{prefix}{n:0{len(low)}d}" for n in range(int(low), int(high) + 1)]
    return tuple(found[:MOST_HOSTS])


def _said(result: Result) -> str:
    text = clean(result.err or result.out, 400)
    return text.replace("sbatch: error: ", "").replace("slurm_load_jobs error: ", "")

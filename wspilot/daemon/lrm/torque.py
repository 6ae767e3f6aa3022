"""Driver of Torque by qsub, qstat, qdel and pbsdsh; and of Slurm's look-alikes of these commands.

`flavour = "slurm"` (the default with `start = "srun"`) is for Slurm's wrappers: no `-x`, no server
in the id, `#PBS -o` ignored, memory per node. Both flavours answer in their own way:

- qstat of known and unknown ids together prints the known and exits 153; an empty list is no
  output at all and exit 0; `-f` folds values with newline and TAB, which Slurm uses as indent.
- qsub's exit code is an error number modulo 256; the words decide. Refusals of Slurm's wrapper come
  on stdout. An answer that was lost may have made a job.
- A one-node job has its grace only when the job's own shell survives TERM, so the launcher takes
  the shell's place (`qsub -S`); a multi-node job has none (torque.md, 1 and 2).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from xml.etree import ElementTree

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
from wspilot.daemon.lrm.directives import check_paths, job_script, site_lines
from wspilot.daemon.lrm.site import BatchSettings
from wspilot.daemon.lrm.slurm import SRUN
from wspilot.text import clean

JOB_ID = re.compile(r"[0-9]{1,18}(\[[0-9]*\])?(\.[A-Za-z0-9][\w.-]*)?", re.ASCII)
MANY = 200  # ids; beyond that the whole list is asked for
UNKNOWN_ID, BAD_STATE = 153, 170
# Somebody's job name must not make the whole answer unreadable, nor look like the end of a line.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f]")
_STATES: Mapping[str, JobState] = {
    "Q": JobState.QUEUED, "W": JobState.QUEUED, "T": JobState.QUEUED, "H": JobState.HELD,
    "R": JobState.RUNNING, "S": JobState.SUSPENDED, "U": JobState.SUSPENDED,
    "E": JobState.EXITING, "C": JobState.DONE, "F": JobState.DONE,
}  # fmt: skip
# The server did not take the request: nothing can have been created.
_DOWN = ("Connection refused", "cannot connect to server", "connect failure",
         "Communication failure", "could not connect to trqauthd", "trqauthd")  # fmt: skip
_UNSURE = ("timed out", "timeout", "Timeout", "Expired", "End of File", "Socket",
           "Premature end")  # fmt: skip
_LATER = ("Maximum number of jobs already in queue", "maximum number of queued jobs",
          "Queue is not enabled", "hutting down", "hutdown in progress")  # fmt: skip


class TorqueDriver:
    """One Torque server (or a Slurm that speaks its commands)."""

    name = "torque"

    def __init__(self, settings: BatchSettings, pbsdsh: str = "pbsdsh") -> None:
        self._settings = settings
        self._slurm = settings.flavour == "slurm"
        self._pbsdsh = pbsdsh

    # -- submission

    def submit(self, request: JobRequest) -> Command:
        if not self._slurm:
            return Command(("qsub", request.script), timeout_s=60)
        lines = site_lines("#PBS", self._directives(request), self._settings)
        words = [word for line in lines for word in shlex.split(line)]
        return Command(("qsub", *words, request.script), timeout_s=60)

    def submitted(self, result: Result) -> Answer:
        out = result.out.decode("ascii", "replace").strip()
        if result.rc == 0 and JOB_ID.fullmatch(out):
            return Answer(Verdict.ACCEPTED, out)
        text = _said(result)
        if result.missing:
            return Answer(Verdict.RETRY, text="qsub is not installed here, or not in PATH")
        lost = (
            result.rc is None or result.rc <= 0 or not text
        )  # killed, or silent: it proves nothing
        if lost or any(word in text for word in _UNSURE):
            return Answer(Verdict.UNCLEAR, text=text or "no answer within the time limit")
        if any(word in text for word in _DOWN + _LATER):
            return Answer(Verdict.RETRY, text=text)
        return Answer(Verdict.REFUSED, text=text)

    def script(self, request: JobRequest, launch: tuple[str, ...]) -> str:
        check_paths(request)
        directives = [] if self._slurm else self._directives(request)
        settings = replace(self._settings, extra=()) if self._slurm else self._settings
        return job_script("#PBS", directives, settings, launch)

    def shell(self, request: JobRequest, launch: tuple[str, ...]) -> str | None:
        """The job's own shell: TERM is ignored from the first instruction, until the launcher
        deals with it; the path of the script, which mom writes to its stdin, is not needed."""
        if self._slurm:
            return None
        return "\n".join([
            "#!/bin/sh",
            "trap '' TERM INT HUP",
            'PATH="${PATH:-/usr/local/bin:/usr/bin:/bin}"; export PATH',
            f"exec {shlex.join(launch)} </dev/null",
            "",
        ])  # fmt: skip

    def _directives(self, request: JobRequest) -> list[str]:
        s = self._settings
        hours, seconds = divmod(request.walltime_s, 3600)
        nodes = "+".join(f"{host}:ppn={request.ppn}" for host in request.hosts)
        memory = request.memory_mib * (1 if self._slurm else request.nodes)
        resources = [
            f"nodes={nodes or f'{request.nodes}:ppn={request.ppn}'}",
            f"walltime={hours:02d}:{seconds // 60:02d}:{seconds % 60:02d}",
            f"mem={memory}mb",
        ]
        if s.reservation:
            resources.append(f"advres={s.reservation}")
        if s.qos:
            resources.append(f"qos={s.qos}")
        lines = [f"-N {request.name}", f"-l {','.join(resources)}", "-r n", "-m n", "-j oe",
                 f"-o {request.output}"]  # fmt: skip
        if not self._slurm:
            lines.append(f"-S {request.script.rpartition('/')[0]}/shell")
        for option, value in (("-q", s.queue), ("-A", s.account), ("-p", s.priority)):
            if value:
                lines.append(f"{option} {value}")
        return lines

    # -- polling

    def poll(self, ids: tuple[str, ...]) -> Command:
        known = tuple(id for id in ids if JOB_ID.fullmatch(id))
        if self._slurm or not known or len(known) > MANY:
            return self.find("")
        return Command(("qstat", "-x", *known))

    def find(self, owner: str) -> Command:
        return Command(("qstat", "-f" if self._slurm else "-x"), timeout_s=30)

    def polled(self, result: Result, ids: tuple[str, ...]) -> Listing:
        text = _said(result)
        some_gone = result.rc == UNKNOWN_ID and _only_unknown(result.err)
        if result.rc != 0 and not some_gone:
            why = "qstat did not answer within its time limit" if result.timed_out else text
            return Listing(False, text=why or f"qstat: exit {result.rc}")
        try:
            jobs = {job.id: job for job in _jobs(result.out)}
        except (ElementTree.ParseError, ValueError) as error:
            return Listing(
                False, text=f"qstat's answer was not understood: {clean(str(error), 200)}"
            )
        asked_all = self._slurm or not ids or len(ids) > MANY
        return Listing(True, jobs, whole=asked_all)

    # -- the end

    def cancel(self, job_id: str) -> Command:
        if not JOB_ID.fullmatch(job_id):
            raise ValueError(f"not a Torque job id: {job_id!r}")
        return Command(("qdel", job_id), timeout_s=30)

    def cancelled(self, result: Result) -> Answer:
        text = _said(result)
        if result.rc == 0:
            return Answer(Verdict.ACCEPTED, text=text)
        gone = result.rc == UNKNOWN_ID or (result.rc == BAD_STATE and "COMPLETE" in text)
        if gone or (self._slurm and result.rc == 1 and not text):
            return Answer(Verdict.GONE, text=text)
        return Answer(Verdict.UNCLEAR, text=text or "no answer within the time limit")

    # -- the node

    def start(self) -> tuple[str, ...]:
        return SRUN if self._settings.start == "srun" else (self._pbsdsh, "-u")

    def node_list(self) -> str:
        return "slurm" if self._slurm else "pbs"

    def grace_s(self, nodes: int) -> float:
        return self._settings.kill_delay_s if nodes == 1 and not self._slurm else 0.0


# -- reading qstat


def _only_unknown(err: bytes) -> bool:
    """Did qstat complain of nothing but unknown ids? It asks for each by itself, and its exit code
    tells of the last: a server that failed in between must not look like jobs that are gone."""
    lines = [line for line in err.decode("utf-8", "replace").split("\n") if line.strip()]
    return all("Unknown Job" in line for line in lines)


def _jobs(out: bytes) -> Iterator[Job]:
    """The jobs of `qstat -x` or `qstat -f`. Raises ParseError or ValueError on anything else."""
    text = _CONTROL.sub("\ufffd", out.decode("utf-8", "replace")).strip()
    if not text:
        return iter(())
    if text.startswith("<"):
        return map(_job, _from_xml(text))
    if text.startswith("Job Id:"):
        return map(_job, _from_text(text))
    raise ValueError(f"it begins with {text[:60]!r}")


def _from_xml(text: str) -> Iterator[dict[str, str]]:
    for node in ElementTree.fromstring(text).iter("Job"):
        yield {part.tag: part.text or "" for part in node}


def _from_text(text: str) -> Iterator[dict[str, str]]:
    """Torque folds long values with newline and TAB; Slurm's look-alike indents with TAB."""
    folded = not re.match(r"Job Id:\t", text)
    if folded:
        text = text.replace("\n\t", "")
    job: dict[str, str] = {}
    for line in text.split("\n"):
        if line.startswith("Job Id:"):
            if job:
                yield job
            job = {"Job_Id": line.partition(":")[2].strip()}
        else:
            key, equals, value = line.strip().partition(" = ")
            if equals:
                job.setdefault(key, value)
    if job:
        yield job


def _job(doc: Mapping[str, str]) -> Job:
    id, raw = doc.get("Job_Id", ""), doc.get("job_state", "")
    if not JOB_ID.fullmatch(id):
        raise ValueError(f"{id[:60]!r} is not a job id")
    status = doc.get("exit_status", "").strip()
    return Job(
        id,
        clean(doc.get("Job_Name", ""), 80),
        clean(doc.get("Job_Owner", "").partition("@")[0], 64),
        _STATES.get(raw, JobState.UNKNOWN),
        clean(raw, 40),
        _hosts(clean(doc.get("exec_host", ""), 1 << 20).split("+")),
        int(status) if re.fullmatch(r"-?\d{1,9}", status) else None,
        clean(doc.get("comment", ""), 200),
    )


def _hosts(places: Iterable[str]) -> tuple[str, ...]:
    """`node04/0-1+node03/0-1` as distinct host names, in order."""
    return tuple(dict.fromkeys(name for place in places if (name := place.partition("/")[0])))


def _said(result: Result) -> str:
    """What a command said, wherever it said it."""
    return clean(result.err.strip() or (result.out if result.rc != 0 else b""), 400)

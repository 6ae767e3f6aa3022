"""Job scripts: the driver's directives, less what the site drops, plus what it adds.

`extra` lines may stand with or without their `#PBS` or `#SBATCH`; `drop` takes away every directive
that begins with its words (`-l mem` also when it is one of several resources of an `-l`).
"""

from __future__ import annotations

import re
import shlex

from wspilot.daemon.lrm.base import JobRequest
from wspilot.daemon.lrm.site import BatchSettings
from wspilot.errors import WspilotError
from wspilot.text import clean

# What every reader of a directive takes as it stands. Slurm's qsub hands its words to a shell (a
# `;` in -o is a command), Torque's -o and -S give `:`, `@` and `,` a meaning, sbatch's -o gives one
# to `%` and `\\`, and blanks end all of them.
_PLAIN = re.compile(r"/[A-Za-z0-9_./+=-]*")


def job_script(
    mark: str, directives: list[str], settings: BatchSettings, launch: tuple[str, ...]
) -> str:
    """The text of job.sh. `mark` is `#PBS` or `#SBATCH`. Raises WspilotError."""
    lines = [f"{mark} {line}" for line in site_lines(mark, directives, settings)]
    return "\n".join(["#!/bin/sh", *lines, f"exec {shlex.join(launch)}", ""])


def check_paths(request: JobRequest) -> None:
    """Raises WspilotError where the batch system would read a path as something else."""
    for path in (request.script, request.output):
        if not _PLAIN.fullmatch(path):
            raise WspilotError(
                f"the batch system cannot be given the path {clean(path, 200)!r}",
                "choose a [site] spool whose path has only A-Z a-z 0-9 _ . / + = and -",
            )


def site_lines(mark: str, directives: list[str], settings: BatchSettings) -> list[str]:
    """The directives as the site wants them, without their mark."""
    drops = [_bare(mark, line) for line in settings.drop]
    kept = [line for one in directives if (line := _drop(one, drops))]
    return [*kept, *(_bare(mark, line) for line in settings.extra)]


def _bare(mark: str, line: str) -> str:
    return line.removeprefix(mark).strip()


def _drop(line: str, drops: list[str]) -> str:
    """The line without what is dropped; empty when nothing of it is left."""
    for drop in drops:
        if line == drop or line.startswith((f"{drop}=", f"{drop} ")):
            return ""
        option, _, name = drop.partition(" ")
        if name and line.startswith(f"{option} "):
            resources = line[len(option) + 1 :].split(",")
            kept = [one for one in resources if one.split("=")[0] != name]
            line = f"{option} {','.join(kept)}" if kept else ""
    return line

"""Job scripts: the driver's directives, less what the site drops, plus what it adds.

`extra` lines may stand with or without their `#PBS` or `#SBATCH`; `drop` takes away every directive
that begins with its words (`-l mem` also when it is one of several resources of an `-l`).
"""

from __future__ import annotations

import shlex

from wspilot.daemon.lrm.site import BatchSettings


def job_script(
    mark: str, directives: list[str], settings: BatchSettings, launch: tuple[str, ...]
) -> str:
    """The text of job.sh. `mark` is `#PBS` or `#SBATCH`."""
    lines = [f"{mark} {line}" for line in site_lines(mark, directives, settings)]
    return "\n".join(["#!/bin/sh", *lines, f"exec {shlex.join(launch)}", ""])


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

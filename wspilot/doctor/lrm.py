"""The batch system's commands: are they there, and do they answer in time?"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from wspilot.doctor.verdict import Check, Facts, fail, ok, warn
from wspilot.text import clean

NAME = "batch system"
SLOW_S = 5.0
PROGRAMS = {
    "slurm": ("sbatch", "squeue", "scontrol", "scancel", "srun"),
    "torque": ("qsub", "qstat", "qdel"),
    "local": (),
}


def commands(facts: Facts) -> Iterator[Check]:
    """Programs in PATH, then one real query through the daemon's own runner."""
    lrm = facts.site.lrm
    lost = [name for name in PROGRAMS[lrm] if shutil.which(name) is None]
    if lost:
        yield fail(NAME, f"{lrm}: not in PATH: {', '.join(lost)}",
                   "install its client commands, or set PATH for the daemon")  # fmt: skip
        return
    from wspilot.daemon.lrm import open_driver
    from wspilot.daemon.lrm.runner import run_blocking

    driver = open_driver(lrm, facts.site.lrm_settings, facts.home)
    result = run_blocking(driver.poll(()))
    listing = driver.polled(result, ())
    argv = clean(" ".join(result.argv), 200)
    if result.timed_out:
        yield fail(NAME, f"{lrm}: no answer in {result.elapsed_s:.0f} s: {argv}",
                   "is its server up? nothing changes for leases until it answers")  # fmt: skip
    elif not listing.ok:
        yield fail(NAME, f"{lrm}: {listing.text or 'no list'}: {argv}", "try that command by hand")
    else:
        text = f"{lrm}: {len(listing.jobs)} of our jobs listed in {result.elapsed_s:.2f} s"
        slow = result.elapsed_s > SLOW_S
        yield warn(NAME, text, "set a longer `poll`") if slow else ok(NAME, text)
    yield from _grace(driver.grace_s(1), driver.grace_s(2))


def _grace(one: float, many: float) -> Iterator[Check]:
    """What a preempted lease has to undo itself in (DESIGN.md section 6)."""
    if min(one, many) <= 0:
        which = "any job" if one <= 0 else "jobs of several nodes"
        yield warn(
            NAME,
            f"its kill gives no grace to {which}",
            'the guardian undoes what is left; with adapter balloon use jobs = "per-node"',
        )
    else:
        yield ok(NAME, f"from TERM to KILL: {one:g} s, several nodes {many:g} s")


def epilogue(facts: Facts) -> Iterator[Check]:
    """May a next job begin while a killed lease is still undone? Not with kill-all as Epilog."""
    budget = facts.site.budget.restore_s
    overlap = f"after a kill without grace the next job may run up to {budget:g} s beside the undo"
    remedy = "kill-all as the Epilog: docs/operating.md, make install-node"
    if facts.site.lrm == "torque":
        yield warn("epilogue", f"{overlap}; pbs_mom's epilogue cannot be seen from here", remedy)
    elif facts.site.lrm == "slurm" and shutil.which("scontrol"):
        script = _epilog()
        if script and "kill-all" in script:
            yield ok("epilogue", "Slurm's Epilog runs kill-all: the next job waits for the undo")
        else:
            yield warn("epilogue", overlap, remedy)


def _epilog() -> str:
    """The text of Slurm's Epilog, or its path where it cannot be read; empty without one."""
    from wspilot.daemon.lrm.base import Command
    from wspilot.daemon.lrm.runner import run_blocking

    result = run_blocking(Command(("scontrol", "show", "config")))
    words = (line.partition("=") for line in result.out.decode(errors="replace").splitlines())
    paths = [value.strip() for name, _, value in words if name.strip().startswith("Epilog")]
    texts = []
    for path in paths:
        if path.startswith("/"):
            try:
                texts.append(Path(path).read_text(errors="replace")[:65536])
            except OSError:
                texts.append(path)
    return "\n".join(texts)

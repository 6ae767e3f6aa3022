"""Guests as processes: every QEMU on this host, and whether it is one of wspilot's.

For what no journal names: a VM whose journal was lost, and guests that are somebody else's. From
/proc alone. Invariant: a guest is ended as (pid, start time) only.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from wspilot.node.values import dataclass
from wspilot.node.vmm.stale import end_process, lives, processes, start_time
from wspilot.text import clean

_QEMU = re.compile(rb"(.*/)?(qemu-system-[a-z0-9_]+|qemu-kvm|kvm)")
_JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "WSPILOT_LOCAL_JOB")
PORT = "org.wspilot.0"  # `vmm.argv.PORT`, whose module would cost kill-all 15 ms
TERM_S, KILL_S, POLL_S = 2.0, 2.0, 0.01


@dataclass(frozen=True)
class Guest:
    """A running QEMU. `ours`: it has the port that only wspilot gives.

    Job, slot and node are what its environment says, which the pilot gave it.
    """

    pid: int
    start: int
    uid: int
    name: str
    uuid: str
    ours: bool
    job: str = ""
    slot: str = ""
    node: str = ""


def guests(uid: int | None = None) -> list[Guest]:
    """A user's, or all that can be seen now. Job, slot and node only of those whose environment may
    be read."""
    return [one for one in map(_guest, processes(uid)) if one is not None]


def _guest(pid: int) -> Guest | None:
    place = Path("/proc") / str(pid)
    try:
        argv = (place / "cmdline").read_bytes().split(b"\0")
        if not _QEMU.fullmatch(argv[0]):  # of hundreds of processes nothing more is read
            return None
        uid = place.stat().st_uid
    except OSError:
        return None
    start = start_time(pid)
    if start is None:
        return None
    words = [word.decode("utf-8", "replace") for word in argv]
    after = dict(zip(words, words[1:]))
    name = after.get("-name", "").partition("guest=")[2].partition(",")[0] or after.get("-name", "")
    ours = any(word.endswith(f",name={PORT}") for word in words)
    env = _environ(place)
    return Guest(
        pid=pid,
        start=start,
        uid=uid,
        name=clean(name or words[0], 120),
        uuid=after.get("-uuid", ""),
        ours=ours,
        job=next((env[key] for key in _JOBS if env.get(key)), ""),
        slot=env.get("WSPILOT_SLOT", ""),
        node=env.get("WSPILOT_NODE", ""),
    )


def _environ(place: Path) -> dict[str, str]:
    try:
        raw = (place / "environ").read_bytes()
    except OSError:
        return {}
    pairs = (word.decode("utf-8", "replace").partition("=") for word in raw.split(b"\0"))
    return {key: value for key, _, value in pairs}


def end_guests(doomed: Iterable[Guest], gently: bool) -> list[Guest]:
    """End them; those that are still there. `gently`: SIGTERM first, and 2 s."""
    doomed = list(doomed)
    for number, limit in ((signal.SIGTERM, TERM_S),) * gently + ((signal.SIGKILL, KILL_S),):
        for one in doomed:
            end_process(one.pid, one.start, number)
        end = time.monotonic() + limit
        while doomed and time.monotonic() < end:
            doomed = [one for one in doomed if lives((one.pid, one.start))]
            time.sleep(POLL_S if doomed else 0.0)
    return doomed


def may_end(one: Guest) -> bool:
    """Is it this user's?"""
    return os.geteuid() in (0, one.uid)

"""Leases of real guests on a real Slurm, to be killed, and how long what is left of one overlaps
with the next job on the same nodes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import processes
from tests.processes import Process
from tests.real.leasing import Leasing, vm_processes
from tests.real.slurm import SlurmCluster
from wspilot.node.journal import parse
from wspilot.node.undo import RUNDIR

# Each node's first moment in the next job; the batch host's is the script's own first line.
NEXT = """\
#!/bin/sh
date +%s.%N >next-$SLURM_JOB_ID-$SLURMD_NODENAME
exec srun -N2 -n2 sh -c '
f=next-$SLURM_JOB_ID-$SLURMD_NODENAME; [ -e $f ] || date +%s.%N >$f; sleep 0.3'
"""


@dataclass
class Lease:
    """A lease of two running guests, each on a node of its own."""

    site: Leasing
    name: str
    workspace: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.workspace = self.site.deploy(2, self.name, duration="10m")
        assert self.workspace["state"] == "active", self.workspace

    @property
    def cluster(self) -> SlurmCluster:
        return self.site.cluster

    @property
    def job(self) -> int:
        return int(self.workspace["slots"][0]["job"])

    @property
    def slot(self) -> str:
        return str(self.workspace["slots"][0]["id"])

    @property
    def nodes(self) -> list[str]:
        return sorted({vm["node"] for vm in self.workspace["vms"]})

    def guests(self) -> list[Process]:
        """Its QEMU processes."""
        found = map(processes.look_up, vm_processes(f"guest={self.name}/vm/"))
        return [one for one in found if one is not None]

    def inside(self) -> list[Process]:
        """All that Slurm knows as processes of the job: what its slurmstepds have started."""
        steps = [p for p in self.cluster._stepds() if f"[{self.job}." in p.command()]
        return [one for step in steps for one in processes.descendants(step.pid)]

    def named(self, word: str, node: str = "") -> Process:
        """The one process of the slot whose command line holds `word` (and runs on `node`)."""
        found = [p for p in self.cluster.user.processes() if self.slot in p.command()]
        at = f"SLURMD_NODENAME={node}"
        found = [
            p
            for p in found
            if word in p.command()
            and (not node or at in processes.environ(p))
            and not p.command().startswith("srun")
        ]
        assert len(found) == 1, f"{word} on {node}: {[p.command() for p in found]}"
        return found[0]

    def next_job(self) -> int:
        """An exclusive job on the same nodes; it waits for them."""
        where = ",".join(self.nodes)
        job = self.cluster.submit(NEXT, "-N2", "--exclusive", "-w", where, "-o", "/dev/null")
        assert self.cluster.jobs()[job] == "PENDING"
        return job


@dataclass(frozen=True)
class Overlap:
    """Seconds of the slowest node: from the kill to the end of guests and of the undo, and how long
    both overlapped with the next job; `next_s`: to that job's first start."""

    guests_s: float
    undo_s: float
    next_s: float
    guests_overlap_s: float
    undo_overlap_s: float

    def __str__(self) -> str:
        return (
            f"guests gone {self.guests_s * 1e3:.0f} ms and node undone {self.undo_s * 1e3:.0f} ms "
            f"after the kill, next job {self.next_s * 1e3:.0f} ms; overlap of guests "
            f"{self.guests_overlap_s * 1e3:.0f} ms, of the undo {self.undo_overlap_s * 1e3:.0f} ms"
        )


def overlap(lease: Lease, kill: Callable[[], object], seconds: float = 60) -> Overlap:
    """Kill it with the next job already queued, and see."""
    job = lease.next_job()
    watch = _Watch(lease)
    watch.start()
    began = time.time()
    kill()
    lease.cluster.wait_for_job(job, "COMPLETED", seconds=seconds)
    watch.over.wait(20)
    files = {node: lease.cluster.user.home / f"next-{job}-{node}" for node in lease.nodes}
    starts = {node: float(path.read_text()) for node, path in files.items()}
    return Overlap(
        max(watch.guests.values()) - began,
        max(watch.undone.values()) - began,
        min(starts.values()) - began,
        max(0.0, *(watch.guests[node] - starts[node] for node in lease.nodes)),
        max(0.0, *(watch.undone[node] - starts[node] for node in lease.nodes)),
    )


class _Watch(threading.Thread):
    """Notes, to some 3 ms, when each node's guest was gone and its journal undone (wall clock)."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.guests: dict[str, float] = {}
        self.undone: dict[str, float] = {}
        self._left = {_node(one): one for one in lease.guests()}
        keep = Path(f"/var/tmp/wspilot-{lease.cluster.user.uid}")
        self._journals = {
            node: next(iter((keep / node).glob(f"{lease.slot}_*.journal"))) for node in lease.nodes
        }
        assert sorted(self._left) == lease.nodes

    def run(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end and not self.over.is_set():
            for node, guest in self._left.items():
                if node not in self.guests and not guest.is_alive():
                    self.guests[node] = time.time()
            for node, path in self._journals.items():
                if node not in self.undone and set(_entries(path)) <= {RUNDIR}:
                    self.undone[node] = time.time()
            if len(self.guests) == len(self._left) and len(self.undone) == len(self._journals):
                self.over.set()
            time.sleep(0.002)


def _node(guest: Process) -> str:
    env = (pair.partition("=") for pair in processes.environ(guest))
    return next(value for key, _, value in env if key == "SLURMD_NODENAME")


def _entries(path: Path) -> Mapping[str, Any]:
    try:
        return parse(path.read_bytes()).entries  # `peek` refuses what is another user's
    except FileNotFoundError:
        return {}

"""A pilot's start (budget: 250 ms from exec to `started` on disk) and its memory (48 MiB, PSS)."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.bench.measure import Sample, sample, show
from tests.real.slotyard import Slot
from wspilot.messages import Kind
from wspilot.nodecode import build

RUNS = 10


def run() -> None:
    """Print both tables."""
    with tempfile.TemporaryDirectory(prefix="wspilot-bench-pilot-") as place:
        zipapp = Path(place) / "node.pyz"
        build(zipapp)
        starts, memory = [], []
        for n in range(RUNS):
            seconds, mib = _one(Path(place) / str(n), zipapp)
            starts.append(seconds)
            memory.append(mib)
    bare = sample("a bare interpreter", RUNS, _bare)
    show(
        "from exec of the launcher to `started` on disk",
        [
            bare,
            Sample("launcher and pilot", tuple(starts)),
        ],
    )
    show(
        "pilot, courier and guardian together, own memory",
        [
            Sample("PSS", tuple(memory)),
        ],
        1.0,
        "MiB",
    )


def _one(root: Path, zipapp: Path) -> tuple[float, float]:
    slot = Slot(root, zipapp, sys.executable)
    try:
        begin = time.perf_counter()
        job = slot.launch()
        while not any((slot.spool / "new").iterdir()):
            time.sleep(0.002)
        taken = time.perf_counter() - begin
        slot.wait(Kind.RESERVED)
        launcher = {job.pid}
        pids = [int(line.split()[0]) for line in slot.processes()]
        memory = sum(_pss(pid) for pid in pids if pid not in launcher)
        return taken, memory
    finally:
        slot.close()


def _pss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _bare() -> None:
    import subprocess

    subprocess.run([sys.executable, "-c", "pass"], check=True)

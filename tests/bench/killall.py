"""kill-all with eight real guests (budget: 1 s), beside a plain SIGKILL of the eight processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests import processes
from tests.bench.measure import Sample, show
from tests.processes import Process
from tests.real.slotyard import Slot
from wspilot.guest import build_guest, default_cache
from wspilot.messages import Kind
from wspilot.node.vmm.stale import lives
from wspilot.nodecode import build

RUNS, GUESTS, BOOT_S = 10, 8, 1.0


def run() -> None:
    """Print the table. The two take turns, on guests that have been booting for a second."""
    guest = build_guest(default_cache() / "guest", default_cache() / "deb")
    image = {"name": "default", "kind": "kernel", **guest.image}
    plain, whole, inside = [], [], []
    with tempfile.TemporaryDirectory(prefix="wspilot-bench-killall-") as place:
        zipapp = Path(place) / "node.pyz"
        build(zipapp)
        for n in range(RUNS):
            plain.append(_plain(Path(place) / f"plain{n}", zipapp, image))
            taken, gone = _kill_all(Path(place) / f"all{n}", zipapp, image)
            whole.append(taken)
            inside.append(gone)
    show(
        f"ending {GUESTS} real guests",
        [
            Sample("kill -9 of the processes, until all are gone", tuple(plain)),
            Sample("kill-all, until the last guest is gone", tuple(inside)),
            Sample("kill-all, exec to exit, the node undone", tuple(whole)),
        ],
    )


def _plain(root: Path, zipapp: Path, image: dict[str, Any]) -> float:
    slot = Slot(root, zipapp, sys.executable, vmm="qemu", adapter="none", take_mib=0)
    try:
        guests = _running(slot, image)
        begin = time.perf_counter()
        for one in guests:
            os.kill(one.pid, signal.SIGKILL)
        _until_gone(guests)
        return time.perf_counter() - begin
    finally:
        slot.close()


def _kill_all(root: Path, zipapp: Path, image: dict[str, Any]) -> tuple[float, float]:
    slot = Slot(root, zipapp, sys.executable, vmm="qemu", adapter="none", take_mib=0)
    try:
        guests = _running(slot, image)
        begin = time.perf_counter()
        child = subprocess.Popen(
            [sys.executable, str(zipapp), "kill-all", "--slot", slot.id],
            env={},
            stdout=subprocess.DEVNULL,
        )
        _until_gone(guests)
        gone = time.perf_counter() - begin
        if child.wait(30):
            raise RuntimeError(f"kill-all left something (exit {child.returncode})")
        return time.perf_counter() - begin, gone
    finally:
        slot.close()


def _running(slot: Slot, image: dict[str, Any]) -> Sequence[Process]:
    slot.launch()
    slot.wait(Kind.RESERVED)
    for n in range(1, GUESTS + 1):
        slot.create(f"vm{n:06d}", image=image, memory_mib=128, ready="process")
    for n in range(1, GUESTS + 1):
        slot.vm(f"vm{n:06d}", "running")
    time.sleep(BOOT_S)
    mark = f"WSPILOT_SLOT={slot.id}"
    found = [
        one
        for one in processes.everything()
        if "-uuid" in one.command() and mark in processes.environ(one)
    ]
    if len(found) != GUESTS:
        raise RuntimeError(f"{len(found)} guests instead of {GUESTS}")
    return found


def _until_gone(guests: Sequence[Process]) -> None:
    end = time.monotonic() + 30
    while any(lives((one.pid, one.start)) for one in guests):
        if time.monotonic() > end:
            raise RuntimeError("guests that do not die")
        time.sleep(0.001)

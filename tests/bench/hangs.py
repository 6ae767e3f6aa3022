"""Event latency while something hangs that is no lease's own: the batch system's query, the image
repository, the logs of a slot. Budget: 1.2 times the latency without (issue 4, Speed).

The batch systems are scripts that answer at once, or sleep as soon as a file tells them to: a
hung qstat is the same to the daemon whatever it hangs on. The filesystem is a real one that does
not answer (`hungfs`).
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.bench.hungfs import hung
from tests.bench.measure import Sample, machine, show
from tests.bench.spool import measure
from wspilot.client import call
from wspilot.errors import TimedOut
from wspilot.home import read_record

RATE, COUNT, ROUNDS = 200, 400, 2
SITE = """\
[site]
lrm = "{lrm}"
vmm = "sim"
node_cpus = 4
node_memory = "8GiB"
[lrm.{lrm}]
poll = "1s"
min_poll = "1s"
[[type]]
name = "small"
cpus = 1
memory = "128MiB"
"""
JOB = "<Job><Job_Id>7.head</Job_Id><job_state>Q</job_state><Job_Name>x</Job_Name></Job>"
SCRIPTS = {
    "torque": {"qsub": "echo 7.head", "qstat": f"{{hang}}\necho '<Data>{JOB}</Data>'",
               "qdel": ":", "pbsdsh": ":"},
    "slurm": {"sbatch": "echo 7", "squeue": "{hang}\necho '7|ann|PENDING||Priority|x'",
              "scancel": ":", "srun": ":"},
}  # fmt: skip


def run() -> None:
    """Print the table: medians of alternating rounds, so that both see the same machine."""
    for lrm, command in (("torque", "qstat"), ("slurm", "squeue")):
        with _site(lrm) as (home, slot):
            flag = home / "hang"
            _compare(f"a hung {command}", home, slot, flag.touch, flag.unlink)
            if lrm == "slurm" and os.getuid() == 0:
                _stuck_files(home, slot)
            elif lrm == "slurm":
                print("a hung filesystem: not measured, mounting one needs root")


def _stuck_files(home: Path, slot: str) -> None:
    name = call(home, "list", {})["workspaces"][0]["name"]
    for title, place, method, params in (
        ("a log that hangs", home / "spool" / "slots" / slot / "stuck.log", "logs", {"id": name}),
        ("an image that hangs", home / "images" / "stuck", "images", {}),
    ):
        with ExitStack() as mounts:

            def stick(
                mounts: ExitStack = mounts, place: Path = place, method: str = method,
                params: dict[str, Any] = params,
            ) -> None:  # fmt: skip
                mounts.enter_context(hung(place))
                for _ in range(3):  # and three who look
                    with suppress(TimedOut):
                        call(home, method, params, timeout_s=0.2)

            _compare(title, home, slot, stick, mounts.close)


def _compare(
    title: str, home: Path, slot: str, begin: Callable[[], object], end: Callable[[], object]
) -> None:
    free, stuck = list[float](), list[float]()
    for _ in range(ROUNDS):
        free += asyncio.run(measure(home, slot, RATE, COUNT))
        begin()
        time.sleep(1.5)  # the next poll is under way
        stuck += asyncio.run(measure(home, slot, RATE, COUNT))
        end()
    show(f"file renamed -> event at a subscriber, {RATE}/s: {title}",
         [Sample("without", tuple(free)), Sample("with", tuple(stuck))])  # fmt: skip
    ratio = statistics.median(stuck) / statistics.median(free)
    p99 = [sorted(one)[int(len(one) * 0.99)] * 1e3 for one in (free, stuck)]
    print(f"  ratio {ratio:.2f} (budget 1.2); p99 {p99[0]:.1f} and {p99[1]:.1f} ms [{machine()}]")


@contextmanager
def _site(lrm: str) -> Iterator[tuple[Path, str]]:
    """A daemon on a batch system of scripts, with one slot in its queue."""
    home = Path(tempfile.mkdtemp(prefix="wspilot-hangs-"))
    pid = 0
    try:
        tools = home / "tools"
        tools.mkdir()
        hang = f"[ -e {home}/hang ] && exec sleep 1000"
        for name, body in SCRIPTS[lrm].items():
            (tools / name).write_text(f"#!/bin/sh\n{body.format(hang=hang)}\n")
            (tools / name).chmod(0o755)
        (home / "site.toml").write_text(SITE.format(lrm=lrm))
        argv = [sys.executable, "-m", "wspilot", "--home", str(home), "daemon", "--detach",
                "--config", str(home / "site.toml"), "--json"]  # fmt: skip
        env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True, env=env)
        pid = int(json.loads(done.stdout)["pid"])
        ws = call(home, "deploy", {"type": "small", "duration": "10m"})["workspace"]
        slot = ws["slots"][0]["id"]
        deadline = time.monotonic() + 20
        while not (home / "spool/slots" / slot / "key").exists():
            assert time.monotonic() < deadline, "the slot's files were not written"
            time.sleep(0.05)
        yield home, slot
    finally:
        record = read_record(home)
        if pid and record is not None and record.pid == pid:
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + 5
            while read_record(home) is not None and time.monotonic() < deadline:
                time.sleep(0.05)
            if read_record(home) is not None:
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(home, ignore_errors=True)

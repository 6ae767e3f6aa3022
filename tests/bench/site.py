"""A private daemon with the built-in batch system and simulated VMs, for whole-system figures."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.spent import Spent, spent
from wspilot.client import call
from wspilot.home import read_record

SITE = """\
[site]
lrm = "local"
vmm = "{vmm}"
{more}
[lrm.local]
nodes = {nodes}
[vmm.sim]
boot_s = 2.0
[[type]]
name = "small"
cpus = 1
memory = "128MiB"
"""
LIMIT_S = 300.0


class BenchSite:
    """One home. `lease` deploys, waits until active, destroys, and tells the times."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.used = Spent()  # of the last deploy, until it was active

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return call(self.home, method, params, timeout_s=LIMIT_S + 10)

    def lease(self, count: int) -> tuple[float, float, dict[str, Any]]:
        """(seconds to active, seconds from destroy to ended, the workspace)."""
        return self.deploy(type="small", count=count, duration="10m")

    def deploy(self, **asked: Any) -> tuple[float, float, dict[str, Any]]:
        """The same for whatever is asked for."""
        before, limit_s = spent(str(self.home)), {"for": "active", "timeout_s": LIMIT_S}
        begin = time.perf_counter()
        ws = self.call("deploy", **asked)["workspace"]
        active = self.call("wait", id=ws["id"], **limit_s)["workspace"]
        up = time.perf_counter() - begin
        marks = {str(vm["slot"]) for vm in active["vms"]}
        marks |= {f"/{vm['id']}.seed" for vm in active["vms"]}  # its QEMU
        self.used = spent(str(self.home), *marks) - before
        begin = time.perf_counter()
        self.call("destroy", ids=[ws["id"]])
        self.call("wait", id=ws["id"], **{"for": "ended", "timeout_s": 60})
        return up, time.perf_counter() - begin, active


@contextmanager
def bench_site(
    vmm: str = "sim", image: Path | None = None, more: str = "", nodes: int = 16
) -> Iterator[BenchSite]:
    """Start it, and end everything of it."""
    home = Path(tempfile.mkdtemp(prefix="wspilot-bench-"))
    try:
        (home / "site.toml").write_text(SITE.format(vmm=vmm, more=more, nodes=nodes))
        if image is not None:
            shutil.copytree(image, home / "images" / "default")
        argv = [sys.executable, "-m", "wspilot", "--home", str(home), "daemon", "--detach",
                "--config", str(home / "site.toml"), "--json"]  # fmt: skip
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
        pid = int(json.loads(done.stdout)["pid"])
        try:
            yield BenchSite(home)
        finally:
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + 10
            while read_record(home) is not None and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(2.5)  # the built-in batch system ends 2 s after its last job
    finally:
        shutil.rmtree(home, ignore_errors=True)

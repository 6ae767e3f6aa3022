"""wspilot as an ordinary user runs it on a cluster: home, site, daemon, and the CLI in JSON."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.real.slurm import SlurmCluster
from tests.real.user_install import UserInstall

SITE = """\
[site]
lrm = "{lrm}"
vmm = "{vmm}"
node_cpus = 4
node_memory = "1900MiB"
node_python = "/usr/bin/python3"
[lrm.{lrm}]
poll = "1s"
min_poll = "1s"
{more}
[vmm.sim]
boot_s = 0.5
[budget]
boot = "90s"
[[type]]
name = "small"
cpus = 1
memory = "128MiB"
[network.private]
cidr = "10.77.0.0/24"
"""


class Leasing:
    """One user's wspilot; `stop` ends its daemon and fails when anything is left."""

    def __init__(
        self,
        cluster: SlurmCluster,
        install: UserInstall,
        name: str,
        *,
        vmm: str,
        lrm: str = "slurm",
        more: str = "",
        images: Path | None = None,
    ) -> None:
        self.cluster, self._install = cluster, install
        self.path = ""  # put before PATH by who wants to stand in for a command
        self.home = cluster.user.home / name
        self.home.mkdir(mode=0o700)
        self._site = self.home / "site.toml"
        self._site.write_text(SITE.format(lrm=lrm, vmm=vmm, more=more))
        if images is not None:
            shutil.copytree(images, self.home / "images" / "default")
        for path in (self.home, *self.home.rglob("*")):
            os.chown(path, cluster.user.uid, cluster.user.gid)
        self.start()

    def start(self) -> int:
        """Start the daemon; its pid."""
        return int(self.cli("daemon", "--detach", "--config", str(self._site))["pid"])

    def run(self, *argv: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """The command line, whatever its exit code."""
        env = {"WSPILOT_HOME": str(self.home), "XDG_RUNTIME_DIR": ""}
        if self.path:
            env["PATH"] = f"{self.path}:{self.cluster.env['PATH']}"
        return self.cluster.run(
            [self._install.wspilot, *argv], env=env, timeout=timeout, check=False
        )

    def cli(self, *argv: str, timeout: float = 60) -> dict[str, Any]:
        """The document of a command that succeeds."""
        done = self.run(*argv, "--json", timeout=timeout)
        assert done.returncode == 0, f"{argv}: exit {done.returncode}: {done.stderr}{self.log()}"
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def deploy(
        self, count: int, name: str, duration: str = "5m", wait: bool = True
    ) -> dict[str, Any]:
        """Lease `count` VMs of type small; the workspace."""
        argv = [
            "deploy",
            "--type",
            "small",
            "--count",
            str(count),
            "--duration",
            duration,
            "--name",
            name,
        ]
        more = ["--wait", "--timeout", "110"] if wait else []
        return dict(self.cli(*argv, *more, timeout=120)["workspace"])

    def show(self, name: str) -> dict[str, Any]:
        return dict(self.cli("show", name)["workspace"])

    def until(
        self, name: str, condition: Callable[[Mapping[str, Any]], bool], seconds: float = 60
    ) -> dict[str, Any]:
        """The workspace, once the condition holds."""
        deadline = time.monotonic() + seconds
        while not condition(ws := self.show(name)):
            assert time.monotonic() < deadline, f"{json.dumps(ws, indent=1)}\n{self.log()}"
            time.sleep(0.3)
        return ws

    def ended(self, name: str, seconds: float = 60) -> dict[str, Any]:
        return self.until(name, lambda ws: ws["state"] == "ended", seconds)

    def destroy(self, name: str) -> dict[str, Any]:
        self.cli("destroy", name, "--yes", "--timeout", "60", timeout=90)
        return self.ended(name)

    def events(self) -> list[str]:
        return [event["text"] for event in self.cli("events")["events"]]

    def log(self) -> str:
        """The end of the daemon's log and of every job's output, for a failed assertion."""
        paths = [self.home / "log/daemon.log", *self.home.glob("spool/slots/*/*.out")]
        return "".join(
            f"\n== {path}\n{path.read_text()[-3000:]}" for path in paths if path.exists()
        )

    def daemon_pid(self) -> int:
        """The pid in the home's lock record."""
        return int(json.loads((self.home / "lock.json").read_text())["pid"])

    def end_daemon(self, number: int = signal.SIGTERM) -> None:
        """End the daemon (SIGKILL: in mid-work)."""
        pid = self.daemon_pid()
        os.kill(pid, number)
        deadline = time.monotonic() + 10
        while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not Path(f"/proc/{pid}").exists(), f"the daemon does not end{self.log()}"

    def stop(self) -> None:
        """End the daemon and check that no job, process or spool entry of ours is left."""
        self.end_daemon()
        running = {
            id: state
            for id, state in self.cluster.jobs().items()
            if state in ("RUNNING", "PENDING")
        }
        assert not running, f"jobs are left: {running}"
        spool = self.home / "spool"
        left = [
            path for name in ("new", "hb", "cmd", "tmp", "bad") for path in (spool / name).iterdir()
        ]
        assert not left, f"the spool is not clean: {left}{self.log()}"


def vm_processes(marker: str) -> list[int]:
    """Processes whose command line holds the marker (a spool, a uuid)."""
    found = []
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdigit() and marker.encode() in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return found

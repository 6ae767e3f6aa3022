"""A private Slurm of four nodes on this machine: real scheduler, real jobs, nothing left behind.

Its own munge, ports, user and directory, so that several may run side by side and none of them
touches a Slurm that the machine may have. Needs root (slurmd starts jobs as the user).
Invariant: after `stop()` no process, no file and no user of it is there; what had to be killed
because it outlived its job is an error (`Survivors`), for that is what the tests are about.
"""

from __future__ import annotations

import atexit
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests import processes
from tests.processes import Process
from tests.real.slurm_conf import Settings, free_ports, slurm_conf
from tests.real.testuser import TestUser

__all__ = ["Settings", "SlurmCluster", "SlurmError", "Survivors", "wait_until"]

_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


class SlurmError(Exception):
    """The cluster did not do what it was asked; the text holds what it said."""


class Survivors(SlurmError):
    """Processes that outlived the cluster's orderly end. They have been killed."""


class SlurmCluster:
    """Start it as a context manager, or by `start()` and `stop()`.

    Raises SlurmError when it does not come up in 20 s.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.nodes = [f"node{n:02d}" for n in range(1, self.settings.nodes + 1)]
        self.root = Path()
        self.user = TestUser()
        self._daemons: dict[str, tuple[subprocess.Popen[bytes], Process]] = {}
        self._stopped = True

    # -- life ---------------------------------------------------------------------------------

    def __enter__(self) -> SlurmCluster:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> SlurmCluster:
        """Bring it up: about a second."""
        self._stopped = False
        atexit.register(self.stop)
        try:
            self.root = Path(tempfile.mkdtemp(prefix="wslurm-", dir="/tmp"))
            self.root.chmod(0o755)  # the jobs' user reads slurm.conf and munge's socket
            self.user.create(self.root / "home")
            self.run(["/bin/mkdir", "tmp"])
            for name in ("state", "log", "pid", "munge", *(f"spool/{n}" for n in self.nodes)):
                (self.root / name).mkdir(parents=True)
            self._start_munge()
            self._write_config()
            self.start_controller()
            for node in self.nodes:
                self.start_node(node)
            self.wait_for_nodes()
        except BaseException:
            try:
                self.stop()
            except Survivors:
                pass
            raise
        return self

    def stop(self) -> None:
        """End everything and remove it; safe to call twice. Raises Survivors."""
        if self._stopped:
            return
        self._stopped = True
        atexit.unregister(self.stop)
        left: list[str] = []
        try:
            self._end_jobs()
            for name in sorted(self._daemons, key=_last_things_last):
                self._end_daemon(name)
        finally:
            left = self._end_survivors()
            self.user.remove()
            shutil.rmtree(self.root, ignore_errors=True)
        if left:
            raise Survivors("outlived the cluster:\n  " + "\n  ".join(left))

    # -- use ----------------------------------------------------------------------------------

    @property
    def conf(self) -> Path:
        return self.root / "slurm.conf"

    @property
    def env(self) -> dict[str, str]:
        """The environment in which Slurm's commands find this cluster."""
        return {"SLURM_CONF": str(self.conf), "PATH": _PATH, "LC_ALL": "C.UTF-8"}

    @property
    def user_env(self) -> dict[str, str]:
        """The same for the user: home, name, a private place for temporary files."""
        who, home = self.user.name, str(self.user.home)
        return {**self.env, "HOME": home, "USER": who, "LOGNAME": who, "TMPDIR": f"{home}/tmp"}

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        as_user: bool = True,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        timeout: float = 30,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the "headnode", in the user's home. Raises SlurmError on exit != 0."""
        done = subprocess.run(
            [str(word) for word in argv],
            env={**(self.user_env if as_user else self.env), **(env or {})},
            cwd=self.user.home if as_user else "/",
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            **self._identity(as_user),
        )
        if check and done.returncode:
            told = (done.stderr + done.stdout).strip()
            raise SlurmError(f"{shlex.join(map(str, argv))}: exit {done.returncode}: {told}")
        return done

    def popen(
        self, argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, **more: Any
    ) -> subprocess.Popen[str]:
        """Start a command as the user and leave it running: the caller's to end."""
        return subprocess.Popen(
            [str(word) for word in argv],
            env={**self.user_env, **(env or {})},
            cwd=self.user.home,
            text=True,
            **{"stdin": subprocess.DEVNULL, **self._identity(True), **more},
        )

    def submit(self, script: str, *options: str) -> int:
        """sbatch this text as the user; the job's id."""
        told = self.run(["sbatch", "--parsable", *options], stdin=script).stdout
        return int(told.strip().partition(";")[0])

    def jobs(self) -> dict[int, str]:
        """State (PENDING, RUNNING, COMPLETED ...) of every job that Slurm still remembers."""
        told = self.run(["squeue", "-h", "-a", "-t", "all", "-o", "%A %T"], as_user=False).stdout
        return {int(line.split()[0]): line.split()[1] for line in told.splitlines()}

    def job(self, number: int) -> dict[str, str]:
        """The fields of `scontrol show job`."""
        told = self.run(["scontrol", "-o", "show", "job", str(number)], as_user=False).stdout
        pairs = (word.partition("=") for word in told.split())
        return {key: value for key, _, value in pairs}

    def wait_for_job(self, number: int, *states: str, seconds: float = 20) -> str:
        """Until the job is in one of these states. Raises SlurmError, with the job."""
        if not wait_until(lambda: self.jobs().get(number, "gone") in states, seconds):
            what = f"job {number} not {'/'.join(states)} after {seconds:.0f} s"
            raise SlurmError(f"{what}: {self.job(number)}")
        return self.jobs()[number]

    def node_states(self) -> dict[str, str]:
        """State (idle, mixed, allocated, drained, down* ...) of each node."""
        told = self.run(["sinfo", "-h", "-N", "-o", "%N %T"], as_user=False).stdout
        return {line.split()[0]: line.split()[1] for line in told.splitlines()}

    def wait_for_nodes(self, seconds: float = 20) -> None:
        """Until every node could run a job. Raises SlurmError."""
        usable = {"idle", "mixed", "allocated", "completing"}

        def all_up() -> bool:
            try:
                states = self.node_states()
            except SlurmError:
                return False
            return len(states) == len(self.nodes) and set(states.values()) <= usable

        if not wait_until(all_up, seconds):
            logs = [path.read_text()[-600:] for path in sorted(self.root.glob("log/*"))]
            raise SlurmError(f"not up after {seconds:.0f} s:\n" + "\n".join(logs))

    # -- what an operator, or fate, does -----------------------------------------------------

    def drain(self, node: str, reason: str = "test") -> None:
        """Let no new job start on `node`."""
        self._update_node(node, "State=DRAIN", f"Reason={reason}")

    def resume(self, node: str) -> None:
        """Undo `drain`, or bring a node back that is up but marked as down."""
        self._update_node(node, "State=RESUME")

    def requeue(self, number: int) -> None:
        """Start a running job again that asked not to be: an operator may.

        Slurm would put it off by two minutes; this says "now" for it, but not within the same
        second: slurmd then takes the new start's credential for the old one's, which has been
        revoked, and the job fails ("Job credential revoked", 1 of 2).
        """
        self.run(["scontrol", "update", f"JobId={number}", "Requeue=1"], as_user=False)
        self.run(["scontrol", "requeue", str(number)], as_user=False)
        self.wait_for_job(number, "PENDING")
        time.sleep(1.1)
        self.run(["scontrol", "update", f"JobId={number}", "StartTime=now"], as_user=False)

    def fail_node(self, node: str) -> list[Process]:
        """The node dies: its slurmd, its slurmstepd and all of its jobs' processes, at once.

        What asked to be left out of the job's environment is not found and lives on.
        """
        dead: list[Process] = []
        while doomed := [p for p in processes.everything() if self._is_on(p, node)]:
            # What forks meanwhile is found in the next round.
            for process in doomed:
                process.kill()
            processes.wait_until_gone(doomed, 5)
            dead += doomed
        daemon = self._daemons.pop(f"slurmd {node}", None)
        if daemon is not None:
            daemon[0].wait(5)
        return dead

    def kill_daemon(self, name: str) -> None:
        """SIGKILL to `slurmctld` or `slurmd NODE`, and to nothing else."""
        child, process = self._daemons.pop(name)
        process.kill()
        child.wait(5)

    def wait_until_saved(self, number: int) -> None:
        """Until slurmctld's saved state holds the running job: it writes up to 5 s late, and one
        that is killed before comes back with the job pending and has its nodes kill it
        ("Registered PENDING JobId", "Aborting"). Raises SlurmError."""
        mark = f"saved-{time.monotonic_ns()}"
        self.run(["scontrol", "update", f"JobId={number}", f"Comment={mark}"], as_user=False)
        saved = self.root / "state" / "job_state"
        if not wait_until(lambda: saved.exists() and mark.encode() in saved.read_bytes(), 20):
            raise SlurmError(f"job {number} is not in {saved} after 20 s")

    def start_controller(self) -> None:
        """Start slurmctld: at first, or after `kill_daemon`."""
        self._start_daemon("slurmctld", "slurmctld", "-D", "-f", str(self.conf))

    def start_node(self, node: str) -> None:
        """Start the slurmd of `node`: at first, or after `fail_node`."""
        self._start_daemon(f"slurmd {node}", "slurmd", "-D", "-N", node, "-f", str(self.conf))

    def freeze_controller(self) -> None:
        """Stop slurmctld without ending it: commands connect and get no answer."""
        self._daemons["slurmctld"][1].kill(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze_controller`."""
        if "slurmctld" in self._daemons:
            self._daemons["slurmctld"][1].kill(signal.SIGCONT)

    # -- inside -------------------------------------------------------------------------------

    def _identity(self, as_user: bool) -> dict[str, Any]:
        who = {"user": self.user.uid, "group": self.user.gid, "extra_groups": []}
        return who if as_user else {}

    def _update_node(self, node: str, *what: str) -> None:
        self.run(["scontrol", "update", f"NodeName={node}", *what], as_user=False)

    def _start_munge(self) -> None:
        own = self.root / "munge"
        key = own / "key"
        key.touch(0o600)
        key.write_bytes(os.urandom(128))
        files = (f"--{kind}={own / name}" for kind, name in _MUNGE_FILES)
        self._start_daemon("munged", "munged", "--foreground", "--force", *files)
        if not wait_until((own / "sock").exists, 5):
            raise SlurmError(f"munged did not start: {(own / 'munged.out').read_text()}")

    def _write_config(self) -> None:
        if self.settings.epilog:
            (self.root / "epilog").write_text(self.settings.epilog)
            (self.root / "epilog").chmod(0o755)
        (self.root / "plugstack.conf").touch()
        ports = free_ports(1 + len(self.nodes))
        self.conf.write_text(slurm_conf(self.settings, self.root, self.nodes, ports))

    def _start_daemon(self, name: str, *argv: str) -> None:
        with (self.root / "log" / f"{name.replace(' ', '.')}.out").open("ab") as output:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=self.env,
                start_new_session=True,
                preexec_fn=processes.die_with_parent(signal.SIGTERM),
            )
        found = processes.look_up(child.pid)
        if found is None:
            raise SlurmError(f"{argv[0]} ended at once")
        self._daemons[name] = (child, found)

    def _end_jobs(self) -> None:
        """Jobs first: a slurmstepd outlives its slurmd."""
        if "slurmctld" not in self._daemons or self._daemons["slurmctld"][0].poll() is not None:
            return
        self.thaw()
        self._try("scancel", "-s", "KILL", "-f", "--state=RUNNING")
        self._try("scancel", f"--user={self.user.name}")
        wait_until(lambda: not self.user.processes() and not self._stepds(), 8)

    def _try(self, *argv: str) -> None:
        try:
            self.run(argv, as_user=False, check=False, timeout=10)
        except subprocess.TimeoutExpired:
            pass

    def _end_daemon(self, name: str) -> None:
        child, process = self._daemons.pop(name)
        process.kill(signal.SIGTERM)
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            child.wait(5)

    def _stepds(self) -> list[Process]:
        return [p for p in processes.everything() if "stepd" in p.command() and self._is_ours(p)]

    def _is_ours(self, process: Process) -> bool:
        """A daemon of this cluster, a slurmstepd, or what has inherited their environment."""
        if f"SLURM_CONF={self.conf}" in processes.environ(process):
            return True
        return any(path.startswith(f"{self.root}/log/") for path in processes.open_files(process))

    def _is_on(self, process: Process, node: str) -> bool:
        """True for what runs on `node`. A slurmstepd overwrites its environment with its title,
        but keeps its node's log open."""
        if process.state in "ZX":
            return False
        log = f"{self.root}/log/slurmd.{node}.log"
        if log in processes.open_files(process):
            return True
        return self._is_ours(process) and f"SLURMD_NODENAME={node}" in processes.environ(process)

    def _end_survivors(self) -> list[str]:
        """Kill what is left by now, and name it."""
        own = processes.me().pid

        def left() -> list[Process]:
            mine = [p for p in processes.everything() if self._is_ours(p) and p.pid != own]
            return list({p.pid: p for p in (*mine, *self.user.processes())}.values())

        wait_until(lambda: not left(), 3)
        found = [(process, process.command()) for process in left()]
        for process, _ in found:
            process.kill()
        processes.wait_until_gone([process for process, _ in found], 5)
        return [f"{process.pid} {command}" for process, command in found]


_MUNGE_FILES = (
    ("key-file", "key"),
    ("socket", "sock"),
    ("pid-file", "pid"),
    ("log-file", "log"),
    ("seed-file", "seed"),
)


def _last_things_last(name: str) -> int:
    return ("slurmd", "slurmctld", "munged").index(name.partition(" ")[0])


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Ask again and again; False when it has not come true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(0.05)
    return True

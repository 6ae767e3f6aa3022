"""A real daemon on the built-in batch system, and everything that can be done to it, by chance.

`python -m tests.real.storm --seeds A:B [--faults name,name]` plays one story a seed: leases, faults
at random moments, then calm. In the end everything is as DESIGN.md section 9 says, or it tells
what is not. As root each story has namespaces of its own, and a small disk that can be filled.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tests import processes
from tests.processes import Process
from wspilot.client import call
from wspilot.daemon.core.books import Books
from wspilot.daemon.lrm.local import PROGRAM
from wspilot.daemon.store import Store
from wspilot.errors import NoDaemon, TimedOut, WspilotError

SITE = """\
[site]
jobs = "{jobs}"
adapter = "{adapter}"
allow_root = true
[lrm.local]
poll = "1s"
min_poll = "1s"
grace = "3s"
[vmm.sim]
boot_s = 0.5
[budget]
launch = "15s"
gather = "20s"
propagate = "5s"
reserve = "5s"
boot = "20s"
stop = "3s"
restore = "3s"
slack = "10s"
"""
STORM_S = (6.0, 16.0)
CALM_S = 330.0
"""Silence (90 s), the launch budget, and two repair jobs one after the other."""


class Wrong(AssertionError):
    """A promise that was not kept."""


class Storm:
    """One story. Every method named after a fault does it once, or nothing where it cannot."""

    def __init__(self, seed: int, root: Path, faults: Sequence[str] = ()) -> None:
        self.seed, self.root, self.home = seed, root, root / "home"
        self.random = random.Random(seed)
        chance = self.random
        self.adapter = chance.choice(["sim", "sim", "none"])
        jobs = chance.choice(["per-node", "per-workspace"])
        names = sorted(FAULTS)
        self.kinds = list(faults) or chance.sample(names, chance.randrange(1, 7))
        self.later: list[tuple[float, Callable[[], object]]] = []
        self.daemon: Process | None = None
        self.told: list[str] = []
        self.leased: dict[str, str] = {}
        self.slots: set[str] = set()
        self.serial = 0
        self.home.mkdir(mode=0o700)
        self.site = root / "site.toml"
        self.site.write_text(SITE.format(jobs=jobs, adapter=self.adapter))
        self.began = time.monotonic()
        self.say(f"{jobs}, adapter {self.adapter}, faults: {', '.join(self.kinds)}")

    def say(self, text: str) -> None:
        self.told.append(f"{time.monotonic() - self.began:7.2f} {text}")

    # -- the story

    def play(self) -> None:
        """Raises Wrong."""
        self.start_daemon()
        for _ in range(self.random.randrange(1, 4)):
            self.deploy()
        end = time.monotonic() + self.random.uniform(*STORM_S)
        while time.monotonic() < end:
            self.sleep(self.random.uniform(0.02, 1.2))
            kind = self.random.choice(self.kinds)
            with contextlib.suppress(ProcessLookupError):
                FAULTS[kind](self)
        self.calm()
        self.check()

    def sleep(self, seconds: float) -> None:
        """Meanwhile what was to be done later is done, and nothing may be there twice."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for at, act in sorted(self.later, key=lambda pair: pair[0]):
                if at <= time.monotonic():
                    self.later.remove((at, act))
                    act()
            self.look()
            self.reap()
            time.sleep(min(left, 0.1))

    def soon(self, low: float, high: float, act: Callable[[], object]) -> None:
        self.later.append((time.monotonic() + self.random.uniform(low, high), act))

    def calm(self) -> None:
        """No more faults: everything ends, by itself or because it is told to."""
        self.say("calm")
        for _, act in sorted(self.later, key=lambda pair: pair[0]):
            act()
        self.later.clear()
        for process in self.ours():
            process.kill(signal.SIGCONT)
        for job in self.jobs():
            if job["state"] in ("held", "suspended"):
                self.lrm("release" if job["state"] == "held" else "resume", job["id"])
        self.start_daemon()
        self.until("the first answer", lambda: self.ask("ping") is not None, 30)
        everything = self.random.random() < 0.5
        for ws in self.items("list", "workspaces", all=True):
            if everything or self.leased.get(ws["name"], "1h") == "1h":
                self.until(f"destroy {ws['name']}", partial(self.destroy, ws["name"]), 30)
        self.until("every workspace ended", self.all_ended, CALM_S)
        self.until("every slot ended", self.slots_ended, CALM_S)
        self.until("every node clean", self.all_clean, CALM_S)

    def until(self, what: str, done: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                raise Wrong(f"not within {seconds:g} s: {what}")
            self.sleep(0.5)
        self.say(what)

    def all_ended(self) -> bool:
        return all(ws["state"] == "ended" for ws in self.items("list", "workspaces", all=True))

    def slots_ended(self) -> bool:
        final = ("released", "failed", "preempted")
        return all(slot["state"] in final for slot in self.items("slots", "slots"))

    def all_clean(self) -> bool:
        return all(node["state"] == "clean" for node in self.items("nodes", "nodes"))

    # -- the daemon and its clients

    def start_daemon(self) -> None:
        if self.daemon is not None and self.daemon.is_alive():
            return
        argv = [sys.executable, "-m", "wspilot", "--home", str(self.home), "daemon", "--config"]
        with (self.root / "daemon.log").open("ab") as log:
            child = subprocess.Popen(
                [*argv, str(self.site)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.daemon = processes.look_up(child.pid)
        self._child = child
        self.say(f"daemon {child.pid} started")

    def end_daemon(self, number: int) -> None:
        if self.daemon is not None:
            self._child.send_signal(number)
            self._child.wait(30)

    def ask(self, verb: str, **params: Any) -> dict[str, Any] | None:
        """The daemon's answer; None when there is none now, or it refuses."""
        try:
            return call(self.home, verb, params, timeout_s=10)
        except (NoDaemon, TimedOut):
            return None
        except WspilotError as error:
            self.say(f"{verb}: {error}")
            return None

    def act(self, verb: str, **params: Any) -> dict[str, Any] | None:
        return self.ask(verb, token=os.urandom(16).hex(), **params)

    def items(self, verb: str, noun: str, **params: Any) -> list[dict[str, Any]]:
        answer = self.ask(verb, **params)
        return [{"state": "no answer"}] if answer is None else list(answer[noun])

    def deploy(self) -> None:
        self.serial += 1
        seconds = self.random.choice(["5s", "15s", "1h"])
        count = self.random.randrange(1, 4)
        name = f"w{self.serial}"
        for _ in range(20):
            if self.act("deploy", type="small", count=count, duration=seconds, name=name):
                self.leased[name] = seconds
                self.say(f"deployed {name}: {count} VMs for {seconds}")
                return
            self.sleep(0.5)

    def destroy(self, name: str) -> bool:
        return self.act("destroy", ids=[name]) is not None

    # -- processes and jobs

    def ours(self) -> list[Process]:
        """Every process of this story but the harness: by its command line or environment."""
        mark = str(self.root)
        uid, me = os.getuid(), os.getpid()
        found = []
        for one in processes.everything():
            try:
                if one.pid == me or Path(f"/proc/{one.pid}").stat().st_uid != uid:
                    continue
            except OSError:
                continue
            line = _command(one.pid)
            if mark in line or any(slot in line for slot in self.known_slots()):
                found.append(one)
        return found

    def known_slots(self) -> set[str]:
        with contextlib.suppress(OSError):
            self.slots.update(one.name for one in (self.home / "spool" / "slots").iterdir())
        return self.slots

    def named(self, *words: str) -> list[Process]:
        return [one for one in self.ours() if all(word in _command(one.pid) for word in words)]

    def pilots(self) -> list[Process]:
        """Pilots: of those that look alike, the one whose parent is none of them (no courier)."""
        alike = self._pilot_like()
        pids = {one.pid for one in alike}
        return [one for one in alike if _parent(one.pid) not in pids]

    def couriers(self) -> list[Process]:
        alike = self._pilot_like()
        pids = {one.pid for one in alike}
        return [one for one in alike if _parent(one.pid) in pids]

    def _pilot_like(self) -> list[Process]:
        alike = self.named(".pyz pilot ")
        return [one for one in alike if "local_spread.py" not in _command(one.pid)]

    def guardians(self) -> list[Process]:
        return self.named("wspilot-guardian")

    def pick(self, found: list[Process]) -> Process:
        if not found:
            raise ProcessLookupError
        return self.random.choice(found)

    def lrm(self, verb: str, id: str = "") -> None:
        settings = [str(self.home / "local"), "4", "8", "8192", "3.0"]
        body = [json.dumps({"id": id})] if id else []
        argv = [sys.executable, "-I", PROGRAM, *settings, verb, *body]
        subprocess.run(argv, capture_output=True, timeout=60, check=False)

    def jobs(self) -> list[dict[str, Any]]:
        with contextlib.suppress(OSError, ValueError):
            doc = json.loads((self.home / "local" / "queue.json").read_text())
            return list(doc["jobs"].values())
        return []

    def one_job(self, verb: str, *states: str) -> str:
        found = [job for job in self.jobs() if job["state"] in states]
        if not found:
            raise ProcessLookupError
        job = self.random.choice(found)
        self.lrm(verb, job["id"])
        self.say(f"{verb} job {job['id']} ({job['name']})")
        return str(job["id"])

    def reap(self) -> None:
        """As init does, where this is the first process of its namespace."""
        if os.getpid() != 1:
            return
        wait = os.WEXITED | os.WNOHANG | os.WNOWAIT
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitid(os.P_ALL, 0, wait)) and found.si_pid != self._child.pid:
                os.waitpid(found.si_pid, 0)

    # -- what must hold

    def look(self) -> None:
        """At any moment: no VM runs twice."""
        seen: dict[str, Path] = {}
        try:
            found = list(Path(f"/tmp/wspilot-{os.getuid()}").glob("node*/*/*.sim"))
        except OSError:  # a directory vanished under our eyes
            return
        for path in found:
            if path.name in seen:
                raise Wrong(f"VM {path.name} is there twice: {path} and {seen[path.name]}")
            seen[path.name] = path

    def check(self) -> None:
        """In the end: nothing is left, and every end has its cause."""
        for ws in self.items("list", "workspaces", all=True):
            if ws["outcome"] is None or (ws["outcome"] == "failed" and not ws["cause"]):
                raise Wrong(f"{ws['name']}: outcome {ws['outcome']}, cause {ws['cause']!r}")
            if set(self.kinds) <= HARMLESS and ws["outcome"] not in ("ok", "destroyed"):
                raise Wrong(f"{ws['name']} was lost of a harmless fault: {ws['cause']}")
            self.say(f"{ws['name']}: {ws['outcome']}, {ws['cause']}")
        self.until("no job is left", lambda: all(j["state"] == "done" for j in self.jobs()), 20)
        self.until("no message is left", lambda: not self.messages(), 30)
        self.end_daemon(signal.SIGTERM)
        self.until("no process is left", lambda: not self.ours(), 30)
        self.until("nothing is left on the nodes", lambda: not self.leftovers(), 5)
        store = Store(self.home / "store")
        try:
            books = Books.load(store.load())
        finally:
            store.close()
        if books.held or books.dirty_nodes or books.open_slots or any(books.orders()):
            raise Wrong(f"held {books.held}, dirty {books.dirty_nodes}, {list(books.orders())}")

    def messages(self) -> list[Path]:
        """What lies on the spool; without drafts of killed writers, which are swept after a day."""
        spool = self.home / "spool"
        names = ["new", "hb", "cmd/*" if "abandon" in self.kinds else "cmd"]  # made after the end
        return [path for name in names for path in spool.glob(f"{name}/*")]

    def leftovers(self) -> list[Path]:
        roots = [Path(f"/{top}/wspilot-{os.getuid()}") for top in ("tmp", "var/tmp")]
        return [
            path for root in roots for path in root.glob("node*/**/*")
            if os.getpid() == 1 or any(slot in path.name for slot in self.known_slots())
        ]  # fmt: skip

    def report(self) -> str:
        """The whole story, for who has to understand it."""
        lines = list(self.told)
        for verb, noun in (("slots", "slots"), ("nodes", "nodes")):
            lines += [json.dumps(one) for one in self.items(verb, noun)]
        lines += [_command(one.pid)[:300] for one in self.ours()]
        lines += [str(path) for path in [*self.leftovers(), *self.messages()]]
        return "\n".join(lines)

    def end(self) -> None:
        """End what is left, by pid."""
        self.end_daemon(signal.SIGKILL)
        for _ in range(3):
            for process in self.ours():
                process.kill(signal.SIGKILL)
            time.sleep(0.2)


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        )
    return ""


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


# -- faults


def daemon_killed(storm: Storm) -> None:
    if storm.daemon is None or not storm.daemon.is_alive():
        raise ProcessLookupError
    storm.say("daemon killed")
    storm.end_daemon(signal.SIGKILL)
    if storm.random.random() < 0.5:
        storm.start_daemon()
    else:
        storm.soon(0.2, 4, storm.start_daemon)


def _kill(what: str, find: Callable[[Storm], list[Process]]) -> Callable[[Storm], None]:
    def fault(storm: Storm) -> None:
        doomed = storm.pick(find(storm))
        storm.say(f"{what} {doomed.pid} killed")
        doomed.kill(signal.SIGKILL)

    return fault


def both_killed(storm: Storm) -> None:
    """Pilot and guardian of one slot on all nodes, the pilot stopped first: it would fork again."""
    pilot = storm.pick(storm.pilots())
    slot = next((slot for slot in storm.known_slots() if slot in _command(pilot.pid)), "")
    if not slot:
        raise ProcessLookupError  # it has ended since
    storm.say(f"pilots and guardians of {slot} killed")
    doomed = [one for one in storm.pilots() if slot in _command(one.pid)]
    for one in doomed:
        one.kill(signal.SIGSTOP)
    for one in [*(one for one in storm.guardians() if slot in _command(one.pid)), *doomed]:
        one.kill(signal.SIGKILL)


def job_killed(storm: Storm) -> None:
    """Every process of a job's session at once, with no warning."""
    running = [job for job in storm.jobs() if job["state"] == "running" and job["pid"]]
    if not running:
        raise ProcessLookupError
    job = storm.random.choice(running)
    storm.say(f"job {job['id']} killed without grace")
    for one in [one for one in processes.everything() if _session(one.pid) == job["pid"]]:
        one.kill(signal.SIGKILL)


def _session(pid: int) -> int:
    with contextlib.suppress(OSError):
        return os.getsid(pid)
    return -1


def pilot_stopped(storm: Storm) -> None:
    pilot = storm.pick(storm.pilots())
    storm.say(f"pilot {pilot.pid} stopped")
    pilot.kill(signal.SIGSTOP)
    storm.soon(0.5, 6, lambda: pilot.kill(signal.SIGCONT))


def guardian_stopped(storm: Storm) -> None:
    guardian = storm.pick(storm.guardians())
    storm.say(f"guardian {guardian.pid} stopped")
    guardian.kill(signal.SIGSTOP)
    storm.soon(0.5, 6, lambda: guardian.kill(signal.SIGCONT))


def signalled(storm: Storm) -> None:
    """What batch systems and people send besides TERM and KILL, to one process or to all."""
    number = storm.random.choice(SIGNALS)
    found = storm.named(".pyz ") + storm.guardians()
    doomed = found if storm.random.random() < 0.2 else [storm.pick(found)]
    storm.say(f"{number.name} to {[one.pid for one in doomed]}")
    for one in doomed:
        one.kill(number)


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1,
           signal.SIGUSR2, signal.SIGALRM, signal.SIGXCPU, signal.SIGPIPE, signal.SIGCHLD,
           signal.SIGTSTP, signal.SIGABRT)  # fmt: skip


def daemon_stopped(storm: Storm) -> None:
    if storm.daemon is None or not storm.daemon.is_alive():
        raise ProcessLookupError
    storm.say("daemon stopped")
    stopped = storm.daemon
    stopped.kill(signal.SIGSTOP)
    storm.soon(0.5, 6, lambda: stopped.kill(signal.SIGCONT))


def kill_all(storm: Storm) -> None:
    """The operator's tool in the middle of it all; only where nobody else's VMs can be met."""
    programs = sorted((storm.home / "spool" / "bin").glob("*.pyz"))
    if os.getpid() != 1 or not programs:
        raise ProcessLookupError
    argv = [sys.executable, str(programs[0]), "kill-all"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    storm.say(f"kill-all: exit {done.returncode}: {done.stdout[-200:]!r}")


def lrm_killed(storm: Storm) -> None:
    doomed = storm.pick(storm.named("local_queue.py"))
    storm.say("batch system killed")
    doomed.kill(signal.SIGKILL)


def lrm_stopped(storm: Storm) -> None:
    """It hangs: nobody gets an answer."""
    hung = storm.pick(storm.named("local_queue.py"))
    storm.say("batch system hangs")
    hung.kill(signal.SIGSTOP)
    storm.soon(0.5, 8, lambda: hung.kill(signal.SIGCONT))


def job_suspended(storm: Storm) -> None:
    id = storm.one_job("suspend", "running")
    storm.soon(0.5, 6, lambda: storm.lrm("resume", id))


def job_held(storm: Storm) -> None:
    id = storm.one_job("hold", "queued")
    storm.soon(0.5, 5, lambda: storm.lrm("release", id))


def job_rerun(storm: Storm) -> None:
    storm.one_job("requeue", "running")


def job_cancelled(storm: Storm) -> None:
    storm.one_job("cancel", "running", "queued")


def spool_gone(storm: Storm) -> None:
    spool, aside = storm.home / "spool", storm.home / "aside"
    if not spool.is_dir() or aside.exists():
        raise ProcessLookupError
    storm.known_slots()
    spool.rename(aside)
    storm.say("spool gone")

    def back() -> None:
        while spool.exists():  # somebody made a new one: its files are the truth's no more
            shutil.rmtree(spool, ignore_errors=True)
        aside.rename(spool)
        storm.say("spool back")

    storm.soon(0.5, 5, back)


def program_removed(storm: Storm) -> None:
    for path in (storm.home / "spool" / "bin").glob("*.pyz"):
        path.unlink(missing_ok=True)
        storm.say("the zipapp removed")


def disk_full(storm: Storm) -> None:
    filler = storm.root / "filler"
    if not os.path.ismount(storm.root) or filler.exists():
        raise ProcessLookupError
    storm.say("disk full")
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            if not file.write(b"\0" * 4096):
                break

    def free() -> None:
        filler.unlink(missing_ok=True)
        storm.say("disk free")

    storm.soon(0.5, 5, free)


def rubbish(storm: Storm) -> None:
    new = storm.home / "spool" / "new"
    for path in sorted(new.parent.joinpath("hb").glob("*"))[:2]:
        with contextlib.suppress(OSError):
            raw = path.read_bytes()
            name = f"{time.time_ns():020d}_{path.stem}_7.json"
            (new / name).write_bytes(raw[: storm.random.randrange(len(raw))])


def destroyed(storm: Storm) -> None:
    names = [ws["name"] for ws in storm.items("list", "workspaces") if "name" in ws]
    if names:
        name = storm.random.choice(names)
        storm.say(f"destroy {name}")
        storm.destroy(name)


def vm_destroyed(storm: Storm) -> None:
    names = [ws["name"] for ws in storm.items("list", "workspaces") if "name" in ws]
    if names:
        name = f"{storm.random.choice(names)}/vm/1"
        storm.say(f"destroy {name}")
        storm.act("destroy", ids=[name])


def abandoned(storm: Storm) -> None:
    names = [ws["name"] for ws in storm.items("list", "workspaces") if "name" in ws]
    if names:
        name = storm.random.choice(names)
        storm.say(f"abandon {name}")
        storm.act("destroy", ids=[name], abandon=True)


def another_lease(storm: Storm) -> None:
    if storm.serial < 6:
        storm.deploy()


FAULTS: dict[str, Callable[[Storm], None]] = {
    "daemon": daemon_killed,
    "pilot": _kill("pilot", Storm.pilots),
    "guardian": _kill("guardian", Storm.guardians),
    "courier": _kill("courier", Storm.couriers),
    "launcher": _kill("launcher", lambda storm: storm.named(".pyz launch ")),
    "spread": _kill("spread", lambda storm: storm.named(" spread ")),
    "both": both_killed,
    "job-killed": job_killed,
    "pilot-stopped": pilot_stopped,
    "guardian-stopped": guardian_stopped,
    "signal": signalled,
    "daemon-stopped": daemon_stopped,
    "kill-all": kill_all,
    "lrm": lrm_killed,
    "lrm-hangs": lrm_stopped,
    "suspend": job_suspended,
    "hold": job_held,
    "rerun": job_rerun,
    "cancel": job_cancelled,
    "spool": spool_gone,
    "program": program_removed,
    "full": disk_full,
    "rubbish": rubbish,
    "destroy": destroyed,
    "destroy-vm": vm_destroyed,
    "abandon": abandoned,
    "lease": another_lease,
}
HARMLESS = frozenset(
    {"daemon", "daemon-stopped", "guardian", "courier", "guardian-stopped", "lrm", "lrm-hangs",
     "hold", "rubbish", "destroy", "lease", "full"}
)  # fmt: skip


# -- many


def play(seed: int, root: Path, faults: Sequence[str] = ()) -> str:
    """What is wrong with it, and the story; empty when nothing is."""
    storm = Storm(seed, root, faults)
    try:
        storm.play()
    except Wrong as wrong:
        return f"seed {seed}: {wrong}\n{storm.report()}\n{_logs(root)}"
    finally:
        storm.end()
    return ""


def _logs(root: Path) -> str:
    paths = [root / "daemon.log", *sorted(root.glob("home/spool/slots/*/*"))]
    return "".join(
        f"\n== {path}\n{path.read_text(errors='replace')[-20000:]}"
        for path in paths
        if path.is_file() and path.suffix in (".log", ".out", ".json")
    )


def alone(seed: int, faults: Sequence[str]) -> int:
    """One story in directories of its own; as root, in namespaces of its own, on a small disk."""
    place = None
    if os.getpid() == 1:  # not all of /tmp: this very program may lie there
        for top in ("/var/tmp", "/tmp"):
            place = Path(top, f"wspilot-{os.getuid()}")
            place.mkdir(mode=0o700, exist_ok=True)
            _mount(place, "256m")
    root = Path(tempfile.mkdtemp(prefix="wsstorm-", dir=place))
    if os.getpid() == 1:
        _mount(root, "24m")
    try:
        wrong = play(seed, root, faults)
    finally:
        if os.getpid() != 1:
            shutil.rmtree(root, ignore_errors=True)
    print(wrong)
    return 1 if wrong else 0


def _mount(path: Path, size: str) -> None:
    options = f"size={size},mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(path)], check=True)


def start(seed: int, faults: Sequence[str]) -> subprocess.Popen[str]:
    """As root: in a mount and a pid namespace, so that nobody else's nodes or processes are met."""
    space = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
    argv = [sys.executable, "-m", "tests.real.storm", "--alone", str(seed)]
    argv += ["--faults", ",".join(faults)]
    env = {**os.environ, "XDG_RUNTIME_DIR": ""}
    return subprocess.Popen(
        [*(space if os.getuid() == 0 else ()), *argv], env=env, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0:10", help="A:B, half open")
    parser.add_argument("--faults", default="", help=", ".join(FAULTS))
    parser.add_argument("--at-once", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="a directory for the stories that went wrong")
    parser.add_argument("--alone", type=int, metavar="SEED", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    faults = [word for word in args.faults.split(",") if word]
    if args.alone is not None:
        return alone(args.alone, faults)
    first, _, last = args.seeds.partition(":")
    seeds = list(range(int(first), int(last)))
    bad = 0
    with ThreadPoolExecutor(args.at_once) as pool:
        for seed, wrong in zip(seeds, pool.map(lambda one: told(one, faults), seeds), strict=True):
            bad += bool(wrong)
            print(wrong.splitlines()[0] if wrong else f"seed {seed}: ok", flush=True)
            if wrong and args.keep:
                args.keep.mkdir(exist_ok=True)
                (args.keep / f"{seed}.txt").write_text(wrong)
    print(f"{len(seeds)} stories, {bad} bad")
    return 1 if bad else 0


def told(seed: int, faults: Sequence[str] = ()) -> str:
    """The story of a seed that went wrong, or nothing."""
    with start(seed, faults) as child:
        out, _ = child.communicate(timeout=CALM_S * 4)
    if child.returncode and not out.strip():
        return f"seed {seed}: exit {child.returncode}"
    return out.strip()


if __name__ == "__main__":
    sys.exit(main())

"""The launcher: claims the slot's epoch, starts one pilot per node, and waits for them.

Only the first start of a slot's job is used. Any later one (an operator's rerun, a lost submission
that came twice, a slot that the daemon has closed) starts no VM: it undoes what journals name on
all of its nodes, and each says `failed: restarted` under a pilot id of its own.
"""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Optional

from wspilot.errors import WspilotError
from wspilot.node import proc
from wspilot.node.core import launch
from wspilot.node.core.settings import Settings
from wspilot.node.settings import read_slot
from wspilot.node.values import dataclass

MOST_EPOCHS = 1000


@dataclass(frozen=True)
class Job:
    """What the launcher was started with."""

    spool: Path
    slot: str
    program: tuple[str, ...]  # [python, zipapp]
    began: float

    @property
    def place(self) -> Path:
        """slots/<slot>."""
        return self.spool / "slots" / self.slot


class Crew:
    """The processes that were started, and the TERM that is passed on to them, once."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[bytes]] = []
        self._hear: list[subprocess.Popen[bytes]] = []
        self._told = False

    def listen(self) -> None:
        """From now on no signal of the job ends this process."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])

    def start(self, argv: Sequence[str], prefix: Sequence[str]) -> None:
        """One more. Raises OSError."""
        child = _start(argv, prefix)
        self.started.append(child)
        if not launch.escapes(prefix):
            self._hear.append(child)
            if self._told:  # it came while this one was being started
                child.send_signal(signal.SIGTERM)

    def end(self) -> None:
        """As at a TERM."""
        if not self._told:
            self._told = True
            for child in self._hear:
                child.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """The worst exit code."""
        return max((_code(child) for child in self.started), default=1)

    def _on_signal(self, number: int, frame: Optional[FrameType]) -> None:
        if number == signal.SIGTERM:
            self.end()


def launch_slot(job: Job, env: Mapping[str, str]) -> int:
    """The launcher's whole life; its exit code. Raises WspilotError, OSError."""
    crew = Crew()
    crew.listen()
    settings = read_slot(job.place)
    epoch = claim(job.place)
    nodes: tuple[str, ...] = ()
    try:
        nodes = launch.given(env, _node_file(env)) or (launch.own_node("", (), env, _host()),)
        why = launch.too_few(nodes, settings.nodes, settings.pack) if epoch == 1 else ""
        if not why:
            for argv in plan(job, settings, epoch, nodes):
                crew.start(argv, settings.start)
    except (WspilotError, OSError) as error:
        why = f"the launcher could not start its pilots: {error}"
    if why:
        _say_why(job, epoch, launch.own_node("", nodes, env, _host()), why, not crew.started)
        crew.end()
        crew.wait()
        return 1
    code = crew.wait()
    if epoch > 1 and code:
        from wspilot.node import refusal

        refusal.repair(job, epoch, "", nodes)  # at least here, where the starter has failed
    return code if epoch == 1 else 1


def _say_why(job: Job, epoch: int, node: str, why: str, nothing: bool) -> None:
    """`nothing`: no pilot was started on any node, and so there is nobody else to say anything."""
    from wspilot.node import refusal  # dear, and needed by no launcher that starts something

    refusal.say_failed(
        job, epoch, node, why, True, here={"nothing_started": True} if nothing else {}
    )


def plan(
    job: Job, settings: Settings, epoch: int, nodes: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """The commands that start one pilot per node, or in a later epoch what repairs the node."""
    first = "measure" if settings.bench else "pilot"
    what = first if epoch == 1 else "repair"
    pilot = (*job.program, what, "--spool", str(job.spool), "--slot", job.slot)
    pilot += ("--epoch", str(epoch), "--age", f"{proc.now() - job.began:.3f}")
    if settings.start:
        argv = (*pilot, "--nodes", ",".join(nodes))
        return (launch.start_argv(settings.start, len(nodes), argv),)
    return tuple((*pilot, "--node", node) for node in nodes)


def claim(place: Path) -> int:
    """The epoch that is ours, by an exclusive mkdir. Raises OSError."""
    for epoch in range(1, MOST_EPOCHS):
        try:
            (place / f"epoch.{epoch}").mkdir(mode=0o700)
        except FileExistsError:
            continue
        return epoch
    raise FileExistsError(f"{place}: {MOST_EPOCHS} epochs")


def _start(argv: Sequence[str], prefix: Sequence[str]) -> subprocess.Popen[bytes]:
    """A pilot, or what starts the pilots. A pilot's TERM is blocked until it has its handler."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, () if prefix else [signal.SIGTERM])
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            start_new_session=launch.escapes(prefix),
            cwd="/",
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _code(child: subprocess.Popen[bytes]) -> int:
    code = child.wait()
    return 0 if code == 0 else 1


def _node_file(env: Mapping[str, str]) -> str:
    try:
        return Path(env["PBS_NODEFILE"]).read_text()
    except (KeyError, OSError):
        return ""


def _host() -> str:
    return socket.gethostname()

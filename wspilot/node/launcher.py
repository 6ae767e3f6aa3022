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


def launch_slot(job: Job, env: Mapping[str, str]) -> int:
    """The launcher's whole life; its exit code. Raises WspilotError, OSError."""
    children: list[subprocess.Popen[bytes]] = []
    told = False

    def pass_on(number: int, frame: Optional[FrameType]) -> None:
        nonlocal told
        if number == signal.SIGTERM and not told:
            told = True
            for child in children:
                child.send_signal(signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    settings = read_slot(job.place)
    epoch = claim(job.place)
    nodes = launch.given(env, _node_file(env)) or (launch.own_node("", (), env, _host()),)
    why = launch.too_few(nodes, settings.nodes, settings.pack) if epoch == 1 else ""
    if why:
        from wspilot.node import refusal  # dear, and needed by no launcher that starts something

        refusal.say_failed(
            job,
            epoch,
            launch.own_node("", nodes, env, _host()),
            why,
            True,
            here={"nothing_started": True},
        )
        return 1
    started = []
    for argv in plan(job, settings, epoch, nodes):
        child = _start(argv, settings.start)
        started.append(child)
        if not launch.escapes(settings.start):
            children.append(child)
            if told:  # it came while this one was being started
                child.send_signal(signal.SIGTERM)
    code = max((_code(child) for child in started), default=1)
    if epoch > 1 and code:
        from wspilot.node import refusal

        refusal.repair(job, epoch, "", nodes)  # at least here, where the starter has failed
    return code if epoch == 1 else 1


def plan(
    job: Job, settings: Settings, epoch: int, nodes: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """The commands that start one pilot per node, or in a later epoch what repairs the node."""
    what = "pilot" if epoch == 1 else "repair"
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

"""The guardian: a daemon outside the job's session that undoes the node when the pilot is gone.

It gets one byte a second from its pilot and holds the journal's lock with it. A farewell byte ends
it silently; end of file without one means that the pilot was killed: its VMs are ended and its
journal undone, and then it says so, all within the restore budget (DESIGN.md section 6).
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Mapping
from typing import Any

from wspilot.messages import NEW, Kind
from wspilot.node import forks, wire
from wspilot.node.core import guard
from wspilot.node.core.guard import Verdict, Watch
from wspilot.node.courier import Courier, Round
from wspilot.node.journal import Journal
from wspilot.node.places import Places
from wspilot.node.proc import alive, now
from wspilot.node.signing import Writer
from wspilot.node.undo import Outcome, sweep, undo
from wspilot.node.values import dataclass, field
from wspilot.node.vmm.stale import state as process_state

BEAT, FAREWELL = b".", b"!"
DEATH_S = 2.0  # a killed pilot is gone by then, or hangs in the kernel


@dataclass(frozen=True)
class Ward:
    """The pilot that is guarded, and all that its undoing needs."""

    pid: int
    start: int
    boot_id: str
    places: Places
    journal: Journal
    writer: Writer
    where: Round
    suspendable: bool
    restore_s: float
    options: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""


def start(ward: Ward) -> socket.socket:
    """Double-fork a guardian; the pilot's end of its pipe. Its end of file: the guardian died."""
    ours, theirs = socket.socketpair()

    def main() -> None:
        Guardian(theirs, ward).run()

    forks.detach(main, [theirs.fileno(), ward.journal.fd], f"wspilot-guardian {ward.title}")
    theirs.close()
    ours.setblocking(False)
    return ours


class Guardian:
    """Blocking, no loop: `run` returns when there is nothing left to guard."""

    def __init__(self, pipe: socket.socket, ward: Ward) -> None:
        self._pipe, self._ward = pipe, ward
        self._seq = 0
        self._began = now()

    def run(self) -> None:
        """Watch; and when the pilot is gone, act."""
        preempted = self._watch()
        if preempted is not None:
            self._act(preempted)

    def _watch(self) -> bool | None:
        """None: farewell. Else the pilot is gone; True when because it was suspended."""
        watch = Watch(self._ward.suspendable, now())
        while True:
            ready, _, _ = select.select([self._pipe], [], [], guard.TICK_S)
            if ready:
                data = self._receive()
                if FAREWELL in data:
                    return None
                if not data:
                    return False
                watch = guard.heard(watch, now())
                continue
            state = process_state(self._ward.pid) if guard.looks(watch) else ""
            watch, verdict = guard.tick(watch, now(), state)
            if verdict is not Verdict.WAIT:
                self._kill_pilot()
                return verdict is Verdict.PREEMPT

    def _receive(self) -> bytes:
        try:
            return self._pipe.recv(4096)
        except OSError:
            return b""

    def _kill_pilot(self) -> None:
        ward = self._ward
        if alive(ward.pid, ward.start):
            os.kill(ward.pid, signal.SIGKILL)

    def _act(self, preempted: bool) -> None:
        ward, began = self._ward, now()
        while alive(ward.pid, ward.start) and now() - began < DEATH_S:
            time.sleep(0.005)
        ward.journal.reread()
        outcome = undo(ward.journal, ward.places, ward.boot_id, ward.options)
        names = self._report(outcome, preempted)
        if names:
            self._deliver(names, max(0.5, ward.restore_s - (now() - began)))
        sweep(ward.journal)
        ward.places.tidy()

    def _report(self, outcome: Outcome, preempted: bool) -> list[str]:
        """The last words, finished and signed, in the outbox; their names."""
        cause = "the job was suspended: its node was taken back" if preempted else (
            "the pilot was killed; its guardian undid the node"
        )  # fmt: skip
        letters: list[tuple[Kind, Mapping[str, Any]]] = []
        if preempted:
            letters.append((Kind.PREEMPTED, {"cause": cause}))
        if outcome.vms:
            letters.append((Kind.KILLED, {"vms": list(outcome.vms), "cause": cause}))
        last: dict[str, Any] = {"cause": cause, "boot_id": self._ward.boot_id}
        last["undone"] = list(outcome.undone)
        if preempted and not outcome.left:
            letters.append((Kind.RELEASED, last))
        else:
            last.update(causes=list(outcome.left), clean=not outcome.left)
            letters.append((Kind.FAILED, last))
        return [self._write(kind, data) for kind, data in letters]

    def _write(self, kind: Kind, data: Mapping[str, Any]) -> str:
        self._seq += 1
        mono = now() - self._began
        name, raw = self._ward.writer.note(self._seq, kind, time.time(), mono, data)
        leave(self._ward.places, name, raw)
        return name

    def _deliver(self, names: list[str], limit_s: float) -> None:
        """A courier of our own tries, while there is time; what is stored leaves the outbox."""
        ward, outbox = self._ward, self._ward.places.outbox
        ours, theirs = socket.socketpair()
        where = ward.where
        delivery = Round(where.spool, None, where.logs, where.logs_to)
        forks.detach(
            lambda: Courier(theirs, delivery).run(),
            [theirs.fileno()],
            f"wspilot-courier {ward.title}",
        )
        theirs.close()
        for name in sorted(path.name for path in outbox.glob(f"*_{ward.writer.slot}_*.json")):
            raw = (outbox / name).read_bytes()
            ours.sendall(wire.frame(wire.PUT, b"\0".join((NEW.encode(), name.encode(), raw))))
        waiting, end, splitter = set(names), now() + limit_s, wire.Splitter()
        while waiting and now() < end:
            ready, _, _ = select.select([ours], [], [], max(0.0, end - now()))
            data = ours.recv(65536) if ready else b""
            if not data:
                break
            for kind, payload in splitter.feed(data):
                if kind == wire.STORED:
                    (outbox / payload.decode()).unlink(missing_ok=True)
                    waiting.discard(payload.decode())
        ours.close()


def leave(places: Places, name: str, raw: bytes) -> None:
    """Put a finished message into the node's outbox, complete or not at all. Raises OSError."""
    places.make(places.outbox)
    draft = places.outbox / f"{name}.part"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(fd, raw)
        os.fsync(fd)
    finally:
        os.close(fd)
    draft.rename(places.outbox / name)

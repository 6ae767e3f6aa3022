"""The guardian: a daemon outside the job's session that undoes the node when the pilot is gone.

It gets one byte a second from its pilot and holds the journal's lock with it. A farewell byte ends
it silently; end of file without one means that the pilot was killed: its VMs are ended and its
journal undone, and then it says so, all within the restore budget (DESIGN.md section 6).
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Mapping
from typing import Any, Optional

from wspilot.errors import WspilotError
from wspilot.messages import HB, NEW, Kind
from wspilot.node import forks
from wspilot.node.core import guard
from wspilot.node.core.guard import Verdict, Watch
from wspilot.node.courier import Round
from wspilot.node.delivery import Delivery
from wspilot.node.journal import Journal
from wspilot.node.others import census, end_stopped
from wspilot.node.places import Places
from wspilot.node.proc import alive, now
from wspilot.node.signing import Writer
from wspilot.node.undo import Outcome, sweep, undo
from wspilot.node.values import dataclass, field
from wspilot.node.vmm.stale import end_process
from wspilot.node.vmm.stale import state as process_state

BEAT, FAREWELL = b".", b"!"
SUSPENDED = (
    "the pilot is stopped (the batch system has suspended the job, or somebody sent SIGSTOP): its "
    "VMs wait with it, and the lease runs on"
)
LAST_S = 5.0  # after its farewell a pilot still waits for its courier, and then it is gone
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
    heartbeat_s: float = 30.0


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
        self._delivery: Optional[Delivery] = None
        self._beat_at = 0.0

    def run(self) -> None:
        """Watch; and when the pilot is gone, act."""
        preempted = self._watch()
        if preempted is not None:
            self._act(preempted)
        elif self._ended(LAST_S):
            self._put_away()
        if self._delivery is not None:
            self._delivery.end()

    def _watch(self) -> bool | None:
        """None: farewell. Else the pilot is gone; True when because it was suspended."""
        watch = Watch(self._ward.suspendable, now())
        while True:
            was = watch.stopped
            ready, _, _ = select.select([self._pipe], [], [], guard.TICK_S)
            if ready:
                data = self._receive()
                if FAREWELL in data:
                    return None
                if not data:
                    return False
                watch = guard.heard(watch, now())
            else:
                state = process_state(self._ward.pid) if guard.looks(watch) else ""
                watch, verdict = guard.tick(watch, now(), state)
                if verdict is not Verdict.WAIT:
                    end_process(self._ward.pid, self._ward.start)
                    return verdict is Verdict.PREEMPT
            self._show(was, watch.stopped)

    def _receive(self) -> bytes:
        try:
            return self._pipe.recv(4096)
        except OSError:
            return b""

    # -- while the job is suspended

    def _show(self, was: bool, stopped: bool) -> None:
        """That the pilot is stopped, and that it goes on; meanwhile its heartbeat is ours."""
        if stopped != was:
            text = SUSPENDED if stopped else "the job goes on: the pilot is no longer stopped"
            data = {"level": "warning" if stopped else "info", "text": text, "suspended": stopped}
            self._courier().put(NEW, *self._note(Kind.LOG, data))
        if stopped and now() >= self._beat_at:
            self._beat_at = now() + self._ward.heartbeat_s
            word = {"last_seq": self._seq, "state": "suspended"}
            mono, writer = now() - self._began, self._ward.writer
            beat = writer.note(self._seq, Kind.HEARTBEAT, time.time(), mono, word)
            self._courier().put(HB, *beat)

    def _courier(self) -> Delivery:
        if self._delivery is None:
            self._delivery = Delivery(self._ward.where, self._ward.title)
        return self._delivery

    # -- when the pilot is gone

    def _ended(self, limit_s: float) -> bool:
        began = now()
        while alive(self._ward.pid, self._ward.start):
            if now() - began > limit_s:
                return False
            time.sleep(0.005)
        return True

    def _put_away(self) -> None:
        """All was told and undone; but it may have been killed before its files were gone."""
        with contextlib.suppress(OSError):
            self._ward.journal.reread()
            sweep(self._ward.journal)
            self._ward.places.tidy()

    def _act(self, preempted: bool) -> None:
        ward, began = self._ward, now()
        self._ended(DEATH_S)
        ward.journal.reread()
        outcome = undo(ward.journal, ward.places, ward.boot_id, ward.options)
        names = self._report(outcome, preempted, round(now() - began, 3))
        with contextlib.suppress(OSError):
            self._deliver(names, max(0.5, ward.restore_s - (now() - began)))
        sweep(ward.journal)
        ward.places.tidy()
        end_stopped({ward.writer.slot})  # the pilot's courier, suspended with it

    def _report(self, outcome: Outcome, preempted: bool, after_s: float) -> list[str]:
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
        last.update(undone=list(outcome.undone), undone_after_s=after_s, clean=not outcome.left)
        last.update(census(self._ward.places, self._ward.journal.path).data())
        if preempted and not outcome.left:
            letters.append((Kind.RELEASED, last))
        else:
            letters.append((Kind.FAILED, {**last, "causes": list(outcome.left)}))
        return [self._leave(kind, data) for kind, data in letters]

    def _leave(self, kind: Kind, data: Mapping[str, Any]) -> str:
        """Into the outbox; when the node's disk is full, straight to the courier. Its name."""
        name, raw = self._note(kind, data)
        try:
            leave(self._ward.places, name, raw)
        except (OSError, WspilotError):
            self._courier().put(NEW, name, raw)
        return name

    def _note(self, kind: Kind, data: Mapping[str, Any]) -> tuple[str, bytes]:
        self._seq += 1
        mono = now() - self._began
        return self._ward.writer.note(self._seq, kind, time.time(), mono, data)

    def _deliver(self, names: list[str], limit_s: float) -> None:
        """A courier of our own tries, while there is time; what is stored leaves the outbox."""
        ward, outbox, courier = self._ward, self._ward.places.outbox, self._courier()
        for path in sorted(outbox.glob(f"*_{ward.writer.slot}_*.json")):
            with contextlib.suppress(FileNotFoundError):  # somebody else's courier was faster
                courier.put(NEW, path.name, path.read_bytes())
        for name in courier.stored(names, limit_s):
            (outbox / name).unlink(missing_ok=True)


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

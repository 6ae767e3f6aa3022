"""The courier: the only process of a node that touches the spool (DESIGN.md section 6).

It may hang in the shared filesystem for hours, so it decides nothing and holds nothing that its
pilot does not hold too. It puts finished files into new/ and hb/, lists cmd/, and copies the logs;
when its pilot is gone it ends.
"""

from __future__ import annotations

import math
import select
import shutil
import socket
import time
from pathlib import Path
from typing import Optional

from wspilot.messages import NEW, parse_note_name, parse_order_name
from wspilot.node.files import put, read_private, sync
from wspilot.node.values import dataclass
from wspilot.node.wire import (
    ALIVE,
    COMMAND,
    ERROR,
    LOOK,
    OUTBOX,
    PUT,
    QUIT,
    REREAD,
    STORED,
    Splitter,
    frame,
)

LIST_S, EAGER_S, EAGER_FOR_S = 1.0, 0.2, 10.0
LOGS_S = 5.0
OUTBOX_S = 30.0
RETRY_S = 1.0
ALIVE_S = 1.0


@dataclass(frozen=True)
class Round:
    """Where a courier carries things. Without `cmd` it only delivers (a guardian's)."""

    spool: Path
    cmd: Optional[str] = None
    logs: Optional[Path] = None  # a node-local directory, whose *.log go to `logs_to`
    logs_to: Optional[Path] = None
    outbox: Optional[Path] = None  # earlier pilots' messages, delivered when idle


class Courier:
    """Runs until its pilot closes the pipe. Everything in it may block."""

    def __init__(self, pipe: socket.socket, where: Round) -> None:
        self._pipe, self._where = pipe, where
        self._splitter = Splitter()
        self._pending: dict[tuple[str, str], bytes] = {}
        self._seen: set[str] = set()
        self._copied: dict[str, tuple[int, int]] = {}
        self._said: dict[str, float] = {}
        self._open = self._quitting = False
        self._eager_until = time.monotonic() + EAGER_FOR_S
        self._list_at = self._alive_at = self._retry_at = self._logs_at = 0.0
        self._outbox_at = 0.0 if where.outbox is not None else math.inf

    def run(self) -> None:
        """The whole life of the process."""
        while True:
            now = time.monotonic()
            due = [self._alive_at, self._list_at if self._where.cmd else now + 60.0]
            ready, _, _ = select.select([self._pipe], [], [], max(0.0, min(due) - now))
            if ready and not self._take():
                return
            self._make_cmd()
            self._deliver()
            if self._quitting:
                self._copy_logs()
                return
            self._look()
            self._idle()

    def _take(self) -> bool:
        """Frames from the pilot; False when it is gone."""
        data = self._pipe.recv(1 << 18)
        if not data:
            return False
        for kind, payload in self._splitter.feed(data):
            if kind == PUT:
                direction, name, raw = payload.split(b"\0", 2)
                self._pending[direction.decode(), name.decode()] = raw
                self._retry_at = 0.0
            elif kind == REREAD:
                self._seen.discard(payload.decode())
            elif kind == LOOK:
                self._list_at = 0.0
                self._eager_until = time.monotonic() + EAGER_FOR_S  # a network filesystem is late
            elif kind == QUIT:
                self._quitting = True
        return True

    def _tell(self, kind: bytes, payload: bytes = b"") -> None:
        self._pipe.sendall(frame(kind, payload))

    def _complain(self, text: str) -> None:
        now = time.monotonic()
        if now - self._said.get(text, -60.0) >= 60.0:
            self._said[text] = now
            self._tell(ERROR, text.encode("utf-8", "replace")[:1000])

    # -- putting

    def _deliver(self) -> None:
        """Everything that is pending, then one fsync of the directory, then the receipts."""
        if not self._pending or time.monotonic() < self._retry_at:
            return
        self._retry_at = time.monotonic() + RETRY_S
        stored = []
        for (direction, name), raw in list(self._pending.items()):
            try:
                put(self._where.spool, direction, name, raw)
            except OSError as error:
                self._complain(f"the spool takes no messages: {error}")
                break
            stored.append((direction, name))
        try:
            if any(direction == NEW for direction, _ in stored):
                sync(self._where.spool / NEW)
        except OSError as error:
            self._complain(f"the spool takes no messages: {error}")
            return
        for direction, name in stored:
            del self._pending[direction, name]
            if direction == NEW:
                self._tell(STORED, name.encode())

    # -- commands

    def _make_cmd(self) -> None:
        """Ours to make, before `started` says that commands are welcome."""
        if self._open or self._where.cmd is None or time.monotonic() < self._list_at:
            return
        try:
            (self._where.spool / "cmd" / self._where.cmd).mkdir(mode=0o700)
        except FileExistsError:
            pass
        except OSError as error:
            self._complain(f"cmd/{self._where.cmd} cannot be made: {error}")
            self._list_at = time.monotonic() + LIST_S  # a spool that is gone is not asked in a loop
            return
        self._open = True

    def _look(self) -> None:
        now = time.monotonic()
        if self._where.cmd is None or not self._open or now < self._list_at:
            return
        self._list_at = now + (EAGER_S if now < self._eager_until else LIST_S)
        place = self._where.spool / "cmd" / self._where.cmd
        try:
            names = sorted(path.name for path in place.iterdir())
        except FileNotFoundError:
            self._open = False
            return
        except OSError as error:
            self._complain(f"commands cannot be listed: {error}")
            return
        self._seen &= set(names)
        for name in names:
            if name not in self._seen:
                self._command(place, name)

    def _command(self, place: Path, name: str) -> None:
        self._seen.add(name)
        try:
            parse_order_name(name)
            raw = read_private(place / name)
        except FileNotFoundError:
            self._seen.discard(name)
            return
        except (ValueError, OSError) as error:
            self._complain(f"command {name[:60]} is not read: {error}")
            return
        self._eager_until = time.monotonic() + EAGER_FOR_S
        self._tell(COMMAND, name.encode() + b"\0" + raw)

    # -- when there is nothing else to do

    def _idle(self) -> None:
        now = time.monotonic()
        if now >= self._alive_at:
            self._tell(ALIVE)
            self._alive_at = now + ALIVE_S
        if now >= self._logs_at:
            self._logs_at = now + LOGS_S
            self._copy_logs()
        if now >= self._outbox_at and not self._pending:
            self._outbox_at = now + OUTBOX_S
            self._carry_outbox()
            self._tell(OUTBOX)

    def _copy_logs(self) -> None:
        """Logs are written node-local first; those that changed are copied whole."""
        if self._where.logs is None or self._where.logs_to is None:
            return
        try:
            for path in sorted(self._where.logs.glob("*.log")):
                info = path.stat()
                mark = (info.st_size, info.st_mtime_ns)
                if self._copied.get(path.name) != mark:
                    self._copied[path.name] = mark
                    shutil.copyfile(path, self._where.logs_to / path.name)
        except OSError as error:
            self._complain(f"logs are not copied: {error}")

    def _carry_outbox(self) -> None:
        """Messages that earlier pilots could not deliver; only those of slots of this spool."""
        outbox = self._where.outbox
        for path in sorted(outbox.glob("*.json")) if outbox is not None else ():
            try:
                slot = parse_note_name(path.name).slot
                if not (self._where.spool / "slots" / slot).is_dir():
                    continue
                put(self._where.spool, NEW, path.name, read_private(path))
                sync(self._where.spool / NEW)
                path.unlink()
            except FileNotFoundError:
                continue  # another courier was faster
            except (OSError, ValueError) as error:
                self._complain(f"the outbox: {path.name[:80]} is not delivered: {error}")

"""The pilot's end of its courier: hands over files, and replaces a courier that hangs.

What was handed over is kept until it is stored, so that a new courier gets it again. On a hung
filesystem a killed courier stays in state D until the server answers: it is not waited for, and
beyond three stuck ones there is none until one of them is gone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable

from wspilot.messages import NEW
from wspilot.node import forks, wire
from wspilot.node.courier import Courier, Round
from wspilot.node.proc import now as clock

SILENT_S = 30.0
MOST_STUCK = 3
LATE_S = 5.0  # between two ticks
AGAIN_S = 1.0  # between two couriers that die at once


class Post:
    """One courier at a time. `on_command(name, raw)`, `on_stored(name)`, `on_error(text)`."""

    def __init__(
        self,
        where: Round,
        title: str,
        on_stored: Callable[[str], None],
        on_command: Callable[[str, bytes], None],
        on_error: Callable[[str], None],
    ) -> None:
        self._where, self._title = where, title
        self._emptied = emptied = asyncio.Event()
        self._on = {
            wire.STORED: lambda data: self._stored(data.decode(), on_stored),
            wire.COMMAND: lambda data: on_command(*_command(data)),
            wire.ERROR: lambda data: on_error(data.decode("utf-8", "replace")),
            wire.ALIVE: lambda data: None,
            wire.OUTBOX: lambda data: emptied.set(),
        }
        self._on_error = on_error
        self._unstored: dict[tuple[str, str], bytes] = {}
        self._pid = 0
        self._pipe: socket.socket | None = None
        self._out = bytearray()
        self._splitter = wire.Splitter()
        self._heard = self._born = 0.0
        self._stuck: set[int] = set()
        self._ticked = 0.0

    def start(self) -> None:
        """Fork the courier and give it everything that is not stored yet."""
        ours, theirs = socket.socketpair()
        where = self._where

        def main() -> None:
            Courier(theirs, where).run()

        self._born = clock()
        try:
            self._pid = forks.fork(main, [theirs.fileno()], self._title)
        except OSError as error:  # no more processes allowed: the next tick tries again
            ours.close()
            self._on_error(f"no courier could be started: {error}")
            return
        finally:
            theirs.close()
        ours.setblocking(False)
        self._pipe, self._out, self._splitter = ours, bytearray(), wire.Splitter()
        self._heard = clock()
        asyncio.get_running_loop().add_reader(ours, self._read)
        for (direction, name), raw in self._unstored.items():
            self._send(wire.PUT, b"\0".join((direction.encode(), name.encode(), raw)))

    def put(self, direction: str, name: str, raw: bytes) -> None:
        """A finished file for new/ or hb/."""
        if direction == NEW:
            self._unstored[direction, name] = raw
        elif len(self._out) > 1 << 18:
            return  # the courier is far behind: the next heartbeat says more
        self._send(wire.PUT, b"\0".join((direction.encode(), name.encode(), raw)))

    def read_again(self, name: str) -> None:
        """A command that was torn: it may be whole next time."""
        self._send(wire.REREAD, name.encode())

    def look(self) -> None:
        """Commands lie in cmd/: they are listed at once."""
        if len(self._out) < 1 << 18:
            self._send(wire.LOOK)

    def unstored(self) -> dict[str, bytes]:
        """What is not known to be on the spool, by file name."""
        return {name: raw for (_, name), raw in self._unstored.items()}

    async def delivered(self, limit_s: float) -> None:
        """Returns when the outbox has been gone through, or the time is over."""
        try:
            await asyncio.wait_for(self._emptied.wait(), limit_s)
        except asyncio.TimeoutError:
            self._on_error("the outbox could not be delivered in time")

    def tick(self) -> None:
        """Is it alive? Called about once a second.

        A late tick means that we were stopped ourselves, perhaps with it: its silence counts anew.
        """
        self._reap()
        now = clock()
        if now - self._ticked > LATE_S:
            self._heard = now
        self._ticked = now
        if self._pipe is not None and clock() - self._heard > SILENT_S:
            self._on_error(f"the courier was silent for {SILENT_S:g} s (does the spool hang?)")
            self._stuck.add(self._pid)
            self._end_pipe()
            _kill(self._stuck)
        rested = clock() - self._born >= AGAIN_S
        if self._pipe is None and len(self._stuck) < MOST_STUCK and rested:
            self.start()

    async def close(self, limit_s: float) -> None:
        """Let it store what it can, copy the logs, and end; killed after `limit_s`."""
        self._send(wire.QUIT)
        end = clock() + limit_s
        while self._pid and self._pipe is not None and clock() < end:
            self._reap()
            await asyncio.sleep(0.005)
        if self._pid:
            _kill({self._pid})
        self._end_pipe()
        self._reap()

    def _send(self, kind: bytes, payload: bytes = b"") -> None:
        if self._pipe is None:
            return
        self._out += wire.frame(kind, payload)
        self._write()

    def _write(self) -> None:
        pipe = self._pipe
        if pipe is None:
            return
        loop = asyncio.get_running_loop()
        try:
            while self._out:
                sent = pipe.send(self._out)
                del self._out[:sent]
        except BlockingIOError:
            loop.add_writer(pipe, self._write)
            return
        except OSError:
            self._end_pipe()
            return
        loop.remove_writer(pipe)

    def _read(self) -> None:
        pipe = self._pipe
        if pipe is None:
            return
        try:
            data = pipe.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end_pipe()
            return
        self._heard = clock()
        for kind, payload in self._splitter.feed(data):
            handler = self._on.get(kind)
            if handler is not None:
                handler(payload)

    def _stored(self, name: str, on_stored: Callable[[str], None]) -> None:
        self._unstored.pop((NEW, name), None)
        on_stored(name)

    def _end_pipe(self) -> None:
        if self._pipe is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._pipe)
            loop.remove_writer(self._pipe)
            self._pipe.close()
            self._pipe = None

    def _reap(self) -> None:
        for pid in (self._pid, *self._stuck):
            try:
                gone = not pid or os.waitpid(pid, os.WNOHANG)[0] == pid
            except ChildProcessError:
                gone = True
            if gone:
                self._stuck.discard(pid)
                if pid == self._pid:
                    self._pid = 0
                    self._end_pipe()


def _command(data: bytes) -> tuple[str, bytes]:
    name, _, raw = data.partition(b"\0")
    return name.decode("ascii", "replace"), raw


def _kill(pids: set[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)  # our own child, not reaped yet: nobody else's pid
        except ProcessLookupError:
            pass

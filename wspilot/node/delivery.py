"""The guardian's end of a courier: hands over messages and never waits for the spool.

The courier is the guardian's child, and so outside the job too; it ends with the guardian, also
when the spool hangs: what it could not bring lies in the outbox.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Iterable

from wspilot.node import forks, wire
from wspilot.node.courier import Courier, Round
from wspilot.node.proc import now

END_S = 0.2


class Delivery:
    """One courier, from its start to `end`. What it cannot take is dropped."""

    def __init__(self, where: Round, title: str) -> None:
        self._pipe, theirs = socket.socketpair()
        delivery = Round(where.spool, None, where.logs, where.logs_to)

        def main() -> None:
            Courier(theirs, delivery).run()

        self._pid = forks.fork(main, [theirs.fileno()], f"wspilot-courier {title}")
        theirs.close()
        self._pipe.setblocking(False)
        self._splitter = wire.Splitter()
        self._stored: set[str] = set()

    def put(self, direction: str, name: str, raw: bytes) -> None:
        """A finished file for new/ or hb/."""
        self._take()
        payload = b"\0".join((direction.encode(), name.encode(), raw))
        try:
            self._pipe.sendall(wire.frame(wire.PUT, payload))
        except OSError:
            self.close()  # a frame that was cut off: this courier is of no more use

    def stored(self, names: Iterable[str], limit_s: float) -> set[str]:
        """Those of `names` that are on the spool, once all are or the time is over."""
        wanted, end = set(names), now() + limit_s
        while not wanted <= self._stored and now() < end and self._pipe.fileno() >= 0:
            select.select([self._pipe], [], [], max(0.0, end - now()))
            self._take()
        return wanted & self._stored

    def end(self) -> None:
        """It ends when it sees that the pipe is closed; soon after that it is killed."""
        self.close()
        end = now() + END_S
        while os.waitpid(self._pid, os.WNOHANG) == (0, 0):
            if now() > end:
                os.kill(self._pid, signal.SIGKILL)  # our own child, not reaped yet
                return  # in state D it dies when the server answers: nobody waits for that
            time.sleep(0.002)

    def close(self) -> None:
        """No more messages."""
        self._pipe.close()

    def _take(self) -> None:
        if self._pipe.fileno() < 0:
            return
        try:
            while data := self._pipe.recv(65536):
                for kind, payload in self._splitter.feed(data):
                    if kind == wire.STORED:
                        self._stored.add(payload.decode())
            self.close()
        except BlockingIOError:
            pass
        except OSError:
            self.close()

"""A VM's console as people reach it: what it said lately, to any number of listeners.

It belongs to the VM, not to one of its processes: it goes on over a stop and a start, and is over
with the VM. Invariant: no listener can hold up the guest or another listener, and no guest that
does not read can hold up more than who writes to it.
"""

from __future__ import annotations

import asyncio
import time
from typing import Callable, Optional

PAST = 16 * 1024
PATIENCE_S, POLL_S = 5.0, 0.02

Listener = Callable[[bytes], None]
Put = Callable[[bytes], bool]


class Console:
    """`write` what the guest said; `type` what it is told."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self._past = bytearray()
        self._listeners: list[Listener] = []
        self._put: Optional[Put] = None

    @property
    def listeners(self) -> int:
        """How many there are."""
        return len(self._listeners)

    def write(self, data: bytes) -> None:
        """The guest has said this. Listeners only take it; they neither wait nor raise."""
        self._past += data
        if len(self._past) > 2 * PAST:
            del self._past[:-PAST]
        for listener in tuple(self._listeners):
            listener(data)

    def listen(self, listener: Listener) -> tuple[bytes, Callable[[], None]]:
        """What was said lately, and a function that ends the listening."""
        self._listeners.append(listener)

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return bytes(self._past[-PAST:]), stop

    def wire(self, put: Optional[Put]) -> None:
        """A process takes input from now on; None: there is none."""
        self._put = put

    async def type(self, data: bytes, patience_s: float = PATIENCE_S) -> bool:
        """Give the guest this; False when it does not take it, or does not run."""
        end = time.monotonic() + patience_s
        while self._put is not None and not self.over.is_set():
            if self._put(data):
                return True
            if time.monotonic() > end:
                break
            await asyncio.sleep(POLL_S)
        return False

    def close(self) -> None:
        """The VM is gone."""
        self._put = None
        self.over.set()

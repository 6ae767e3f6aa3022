"""Tells a pilot, by its live channel, that commands lie in cmd/: it then looks at once.

Only a hint: files stay the truth. Fire and forget, each within `TELL_S`, one at a time for a pilot;
where there is no way to a pilot it is left alone for a while, and finds its commands by itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from wspilot import channel
from wspilot.errors import WspilotError

TELL_S = 1.0
REST_S = 60.0  # after a failure
MOST = 32  # at the same time


class Hints:
    """Those of one daemon; called from its event loop."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()  # asked for while one was under way
        self._resting: dict[str, float] = {}
        self._room = asyncio.Semaphore(MOST)

    def tell(self, pilot: str, live: Any, key: bytes) -> None:
        """`live` is where the pilot says that it listens. Never waits or raises."""
        if not isinstance(live, Mapping) or self._resting.get(pilot, 0.0) > time.monotonic():
            return
        if pilot in self._tasks:
            self._again.add(pilot)
            return
        task = asyncio.ensure_future(self._tell(pilot, live, key))
        self._tasks[pilot] = task
        task.add_done_callback(lambda done: self._tasks.pop(pilot, None))

    async def _tell(self, pilot: str, live: Mapping[str, Any], key: bytes) -> None:
        try:
            while True:
                self._again.discard(pilot)
                async with self._room, asyncio.timeout(TELL_S):
                    await look(str(live.get("host")), int(live.get("port") or 0), key, pilot)
                if pilot not in self._again:
                    return
        except (OSError, ValueError, TypeError, OverflowError, EOFError, WspilotError):
            self._resting = {
                id: until for id, until in self._resting.items() if until > time.monotonic()
            }
            self._resting[pilot] = time.monotonic() + REST_S


async def look(host: str, port: int, key: bytes, pilot: str) -> None:
    """Make one pilot look into cmd/. Raises OSError, ValueError, EOFError."""
    reader, writer = await asyncio.open_connection(host, port, limit=1 << 16)
    try:
        server = channel.read_greeting(await reader.readline())
        parley = channel.Parley(key, pilot, server, channel.nonce())
        sealer = parley.sealer(server=False)
        # In one go: the wish is worth nothing to a stranger, and a round trip is saved.
        writer.write(parley.hello() + sealer.words(channel.ASK, {"do": "look"}))
        parley.check_welcome(await reader.readline())
        if not await reader.read(1):  # its answer: the wish has been granted
            raise EOFError
    finally:
        writer.transport.abort()

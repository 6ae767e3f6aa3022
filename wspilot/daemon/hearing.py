"""The daemon's ear: new/ and hb/ of the spool, listed and read for as long as the daemon lives.

inotify is a hint, the listing is the truth (PROTOCOLS.md section 1). A spool that cannot be listed,
or does not answer, is shown; nobody looks silent because of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from wspilot.daemon.core.events import Heard, Listened
from wspilot.daemon.spool import Batch, Watch
from wspilot.daemon.store import StoreError
from wspilot.text import clean

if TYPE_CHECKING:
    from wspilot.daemon.service import Service

log = logging.getLogger("wspilot")

GATHER_S = 0.005  # wait for a batch after inotify's hint
RESCAN_BUSY_S, RESCAN_IDLE_S = 1.0, 10.0
BEATS_S = 5.0
HUNG_S = 5.0  # a spool that says nothing for so long is shown as hanging
T = TypeVar("T")


class Hearing:
    """The ear of one service; `state` is what people see of it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._flag = asyncio.Event()
        self.state: dict[str, Any] = {"at": None, "backlog": 0, "bad": 0, "text": ""}

    async def listen(self) -> None:
        """Read new/, for ever."""
        watch = Watch(self._service.spool.root / "new", self._flag)
        last = time.monotonic()
        try:
            while True:
                self._flag.clear()
                ok = await self._drain(watch)
                now = time.monotonic()
                if ok:
                    self._service.quietly([Listened(now - last)])
                    last = now
                busy = bool(self._service.books.open_slots)
                timeout = RESCAN_BUSY_S if busy else RESCAN_IDLE_S
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._flag.wait(), timeout)
                    await asyncio.sleep(GATHER_S)
        finally:
            watch.close()

    async def _drain(self, watch: Watch) -> bool:
        """Read until the listing is used up. False: the spool could not be listed."""
        try:
            await self._patiently(watch.arm)
            more = True
            while more:
                batch = await self._patiently(self._service.spool.read)
                await self._take(batch)
                more = batch.more
        except OSError as error:
            self._said(str(error))
            return False
        except StoreError as error:
            self._said(f"the store cannot be written: {error}")
            await asyncio.sleep(1)
            return False
        self._said("")
        return True

    async def _patiently(self, call: Callable[[], T]) -> T:
        """Down the lane; that it does not come back is told, and it is waited for all the same."""
        waiting = asyncio.ensure_future(self._service.lane.run(call))
        try:
            await asyncio.wait({waiting}, timeout=HUNG_S)
            if not waiting.done():
                self._said(f"it has not answered for {HUNG_S:g} s")
            return await waiting
        finally:
            waiting.cancel()

    async def _take(self, batch: Batch) -> None:
        """Apply a slice; unlink what is done, after its commit."""
        for name, why in batch.refused:
            log.warning("refused file=%s why=%s", name, why)
        self.state["bad"] += len(batch.refused)
        self.state["backlog"] = batch.backlog
        if not batch.received:
            return
        done = self._service.turn([Heard(one.note) for one in batch.received])
        names = [one.file for one, ok in zip(batch.received, done, strict=True) if ok and one.file]
        await self._patiently(lambda: self._service.spool.unlink(names))

    def _said(self, text: str) -> None:
        if text and text != self.state["text"]:
            log.error("spool cannot be read: %s", text)
        told = (text, bool(self.state["at"]))
        changed = told != (self.state["text"], True)
        self.state["text"] = clean(text, 300)
        if not text:
            self.state["at"] = time.time()
        if changed:
            self._service.tell_status()

    async def beats(self) -> None:
        """Read hb/, for ever, and clear away what ended slots' couriers have left."""
        while True:
            await asyncio.sleep(BEATS_S)
            with contextlib.suppress(OSError):
                batch = await self._service.lane.run(self._service.spool.beats)
                self._service.quietly([Heard(one.note) for one in batch.received])
                await self._service.lane.run(self._service.spool.drafts.clear)

"""The daemon's eye on the batch system: one query at a time, slower when nothing changes.

A query that fails or hangs changes no state; it is shown, and asked again later each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

from wspilot.daemon.core.events import Polled
from wspilot.daemon.lrm.base import Listing, Result

if TYPE_CHECKING:
    from wspilot.daemon.service import Service

log = logging.getLogger("wspilot")


class Polling:
    """The polls of one service; `state` is what people see of them."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._flag = asyncio.Event()
        self.state: dict[str, Any] = {"ok": None, "at": None, "text": ""}

    def wake(self) -> None:
        """Ask soon."""
        self._flag.set()

    async def work(self) -> None:
        """For ever."""
        quiet, failures = 0, 0
        while True:
            found = (self._service.books.slot(id) for id in self._asked_for())
            ids = tuple(sorted(slot.job for slot in found if slot and slot.job))
            looking = self._looking()
            asked = time.monotonic()
            if ids or looking:
                listing = await self._query(ids, looking)
                failures = 0 if listing.ok else failures + 1
            before = self._service.revision
            base = self._service.site.poll_s * min(2.0**failures, 8.0)
            self._flag.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._flag.wait(), base * (1 + min(quiet, 3)))
            quiet = quiet + 1 if self._service.revision == before else 0
            await asyncio.sleep(max(0.0, asked + self._service.site.min_poll_s - time.monotonic()))

    def _asked_for(self) -> set[str]:
        """Slots whose jobs the batch system is asked about."""
        return self._service.books.open_slots | self._service.books.loose_jobs

    def _looking(self) -> bool:
        books = self._service.books
        found = (books.slot(id) for id in self._asked_for() - books.asking)
        return any(slot and slot.unclear and not slot.job for slot in found)

    async def _query(self, ids: tuple[str, ...], looking: bool) -> Listing:
        service, driver = self._service, self._service.driver
        command = driver.find(service.rules.owner) if looking else driver.poll(ids)
        sent = service.now()
        result: Result = await service.runner.run(command)
        listing = driver.polled(result, () if looking else ids)
        was = self.state["ok"]
        self.state.update(ok=listing.ok, text=listing.text)
        if listing.ok:
            self.state["at"] = time.time()
        if was != listing.ok and not listing.ok:
            log.warning("poll failed: %s", listing.text)
        service.tell_status()  # its age is what people see of it
        service.post(Polled(listing, sent))
        return listing

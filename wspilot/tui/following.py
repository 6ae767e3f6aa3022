"""Follows a source for ever: what comes is taken in, what is lost is said and tried again.

One subscription, no polling. The wait before the next try grows to ten seconds; `retry` ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from wspilot.client import Update
from wspilot.errors import WspilotError
from wspilot.tui.source import Source

RETRY_S = (1.0, 2.0, 4.0, 7.0, 10.0)


class Following:
    """Hands updates to `take` and the end of a connection to `lose`."""

    def __init__(
        self, source: Source, take: Callable[[Update], None], lose: Callable[[WspilotError], None]
    ) -> None:
        self._source, self._take, self._lose = source, take, lose
        self._again = asyncio.Event()

    async def run(self) -> None:
        """Never ends by itself."""
        failures = 0
        while True:
            try:
                async for update in self._source.updates():
                    failures = 0
                    self._take(update)
            except WspilotError as error:
                self._lose(error)
            except Exception as error:  # whatever it was: the screen stays, and it is tried again
                self._lose(WspilotError(f"{type(error).__name__}: {error}", "see the daemon's log"))
            self._again.clear()
            wait = RETRY_S[min(failures, len(RETRY_S) - 1)]
            failures += 1
            try:
                await asyncio.wait_for(self._again.wait(), wait)
            except TimeoutError:
                pass

    def retry(self) -> None:
        """Now."""
        self._again.set()

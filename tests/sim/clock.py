"""Virtual time: everything that happens is an entry in one heap."""

from __future__ import annotations

import heapq
from collections.abc import Callable


class Clock:
    """Seconds; what is due at the same moment happens in the order in which it was asked for."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something later."""
        self._serial += 1
        heapq.heappush(self._due, (self.now + max(0.0, seconds), self._serial, act))

    def run(self, until: float) -> None:
        """Let time pass."""
        while self._due and self._due[0][0] <= until:
            self.now, _, act = heapq.heappop(self._due)
            act()
        self.now = until

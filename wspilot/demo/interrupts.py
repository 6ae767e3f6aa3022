"""Signals as exceptions that do not come between starting something and knowing it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Somebody wants this to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Interrupts:
    """While entered: INT, TERM and HUP raise Interrupted, but not inside `hold` or after `ignore`.

    Handlers, never SIG_IGN or a blocked mask: those would be inherited by what is started.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._held = self._ignored = False
        self._pending = 0

    def __enter__(self) -> Interrupts:
        for number in NUMBERS:
            self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Put a signal off to the end of this block."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            if self._pending and not self._ignored:
                raise Interrupted(self._pending)

    def ignore(self) -> None:
        """From now on the clean-up is under way; its time limits end it."""
        self._ignored = True

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._pending = number
        if not self._held and not self._ignored:
            raise Interrupted(number)

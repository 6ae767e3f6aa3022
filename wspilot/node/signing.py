"""Notifications as finished, signed files: what one writer (pilot, guardian, launcher) says."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, Optional

from wspilot.messages import HB, NEW, BadMessage, Kind, Notification, rfc3339, seal
from wspilot.node.values import dataclass, field


@dataclass(frozen=True)
class Writer:
    """Who speaks: `of` is the pilot that a guardian speaks for."""

    slot: str
    node: str
    epoch: int
    key: bytes
    pilot: str = field(default_factory=lambda: new_uuid())
    of: Optional[str] = None

    def note(
        self, seq: int, kind: Kind, wall: float, mono: float, data: Mapping[str, Any]
    ) -> tuple[str, bytes]:
        """(file name, bytes) for new/, or for hb/ when it is a heartbeat."""
        fixed = rfc3339(wall)
        note = Notification(
            self.slot, self.node, self.pilot, self.epoch, seq, kind, fixed, mono, data, self.of
        )
        if kind is Kind.HEARTBEAT:
            return note.beat_name(), seal(HB, self.key, note.body())
        try:
            raw = seal(NEW, self.key, note.body())
        except BadMessage:
            kept = {name: value for name, value in data.items() if _small(value)}
            short = Notification(
                self.slot, self.node, self.pilot, self.epoch, seq, kind, fixed, mono, kept, self.of
            )
            raw = seal(NEW, self.key, short.body())
        return note.file_name(time.time_ns()), raw


def new_uuid() -> str:
    """A random uuid (module `uuid` costs 4 ms)."""
    text = os.urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:]}"


def _small(value: Any) -> bool:
    return len(repr(value)) < 2000

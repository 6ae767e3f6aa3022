"""Notifications as finished, signed files: what one writer (pilot, guardian, launcher) says."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from wspilot.messages import HB, NEW, BadMessage, Kind, Notification, rfc3339, seal


@dataclass(frozen=True)
class Writer:
    """Who speaks: `of` is the pilot that a guardian speaks for."""

    slot: str
    node: str
    epoch: int
    key: bytes
    pilot: str = field(default_factory=lambda: str(uuid.uuid4()))
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


def _small(value: Any) -> bool:
    return len(repr(value)) < 2000

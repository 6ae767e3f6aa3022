"""The pilot's outgoing messages: kept until the courier has stored them, numbered when handed over.

A number is given only when a message goes to the courier, after any dropping, so that dropping
leaves no gap (PROTOCOLS.md section 1). What was handed over and not yet stored stays here: a new
courier gets it again, under the same number, which the reader takes for a repeat.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wspilot.messages import Kind
from wspilot.node.core.events import Letter
from wspilot.node.values import dataclass, replace

MOST = 1000
WINDOW = 32  # with the courier at one time: a hung one holds no more than these

# Dropped in this order when there are too many; whole states are repeated by the heartbeat.
_CHEAP = (Kind.LOG.value, Kind.PROGRESS.value, Kind.VM.value)


@dataclass(frozen=True)
class Mailbox:
    """`waiting` have seq 0; `handed` have numbers and are not yet known to be stored."""

    waiting: tuple[Letter, ...] = ()
    handed: tuple[Letter, ...] = ()
    last_seq: int = 0
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.waiting) + len(self.handed)

    def post(self, kind: Kind, wall: float, mono: float, data: Mapping[str, Any]) -> Mailbox:
        """One more message, at the cost of a cheaper one when there are too many."""
        waiting = (*self.waiting, Letter(0, kind.value, wall, mono, data))
        if len(waiting) + len(self.handed) <= MOST:
            return replace(self, waiting=waiting)
        victim = _victim(waiting)
        waiting = (*waiting[:victim], *waiting[victim + 1 :])
        return replace(self, waiting=waiting, dropped=self.dropped + 1)

    def hand(self) -> tuple[Mailbox, tuple[Letter, ...]]:
        """Number as many as the window takes, and hand them over."""
        room = max(0, WINDOW - len(self.handed))
        going = tuple(
            replace(letter, seq=self.last_seq + n)
            for n, letter in enumerate(self.waiting[:room], start=1)
        )
        if not going:
            return self, ()
        box = replace(
            self,
            waiting=self.waiting[room:],
            handed=(*self.handed, *going),
            last_seq=self.last_seq + len(going),
        )
        return box, going

    def stored(self, seq: int) -> Mailbox:
        """Number `seq` is on the spool."""
        return replace(self, handed=tuple(one for one in self.handed if one.seq != seq))


def _victim(letters: tuple[Letter, ...]) -> int:
    for kind in _CHEAP:
        for index, letter in enumerate(letters):
            if letter.kind == kind:
                return index
    return 0

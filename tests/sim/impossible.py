"""Cells of the table that cannot be hit, each with its reason. A cell listed here that is hit after
all is a failure too: then the reason was wrong."""

from __future__ import annotations

from fnmatch import fnmatchcase

_LET_GO = "a slot is let go (releasing) before anything says that it was released"
_LAST = "the last word makes it releasing first; what follows is from there"
_LOST = "what fails was let go, or nobody knew of it (unknown), before it was given up"
_FIRST = "a pilot's first word makes it reserving"
_QUEUE = "a job does not go back: its second start is another epoch's, and moves no slot"
_ADOPTED = "a job is known by its id, and so queued, before it is seen to run"
_SEEN = "unknown needs a job that was seen or a pilot that spoke, and either moves it on"
_ENDING = "a workspace is ending before it has ended"

# (transition, family of faults, why); `*` stands for any.
IMPOSSIBLE: tuple[tuple[str, str, str], ...] = (
    ("slot submitting>released", "*", _LET_GO),
    ("slot queued>released", "*", _LET_GO),
    ("slot starting>released", "*", _LET_GO),
    ("slot reserving>released", "*", _LET_GO),
    ("slot ready>released", "*", _LET_GO),
    ("slot unknown>released", "*", _LAST),
    ("slot starting>preempted", "*", _LAST),
    ("slot reserving>preempted", "*", _LAST),
    ("slot ready>preempted", "*", _LAST),
    ("slot unknown>preempted", "*", _LAST),
    ("slot reserving>failed", "*", _LOST),
    ("slot ready>failed", "*", _LOST),
    ("slot starting>ready", "*", _FIRST),
    ("slot starting>queued", "*", _QUEUE),
    ("slot unknown>queued", "*", _QUEUE),
    ("slot unknown>starting", "*", _QUEUE),
    ("slot submitting>starting", "*", _ADOPTED),
    ("slot submitting>unknown", "*", _SEEN),
    ("workspace pending>ended", "*", _ENDING),
    ("workspace provisioning>ended", "*", _ENDING),
    ("workspace active>ended", "*", _ENDING),
    ("workspace degraded>ended", "*", _ENDING),
    ("workspace failed>ended", "*", _ENDING),
)


def impossible(row: str, family: str) -> str:
    """Why, or an empty text."""
    for rows, families, why in IMPOSSIBLE:
        if fnmatchcase(row, rows) and fnmatchcase(family, families):
            return why
    return ""

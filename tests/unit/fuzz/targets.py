"""All fuzzers, as one list."""

from __future__ import annotations

from tests.unit.fuzz import journals, lrm, notes, orders, socket, voice

GROWTH_MIB = 64  # of one target in one run: hypothesis itself keeps some
TARGETS = (
    *notes.TARGETS,
    *orders.TARGETS,
    *lrm.TARGETS,
    *journals.TARGETS,
    *voice.TARGETS,
    *socket.TARGETS,
)

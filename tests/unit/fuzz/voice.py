"""The guest's channel and console: bounded, cleaned, and the same however it is cut in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import strategies as st

from tests.unit.fuzz.harness import Check, Target, bent, harmless
from wspilot.node.vmm.voice import BURST_LINES, LINE_LIMIT, Pattern, Voice

SAID = [
    b"WSPILOT ready\nWSPILOT ok yes\nWSPILOT error what is wrong\n", b"WSPILOT ready " + b"x" * 390,
    b"WSPILOT ready\r\n" * 60, b"\n" * 200, b"login: \nWSPILOT ready\n",
]  # fmt: skip
_pieces = st.lists(st.integers(1, 600), max_size=8)


def _check(value: tuple[bytes, list[int]]) -> None:
    data, cuts = value
    whole, cut = Voice(), Voice()
    said = list(whole.feed(data, 0.0))
    pieces, at = [], 0
    for size in cuts:
        pieces.append(data[at : at + size])
        at += size
    pieces.append(data[at:])
    assert said == [one for piece in pieces for one in cut.feed(piece, 0.0)]
    assert len(said) <= BURST_LINES and len(cut._rest) <= LINE_LIMIT
    for word, text in said:
        assert word in ("ready", "ok", "error") and harmless(text) and len(text) <= LINE_LIMIT
    pattern = Pattern("login:")
    seen = [pattern.feed(piece) for piece in pieces]  # every piece is fed
    assert any(seen) == (b"login:" in data)
    assert len(pattern._tail) <= 6


@contextmanager
def _open() -> Iterator[Check]:
    yield _check


TARGETS = (Target("voice", st.tuples(bent(SAID), _pieces), _open),)

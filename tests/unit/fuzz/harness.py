"""What all fuzzers share: bent bytes and documents, and a run that counts, times and weighs.

A target's `open` gives a function that is called with each input and raises on a finding. Inputs
are drawn by hypothesis in batches: it shrinks what it finds, and forgets a batch when it is over,
so that what memory grows by is the reader's own.
"""

from __future__ import annotations

import copy
import gc
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

Check = Callable[[Any], None]
BATCH = 2000
MOST_FINDINGS = 5
LIMIT_S = 2.0  # one input: more is a reader that somebody can keep busy
WORDS: tuple[Any, ...] = (
    0, -1, True, 1.5, 1e400, -1e400, 2**53, 10**30, 10**400, None, "", "x", "\x1b[0m",
    "é\u202e" * 100, "\ud800", "vvvv0001", "ssss0001", [], [1], [[]], {}, {"a": 1}, {"id": []},
    "9" * 5000,
)  # fmt: skip
BITS = (
    b"\n", b"\0", b"\xff", b" ", b"|", b"[", b"]", b"{", b"}", b'"', b"<", b">", b"&#0;", b"=",
    b"\xc2\xb2", b"\xe2\x80\xae", b"[1-99999]", b"[0001-65536]," * 50, b"\x1b]0;x\x07", b"NaN",
    b"Job Id: 1.x\n", b"\n\t", b"<Job>", b"</Job>", b"1e999", b"9" * 5000, b"[" * 3000,
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """One reader. `share` of a long run: a costly one gets fewer inputs."""

    name: str
    inputs: SearchStrategy[Any]
    open: Callable[[], AbstractContextManager[Check]]
    share: float = 1.0
    shrink: bool = True  # not where a finding may be a time limit: that takes hours


@dataclass
class Report:
    """What a run found. `grown` is resident memory, MiB, since the first batch."""

    name: str
    inputs: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    grown: float = 0.0
    findings: list[str] = field(default_factory=list)


def run(target: Target, inputs: int, first: int = 0) -> Report:
    """Feed that many inputs; `first` is the seed of the first batch."""
    report, begin, base = Report(target.name), time.perf_counter(), 0.0
    with target.open() as check:

        def one(value: Any) -> None:
            report.inputs += 1
            start = time.perf_counter()
            check(value)
            taken = time.perf_counter() - start
            report.slowest = max(report.slowest, taken)
            assert taken < LIMIT_S, f"{taken:.1f} s for one input"

        for number in range(2 * (inputs // BATCH + 1)):
            left = inputs - report.inputs
            if left <= 0 or len(report.findings) >= MOST_FINDINGS:
                break
            _batch(target, one, min(BATCH, left), first + number, report.findings)
            base = base or _resident()
        report.grown = _resident() - base
    report.seconds = time.perf_counter() - begin
    return report


def _batch(target: Target, one: Check, count: int, number: int, findings: list[str]) -> None:
    drawn = settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate, *([Phase.shrink] if target.shrink else [])],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
    )
    shown: list[Any] = []

    def remember(value: Any) -> None:
        try:
            one(value)
        except BaseException:
            shown[:] = [value]
            raise

    try:
        seed(number)(drawn(given(target.inputs)(remember)))()
    except Exception as error:
        where = error.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        place = f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where else "?"
        findings.append(f"batch {number}: {error!r:.300} at {place} of {shown[0]!r:.1000}")


def _resident() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


# -- inputs


@st.composite
def bent(draw: DrawFn, corpus: Sequence[bytes]) -> bytes:
    """A good file with one to four things done to it."""
    data = bytearray(draw(st.sampled_from(corpus)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        act = draw(st.integers(0, 5))
        if act == 0 and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif act == 1:
            del data[at:]
        elif act == 2:
            del data[at : at + draw(st.integers(1, 40))]
        elif act == 3:
            data[at:at] = draw(st.sampled_from(BITS))
        elif act == 4:
            data[at:at] = data[max(0, at - draw(st.integers(1, 400))) : at]
        else:
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
    return bytes(data)


@st.composite
def bent_doc(draw: DrawFn, corpus: Sequence[Any]) -> Any:
    """A good document with one to three of its values, anywhere in it, replaced or removed."""
    doc = json.loads(json.dumps(draw(st.sampled_from(corpus))))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(doc))
        if not places:
            break
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        if draw(st.integers(0, 7)) == 0:
            del holder[key]
        else:
            holder[key] = copy.deepcopy(draw(st.sampled_from(WORDS)))
    return doc


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        pairs: Any = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    else:
        return
    for key, inner in list(pairs):
        yield value, key
        yield from _places(inner)


def harmless(text: str) -> bool:
    """No control character, nor a mark that reorders what a terminal shows."""
    return all(char >= " " and not "\x7f" <= char <= "\x9f" and char not in "\u202e\u2028"
               for char in text)  # fmt: skip

"""Waiting that shows what is waited for: one line on a terminal, a line a change elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from wspilot.client import call
from wspilot.errors import TimedOut
from wspilot.text import clean, format_duration

SLICE_S = 0.5  # how long one `wait` call may take before the line is drawn again


def wait(home: Path, id: str, goal: str, limit_s: float | None, quiet: bool) -> dict[str, Any]:
    """The document once the goal is reached. Raises TimedOut, or WspilotError when it cannot be."""
    start = time.monotonic()
    line = _Line(quiet)
    try:
        while True:
            left = None if limit_s is None else limit_s - (time.monotonic() - start)
            if left is not None and left <= 0:
                return call(home, "wait", {"id": id, "for": goal, "timeout_s": 0})
            try:
                params = {"id": id, "for": goal, "timeout_s": min(SLICE_S, left or SLICE_S)}
                return call(home, "wait", params)
            except TimedOut:
                doc = call(home, "show", {"id": id})
                line.draw(_summary(doc["workspace"], time.monotonic() - start))
    finally:
        line.end()


def _summary(ws: dict[str, Any], elapsed: float) -> str:
    counts = Counter(vm["state"] for vm in ws["vms"])
    vms = ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))
    waits = f"; waits for {clean(ws['waits_for'], 120)}" if ws["waits_for"] else ""
    return f"{clean(ws['name'], 40)} {ws['state']} {format_duration(elapsed)}: {vms}{waits}"


class _Line:
    """One line that is drawn over itself on a terminal."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._tty = sys.stderr.isatty()
        self._last = ""

    def draw(self, text: str) -> None:
        if self._quiet:
            return
        if self._tty:
            print(f"\r\x1b[K{text[:200]}", end="", file=sys.stderr, flush=True)
        elif (said := text.split(" ", 3)[-1]) != self._last:
            self._last = said
            print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._tty and not self._quiet:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

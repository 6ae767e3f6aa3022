"""Waiting that shows what is waited for: one line on a terminal, a line a change elsewhere."""

from __future__ import annotations

import shutil
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
            slice_s = SLICE_S if left is None else max(0.0, min(SLICE_S, left))
            try:
                return call(home, "wait", {"id": id, "for": goal, "timeout_s": slice_s})
            except TimedOut:
                ws = call(home, "show", {"id": id})["workspace"]
                if left is not None and left <= slice_s:
                    raise _late(ws, goal, limit_s or 0) from None
                line.draw(_summary(ws, time.monotonic() - start))
    finally:
        line.end()


def _summary(ws: dict[str, Any], elapsed: float) -> str:
    counts = Counter(vm["state"] + _part(vm) for vm in ws["vms"])
    vms = ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))
    waits = f"; waits for {clean(ws['waits_for'], 120)}" if ws["waits_for"] else ""
    return f"{clean(ws['name'], 40)} {ws['state']} {format_duration(elapsed)}: {vms}{waits}"


def _part(vm: dict[str, Any]) -> str:
    """How much of its image is there, in tens: elsewhere than on a terminal each is a line."""
    return "" if vm["progress"] is None else f" ({int(vm['progress'] * 10) * 10} %)"


def _late(ws: dict[str, Any], goal: str, limit_s: float) -> TimedOut:
    waits = f", waiting for {clean(ws['waits_for'], 200)}" if ws["waits_for"] else ""
    limit = format_duration(limit_s) if limit_s >= 60 else f"{limit_s:.3g} s"
    return TimedOut(
        f"{clean(ws['name'], 40)} is {ws['state']}, not {goal}, after {limit}{waits}",
        f"it goes on: wspilot wait {clean(ws['name'], 40)} --for {goal}",
    )


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
            edge = max(20, shutil.get_terminal_size((80, 24)).columns - 1)
            print(f"\r\x1b[K{text[:edge]}", end="", file=sys.stderr, flush=True)
        elif (said := text.partition(": ")[2] + text.split(" ")[1]) != self._last:
            self._last = said
            print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._tty and not self._quiet:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

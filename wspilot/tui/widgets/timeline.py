"""The chart column of the timeline: a window of time that is zoomed and panned, and its cells."""

from __future__ import annotations

from collections.abc import Callable

from wspilot.tui import look
from wspilot.tui.chart import SPANS_S, Bar, Window, bars
from wspilot.tui.live import LiveModel
from wspilot.tui.rows import Row

Parts = list[tuple[str, str]]
NOW_AT = 0.7  # where now stands in the window when it is followed


class Timeline:
    """Follows now until it is panned; `paint` is a painter of the table."""

    def __init__(self, model: LiveModel, clock: Callable[[], float]) -> None:
        self._model, self._clock = model, clock
        self._zoom = SPANS_S.index(3600)
        self._start: float | None = None  # None: follows now

    def window(self) -> Window:
        """What is drawn now."""
        seconds = SPANS_S[self._zoom]
        start = self._clock() - NOW_AT * seconds if self._start is None else self._start
        return Window(start, seconds)

    def zoom(self, by: int) -> None:
        """In (-1) or out (+1), about the middle, or about now where it is followed."""
        old = self.window()
        self._zoom = max(0, min(len(SPANS_S) - 1, self._zoom + by))
        if self._start is not None:
            self._start = old.start + old.seconds / 2 - SPANS_S[self._zoom] / 2

    def pan(self, by: float) -> None:
        """By a share of the window: below zero to the past."""
        window = self.window()
        self._start = window.start + by * window.seconds

    def home(self) -> None:
        """Follow now again."""
        self._start = None

    def fit(self) -> None:
        """Everything that lives, from its first moment to its last end."""
        found = [bar for id, ws in self._model.items["workspaces"].items()
                 if ws["state"] != "ended"
                 for bar in bars(self._model, f"workspaces/{id}", self._clock())]  # fmt: skip
        if found:
            first, last = min(one.start for one in found), max(one.end for one in found)
            wide = (last - first) * 1.05
            fitting = (n for n, one in enumerate(SPANS_S) if one >= wide)
            self._zoom = next(fitting, len(SPANS_S) - 1)
            self._start = first - (SPANS_S[self._zoom] - (last - first)) / 2

    def paint(self, row: Row | None, size: int) -> Parts:
        """The cells of a line, or the axis."""
        if size < 1:
            return []
        window, now = self.window(), self._clock()
        at_now = window.cell(now, size)
        if row is None:
            return [(self._axis(window, size, at_now), "head")]
        cells = [(" ", "")] * size
        if 0 <= at_now < size:
            cells[at_now] = (look.chart("now"), "accent")
        for bar in bars(self._model, row.key, now):
            _draw(cells, bar, window, size)
        return _joined(cells)

    @staticmethod
    def _axis(window: Window, size: int, now: int) -> str:
        """Times of day; where one would touch `now`, that stands there instead."""
        line, labels = [" "] * size, list(window.ticks(size))
        if 0 <= now < size:
            labels.insert(0, (max(0, min(size - 3, now - 1)), "now"))
        for cell, text in labels:
            around = line[max(0, cell - 1) : cell + len(text) + 1]
            if 0 <= cell <= size - len(text) and not "".join(around).strip():
                line[cell : cell + len(text)] = text
        return "".join(line)


def _draw(cells: list[tuple[str, str]], bar: Bar, window: Window, size: int) -> None:
    first = window.cell(bar.start, size)
    last = max(first, window.cell(bar.end, size) - 1)
    glyph = look.chart(bar.kind)
    for n in range(max(0, first), min(size, last + 1)):
        if bar.kind == "ahead" and cells[n][1] == "accent":
            continue  # now is not painted over by what lies ahead
        cells[n] = (glyph, bar.colour)


def _joined(cells: list[tuple[str, str]]) -> Parts:
    parts: Parts = []
    for text, style in cells:
        if parts and parts[-1][1] == style:
            parts[-1] = (parts[-1][0] + text, style)
        else:
            parts.append((text, style))
    return parts

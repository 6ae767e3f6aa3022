"""The event stream: newest below, bounded, never interpreted. Only visible lines are made.

It follows the end until somebody scrolls up, and again from where the end is reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.geometry import Size
from textual.strip import Strip

from wspilot.tui import look
from wspilot.tui.widgets.columns import fit
from wspilot.tui.widgets.paints import Paints
from wspilot.tui.widgets.scrolled import Scrolled
from wspilot.tui.words import clock, told

Doc = dict[str, Any]
KIND = 10


class Events(Scrolled):
    """One line an event: local time, level, kind, text, where."""

    DEFAULT_CSS = """
    Events { height: 1fr; background: $surface; overflow-x: hidden;
             scrollbar-size-vertical: 1; scrollbar-background: $surface; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._events: Sequence[Doc] = ()
        self._title, self._empty = Text(), ""
        self._paints = Paints(self)

    def entitle(self, title: Text) -> None:
        """Whose they are."""
        if title != self._title:
            self._title = title
            self.border_title = title

    def show(self, events: Sequence[Doc], empty: str) -> None:
        """The stream, oldest first; or why there is none. Costs nothing when its last event is
        already there."""
        same = len(events) == len(self._events) and empty == self._empty
        if same and (not events or events[-1] is self._events[-1]):
            return
        follow = self.is_vertical_scroll_end or not self._events or empty != self._empty
        self._events, self._empty = events, empty
        self.virtual_size = Size(self.size.width, len(events))
        self.refresh()
        if follow:
            self.scroll_end(animate=False, force=True, immediate=True)

    def render_line(self, y: int) -> Strip:
        width, index = self.size.width, y + self.scroll_offset.y
        if index >= len(self._events):
            text = f"  {self._empty}" if index == 0 and not self._events else ""
            return self._strip([(fit(text, width), self._style("dim"))], width)
        event = self._events[index]
        level = event["level"] if event["level"] in ("warning", "error") else ""
        text = told(event)
        where = event["node"] or event["slot"]
        where = where if width >= 60 and where not in text else ""
        room = max(0, width - 10 - 2 - KIND - 1 - (len(where) + 2 if where else 1))
        parts = [
            (f" {clock(event['at'])} ", self._style("dim")),
            (f"{look.level(event['level'])} ", self._style(level)),
            (fit(event["kind"], KIND) + " ", self._style("dim")),
            (fit(text, room) + " ", self._style(level)),
            (where, self._style("dim")),
        ]
        return self._strip(parts, width)

    def _style(self, name: str) -> Style:
        return self._paints.style(name)

    def _strip(self, parts: list[tuple[str, Style]], width: int) -> Strip:
        base = self.rich_style
        segments = [Segment(text, base + style) for text, style in parts]
        return Strip(segments).adjust_cell_length(width, base).crop(0, width)

"""Text that grows at its end: logs and consoles. Only visible lines are made; nothing is markup.

It follows the end until somebody scrolls up, and again from where the end is reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from rich.segment import Segment
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from wspilot.tui.widgets.columns import fit
from wspilot.tui.widgets.paints import Paints

MOST_LINES = 5000


class LineView(ScrollView, can_focus=True):
    """Plain lines, the last ones of many; `wrapped` folds long ones."""

    DEFAULT_CSS = """
    LineView { height: 1fr; background: $surface; overflow-x: hidden;
               scrollbar-size-vertical: 1; scrollbar-background: $surface; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._given: Sequence[str] = ()
        self._lines: Sequence[str] = ()
        self._word, self._paints = "", Paints(self)
        self.wrapped, self.empty = False, ""

    def show(self, lines: Sequence[str], empty: str = "") -> None:
        """The text, from its first line."""
        if list(lines) != list(self._given) or empty != self.empty:
            self._given, self.empty = lines[-MOST_LINES:], empty
            self._lay_out()

    def find(self, word: str) -> None:
        """Only lines with this word; empty: all."""
        self._word = word.lower()
        self._lay_out()

    def toggle_wrap(self) -> None:
        """Fold long lines, or cut them."""
        self.wrapped = not self.wrapped
        self._lay_out()

    def on_resize(self) -> None:
        self._lay_out()

    def _lay_out(self) -> None:
        follow = self.is_vertical_scroll_end or not self._lines
        shown = [one for one in self._given if self._word in one.lower()]
        if self.wrapped and self.size.width > 4:
            width = self.size.width - 2
            shown = [part for one in shown for part in wrap(one, width) or [""]]
        self._lines = shown
        self.virtual_size = Size(self.size.width, len(shown))
        self.refresh()
        if follow:
            self.scroll_end(animate=False, force=True, immediate=True)

    def render_line(self, y: int) -> Strip:
        width, index = self.size.width, y + self.scroll_offset.y
        style = self.rich_style
        if index < len(self._lines):
            text = f" {self._lines[index]}"
        else:
            text = f" {self.empty}" if index == 0 and not self._lines else ""
            style += self._paints.style("dim")
        return Strip([Segment(fit(text, width), style)]).adjust_cell_length(width, style)

"""Text that grows at its end: logs and consoles. Only visible lines are made; nothing is markup.

It follows the end until somebody scrolls up, and again from where the end is reached. A word that
is looked for is shown where it stands; `only` leaves out the lines without it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from textwrap import wrap
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip

from wspilot.tui.widgets.columns import fit
from wspilot.tui.widgets.paints import Paints
from wspilot.tui.widgets.scrolled import Scrolled

MOST_LINES = 5000
_OF_LOGS = ("next", "only", "follow", "times", "save")
# A date and time, a time of day, or a kernel's seconds since its boot.
_STAMP = re.compile(
    r"^(?:\[ *\d+\.\d+\]|(?:\d{4}-\d\d-\d\d[T ])?\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?) "
)


class LineView(Scrolled):
    """Plain lines, the last ones of many; `wrapped` folds long ones."""

    DEFAULT_CSS = """
    LineView { height: 1fr; background: $surface; overflow-x: hidden;
               scrollbar-size-vertical: 1; scrollbar-background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "next(-1)", "Older", id="log.older", tooltip="the match before"),
        Binding("N", "next(1)", "Newer", id="log.newer", tooltip="the match after"),
        Binding("o", "only", "Only these", id="log.only", tooltip="only lines with the word"),
        Binding("F", "follow", "Follow", id="log.follow", tooltip="to the end, and on with it"),
        Binding("T", "times", "Times", show=False, id="log.times",
                tooltip="with or without the times before the lines"),
        Binding("W", "save", "Save", id="log.save", tooltip="write it to a file"),
        Binding("k", "scroll_up", "Up", show=False, id="log.up"),
        Binding("j", "scroll_down", "Down", show=False, id="log.down"),
        Binding("g", "scroll_home", "Top", show=False, id="log.top"),
        Binding("G", "scroll_end", "End", show=False, id="log.end"),
    ]  # fmt: skip

    class Save(Message):
        """Its text is wanted in a file."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, *, id: str | None = None, still: bool = False) -> None:
        """`still`: it does not grow, and nobody looks for a word in it or keeps it."""
        super().__init__(id=id)
        self._still = still
        self._given: Sequence[str] = ()
        self._lines: Sequence[str] = ()
        self.word, self._paints = "", Paints(self)
        self._at: int | None = None  # the match that is shown
        self.wrapped, self.only, self.empty, self.timed = False, False, "", True

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Of what stands still only scrolling is left."""
        return not self._still or action not in _OF_LOGS

    def show(self, lines: Sequence[str], empty: str = "") -> None:
        """The text, from its first line."""
        if list(lines) != list(self._given) or empty != self.empty:
            self._given, self.empty = lines[-MOST_LINES:], empty
            self._lay_out()

    def find(self, word: str) -> None:
        """Look for a word, from the end on; empty: for nothing."""
        self.word, self._at = word.lower(), None
        self._lay_out()
        if word:
            self.action_next(-1)

    def action_next(self, by: int) -> None:
        """To the next line with the word, up (-1) or down (1), and round."""
        found = [n for n, line in enumerate(self._lines) if self._has(line)]
        if not found:
            return
        at = self._at if self._at is not None else len(self._lines)
        further = [n for n in found if (n < at if by < 0 else n > at)]
        self._at = (further or found)[-1 if by < 0 else 0]
        self.scroll_to(y=max(0, self._at - self.size.height // 2), animate=False, force=True,
                       immediate=True)  # fmt: skip
        self.refresh()

    def action_only(self) -> None:
        """Only lines with the word, or all."""
        self.only, self._at = not self.only, None
        self._lay_out()

    def action_times(self) -> None:
        """With the times before the lines, or without them. (What is saved has them.)"""
        self.timed, self._at = not self.timed, None
        self._lay_out()

    def action_follow(self) -> None:
        """To the end; what comes is then shown as it comes. Again: stay here."""
        if self.follows:
            self.scroll_relative(y=-1, animate=False, force=True, immediate=True)
        else:
            self.scroll_end(animate=False, force=True, immediate=True)

    def action_save(self) -> None:
        """Somebody else writes it."""
        if self._given:
            self.post_message(self.Save("\n".join(self._given) + "\n"))

    @property
    def follows(self) -> bool:
        """True where the end is shown."""
        return self.is_vertical_scroll_end

    def _has(self, line: str) -> bool:
        return bool(self.word) and self.word in line.lower()

    def toggle_wrap(self) -> None:
        """Fold long lines, or cut them."""
        self.wrapped = not self.wrapped
        self._lay_out()

    def on_resize(self) -> None:
        self._lay_out()

    def _lay_out(self) -> None:
        follow = self.follows or not self._lines
        only = self.only and self.word
        given = self._given if self.timed else [_STAMP.sub("", one) for one in self._given]
        shown = [one for one in given if not only or self._has(one)]
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
            if self._has(text):
                mark = self._paints.style("accent")
                style += mark + Style(bold=True, reverse=index == self._at)
        else:
            text = f" {self.empty}" if index == 0 and not self._lines else ""
            style += self._paints.style("dim")
        return Strip([Segment(fit(text, width), style)]).adjust_cell_length(width, style)

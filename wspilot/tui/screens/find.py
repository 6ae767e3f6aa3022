"""The line where a filter is typed. Made when it is first wanted: the first frame does without."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Static

from wspilot.tui.widgets.field import Field

HINT = "word, state:running, !node:n01, regular expression"


class Find(Horizontal):
    """`/`, the words, and how many lines they leave."""

    DEFAULT_CSS = """
    Find { height: 1; background: $panel; padding: 0 1; display: none; }
    Find.-shown { display: block; }
    Find Static { width: auto; height: 1; color: $primary; text-style: bold; }
    Find Input, Find Input:focus { width: 1fr; height: 1; border: none; padding: 0;
                                   background: $panel; }
    """

    def __init__(self) -> None:
        super().__init__(id="find")
        self.word, self._count = Field(id="word", placeholder=HINT), Static("")

    def compose(self) -> ComposeResult:
        yield Static("/ ")
        yield self.word
        yield self._count

    def found(self, number: int, of: int) -> None:
        """How many lines there are."""
        self._count.update(f" {number}/{of}")

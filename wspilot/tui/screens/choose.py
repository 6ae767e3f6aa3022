"""One of a few: a list in a box."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from wspilot.tui.screens.dialog import Dialog


class Choose(Dialog[str]):
    """The id that was chosen; None for none."""

    def __init__(
        self, title: str, options: Sequence[tuple[str, str]], now: str = "", hint: str = ""
    ) -> None:
        super().__init__()
        self._title, self._options, self._now, self._hint = title, options, now, hint

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(self._title, classes="title", markup=False)
            yield OptionList(*(Option(Text(text), id=id) for id, text in self._options))
            if self._hint:
                yield Static(self._hint, classes="hint", markup=False)

    def on_mount(self) -> None:
        ids = [id for id, _ in self._options]
        self.query_one(OptionList).highlighted = ids.index(self._now) if self._now in ids else 0

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_id or "")

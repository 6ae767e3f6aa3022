"""Which columns a view shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import SelectionList, Static
from textual.widgets.selection_list import Selection

from wspilot.tui.screens.dialog import Dialog


class Columns(Dialog[list[str]]):
    """The fields that are wanted; None when nothing shall change."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "take", "Take these", id="columns.take", priority=True)
    ]

    def __init__(self, view: str, columns: Sequence[tuple[str, str, bool]]) -> None:
        super().__init__()
        self._view, self._columns = view, columns

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(f"Columns of {self._view}", classes="title", markup=False)
            yield SelectionList[str](
                *(Selection(Content(title), field, on) for field, title, on in self._columns)
            )
            yield Static("space changes one, enter takes them; where the terminal is narrow the "
                         "less important ones go by themselves",
                         classes="hint", markup=False)  # fmt: skip

    def action_take(self) -> None:
        """As it stands."""
        self.dismiss(list(self.query_one(SelectionList).selected))

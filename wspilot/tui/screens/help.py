"""`?`: the keys of the main screen, made from its bindings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

MOVES = (
    ("↑ ↓  j k", "move"),
    ("PgUp PgDn  Ctrl+U Ctrl+D", "a page"),
    ("Home End  g G", "top, bottom"),
    ("click", "select"),
)


class Help(ModalScreen[None]):
    """Any of its keys closes it."""

    DEFAULT_CSS = """
    Help { align: center middle; background: $background 60%; }
    Help > VerticalScroll { width: 64; max-width: 95%; height: auto; max-height: 90%;
                            background: $panel; border: round $primary; padding: 1 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", "Close", id="help.close")
    ]

    def __init__(self, bindings: Iterable[Binding]) -> None:
        super().__init__()
        self._lines = tuple(bindings)

    def compose(self) -> ComposeResult:
        text = Text("Keys\n\n", style="bold")
        lines = [
            *MOVES,
            *((one.key_display or one.key, one.tooltip or one.description) for one in self._lines),
        ]
        for key, meaning in lines:
            text.append(f"{key:26}", style="bold")
            text.append(f"{meaning}\n", style="not bold")
        text.append("\nLeases go on when this screen is closed.", style="not bold italic")
        with VerticalScroll():
            yield Static(text)

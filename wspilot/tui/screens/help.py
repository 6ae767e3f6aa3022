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

from wspilot.tui import look

KEYS = 18


def moves() -> tuple[tuple[str, str], ...]:
    """The keys of the tree itself."""
    arrows = "up down  j k" if look.ascii_only() else "↑ ↓  j k"
    return (
        (arrows, "move"),
        ("PgUp PgDn  ^U ^D", "a page"),
        ("Home End  g G", "top, bottom"),
        ("Tab", "tree, details, events"),
        ("click", "select; its mark folds; twice: details"),
    )


class Help(ModalScreen[None]):
    """Any of its keys closes it."""

    DEFAULT_CSS = """
    Help { align: center middle; background: $background 60%; }
    Help > VerticalScroll { width: 70; max-width: 96%; height: auto; max-height: 90%;
                            background: $panel; border: round $primary; padding: 1 3;
                            border-title-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", "Close", id="help.close")
    ]

    def __init__(self, bindings: Iterable[Binding]) -> None:
        super().__init__()
        self._lines = tuple(bindings)

    def compose(self) -> ComposeResult:
        text = Text()
        keys = [(one.key_display or one.key, one.tooltip or one.description) for one in self._lines]
        for group in (moves(), keys):
            for key, meaning in group:
                text.append(f"{key:{KEYS}}", style="bold")
                text.append(f"{meaning}\n", style="not bold")
            text.append("\n")
        text.append("Leases go on when this screen is closed.", style="italic")
        with VerticalScroll() as box:
            box.border_title = "Keys"
            yield Static(text)

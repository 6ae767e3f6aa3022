"""Some lines to be read, on the whole screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Footer, Static

from wspilot.text import clean
from wspilot.tui.widgets.lineview import LineView


class Paper(ModalScreen[None]):
    """Closed by escape or q."""

    DEFAULT_CSS = """
    Paper { background: $background; }
    Paper #title { height: 1; width: 1fr; background: $panel; padding: 0 1; text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "Close", id="paper.close"),
        Binding("w", "wrap", "Wrap", id="paper.wrap"),
        Binding("y", "copy", "Copy", id="paper.copy"),
    ]

    def __init__(self, title: str, lines: Sequence[str]) -> None:
        super().__init__()
        self._title = title
        self._given = clean("\n".join(lines), 200_000, lines=True).split("\n")

    def compose(self) -> ComposeResult:
        yield Static(self._title, id="title", markup=False)
        yield LineView(id="paper", still=True)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        view = self.query_one(LineView)
        view.show(self._given, "nothing")
        view.focus()
        self.call_after_refresh(view.scroll_home, animate=False)

    def action_wrap(self) -> None:
        """Fold long lines."""
        self.query_one(LineView).toggle_wrap()

    def action_copy(self) -> None:
        """All of it, by OSC 52."""
        self.app.copy_to_clipboard("\n".join(self._given))
        self.notify("copied", markup=False)

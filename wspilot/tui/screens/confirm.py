"""Destroying asks: it names what is lost, stands on Cancel, and wants what is worth it typed."""

from __future__ import annotations

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Input, Static

from wspilot.tui.loss import Loss
from wspilot.tui.screens.dialog import Dialog


class Confirm(Dialog[bool]):
    """True when the destruction is meant."""

    DEFAULT_CSS = """
    Confirm > Vertical { border: round $error; }
    Confirm Static { margin-bottom: 1; }
    """

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self._loss = loss

    def compose(self) -> ComposeResult:
        text = Text(self._loss.title + "?\n", style="bold")
        text.append("\n".join(("", *self._loss.lines)), style="not bold")
        name = self._loss.typed
        if name:
            text.append("\n\nTo destroy it, type its name: " if " " not in name else
                        "\n\nTo destroy them, type: ", style="not bold")  # fmt: skip
            text.append(name, style="bold")
        with Vertical():
            yield Static(text)
            if name:
                yield Input(placeholder="its name" if " " not in name else name)
            with Horizontal(id="buttons"):
                yield Button("Cancel", id="cancel", variant="primary")
                yield Button("Destroy", id="destroy", variant="error", disabled=bool(name))

    def on_mount(self) -> None:
        self.query_one("#cancel", Button).focus()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self.query_one("#destroy", Button).disabled = event.value != self._loss.typed

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        if self._loss.typed and event.value == self._loss.typed:
            self.dismiss(True)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "destroy")

    def action_cancel(self) -> None:
        """Nothing was meant."""
        self.dismiss(False)

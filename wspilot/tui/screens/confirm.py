"""Destroying asks: it names what is lost, stands on Cancel, and wants a workspace's name typed."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from wspilot.tui.loss import Loss


class Confirm(ModalScreen[bool]):
    """True when the destruction is meant."""

    DEFAULT_CSS = """
    Confirm { align: center middle; background: $background 60%; }
    Confirm > Vertical { width: 66; max-width: 95%; height: auto; max-height: 95%;
                         background: $panel; border: round $error; padding: 1 2; }
    Confirm Static { height: auto; width: 1fr; margin-bottom: 1; }
    Confirm Horizontal { height: auto; align-horizontal: right; }
    Confirm Button { margin-left: 2; }
    Confirm Input { margin-bottom: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(False)", "Cancel", id="confirm.cancel")
    ]

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self._loss = loss

    def compose(self) -> ComposeResult:
        text = Text(self._loss.title + "?\n", style="bold")
        text.append("\n".join(("", *self._loss.lines)), style="not bold")
        name = self._loss.type_name
        if name:
            text.append("\n\nTo destroy it, type its name: ", style="not bold")
            text.append(name, style="bold")
        with Vertical():
            yield Static(text)
            if name:
                yield Input(placeholder="its name")
            with Horizontal():
                yield Button("Cancel", id="cancel", variant="primary")
                yield Button(
                    "Destroy", id="destroy", variant="error", disabled=bool(self._loss.type_name)
                )

    def on_mount(self) -> None:
        self.query_one("#cancel", Button).focus()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self.query_one("#destroy", Button).disabled = event.value != self._loss.type_name

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        if self._loss.type_name and event.value == self._loss.type_name:
            self.dismiss(True)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "destroy")

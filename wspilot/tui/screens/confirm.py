"""Destroying asks: it names what is lost, stands on Cancel, and wants what is worth it typed."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Button, Input, Static

from wspilot.tui.loss import Loss
from wspilot.tui.screens.dialog import Dialog
from wspilot.tui.widgets.field import Field


class Confirm(Dialog[str]):
    """`destroy` or `abandon` when it is meant; empty when not."""

    DEFAULT_CSS = """
    Confirm > Vertical { width: 74; border: round $error; }
    Confirm #what { height: auto; max-height: 52vh; margin-bottom: 1; }
    Confirm Input { background: $surface; }
    Confirm Button { min-width: 10; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("y", "yes", "Yes, destroy", id="confirm.yes")]

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self._loss = loss

    def compose(self) -> ComposeResult:
        text = Text(self._loss.title + "?\n", style="bold")
        text.append("\n".join(("", *self._loss.lines)), style="not bold")
        name, abandon = self._loss.typed, self._loss.abandon
        if abandon:
            text.append(f"\n\n{abandon}", style="not bold")
        with Vertical():
            with VerticalScroll(id="what", can_focus=False):
                yield Static(text)
            if name:
                ask = "To destroy it, type its name: " if " " not in name else (
                    "To destroy them, type: ")  # fmt: skip
                yield Static(Text.assemble(ask, (name, "bold")))
                yield Field(placeholder="its name" if " " not in name else name, compact=True)
            else:
                yield Static("y destroys, esc does not", classes="hint", markup=False)
            with Horizontal(id="buttons"):
                yield Button("Cancel", id="cancel", variant="primary", compact=True)
                if abandon:
                    yield Button("Abandon", id="abandon", variant="warning", compact=True,
                                 disabled=bool(name))  # fmt: skip
                yield Button("Destroy", id="destroy", variant="error", compact=True,
                             disabled=bool(name))  # fmt: skip

    def on_mount(self) -> None:
        self.query_one("#cancel", Button).focus()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        for button in self.query("#destroy, #abandon").results(Button):
            button.disabled = event.value != self._loss.typed

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        if self._loss.typed and event.value == self._loss.typed:
            self.dismiss("destroy")

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        meant = event.button.id or ""
        self.dismiss(meant if meant in ("destroy", "abandon") else "")

    def action_yes(self) -> None:
        """One key is enough where a button is."""
        if not self._loss.typed:
            self.dismiss("destroy")

    def action_cancel(self) -> None:
        """Nothing was meant."""
        self.dismiss("")

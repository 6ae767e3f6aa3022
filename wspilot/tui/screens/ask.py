"""One word from the user, checked as it is typed."""

from __future__ import annotations

from collections.abc import Callable

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Input, Static

from wspilot.errors import WspilotError
from wspilot.text import check_name
from wspilot.tui.screens.dialog import Dialog
from wspilot.tui.widgets.field import Field


class Ask(Dialog[str]):
    """What was typed; None for nothing. `check` says what is wrong with it."""

    DEFAULT_CSS = """
    Ask Input, Ask Input:focus { background: $surface; padding: 0 1; }
    Ask Button { min-width: 10; }
    """

    def __init__(
        self, title: str, value: str, hint: str, check: Callable[[str], str] | None = None
    ) -> None:
        super().__init__()
        self._title, self._value, self._hint = title, value, hint
        self._check = check or (lambda _: "")

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(self._title, classes="title", markup=False)
            yield Field(
                self._value, placeholder=self._hint, id="answer", max_length=400, compact=True
            )
            yield Static("", classes="fault", id="fault", markup=False)
            with Horizontal(id="buttons"):
                yield Button("Cancel", id="cancel", compact=True)
                yield Button("OK", id="ok", variant="primary", compact=True)

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        fault = self._check(event.value) if event.value else ""
        self.query_one("#fault", Static).update(fault)
        self.query_one("#ok", Button).disabled = bool(fault) or not event.value

    @on(Input.Submitted)
    @on(Button.Pressed, "#ok")
    def _take(self) -> None:
        value = self.query_one(Input).value.strip()
        if value and not self._check(value):
            self.dismiss(value)

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)


def check_image(text: str) -> str:
    """What is wrong with an image's name; empty: nothing."""
    try:
        check_name(text, "image")
    except WspilotError as error:
        return f"{error.message}. {error.hint}"
    return ""

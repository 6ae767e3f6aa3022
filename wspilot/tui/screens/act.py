"""What can be asked of the selection: one list, a letter each. With shift the letter copies the
command instead.

Nothing here loses anything (destroying asks in `confirm.py`): one choice is enough.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from wspilot.tui.acting import VERBS, Order, Target, Verb, fitting
from wspilot.tui.screens.dialog import Dialog


class Act(Dialog[str]):
    """The verb that was chosen, or `copy VERB`; empty for none."""

    def __init__(self, targets: Sequence[Target]) -> None:
        super().__init__()
        self._targets = tuple(targets)

    def compose(self) -> ComposeResult:
        if len(self._targets) == 1:
            title = self._targets[0].title
        else:
            names = ", ".join(one.name for one in self._targets[:5])
            more = ", ..." if len(self._targets) > 5 else ""
            title = f"{len(self._targets)} marked: {names}{more}"
        with Vertical():
            yield Static(title, classes="title", markup=False)
            yield OptionList(*(self._option(one) for one in VERBS.values()))
            yield Static("", id="command", classes="hint", markup=False)
            yield Static("shift and its letter: copy this command", classes="hint", markup=False)

    def _option(self, verb: Verb) -> Option:
        why = fitting(verb, self._targets)
        style = "dim" if why else ""
        text = Text.assemble((f" {verb.key} ", "bold"), (f"{verb.name:8} ", style),
                             (f"({why})" if why else verb.text, style))  # fmt: skip
        return Option(text, id=verb.name, disabled=bool(why))

    @on(OptionList.OptionHighlighted)
    def _shown(self, event: OptionList.OptionHighlighted) -> None:
        if event.option_id:
            command = Order(event.option_id, self._targets).command()
            self.query_one("#command", Static).update(f"$ {command[:400]}")

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_id or "")

    def on_key(self, event: events.Key) -> None:
        """A letter is a verb; a capital one copies it."""
        letter = event.character or ""
        for verb in VERBS.values():
            if letter.lower() == verb.key and not fitting(verb, self._targets):
                event.stop()
                self.dismiss(verb.name if letter == verb.key else f"copy {verb.name}")
                return

    def action_cancel(self) -> None:
        """Nothing."""
        self.dismiss("")

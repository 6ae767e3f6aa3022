"""`?`: what this place is and its keys, made from the bindings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from wspilot.tui import look
from wspilot.tui.views import View

KEYS = 18


def moves() -> tuple[tuple[str, str], ...]:
    """The keys of the table itself."""
    arrows = "up down  j k" if look.ascii_only() else "↑ ↓  j k"
    return (
        (arrows, "move"),
        ("PgUp PgDn  ^U ^D", "a page"),
        ("Home End  g G", "top, bottom"),
        ("Tab", "table, details, events"),
        ("click", "select; its mark folds; twice: details; a head sorts"),
    )


class Help(ModalScreen[None]):
    """Any of its keys closes it."""

    DEFAULT_CSS = """
    Help { align: center middle; background: $background 60%; }
    Help > VerticalScroll { width: 78; max-width: 96%; height: auto; max-height: 90%;
                            background: $panel; border: round $primary; padding: 1 3;
                            border-title-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter,f1", "dismiss", "Close", id="help.close")
    ]

    def __init__(
        self,
        view: View,
        bindings: Sequence[Binding],
        groups: Mapping[str, Sequence[str]],
        keymap: Mapping[str, str],
    ) -> None:
        super().__init__()
        self._view, self._groups, self._keymap = view, groups, keymap
        self._by_id = {one.id or "": one for one in bindings}

    def compose(self) -> ComposeResult:
        text = Text()
        text.append(f"{self._view.title}: {self._view.about}.\n\n", style="italic")
        self._part(text, "Move", moves())
        for group, ids in self._groups.items():
            keys = [self._line(self._by_id[id]) for id in ids if id in self._by_id]
            self._part(text, group, keys)
        text.append("A filter: ", style="bold")
        text.append("words, regular expressions, state:running, node:n0[12], !osg\n")
        text.append("Leases go on when this screen is closed.", style="italic")
        with VerticalScroll() as box:
            box.border_title = "Keys"
            yield Static(text)

    def _line(self, one: Binding) -> tuple[str, str]:
        key = self._keymap.get(one.id or "") or one.key_display or one.key.replace(",", " ")
        return key, one.tooltip or one.description

    @staticmethod
    def _part(text: Text, title: str, keys: Sequence[tuple[str, str]]) -> None:
        text.append(f"{title}\n", style="bold underline")
        for key, meaning in keys:
            text.append(f"  {key:{KEYS - 2}}", style="bold")
            text.append(f"{meaning}\n", style="not bold")
        text.append("\n")

"""`?`: what this place is and its keys, made from the bindings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from rich.console import Group
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from wspilot.tui import look
from wspilot.tui.views import View

KEYS = 21
NOTES = (
    "A filter: words, regular expressions, state:running, node:n0[12], !osg\n"
    "Leases go on when this screen is closed."
)


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

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (130, "-wide")]

    DEFAULT_CSS = """
    Help { align: center middle; background: $background 60%; }
    Help > VerticalScroll { width: 78; max-width: 96%; height: auto; max-height: 96%;
                            background: $panel; border: round $primary; padding: 1 3;
                            border-title-style: bold; scrollbar-size-vertical: 1; }
    Help Horizontal { layout: vertical; height: auto; }
    Help Static { height: auto; }
    Help.-wide > VerticalScroll { width: 136; }
    Help.-wide Horizontal { layout: horizontal; }
    Help.-wide Horizontal Static { width: 1fr; margin-right: 3; }
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
        moving: Sequence[tuple[str, str]] | None = None,
        notes: str = NOTES,
    ) -> None:
        super().__init__()
        self._view, self._groups, self._keymap = view, groups, keymap
        self._moving, self._notes = moves() if moving is None else moving, notes
        self._by_id = {one.id or "": one for one in bindings}

    def compose(self) -> ComposeResult:
        parts = [self._part("Move", self._moving)]
        for group, ids in self._groups.items():
            lines = [self._line(self._by_id[id]) for id in ids if id in self._by_id]
            parts.append(self._part(group, lines))
        half = min(3, len(parts) - 1)  # of the parts: they are about as long as the rest
        with VerticalScroll() as box:
            box.border_title = "Keys"
            yield Static(Text(f"{self._view.title}: {self._view.about}.\n", "italic"))
            with Horizontal():
                yield Static(Group(*parts[:half]))
                yield Static(Group(*parts[half:]))
            yield Static(Text(self._notes, "italic"))

    def _line(self, one: Binding) -> tuple[str, str]:
        key = self._keymap.get(one.id or "") or one.key_display or one.key.replace(",", " ")
        key = look.key(key)
        return key, one.tooltip or one.description

    @staticmethod
    def _part(title: str, keys: Sequence[tuple[str, str]]) -> Group:
        """A heading and its keys; what a key means goes on below itself where it is long."""
        table = Table.grid(expand=True)
        table.add_column(width=KEYS)
        table.add_column(ratio=1)
        for key, meaning in keys:
            table.add_row(Text(f"  {key}", "bold"), Text(meaning))
        return Group(Text(title, "bold underline"), table, Text())

"""The live tree-table, on Textual's line API: only visible lines are made and painted.

The cursor belongs to a key, not to a line number: rows may come and go above it, and it stays on
the same object. (DataTable's cursor is positional and its cells cost 57 times more, LIBS 2.2.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from wspilot.tui import look
from wspilot.tui.live import Row


@dataclass(frozen=True)
class Column:
    """A column: its title, its width, and from which table width on it is shown."""

    field: str
    title: str
    width: int
    shown_from: int = 0


COLUMNS = (
    Column("name", "NAME", 26),
    Column("state", "STATE", 15),
    Column("node", "NODE", 12, 62),
    Column("address", "ADDRESS", 16, 88),
    Column("left", "LEFT", 8, 54),
    Column("why", "", 0, 70),  # takes what is left
)


class TreeTable(ScrollView, can_focus=True):
    """Rows by key. `show` gives it the order, `row` makes a line when it is drawn."""

    DEFAULT_CSS = """
    TreeTable { height: 1fr; background: $background; overflow-x: hidden;
                scrollbar-background: $background; scrollbar-size-vertical: 1; }
    TreeTable > .cursor { background: $panel; text-style: bold; }
    TreeTable:focus > .cursor { background: $primary-muted; }
    TreeTable > .head { color: $secondary; text-style: bold; }
    TreeTable > .dim { color: $secondary; }
    TreeTable > .warn { color: $warning; }
    TreeTable > .success { color: $success; }
    TreeTable > .warning { color: $warning; }
    TreeTable > .error { color: $error; }
    TreeTable > .primary { color: $primary; }
    TreeTable > .secondary { color: $secondary; }
    """
    COMPONENT_CLASSES = {
        "cursor",
        "head",
        "dim",
        "warn",
        "success",
        "warning",
        "error",
        "primary",
        "secondary",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False, id="tree.up"),
        Binding("down,j", "move(1)", "Down", show=False, id="tree.down"),
        Binding("pageup,ctrl+u", "page(-1)", "Page up", show=False, id="tree.pageup"),
        Binding("pagedown,ctrl+d", "page(1)", "Page down", show=False, id="tree.pagedown"),
        Binding("home,g", "move(-1000000)", "Top", show=False, id="tree.top"),
        Binding("end,G", "move(1000000)", "Bottom", show=False, id="tree.bottom"),
    ]

    class Moved(Message):
        """The cursor stands on another object."""

        def __init__(self, key: str | None) -> None:
            super().__init__()
            self.key = key

    def __init__(self, row: Callable[[str], Row], empty: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._row, self.empty = row, empty
        self._wanted: str | None = None
        self._keys: Sequence[str] = ()
        self._places: dict[str, int] = {}
        self.cursor_key: str | None = None
        self.stale = False

    # -- content

    def show(self, keys: Sequence[str]) -> None:
        """The order of the lines. The same list again means: only repaint."""
        if keys is not self._keys:
            at = self._places.get(self.cursor_key or "", 0)
            self._keys = keys
            self._places = {key: n for n, key in enumerate(keys)}
            self.virtual_size = Size(self.size.width, len(keys) + 1)
            if self._wanted in self._places:
                self._set_cursor(self._wanted)
                self._wanted = None
            elif self.cursor_key not in self._places:
                self._set_cursor(keys[min(at, len(keys) - 1)] if keys else None)
        self.refresh()

    def select(self, key: str) -> None:
        """Put the cursor on a key, as soon as it is there."""
        if key in self._places:
            self._set_cursor(key)
        else:
            self._wanted = key

    @property
    def is_empty(self) -> bool:
        return not self._keys

    # -- the cursor

    def action_move(self, by: int) -> None:
        """Some lines up or down."""
        if self._keys:
            at = self._places.get(self.cursor_key or "", 0)
            self._set_cursor(self._keys[max(0, min(len(self._keys) - 1, at + by))])

    def action_page(self, by: int) -> None:
        """A screen up or down."""
        self.action_move(by * max(1, self.size.height - 2))

    def on_click(self, event: Click) -> None:
        line = event.y + self.scroll_offset.y - 1
        if 0 <= line < len(self._keys):
            self._set_cursor(self._keys[line])

    def _set_cursor(self, key: str | None) -> None:
        old, self.cursor_key = self.cursor_key, key
        for one in (old, key):
            if one in self._places:
                line = self._places[one] + 1 - self.scroll_offset.y
                self.refresh(Region(0, line, self.size.width, 1))
        if key is not None:
            self.scroll_to_region(Region(0, self._places[key], 1, 2), animate=False, force=True)
        if old != key:
            self.post_message(self.Moved(key))

    # -- painting

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if y == 0:
            return self._strip([(self._head(width), self._style("head"))], width)
        index = y + self.scroll_offset.y - 1
        if index >= len(self._keys):
            text = self.empty if index == 1 and not self._keys else ""
            return self._strip([(f"  {text}", self._style("dim"))], width)
        key = self._keys[index]
        return self._line(self._row(key), key == self.cursor_key, width)

    def _columns(self, width: int) -> list[tuple[Column, int]]:
        shown = [column for column in COLUMNS if width >= column.shown_from]
        fixed = sum(column.width for column in shown) + len(shown)
        spare = max(0, width - fixed)
        wider = min(14, max(0, spare - 30)) if any(not one.width for one in shown) else spare
        return [
            (one, one.width + (wider if one.field == "name" else 0) if one.width else spare - wider)
            for one in shown
        ]

    def _head(self, width: int) -> str:
        return " " + " ".join(set_cell_size(one.title, size) for one, size in self._columns(width))

    def _line(self, row: Row, cursor: bool, width: int) -> Strip:
        ground = self._style("cursor") if cursor else Style()
        parts = [(" ", ground)]
        for column, size in self._columns(width):
            text, style = self._cell(row, column.field)
            if self.stale:
                style = self._style("dim")
            parts.append((fit(text, size) + " ", style + ground))
        return self._strip(parts, width, ground)

    def _cell(self, row: Row, field: str) -> tuple[str, Style]:
        if field == "name":
            open_, folded, _ = look.tree_marks()
            mark = "  " if row.folded is None else f"{folded if row.folded else open_} "
            bold = Style(bold=row.depth == 0)
            return "  " * row.depth + mark + row.name, bold
        if field == "state":
            return f"{look.glyph(row.state)} {row.state}", self._style(look.colour(row.state))
        if field == "left":
            return row.left, self._style("warn") if row.warn else Style()
        if field == "why":
            return row.why, self._style("dim")
        return getattr(row, field), Style()

    def _style(self, name: str) -> Style:
        return (
            self.get_component_rich_style(name, partial=True) if name != "foreground" else Style()
        )

    def _strip(
        self, parts: list[tuple[str, Style]], width: int, ground: Style | None = None
    ) -> Strip:
        base = self.rich_style
        segments = [Segment(text, base + style) for text, style in parts]
        return Strip(segments).adjust_cell_length(width, base + (ground or Style())).crop(0, width)


def fit(text: str, size: int) -> str:
    """Exactly `size` columns; an ellipsis where something is cut."""
    if size <= 0:
        return ""
    if cell_len(text) <= size:
        return set_cell_size(text, size)
    mark = "~" if look.ascii_only() else "…"
    return set_cell_size(set_cell_size(text, size - 1).rstrip() + mark, size)

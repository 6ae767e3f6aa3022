"""The live tree-table, on Textual's line API: only visible lines are made and painted.

The cursor belongs to a key, not to a line number: rows may come and go above it, and it stays on
the same object and in the same place of the screen. (DataTable's cursor is positional and its cells
cost 57 times more, LIBS 2.2.) A line is painted again only when its `Row` has changed.
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
    right: bool = False


COLUMNS = (
    Column("name", "NAME", 19),  # grows to 40 with the table
    Column("state", "STATE", 15),
    Column("node", "NODE", 13, 60),
    Column("address", "ADDRESS", 15, 98),
    Column("age", "SINCE", 6, 86, right=True),
    Column("left", "LEFT", 6, 50, right=True),
    Column("why", "  WHY", 0, 70),  # takes what is left
)


def layout(width: int) -> list[tuple[Column, int]]:
    """The columns of a table this wide and their widths; with the gaps exactly the width."""
    shown = [column for column in COLUMNS if width >= column.shown_from]
    spare = max(0, width - 1 - sum(column.width + 1 for column in shown))
    rest = any(not one.width for one in shown)
    name = min(21, max(0, spare - 24) // 2) if rest else spare
    grown = {"name": name, "why": spare - name}
    return [(one, one.width + grown.get(one.field, 0)) for one in shown]


class TreeTable(ScrollView, can_focus=True):
    """Rows by key. `show` gives it the order, `row` makes a line when it is drawn."""

    DEFAULT_CSS = """
    TreeTable { height: 1fr; background: $background; overflow-x: hidden;
                scrollbar-background: $background; scrollbar-size-vertical: 1; }
    TreeTable > .cursor { background: $panel; text-style: bold; }
    TreeTable:focus > .cursor { background: $primary-muted; }
    TreeTable > .head { background: $surface; color: $secondary; }
    TreeTable > .top { background: $surface; text-style: bold; }
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
        "top",
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

    class Opened(Message):
        """A line was clicked twice, or its fold mark once."""

        def __init__(self, fold: bool) -> None:
            super().__init__()
            self.fold = fold

    def __init__(self, row: Callable[[str], Row], empty: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._row, self.empty = row, empty
        self._wanted: str | None = None
        self._keys: Sequence[str] = ()
        self._places: dict[str, int] = {}
        self._drawn: dict[int, Row] = {}  # screen line -> what was painted there
        self.cursor_key: str | None = None
        self.stale = False

    # -- content

    def show(self, keys: Sequence[str]) -> None:
        """The order of the lines. The same list again means: paint what has changed."""
        if keys is self._keys:
            self.touch()
            return
        old = self._places.get(self.cursor_key or "", 0)
        self._keys = keys
        self._places = {key: n for n, key in enumerate(keys)}
        self.virtual_size = Size(self.size.width, len(keys) + 1)
        self.refresh()
        if self._wanted in self._places:
            self._set_cursor(self._wanted)
            self._wanted = None
        elif self.cursor_key not in self._places:
            self._set_cursor(keys[min(old, len(keys) - 1)] if keys else None)
        elif by := self._places[self.cursor_key] - old:
            # What came or went above must not move the cursor under the user's eyes.
            self.scroll_to(y=self.scroll_offset.y + by, animate=False, force=True, immediate=True)

    def touch(self) -> None:
        """Paint the visible lines that are no longer what was painted."""
        top = self.scroll_offset.y
        for line, row in list(self._drawn.items()):
            index = line + top - 1
            if index < len(self._keys) and self._row(self._keys[index]) != row:
                self.refresh(Region(0, line, self.size.width, 1))

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
        if event.y > 0 and line < len(self._keys):
            self._set_cursor(self._keys[line])
            row = self._row(self._keys[line])
            mark = row.folded is not None and event.x <= 2 * row.depth + 2
            if mark or event.chain == 2:
                self.post_message(self.Opened(mark))

    def _set_cursor(self, key: str | None) -> None:
        old, self.cursor_key = self.cursor_key, key
        for one in (old, key):
            if one in self._places:
                line = self._places[one] + 1 - self.scroll_offset.y
                self.refresh(Region(0, line, self.size.width, 1))
        if key is not None:
            self.scroll_to_region(Region(0, self._places[key], 1, 2), animate=False, force=True)
        if old != key:
            self.post_message(self.Moved())

    # -- painting

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if y == 0:
            return self._strip([(self._head(width), self._style("head"))], width, "head")
        index = y + self.scroll_offset.y - 1
        if index >= len(self._keys):
            self._drawn.pop(y, None)
            text = self.empty if index == 1 and not self._keys else ""
            return self._strip([(fit(f"  {text}", width), self._style("dim"))], width)
        key = self._keys[index]
        row = self._drawn[y] = self._row(key)
        return self._line(row, key == self.cursor_key, width)

    def _head(self, width: int) -> str:
        return " " + "".join(
            aligned(column, column.title, size) + " " for column, size in layout(width)
        )

    def _line(self, row: Row, cursor: bool, width: int) -> Strip:
        place = "cursor" if cursor else "top" if row.depth == 0 else ""
        ground = self._style(place) if place else Style()
        parts = [(" ", ground)]
        for column, size in layout(width):
            text, style = self._cell(row, column.field)
            if self.stale:
                style = self._style("dim")
            parts.append((aligned(column, text, size) + " ", style + ground))
        return self._strip(parts, width, place)

    def _cell(self, row: Row, field: str) -> tuple[str, Style]:
        if field == "name":
            open_, folded = look.tree_marks()
            mark = "  " if row.folded is None else f"{folded if row.folded else open_} "
            bold = Style(bold=row.depth == 0)
            return "  " * row.depth + mark + row.name, bold
        if field == "state":
            return f"{look.glyph(row.state)} {row.state}", self._style(look.colour(row.state))
        if field == "age":
            return row.age, self._style("dim")
        if field == "left":
            return row.left, self._style("warn") if row.warn else Style()
        if field == "why":
            return f"  {row.why}", self._style("dim")
        return getattr(row, field), Style()

    def _style(self, name: str) -> Style:
        return (
            self.get_component_rich_style(name, partial=True) if name != "foreground" else Style()
        )

    def _strip(self, parts: list[tuple[str, Style]], width: int, place: str = "") -> Strip:
        base = self.rich_style
        ground = base + self._style(place) if place else base
        segments = [Segment(text, base + style) for text, style in parts]
        return Strip(segments).adjust_cell_length(width, ground).crop(0, width)


def aligned(column: Column, text: str, size: int) -> str:
    """Exactly `size` columns, to the left or right."""
    text = fit(text, size)
    return " " * (size - cell_len(text.rstrip())) + text.rstrip() if column.right else text


def fit(text: str, size: int) -> str:
    """Exactly `size` columns; an ellipsis where something is cut."""
    if size <= 0:
        return ""
    if cell_len(text) <= size:
        return set_cell_size(text, size)
    mark = "~" if look.ascii_only() else "…"
    return set_cell_size(set_cell_size(text, size - 1).rstrip() + mark, size)

"""The live table of every view, on Textual's line API: only visible lines are made and painted.

The cursor and the marks belong to keys, not to line numbers: rows may come and go above, and they
stay on the same objects and in the same place of the screen. (DataTable's cursor is positional and
its cells cost 57 times more, LIBS 2.2.) A line is painted again only when its `Row` has changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip

from wspilot.tui import look
from wspilot.tui.rows import Row
from wspilot.tui.widgets.columns import Column, aligned, fit, layout
from wspilot.tui.widgets.paints import Paints
from wspilot.tui.widgets.scrolled import Scrolled

FLASH_S = 1.0  # for so long a changed state stands out
FRESH_S, MOST_FRESH = 4.0, 60  # for so long a new line has a mark; more at once are no news
Parts = list[tuple[str, str]]  # texts, and the names of their styles
Painter = Callable[[Row | None, int], Parts]  # a cell of its own; None: the column's head


class TreeTable(Scrolled):
    """Rows by key. `set_out` gives it columns, `show` the order, `row` makes a line."""

    DEFAULT_CSS = """
    TreeTable { height: 1fr; background: $background; overflow-x: hidden;
                scrollbar-background: $background; scrollbar-size-vertical: 1; }
    TreeTable > .cursor { background: $panel; text-style: bold; }
    TreeTable:focus > .cursor { background: $primary-muted; }
    TreeTable > .head { background: $surface; color: $secondary; }
    TreeTable > .top { background: $surface; text-style: bold; }
    """
    COMPONENT_CLASSES = {"cursor", "head", "top"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False, id="table.up"),
        Binding("down,j", "move(1)", "Down", show=False, id="table.down"),
        Binding("pageup,ctrl+u", "page(-1)", "Page up", show=False, id="table.pageup"),
        Binding("pagedown,ctrl+d", "page(1)", "Page down", show=False, id="table.pagedown"),
        Binding("home,g", "move(-10000000)", "Top", show=False, id="table.top"),
        Binding("end,G", "move(10000000)", "Bottom", show=False, id="table.bottom"),
    ]

    class Moved(Message):
        """The cursor is on another key."""

    class Opened(Message):
        """A line was clicked twice; `fold`: on its mark, or once on the mark."""

        def __init__(self, fold: bool) -> None:
            super().__init__()
            self.fold = fold

    class Headed(Message):
        """The head of a column was clicked."""

        def __init__(self, field: str) -> None:
            super().__init__()
            self.field = field

    def __init__(self, row: Callable[[str], Row], empty: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._row, self.empty, self._paints = row, empty, Paints(self)
        self._wanted: str | None = None
        self._keys: Sequence[str] = ()
        self._places: dict[str, int] = {}
        self._drawn: dict[int, Row] = {}  # screen line -> what was painted there
        self._flashing: dict[str, float] = {}
        self._fresh: dict[str, float] = {}  # lines that have just come
        self._columns: Sequence[Column] = ()
        self._hidden: frozenset[str] = frozenset()
        self._painters: dict[str, Painter] = {}
        self._sorted = ""
        self.cursor_key: str | None = None
        self.marks: dict[str, None] = {}
        self.stale, self.follow, self.calm = False, False, False

    # -- content

    def set_out(self, columns: Sequence[Column], hidden: frozenset[str], sorted_by: str) -> None:
        """The columns, those that are not wanted, and the sorted one behind a + or -."""
        self._columns, self._hidden, self._sorted = columns, hidden, sorted_by
        self.refresh()

    def paint_with(self, field: str, painter: Painter) -> None:
        """A column whose cells are drawn by somebody else."""
        self._painters[field] = painter

    def show(self, keys: Sequence[str], news: bool = False) -> None:
        """The order of the lines. The same list again means: paint what has changed.

        `news`: what was not there has come; else it is only shown now (a filter, an unfolding).
        """
        if keys is self._keys:
            self.touch()
            return
        if news and not self.calm and self._places:
            self._welcome(keys)
        old = self._places.get(self.cursor_key or "", 0)
        at_end = self.follow and (not self._keys or old == len(self._keys) - 1)
        self._keys = keys
        self._places = {key: n for n, key in enumerate(keys)}
        self.virtual_size = Size(self.size.width, len(keys) + 1)
        self.refresh()
        if self._wanted in self._places:
            self._set_cursor(self._wanted)
            self._wanted = None
        elif at_end and keys:
            self._set_cursor(keys[-1])
        elif self.cursor_key not in self._places:
            self._set_cursor(keys[min(old, len(keys) - 1)] if keys else None)
        elif by := self._places[self.cursor_key] - old:
            # What came or went above must not move the cursor under the user's eyes.
            self.scroll_to(y=self.scroll_offset.y + by, animate=False, force=True, immediate=True)

    def _welcome(self, keys: Sequence[str]) -> None:
        """Mark what is new for a while."""
        new = [key for key in keys if key not in self._places]
        if len(new) <= MOST_FRESH:
            self._fresh.update(dict.fromkeys(new, time.monotonic() + FRESH_S))

    def touch(self) -> None:
        """Paint the visible lines that are no longer what was painted."""
        top, now = self.scroll_offset.y, time.monotonic()
        for key in [key for key, until in self._flashing.items() if until < now]:
            del self._flashing[key]
            self._refresh_key(key)
        for key in [key for key, until in self._fresh.items() if until < now]:
            del self._fresh[key]
            self._refresh_key(key)
        for line, row in list(self._drawn.items()):
            index = line + top - 1
            if index >= len(self._keys) or (new := self._row(self._keys[index])) == row:
                continue
            if new.key == row.key and new.state != row.state and not self.calm:
                self._flashing[new.key] = now + FLASH_S
            self.refresh(Region(0, line, self.size.width, 1))

    def select(self, key: str) -> None:
        """Put the cursor on a key, as soon as it is there."""
        if key in self._places:
            self._set_cursor(key)
        else:
            self._wanted = key

    @property
    def keys(self) -> Sequence[str]:
        """The lines that are shown."""
        return self._keys

    # -- marks

    def mark(self, keys: Sequence[str], marked: bool | None = None) -> None:
        """Mark, unmark, or turn over."""
        for key in keys:
            if (key in self.marks) if marked is None else not marked:
                self.marks.pop(key, None)
            else:
                self.marks[key] = None
            self._refresh_key(key)

    def span_from_mark(self) -> list[str]:
        """The lines from the nearest mark to the cursor."""
        at = self._places.get(self.cursor_key or "", 0)
        others = [self._places[key] for key in self.marks if key in self._places]
        if not others:
            return [self.cursor_key] if self.cursor_key else []
        near = min(others, key=lambda one: abs(one - at))
        return list(self._keys[min(near, at) : max(near, at) + 1])

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
        if event.y == 0:
            self._head_clicked(event.x)
            return
        line = event.y + self.scroll_offset.y - 1
        if line < len(self._keys):
            self._set_cursor(self._keys[line])
            row = self._row(self._keys[line])
            mark = row.folded is not None and event.x <= 2 * row.depth + 2
            if mark or event.chain == 2:
                self.post_message(self.Opened(mark))

    def _head_clicked(self, x: int) -> None:
        edge = 1
        for column, size in layout(self._columns, self.size.width, self._hidden):
            edge += size + 1
            if x < edge:
                self.post_message(self.Headed(column.field))
                return

    def _set_cursor(self, key: str | None) -> None:
        old, self.cursor_key = self.cursor_key, key
        for one in (old, key):
            self._refresh_key(one)
        if key is not None:
            self.scroll_to_region(Region(0, self._places[key], 1, 2), animate=False, force=True)
        if old != key:
            self.post_message(self.Moved())

    def _refresh_key(self, key: str | None) -> None:
        if key in self._places:
            line = self._places[key] + 1 - self.scroll_offset.y
            self.refresh(Region(0, line, self.size.width, 1))

    # -- painting

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if y == 0:
            return self._strip([(" ", self._style("head")), *self._head(width)], width, "head")
        index = y + self.scroll_offset.y - 1
        if index >= len(self._keys):
            self._drawn.pop(y, None)
            text = self.empty if index == 1 and not self._keys else ""
            return self._strip([(fit(f"  {text}", width), self._style("dim"))], width)
        key = self._keys[index]
        row = self._drawn[y] = self._row(key)
        return self._line(row, key == self.cursor_key, width)

    def _head(self, width: int) -> list[tuple[str, Style]]:
        parts: list[tuple[str, Style]] = []
        for column, size in layout(self._columns, width, self._hidden):
            if column.field in self._painters:
                parts += self._painted(column.field, None, size)
                continue
            title = column.title
            if self._sorted[1:] == column.field:
                title = f"{title} {look.sort_mark(self._sorted[0] == '-')}"
            parts.append((aligned(column, title, size) + " ", self._style("head")))
        return parts

    def _line(self, row: Row, cursor: bool, width: int) -> Strip:
        place = "cursor" if cursor else "top" if row.depth == 0 and row.folded is not None else ""
        ground = self._style(place) if place else Style()
        marked = row.key in self.marks
        sign = look.mark() if marked else look.new() if row.key in self._fresh else " "
        parts = [(sign, ground + self._style("marked"))]
        columns = layout(self._columns, width, self._hidden)
        fields = {column.field for column, _ in columns}
        for column, size in columns:
            if column.field in self._painters:
                painted = self._painted(column.field, row, size)
                parts += [(text, style + ground) for text, style in painted]
                continue
            text, style = self._cell(row, column.field, size)
            if column.field in ("why", "cause"):
                # What has no column of its own: since when, before what may be cut off; where.
                if row.waits and row.age and "age" not in fields:
                    text = text.replace("waits for", f"waits {row.age} for", 1)
                if row.address and "address" not in fields and not text.strip():
                    text = f"  {row.address}"
            if self.stale:
                style = self._style("dim")
            elif marked and column.field == "name":
                style += self._style("marked")
            parts.append((aligned(column, text, size) + " ", style + ground))
        return self._strip(parts, width, place)

    def _painted(self, field: str, row: Row | None, size: int) -> list[tuple[str, Style]]:
        return [(text, self._style(style)) for text, style in self._painters[field](row, size)]

    def _cell(self, row: Row, field: str, size: int) -> tuple[str, Style]:
        if field == "name":
            open_, folded = look.tree_marks()
            mark = "  " if row.folded is None else f"{folded if row.folded else open_} "
            indent = "  " * row.depth + mark if row.folded is not None or row.depth > 1 else (
                "    " if row.key.startswith("slots/") else "")  # fmt: skip
            return indent + row.name, Style(bold=row.depth == 0)
        if field == "state":
            style = self._style(look.colour(row.state))
            if row.key in self._flashing:
                style += self._style("flash")
            return f"{look.glyph(row.state)} {row.state}", style
        if field == "outcome" and row.cell(field):
            word = row.cell(field)
            return f"{look.glyph(word)} {word}", self._style(look.colour(word))
        if field == "left":
            if row.progress is not None and not row.left and row.state != "pending":
                return look.gauge(row.progress, size), self._style("primary")
            return row.left, self._style(row.warn) if row.warn else Style()
        if field in ("why", "cause"):
            return f"  {row.cell(field)}", self._style("dim")
        if field == "text":
            return row.cell(field), self._style(look.colour(row.level)) if row.level else Style()
        dim = field in ("age", "at", "kind", "where", "seen", "asks")
        return row.cell(field), self._style("dim") if dim else Style()

    def _style(self, name: str) -> Style:
        if name in self.COMPONENT_CLASSES:
            return self.get_component_rich_style(name, partial=True)
        return self._paints.style(name)

    def _strip(self, parts: list[tuple[str, Style]], width: int, place: str = "") -> Strip:
        base = self.rich_style
        ground = base + self._style(place) if place else base
        segments = [Segment(text, base + style) for text, style in parts]
        return Strip(segments).adjust_cell_length(width, ground).crop(0, width)

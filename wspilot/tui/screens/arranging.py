"""Which lines a view shows, and in what order: filter, sorting, columns, times."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from textual import on, work

if TYPE_CHECKING:
    from textual.widgets import Input

from wspilot.text import clean
from wspilot.tui import look
from wspilot.tui.filters import parse
from wspilot.tui.screens.base import Base
from wspilot.tui.views import VIEWS
from wspilot.tui.widgets.treetable import TreeTable


class Arranging(Base):
    """The lines as somebody wants them."""

    # -- filter

    async def action_filter(self) -> None:
        """Type what is looked for: of the lines, or of the log that has the focus."""
        from wspilot.tui.screens.find import Find

        if self.find is None:
            self.find = Find()
            await self.mount(self.find, before=self.strip)  # what is typed next is for it alone
        self.find.add_class("-shown")
        self._of_lines = self.detail.lines.has_focus
        self.find.word.value = self.detail.lines.word if self._of_lines else self.how.filter.text
        self.set_focus(self.find.word)

    _of_lines = False

    def on_input_changed(self, event: Input.Changed) -> None:
        """As it is typed."""
        if self._of_lines:
            self.detail.lines.find(event.value)
            return
        self.how = replace(self.how, filter=parse(clean(event.value, 200)))
        self.dirty = True
        self.set_timer(0.05, self._repaint_changed)

    def on_input_submitted(self) -> None:
        """It is found."""
        if self.find is not None and not self.find.word.value:
            self.find.remove_class("-shown")
        (self.detail.lines if self._of_lines else self.table).focus()

    def _clear_filter(self) -> bool:
        shown = self.find is not None and self.find.has_class("-shown")
        if self.find is not None:
            self.find.remove_class("-shown")
            self.find.word.value = ""
        self.detail.lines.find("")
        self._of_lines = False
        if self.how.filter:
            self.how = replace(self.how, filter=parse(""))
            shown = True
        self.dirty = True
        return shown

    # -- order and columns

    def sort_by(self, field: str) -> None:
        """By a column; again: the other way; once more: no longer. Kept."""
        self.how = self.how.sorted_by(field)
        arrow = ("-" if self.how.reverse else "+") + self.how.sort if self.how.sort else ""
        self._wspilot.memory.keep(f"sort.{self.how.view}", arrow)
        self.set_out()

    def action_sort_next(self, by: int) -> None:
        """By the next column, or the one before."""
        fields = ["", *(one.field for one in VIEWS[self.how.view].columns if one.title.strip())]
        at = fields.index(self.how.sort) if self.how.sort in fields else 0
        field = fields[(at + by) % len(fields)]
        self.how = replace(self.how, sort="", reverse=False)
        if field:
            self.sort_by(field)
        else:
            self._wspilot.memory.keep(f"sort.{self.how.view}", "")
            self.set_out()

    @work(exit_on_error=False)
    async def action_filter_state(self) -> None:
        """Only what is in one state; the choice is an ordinary filter."""
        from wspilot.tui.screens.choose import Choose

        self._of_lines = False
        states = Counter(self.rows.row(key, self._clock()).state for key in self._leaves())
        choices = [(one, f"{look.glyph(one)} {one}  {count}") for one, count in sorted(
            states.items())]  # fmt: skip
        found = await self.app.push_screen_wait(
            Choose(
                "Only what is",
                [*choices, ("", "all of them")],
                "" if self.how.filter else min(states, default=""),
            )
        )
        if found is not None:
            text = f"state:^{found.replace(' ', '.')}$" if found else ""
            self.how = replace(self.how, filter=parse(text))
            self.dirty = True
            self._repaint_changed()

    def _leaves(self) -> list[str]:
        """Of the view, before its filter."""
        tables = {"leases": ("vms",), "timeline": ("vms",), "history": ("workspaces",)}
        found = [f"{table}/{id}" for table in tables.get(self.how.view, (self.how.view,))
                 for id in self.model.items[table]]  # fmt: skip
        over = self.how.view == "history"
        return [key for key in found if key[:10] != "workspaces" or over
                == ((self.model.doc(key) or {}).get("state") == "ended")]  # fmt: skip

    @on(TreeTable.Headed)
    def _headed(self, event: TreeTable.Headed) -> None:
        if event.field not in ("chart", "progress"):
            self.sort_by(event.field)

    @work(exit_on_error=False)
    async def action_sort(self) -> None:
        """Choose the column to sort by."""
        from wspilot.tui.screens.choose import Choose

        columns = [one for one in VIEWS[self.how.view].columns if one.title.strip()]
        found = await self.app.push_screen_wait(
            Choose("Sort by", [(one.field, one.title.strip().lower()) for one in columns],
                   self.how.sort, "the same again turns it round")
        )  # fmt: skip
        if found:
            self.sort_by(found)

    @work(exit_on_error=False)
    async def action_columns(self) -> None:
        """Choose the columns of this view. Kept."""
        from wspilot.tui.screens.columns import Columns

        view, memory = VIEWS[self.how.view], self._wspilot.memory
        columns = [one for one in view.columns if one.title.strip() and one.field != "name"]
        hidden = [str(one) for one in memory.get(f"hidden.{view.name}", [])]
        choices = [(one.field, one.title.strip(), one.field not in hidden) for one in columns]
        chosen = await self.app.push_screen_wait(Columns(view.title, choices))
        if chosen is not None:
            left_out = [one.field for one in columns if one.field not in chosen]
            memory.keep(f"hidden.{view.name}", left_out)
            self.set_out()

    def action_times(self) -> None:
        """Ages, or times of day."""
        self.rows.absolute = not self.rows.absolute
        self.repaint_all()

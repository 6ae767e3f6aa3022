"""What keys do that only look: views, filter, sorting, columns, marks, folding, pages."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on, work

if TYPE_CHECKING:
    from textual.widgets import Input

from wspilot.errors import WspilotError
from wspilot.text import clean
from wspilot.tui import look
from wspilot.tui.filters import parse
from wspilot.tui.screens.base import Base
from wspilot.tui.views import VIEWS
from wspilot.tui.widgets.detail import ASKED, Detail
from wspilot.tui.widgets.lineview import LineView
from wspilot.tui.widgets.treetable import TreeTable

LOGS_S = 2.0  # a log grows without anybody telling: it is asked for again


class Browsing(Base):
    """Looking around."""

    # -- views, filter, order

    def action_view(self, name: str) -> None:
        """To a view."""
        self.action_to_tree()
        self.show_view(name)

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

    def action_pause(self) -> None:
        """Let everything stand still, or go on."""
        self.paused = not self.paused
        self.dirty = True
        self._repaint_changed()
        self.draw_top()

    def action_times(self) -> None:
        """Ages, or times of day."""
        self.rows.absolute = not self.rows.absolute
        self.repaint_all()

    def action_follow(self) -> None:
        """Only the events of the selection, or all of them."""
        key = self.table.cursor_key
        if self.how.about or key is None or key.startswith("events/"):
            self.how = replace(self.how, about="")
        else:
            self.how = replace(self.how, about=key)
        name = self.rows.row(self.how.about, self._clock()).name if self.how.about else ""
        self.strip.border_title = f" Events of {clean(name, 40)} " if name else " Events "
        self.dirty = True
        self._repaint_changed()

    def action_strip(self) -> None:
        """The events below, or not. Kept."""
        self.toggle_class("-nostrip")
        self._wspilot.memory.keep("strip", not self.has_class("-nostrip"))
        self.dirty = True

    # -- time

    def action_zoom(self, by: int) -> None:
        """Of the timeline."""
        self.timeline.zoom(by)
        self.table.refresh()

    def action_pan(self, by: float) -> None:
        """Of the timeline."""
        self.timeline.pan(by)
        self.table.refresh()

    def action_now(self) -> None:
        """The timeline follows now again."""
        self.timeline.home()
        self.table.refresh()

    def action_fit(self) -> None:
        """The timeline shows all that lives."""
        self.timeline.fit()
        self.table.refresh()

    # -- marks

    def action_mark(self) -> None:
        """Mark the line, and go on to the next."""
        if (key := self.table.cursor_key) is not None and not key.startswith(("sick", "events")):
            self.table.mark([key])
            self.table.action_move(1)
        self.draw_top()

    def action_mark_range(self) -> None:
        """Mark from the nearest mark to here."""
        self.table.mark(self.table.span_from_mark(), True)
        self.draw_top()

    def action_mark_all(self) -> None:
        """All lines of the cursor's kind that are shown; again: none."""
        key = self.table.cursor_key
        if key is not None:
            kind = key.partition("/")[0]
            same = [one for one in self.table.keys if one.startswith(f"{kind}/")]
            self.table.mark(same, not all(one in self.table.marks for one in same))
        self.draw_top()

    # -- folding and pages

    @on(TreeTable.Opened)
    def _opened(self, event: TreeTable.Opened) -> None:
        key = self.table.cursor_key
        if event.fold and key is not None:
            self.outline.fold(key)
            self.dirty = True
        else:
            self.action_details()

    def action_open(self) -> None:
        """Unfold."""
        if (key := self.table.cursor_key) in self.outline.folded and key is not None:
            self.outline.fold(key, False)
            self.dirty = True

    def action_close(self) -> None:
        """Fold; on a leaf, go to what it belongs to."""
        key = self.table.cursor_key
        if key is None or self.how.view in ("slots", "nodes", "events"):
            return
        table = key.partition("/")[0]
        if table in ("workspaces", "groups", "sick") and key not in self.outline.folded:
            self.outline.fold(key, True)
        elif parent := self.outline.parent(key):
            self.table.select(parent)
        self.dirty = True

    def action_fold_all(self) -> None:
        """All workspaces, or none of them."""
        spaces = [key for key in self.table.keys if key.startswith("workspaces/")]
        self.outline.fold_all(any(key not in self.outline.folded for key in spaces))
        self.dirty = True

    def action_details(self) -> None:
        """The details on the whole width; the same key goes back."""
        main = self.query_one("#main")
        if main.has_class("-detail"):
            self.action_to_tree()
        elif self.table.cursor_key is not None:
            main.add_class("-detail")
            self.detail.take_focus()
            self.call_after_refresh(self.draw_detail)

    def action_to_tree(self) -> None:
        """Back to the table."""
        self.query_one("#main").remove_class("-detail")
        self.table.focus()
        self.call_after_refresh(self.draw_detail)

    def action_back(self) -> None:
        """What is on top goes: the details, the filter, the marks."""
        typing = self.find is not None and self.find.word.has_focus
        if typing or not (
            self.query_one("#main").has_class("-detail") or self.detail.has_focus_within
        ):
            if not self._clear_filter() and self.table.marks:
                self.table.mark(list(self.table.marks), False)
                self.draw_top()
            elif self.how.about:
                self.action_follow()
        self.action_to_tree()

    def action_page(self, by: int) -> None:
        """The next page of the details."""
        if not self.detail.display:
            self.action_details()
        self.detail.turn_by(by)
        self._keep_focus()

    def action_logs(self) -> None:
        """The logs of the selection."""
        if not self.detail.display:
            self.action_details()
        self.detail.turn("Logs")
        self._keep_focus()

    def _keep_focus(self) -> None:
        """Details on the whole width have the keys; they may not be drawn yet."""
        if self.query_one("#main").has_class("-detail"):
            self.call_after_refresh(self.detail.take_focus)

    def action_wrap(self) -> None:
        """Fold or cut long lines of logs."""
        self.detail.lines.toggle_wrap()

    @on(LineView.Save)
    @work(exit_on_error=False)
    async def _save_lines(self, event: LineView.Save) -> None:
        """Into a new file, wherever the user wants it."""
        from wspilot.tui.screens.ask import Ask

        if self._wspilot.read_only:
            self._wspilot.tell("read-only: nothing is written", "warning")
            return
        name = self.rows.row(self.table.cursor_key or "", self._clock()).name
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "lease"
        path = Path.cwd() / f"{plain}-{self.detail.page.lower()}.log"
        named = await self.app.push_screen_wait(Ask("Save it as", str(path), "a new file"))
        if not named:
            return
        try:
            await asyncio.to_thread(_write_new, Path(named).expanduser(), event.text)
        except (OSError, ValueError, RuntimeError) as error:
            why = getattr(error, "strerror", "") or str(error)
            self._wspilot.tell(f"not saved: {named}: {why}", "error")
        else:
            self._wspilot.tell(f"saved: {named}", "info")

    # -- logs: asked for while they are looked at

    @on(Detail.Turned)
    def _asked(self) -> None:
        self._fetch()

    @on(TreeTable.Moved)
    def _other(self) -> None:
        if self.detail.page in ASKED:
            self._fetch()

    @work(exclusive=True, exit_on_error=False, group="logs")
    async def _fetch(self) -> None:
        await asyncio.sleep(0.1)  # a cursor that runs past asks for nothing
        while self.detail.page in ASKED and self.detail.display:
            key, page = self.table.cursor_key, self.detail.page
            lines, empty = await self._logs_of(key, page)
            if key == self.table.cursor_key and page == self.detail.page:
                self.detail.show_lines(lines, empty)
            await asyncio.sleep(LOGS_S)

    async def _logs_of(self, key: str | None, page: str) -> tuple[list[str], str]:
        """(lines, what is said when there are none)."""
        table, _, id = (key or "").partition("/")
        ws = self.model.workspace_of(key or "")
        asked = id if table in ("vms", "groups") else ws["id"] if ws else ""
        if not asked:
            return [], "There are no logs of this."
        try:
            answer = await self._wspilot.source.call("logs", id=asked)
        except WspilotError as error:
            return [], clean(f"{error.message}. {error.hint}", 400)
        lines: list[str] = []
        for log in answer.get("logs", ()):
            name = str(log.get("name", ""))
            if (page == "Console") != name.startswith("console-"):
                continue
            if table == "slots" and log.get("slot") != id:
                continue
            lines.append(clean(f"==> {log.get('slot')}/{name[:100]} <==", 200))
            lines += clean(str(log.get("text", "")), 65536, lines=True).split("\n")
        what = "has printed nothing yet" if page == "Console" else "has written no log yet"
        return lines, f"It {what}."

    def go_to(self, key: str, view: str) -> None:
        """To a line of another view."""
        self._clear_filter()
        self.show_view(view)
        self.table.select(key)
        self.action_to_tree()


def _write_new(path: Path, text: str) -> None:
    """Nothing that is there is overwritten. Raises OSError."""
    with path.open("x", encoding="utf-8") as file:
        file.write(text)

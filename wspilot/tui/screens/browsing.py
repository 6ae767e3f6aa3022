"""What keys do that only look: views, time, marks, folding, pages."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

from textual import on, work

from wspilot.errors import WspilotError
from wspilot.text import clean
from wspilot.tui.screens.arranging import Arranging
from wspilot.tui.widgets.detail import ASKED, Detail
from wspilot.tui.widgets.lineview import LineView
from wspilot.tui.widgets.treetable import TreeTable

LOGS_S = 2.0  # a log grows without anybody telling: it is asked for again


class Browsing(Arranging):
    """Looking around."""

    # -- views, and what stands in them

    def action_view(self, name: str) -> None:
        """To a view."""
        self.action_to_tree()
        self.show_view(name)

    def action_pause(self) -> None:
        """Let everything stand still, or go on."""
        self.paused = not self.paused
        self.dirty = True
        self._repaint_changed()
        self.draw_top()

    def action_follow(self) -> None:
        """Only the events of the selection, or all of them."""
        about = "" if self.how.about else self.model.subject(self.table.cursor_key or "")
        if not about and not self.how.about:
            self._wspilot.tell("Nothing here has events of its own.", "info")
            return
        self.how = replace(self.how, about=about)
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
            if name == "job.sh" or (page == "Console") != name.startswith("console-"):
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

"""The detail pane: pages about the selected line. What the daemon has to be asked for (logs) is
handed in by the screen; everything else is drawn from the model."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.events import Click
from textual.message import Message
from textual.widgets import Static

from wspilot.tui import look
from wspilot.tui.live import LiveModel
from wspilot.tui.widgets.lineview import LineView

PAGES = ("Overview", "Events", "Commands", "Logs", "Console", "Raw")
ASKED = ("Logs", "Console")  # these are fetched


class Detail(Vertical):
    """Shows one key of the model; the arrows scroll it when it has the focus."""

    DEFAULT_CSS = """
    Detail { background: $surface; padding: 0 1; }
    Detail #pages { height: 1; width: 1fr; }
    Detail VerticalScroll { background: $surface; scrollbar-size-vertical: 1;
                            scrollbar-background: $surface; padding-top: 1;
                            scrollbar-gutter: stable; }
    Detail VerticalScroll > Static { width: 1fr; height: auto; }
    Detail LineView { display: none; margin-top: 1; }
    Detail.-lines VerticalScroll { display: none; }
    Detail.-lines LineView { display: block; }
    """

    class Turned(Message):
        """Another page is shown."""

    def __init__(self) -> None:
        super().__init__()
        self._text, self._page = Text(), Static("", markup=False)
        self._tabs = Static("", id="pages", markup=False)
        self._scroll, self.lines = VerticalScroll(self._page, can_focus=True), LineView()
        self.page = PAGES[0]
        self._tabs_drawn: tuple[object, ...] = ()
        self._edges: list[tuple[int, str]] = []

    def compose(self) -> ComposeResult:
        yield self._tabs
        yield self._scroll
        yield self.lines

    def take_focus(self) -> None:
        """To whatever the page shows."""
        (self.lines if self.page in ASKED else self._scroll).focus()

    def turn(self, page: str) -> None:
        """To a page."""
        had_focus = self.has_focus_within
        self.page = page
        self.set_class(page in ASKED, "-lines")
        self._scroll.scroll_home(animate=False)
        if had_focus:
            self.take_focus()
        self.post_message(self.Turned())

    def turn_by(self, by: int) -> None:
        """To the next page, or the one before."""
        self.turn(PAGES[(PAGES.index(self.page) + by) % len(PAGES)])

    def show(self, model: LiveModel, key: str | None, now: float) -> None:
        """Draw the key as it is now."""
        self._draw_tabs()
        if self.page in ASKED:
            return
        from wspilot.tui.pages.page import Page  # with its data: the first frame has none
        from wspilot.tui.pages.writers import WRITERS

        width = max(16, self.content_size.width - 2)  # one for the bar, whether it is there or not
        page = Page(self._colour, width, now)
        WRITERS[self.page](page, model, key)
        if page.text != self._text:  # a second later it is mostly the same
            grown = str(page.text).count("\n") != str(self._text).count("\n")
            self._text = page.text
            self._page.update(page.text, layout=grown)

    def show_lines(self, lines: Sequence[str], empty: str) -> None:
        """What was fetched for a page that is asked for."""
        self.lines.show(lines, empty)

    def _colour(self, name: str) -> str:
        return look.style(self.app.theme_variables.get(name, ""))

    def _draw_tabs(self) -> None:
        colours = (self._colour("primary"), self._colour("secondary"))  # a theme's come after it
        drawn = (self.page, self._tabs.size.width, *colours)
        if drawn == self._tabs_drawn:
            return
        self._tabs_drawn, self._edges, at = drawn, [], 0
        text = Text(no_wrap=True, overflow="ellipsis")
        short = self._tabs.size.width < sum(len(one) + 1 for one in PAGES)
        for page in PAGES:
            here = page == self.page
            label = page if here or not short else page[:3]
            style = f"bold underline {colours[0]}" if here else colours[1]
            text.append(label, style)
            text.append(" ")
            at += len(label) + 1
            self._edges.append((at, page))
        self._tabs.update(text)

    def on_click(self, event: Click) -> None:
        if event.widget is self._tabs:
            for edge, page in self._edges:
                if event.x < edge:
                    self.turn(page)
                    return

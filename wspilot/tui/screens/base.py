"""The main screen's parts and how they are drawn; its keys: `arranging`, `browsing`, `handling`.

Everything is drawn from the model, at most four times a second, and only where it has changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.events import Click
from textual.screen import Screen
from textual.widgets import Static

from wspilot.text import clean, format_duration
from wspilot.tui import lines, look
from wspilot.tui.rows import Row
from wspilot.tui.tree import Arrangement
from wspilot.tui.views import VIEWS
from wspilot.tui.widgets.detail import Detail
from wspilot.tui.widgets.events import Events
from wspilot.tui.widgets.treetable import TreeTable

if TYPE_CHECKING:
    from textual.worker import Worker

    from wspilot.tui.app import WspilotApp
    from wspilot.tui.screens.find import Find
    from wspilot.tui.widgets.timeline import Timeline

FLUSH_S = 0.25
STEP_S = 5  # ages go in such steps
LOG_KEYS = ("app.filter", "app.help")  # of the screen's, beside a log's own


class Base(Screen[None]):
    """Layout and drawing."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide"), (190, "-widest")]
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (18, "-tall"), (40, "-taller")]
    STYLES = """
    #top { height: 1; background: $panel; padding: 0 1; }
    #summary { width: 1fr; height: 1; }
    #site { width: auto; height: 1; margin-left: 2; }
    #views { height: 1; background: $surface; padding: 0 1; color: $secondary; }
    .-flat #views { display: none; }
    #banner { height: auto; max-height: 4; background: $warning; color: $background;
              padding: 0 1; display: none; }
    #banner.-shown { display: block; }
    #main { height: 1fr; }
    #tree { width: 1fr; }
    Detail { width: 46; border-left: outer $panel; }
    Detail:focus-within { border-left: outer $primary; }
    .-widest Detail { width: 70; }
    .-narrow Detail { display: none; }
    .-chart Detail { display: none; }
    .-detail Detail, .-narrow .-detail Detail { display: block; width: 100%; border: none;
                                                padding: 0 2; }
    .-detail #tree { display: none; }
    #events { height: 9; border-top: solid $secondary 40%; border-title-color: $secondary; }
    #events:focus { border-top: solid $primary; border-title-color: $primary; }
    .-narrow #events { height: 6; }
    .-flat #events, .-nostrip #events, .-events #events { display: none; }
    .-taller #events { height: 11; }
    .-compact #events { height: 5; }
    .-compact #views { display: none; }
    .-compact Detail VerticalScroll { padding-top: 0; }
    #bottom { dock: bottom; height: 1; background: $panel; }
    #keys { width: 1fr; height: 1; padding: 0 1; }
    #status { width: auto; max-width: 60%; height: 1; color: $secondary; padding: 0 1; }
    """
    app: WspilotApp

    def __init__(self, clock: Callable[[], float], app: WspilotApp) -> None:
        super().__init__()
        self._clock, self._wspilot = clock, app
        self.model, self.rows, self.outline = app.model, app.rows, app.outline
        self.how = Arrangement()
        self._places: dict[str, str | None] = {}  # where each view's cursor was
        self.dirty, self.paused, self._last = False, False, 0.0
        self._said: dict[Static, Text] = {}
        self._shown_as: object = None
        self._detailed: object = None  # the item that the details were last drawn of
        self._aged: object = None  # what it was when they were last drawn for their age
        # Kept by hand: a timer that fires while the screen is built or taken down finds them.
        self.table = TreeTable(self._row, "connecting ...", id="tree")
        self._timeline: Timeline | None = None
        self.detail, self.strip = Detail(), Events(id="events")
        self._summary, self._site = Static(id="summary"), Static(id="site")
        self._views = Static(id="views")
        self._banner, self._status = Static(id="banner"), Static(id="status")
        self._footer = Static(id="keys")  # Textual's costs 30 ms of the first frame
        self.find: Find | None = None
        self._edges: list[tuple[int, str]] = []
        self._key_edges: list[tuple[int, str]] = []

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """A fault of ours in something that was asked for: said, never swallowed."""
        if event.state.name == "ERROR":
            error = event.worker.error
            said = f"{type(error).__name__}: {error}"
            self._wspilot.tell(f"{event.worker.name.strip('_')} has failed: {said}", "error")

    # -- layout

    def compose(self) -> ComposeResult:
        with Horizontal(id="top"):
            yield self._summary
            yield self._site
        yield self._banner
        yield self._views
        with Vertical():
            with Horizontal(id="main"):
                yield self.table
                yield self.detail
            yield self.strip
        with Horizontal(id="bottom"):
            yield self._footer
            yield self._status

    def on_mount(self) -> None:
        self.table.calm = not self._wspilot.motion
        self.set_class(not self._wspilot.memory.get("strip", True), "-nostrip")
        self.set_class(self._wspilot.memory.get("compact", False), "-compact")
        self.set_out()
        self.table.focus()
        self.draw_top()
        self.set_interval(FLUSH_S, self._repaint_changed)
        self.set_interval(1.0, self._each_second)

    def _row(self, key: str) -> Row:
        folded = key in self.outline.folded if key.startswith(("work", "group", "sick")) else None
        return self.rows.row(key, self._clock(), folded)

    # -- what the app tells

    def heard(self, first: bool) -> None:
        """Something came; `first` after a connection was made."""
        self.dirty = True
        if first:
            self.table.stale = False
            self._say_empty()
            self._banner.remove_class("-shown")
            self.repaint_all()
            self._repaint_changed()

    def lost(self) -> None:
        """The connection is gone: what is there stays, and is shown as old."""
        self.table.stale = True
        self._say_empty()
        self._draw_banner()
        self._banner.add_class("-shown")
        self.repaint_all()

    def _say_empty(self) -> None:
        if self._wspilot.connected:
            view = VIEWS[self.how.view]
            empty = view.empty.partition(".")[0] + "." if self._wspilot.read_only else view.empty
            self.table.empty = empty
            hidden = self.outline.all - self.outline.found
            if self.how.view == "events" and self.how.about:
                self.table.empty = self._no_events()
            if self.how.filter and hidden:
                self.table.empty = f"The filter hides {hidden} lines. esc shows them again."
        else:
            said = self._wspilot.error
            self.table.empty = "There is no daemon to ask." if said else "connecting ..."

    # -- drawing

    def set_out(self) -> None:
        """Columns and order as `how` says."""
        view, memory = VIEWS[self.how.view], self._wspilot.memory
        hidden = frozenset(map(str, memory.get(f"hidden.{view.name}", [])))
        arrow = ("-" if self.how.reverse else "+") + self.how.sort if self.how.sort else ""
        self.table.follow = view.name == "events"
        self.query_one("#main").set_class(view.name == "timeline", "-chart")
        self.set_class(view.name == "events", "-events")
        self.table.set_out(view.columns, hidden, arrow)
        self.dirty = True
        self._repaint_changed()

    def use_density(self, compact: bool) -> None:
        """More lines of the table, or more around it. Kept."""
        self.set_class(compact, "-compact")
        self._wspilot.memory.keep("compact", compact)
        self.dirty = True

    def repaint_all(self) -> None:
        """Everything again: the theme or the connection is another."""
        self.table.refresh()
        self.dirty, self._detailed = True, None

    def _repaint_changed(self) -> None:
        wanted = (self.how, self.outline.folds)
        held = self.paused and wanted == self._shown_as  # only news is held back
        if not self.dirty or held or not self.is_current:
            return
        self.dirty = False
        before, self._shown_as = self._shown_as, wanted
        keys = self.outline.order(self.how, self._clock())
        self.table.show(keys, news=before == self._shown_as)
        self._say_empty()
        if self.strip.display:
            self.strip.entitle(lines.strip(self.how, self._about(), self._colour))
            self.strip.show(self._strip_events(), self._no_events())
        self.draw_top()
        item = self.model.doc(self.table.cursor_key or "")
        if item is None or item is not self._detailed:
            self.draw_detail()  # what is below it, and its events, come with the next second

    def _strip_events(self) -> tuple[dict[str, object], ...]:
        events = self.model.items["events"].values()
        if not self.how.about:
            return tuple(events)
        about = self.model.about(self.how.about)
        return tuple(event for event in events if about(event))

    def _about(self) -> str:
        """The name of what the events are limited to."""
        return self.rows.row(self.how.about, self._clock()).name if self.how.about else ""

    def _no_events(self) -> str:
        if not self.how.about:
            return VIEWS["events"].empty
        return f"No events of {clean(self._about(), 40)} are known. f shows all events."

    def _each_second(self) -> None:
        """Times pass even when nothing happens."""
        if not self.is_current:
            return
        if self._wspilot.connected and not self.paused:
            if self.how.view == "timeline":
                self.table.refresh()
            self.table.touch()
            self._age_detail()
        elif self._wspilot.error:
            self._draw_banner()
        self.draw_top()

    def _say(self, where: Static, text: Text) -> None:
        """Only what is new is drawn, and only what has grown moves the rest of the screen."""
        old = self._said.get(where)
        if text != old:
            self._said[where] = text
            where.update(text, layout=old is None or text.cell_len != old.cell_len)

    def _draw_banner(self) -> None:
        heard, error = self._wspilot.heard, self._wspilot.error
        age = format_duration(self._clock() - heard)
        seen = f" What you see is {age} old." if heard else ""
        self._say(self._banner, Text(f"{error}.{seen} It is tried again by itself; r tries now."))

    def _age_detail(self) -> None:
        """The selection's page, where a second can have changed it."""
        now, key = self._clock(), self.table.cursor_key
        stamp = (self.model.changes, now // STEP_S, self._row(key) if key else None)
        if stamp != self._aged:
            self._aged = stamp
            self.draw_detail()

    def draw_detail(self) -> None:
        """The selection's page."""
        if self.detail.display and self._wspilot.heard:
            self._detailed = self.model.doc(self.table.cursor_key or "")
            self.detail.show(self.model, self.table.cursor_key, self._clock())

    def draw_top(self) -> None:
        """First and last line, and the views."""
        app, colour = self._wspilot, self._colour
        badges = [
            word for word, on in (("PAUSED", self.paused), ("read-only", app.read_only)) if on
        ]
        width = self.size.width
        site = lines.site(self.model, colour, width)
        self._say(self._site, site)
        room = width - 4 - site.cell_len
        self._say(self._summary, lines.summary(self.model, badges, colour, room))
        text, self._edges = lines.views(self.how, len(self.table.marks), self.size.width, colour)
        self._say(self._views, text)
        self.draw_keys()
        if self.find is not None:
            self.find.found(self.outline.found, self.outline.all)
        if app.connected:
            wide = self.size.width >= 150
            self._say(self._status, lines.daemon(self.model, self._clock(), colour, wide))
        elif app.error:
            self._say(self._status, Text("no daemon", style=colour("warning")))

    def draw_keys(self) -> None:
        """The footer: what works here and now."""
        text, self._key_edges = lines.keys(self._shown_keys(), self._colour)
        self._say(self._footer, text)

    def on_descendant_focus(self) -> None:
        """Other keys work there."""
        self.draw_keys()

    def _shown_keys(self) -> list[tuple[str, str, str]]:
        """(key, what it does, action) of those that work here and are worth a place."""
        keymap, bindings = self._wspilot.keys, self.BINDINGS
        if self.detail.lines.has_focus:  # a log has keys of its own
            bindings = [*self.detail.lines.BINDINGS, *(one for one in bindings
                        if isinstance(one, Binding) and one.id in LOG_KEYS)]  # fmt: skip
        return [
            (
                keymap.get(one.id or "") or look.key(one.key_display or one.key),
                one.description,
                one.action,
            )
            for one in bindings
            if isinstance(one, Binding) and one.show and self.useful(one.action)
        ]

    def useful(self, action: str) -> bool:
        """Is a key worth a place in the footer?"""
        return bool(self.check_action(action, ()))

    def _colour(self, name: str) -> str:
        return look.style(self._wspilot.theme_variables.get(name, ""))

    @on(TreeTable.Moved)
    def _moved(self) -> None:
        self.call_after_refresh(self._follow_cursor)  # the cursor itself first

    def _follow_cursor(self) -> None:
        self.draw_keys()
        self.draw_detail()

    @on(Detail.Turned)
    def _turned(self) -> None:
        self.draw_detail()

    def on_click(self, event: Click) -> None:
        """Views are clicked by their titles, keys by their names."""
        if event.widget is self._views and (name := _hit(self._edges, event.x)):
            self.show_view(name)
        elif event.widget is self._footer and (action := _hit(self._key_edges, event.x)):
            self.call_later(self.run_action, action)

    @property
    def timeline(self) -> Timeline:
        """Made when it is first looked at."""
        if self._timeline is None:
            from wspilot.tui.widgets.timeline import Timeline

            self._timeline = Timeline(self.model, self._clock)
            self.table.paint_with("chart", self._timeline.paint)
        return self._timeline

    def show_view(self, name: str) -> None:
        """To another view; its cursor is where it was."""
        if name == self.how.view:
            return
        self._places[self.how.view] = self.table.cursor_key
        memory = self._wspilot.memory
        kept = memory.get(f"sort.{name}", "")
        self.how = Arrangement(name, kept[1:], kept[:1] == "-", self.how.filter, self.how.about)
        self.table.marks.clear()
        if name == "timeline":
            self.timeline.home()
        self.set_out()
        if (key := self._places.get(name)) is not None and key in self.table.keys:
            self.table.select(key)
        elif name == "events":
            self.table.action_move(10_000_000)
        self.repaint_all()


def _hit(edges: list[tuple[int, str]], x: int) -> str:
    """What was clicked, of parts that end at these cells."""
    return next((name for edge, name in edges if x < edge), "")

"""The terminal interface: one tree, one detail pane, one stream of events, all from one source.

The way of an event: subscription -> `LiveModel.apply` -> at most four times a second the tree
repaints what is visible. Requests run in workers; the screen never waits for the daemon.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from pathlib import Path
from typing import Any, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Footer, Static

from wspilot.errors import UsageError, WspilotError
from wspilot.text import clean, format_duration
from wspilot.tui import lines, look, theme
from wspilot.tui.live import LiveModel, Row
from wspilot.tui.loss import Loss, loss_of
from wspilot.tui.source import ClientSource, Source
from wspilot.tui.widgets.detail import Detail
from wspilot.tui.widgets.events import Events
from wspilot.tui.widgets.treetable import TreeTable

# The dialogs are imported when they are opened: the first frame does not wait for them.
FLUSH_S = 0.25
RETRY_S = (1.0, 2.0, 4.0, 7.0, 10.0)
EMPTY = "No workspaces yet. Press n to deploy an ensemble."
READ_ONLY_EMPTY = "No workspaces yet."


def _key(keys: str, action: str, label: str, tip: str, *, show: bool = True,
         display: str | None = None) -> Binding:  # fmt: skip
    return Binding(keys, action, label, show=show, key_display=display, tooltip=tip,
                   id=f"app.{action}")  # fmt: skip


class WspilotApp(App[None]):
    """Look at leases, deploy and destroy them."""

    TITLE = "wspilot"
    ENABLE_COMMAND_PALETTE = True
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide"), (190, "-widest")]
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (18, "-tall"), (40, "-taller")]
    CSS = """
    #top { height: 1; background: $panel; padding: 0 1; }
    #summary { width: 1fr; height: 1; }
    #site { width: auto; height: 1; margin-left: 2; }
    .-narrow #site { display: none; }
    #banner { height: auto; max-height: 4; background: $warning; color: $background;
              padding: 0 1; display: none; }
    #banner.-shown { display: block; }
    #main { height: 1fr; }
    #tree { width: 1fr; }
    Detail { width: 46; border-left: outer $panel; }
    Detail:focus { border-left: outer $primary; }
    .-widest Detail { width: 66; }
    .-narrow Detail { display: none; }
    .-detail Detail, .-narrow .-detail Detail { display: block; width: 100%; border: none;
                                                padding: 0 2; }
    .-detail #tree { display: none; }
    #events { height: 9; border-top: solid $secondary 40%; border-title-color: $secondary; }
    #events:focus { border-top: solid $primary; border-title-color: $primary; }
    .-narrow #events { height: 6; }
    .-flat #events { display: none; }
    .-taller #events { height: 11; }
    #bottom { dock: bottom; height: 1; background: $panel; }
    #bottom Footer { dock: none; width: 1fr; background: $panel; }
    #status { width: auto; max-width: 60%; height: 1; color: $secondary; padding: 0 1; }
    Toast { max-width: 70; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        _key("n", "deploy", "Deploy", "lease the VMs of an ensemble file"),
        _key("d", "destroy", "Destroy", "end what is selected; it asks first"),
        _key("a", "act", "Act", "pause, resume, suspend, stop, start or reboot what is selected"),
        _key("enter", "details", "Details", "the selection on the whole width, and back",
             display="enter" if look.ascii_only() else "⏎"),
        _key("right,l", "open", "Unfold", "unfold", show=False, display="→ l"),
        _key("left,h", "close", "Fold", "fold, or go to what it belongs to", show=False,
             display="← h"),
        _key("escape", "to_tree", "Back", "back to the tree", show=False, display="esc"),
        _key("t", "next_theme", "Theme", "the next theme"),
        _key("r", "retry", "Retry", "connect to the daemon now", show=False),
        _key("question_mark", "help", "Help", "these keys", display="?"),
        _key("q", "quit", "Quit", "close at once; leases go on"),
    ]  # fmt: skip

    def __init__(self, source: Source, read_only: bool = False) -> None:
        super().__init__()
        self._source, self._read_only = source, read_only
        self._model = LiveModel()
        self._dirty, self._connected = False, False
        self._heard, self._error = 0.0, ""
        self._retry = asyncio.Event()
        self._themes, self._warnings = theme.load()
        for one in self._themes:
            self.register_theme(one)
        if any(one.name == theme.DEFAULT for one in self._themes):
            self.theme = theme.DEFAULT  # before the first frame: later all styles are made twice
        self._said: dict[Static, Text] = {}
        # Kept by hand: a timer that fires while the screen is built or taken down finds them.
        self.table = TreeTable(self._row, "connecting ...", id="tree")
        self._detail, self._events = Detail(), Events(id="events")
        self._events.border_title = " Events "
        self._summary, self._site = Static(id="summary"), Static(id="site")
        self._banner, self._status = Static(id="banner"), Static(id="status")

    # -- layout

    def compose(self) -> ComposeResult:
        with Horizontal(id="top"):
            yield self._summary
            yield self._site
        yield self._banner
        with Vertical():
            with Horizontal(id="main"):
                yield self.table
                yield self._detail
            yield self._events
        with Horizontal(id="bottom"):
            yield Footer(show_command_palette=False)
            yield self._status

    def on_mount(self) -> None:
        for warning in self._warnings:
            self.notify(warning, severity="warning", markup=False)
        self.theme_changed_signal.subscribe(self, lambda _: self._repaint_all())
        self.table.focus()
        self._draw_top()
        self.set_interval(FLUSH_S, self._repaint_changed)
        self.set_interval(1.0, self._each_second)
        self.call_after_refresh(self._follow)  # the skeleton first

    def _row(self, key: str) -> Row:
        return self._model.row(key, time.time())

    # -- the source

    @work(exclusive=True, exit_on_error=False, group="follow")
    async def _follow(self) -> None:
        """Follow the source for ever; when it ends, say so and try again."""
        failures = 0
        while True:
            try:
                async for update in self._source.updates():
                    failures = 0
                    self._model.apply(update)
                    self._hear()
            except WspilotError as error:
                self._lose(error)
            except Exception as error:  # whatever it was: the screen stays, and it is tried again
                self._lose(WspilotError(f"{type(error).__name__}: {error}", "see the daemon's log"))
            self._retry.clear()
            wait = RETRY_S[min(failures, len(RETRY_S) - 1)]
            failures += 1
            try:
                await asyncio.wait_for(self._retry.wait(), wait)
            except TimeoutError:
                pass

    def _hear(self) -> None:
        self._heard, self._dirty = time.time(), True
        if not self._connected:
            self._connected = True
            self.table.stale = False
            self.table.empty = READ_ONLY_EMPTY if self._read_only else EMPTY
            self._banner.remove_class("-shown")
            self._repaint_all()

    def _lose(self, error: WspilotError) -> None:
        said = clean(f"{error.message}: {error.hint}." if error.hint else error.message, 300)
        self._error = said[:1].upper() + said[1:]
        self._connected = False
        self.table.stale = True
        self.table.empty = "There is no daemon to ask."
        self._draw_banner()
        self._banner.add_class("-shown")
        self._repaint_all()

    # -- drawing

    def _repaint_all(self) -> None:
        self.table.refresh()
        self._dirty = True

    def _repaint_changed(self) -> None:
        if not self._dirty:
            return
        self._dirty = False
        self.table.show(self._model.order())
        self._events.show(tuple(self._model.items["events"].values()))
        self._draw_top()
        self._draw_detail()

    def _each_second(self) -> None:
        """Times pass even when nothing happens."""
        if self._connected:
            self.table.touch()
            self._draw_detail()
        else:
            self._draw_banner()
        self._draw_top()

    def _say(self, where: Static, text: Text) -> None:
        """Only what is new is drawn, and only what has grown moves the rest of the screen."""
        old = self._said.get(where)
        if text != old:
            self._said[where] = text
            where.update(text, layout=old is None or text.cell_len != old.cell_len)

    def _draw_banner(self) -> None:
        age = format_duration(time.time() - self._heard)
        seen = f" What you see is {age} old." if self._heard else ""
        self._say(
            self._banner, Text(f"{self._error}{seen} It is tried again by itself; r tries now.")
        )

    def _draw_detail(self) -> None:
        if self._detail.display:
            self._detail.show(self._model, self.table.cursor_key, time.time())

    def _draw_top(self) -> None:
        self._say(self._summary, lines.summary(self._model, self._read_only, self._colour))
        self._say(self._site, lines.site(self._model, self._colour))
        if self._connected:
            self._say(self._status, lines.daemon(self._model, time.time(), self._colour))
        elif self._error:
            self._say(self._status, Text("no daemon", style=self._colour("warning")))

    def _colour(self, name: str) -> str:
        return look.style(self.theme_variables.get(name, ""))

    @on(TreeTable.Moved)
    def _moved(self) -> None:
        self._draw_detail()

    @on(TreeTable.Opened)
    def _opened(self, event: TreeTable.Opened) -> None:
        key = self.table.cursor_key
        if event.fold and key is not None:
            self._model.fold(key)
            self._dirty = True
        else:
            self.action_details()

    # -- acts

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What only changes things is hidden from who may only look."""
        return not (self._read_only and action in ("deploy", "destroy", "act"))

    def action_details(self) -> None:
        """The details on the whole width; the same key goes back."""
        main = self.query_one("#main")
        if main.has_class("-detail"):
            self.action_to_tree()
        elif self.table.cursor_key is not None:
            main.add_class("-detail")
            self._detail.focus()
            self.call_after_refresh(self._draw_detail)

    def action_to_tree(self) -> None:
        """Back to the tree."""
        self.query_one("#main").remove_class("-detail")
        self.table.focus()
        self.call_after_refresh(self._draw_detail)

    def action_open(self) -> None:
        """Unfold."""
        if (key := self.table.cursor_key) in self._model.folded and key is not None:
            self._model.fold(key, False)
            self._dirty = True

    def action_close(self) -> None:
        """Fold; on a leaf, go to what it belongs to."""
        key = self.table.cursor_key
        if key is None:
            return
        table = key.partition("/")[0]
        if table in ("workspaces", "groups") and key not in self._model.folded:
            self._model.fold(key, True)
        elif parent := self._model.parent(key):
            self.table.select(parent)
        self._dirty = True

    def action_retry(self) -> None:
        """Connect now."""
        self._retry.set()

    def action_help(self) -> None:
        """The keys."""
        from wspilot.tui.screens.help import Help

        self.push_screen(Help(one for one in self.BINDINGS if isinstance(one, Binding)))

    def action_next_theme(self) -> None:
        """Go through the themes."""
        names = [one.name for one in self._themes]
        if names:
            at = names.index(self.theme) if self.theme in names else -1
            self.theme = names[(at + 1) % len(names)]

    @work(exit_on_error=False)
    async def action_deploy(self) -> None:
        """Choose an ensemble, deploy it, and stand on it."""
        from wspilot.tui.screens.deploy import Deploy

        made = await self.push_screen_wait(Deploy(self._source))
        if made is not None:
            self.notify("Deployed: it comes up here.", markup=False)
            self.table.select(f"workspaces/{made}")

    @work(exit_on_error=False)
    async def action_act(self) -> None:
        """Choose a verb for what stands under the cursor now, and hear how it went."""
        from wspilot.tui import acting
        from wspilot.tui.screens.act import Act, Target

        loss = loss_of(self._model, self.table.cursor_key, time.time())
        if loss is None:
            self.notify("Nothing to act on here: choose a workspace, a group or a VM that is "
                        "not over.", markup=False)  # fmt: skip
            return
        target = Target(loss.target, f"{loss.kind} {loss.name}")
        if verb := await self.push_screen_wait(Act(target)):
            await acting.act(self._source, verb, target, self._tell)

    def _tell(self, words: str, bad: bool) -> None:
        self.notify(words, severity="error" if bad else "information", markup=False)

    def action_destroy(self) -> None:
        """Ask, naming what is lost. The target is what stands under the cursor now, by its id."""
        loss = loss_of(self._model, self.table.cursor_key, time.time())
        if loss is None:
            self.notify("Nothing to destroy here: choose a workspace, a group or a VM that is "
                        "not over.", markup=False)  # fmt: skip
        else:
            self._destroy(loss)

    @work(exit_on_error=False)
    async def _destroy(self, loss: Loss) -> None:
        from wspilot.tui.screens.confirm import Confirm

        if not await self.push_screen_wait(Confirm(loss)):
            return
        try:
            await self._source.call("destroy", ids=[loss.target], token=uuid.uuid4().hex)
        except WspilotError as error:
            self.notify(
                clean(f"{error.message} {error.hint}", 400),
                title="not destroyed",
                severity="error",
                markup=False,
            )
        else:
            self.notify(f"{loss.title}: accepted", markup=False)


def run(home: Path, *, demo: bool = False, read_only: bool = False) -> int:
    """Show the interface until it is closed. Raises UsageError where TERM cannot draw it."""
    if os.environ.get("TERM", "") in ("", "dumb"):
        raise UsageError(
            "this terminal (TERM) cannot draw the interface", "use: wspilot list --watch"
        )
    source: Source
    if demo:
        from wspilot.tui.demo import DemoSource

        source = DemoSource()
    else:
        source = ClientSource(home)
    app = WspilotApp(source, read_only)
    app.run()
    return app.return_code or 0


__all__: list[Any] = ["WspilotApp", "run"]

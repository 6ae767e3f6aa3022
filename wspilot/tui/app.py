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

from wspilot.errors import NoDaemon, UsageError, WspilotError
from wspilot.text import clean, format_duration
from wspilot.tui import look, theme
from wspilot.tui.live import LiveModel, Row, left_of, seconds_of
from wspilot.tui.screens.confirm import Confirm, Loss
from wspilot.tui.screens.deploy import Deploy
from wspilot.tui.screens.help import Help
from wspilot.tui.source import ClientSource, Source
from wspilot.tui.widgets.detail import Detail
from wspilot.tui.widgets.events import Events
from wspilot.tui.widgets.treetable import TreeTable

FLUSH_S = 0.25
RETRY_S = (1.0, 2.0, 4.0, 7.0, 10.0)
EMPTY = "No workspaces yet. Press n to deploy an ensemble."


class WspilotApp(App[None]):
    """Look at leases, deploy and destroy them."""

    TITLE = "wspilot"
    ENABLE_COMMAND_PALETTE = True
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (18, "-tall")]
    CSS = """
    Screen { background: $background; }
    #top { height: 1; background: $panel; padding: 0 1; }
    #summary { width: 1fr; height: 1; }
    #status { width: auto; height: 1; color: $secondary; margin-left: 2; }
    .-narrow #status { display: none; }
    #banner { height: auto; background: $warning; color: $background; padding: 0 1;
              display: none; }
    #banner.-shown { display: block; }
    #main { height: 1fr; }
    #tree { width: 1fr; }
    Detail { width: 46; border-left: tall $panel; }
    .-narrow Detail { display: none; }
    .-narrow .-detail Detail { display: block; width: 100%; border: none; }
    .-narrow .-detail #tree { display: none; }
    #events { height: 9; border-top: solid $panel; }
    .-narrow #events { height: 6; }
    .-flat #events { display: none; }
    Footer { background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "n", "deploy", "Deploy", tooltip="lease the VMs of an ensemble file", id="app.deploy"
        ),
        Binding(
            "d",
            "destroy",
            "Destroy",
            tooltip="end what is selected; it asks first",
            id="app.destroy",
        ),
        Binding(
            "enter,right,l",
            "open",
            "Open",
            tooltip="unfold, or show the details",
            key_display="enter",
            id="app.open",
        ),
        Binding(
            "left,h",
            "close",
            "Fold",
            tooltip="fold, or go to what it belongs to",
            show=False,
            key_display="left",
            id="app.close",
        ),
        Binding(
            "escape",
            "close_details",
            "Back",
            show=False,
            tooltip="close the details",
            id="app.back",
        ),
        Binding("t", "next_theme", "Theme", tooltip="the next theme", id="app.theme"),
        Binding(
            "r", "retry", "Retry", show=False, tooltip="connect to the daemon now", id="app.retry"
        ),
        Binding(
            "question_mark", "help", "Help", tooltip="these keys", key_display="?", id="app.help"
        ),
        Binding(
            "q", "quit", "Quit", tooltip="close the screen at once; leases go on", id="app.quit"
        ),
    ]

    def __init__(self, source: Source, read_only: bool = False) -> None:
        super().__init__()
        self._source, self._read_only = source, read_only
        self._model = LiveModel()
        self._dirty, self._connected = False, False
        self._heard = 0.0
        self._retry = asyncio.Event()
        self._themes, self._warnings = theme.load()
        # Held here, not looked up: updates may still come while the screen is being taken down.
        self.table = TreeTable(self._line, "connecting ...", id="tree")
        self._detail, self._events = Detail(), Events(id="events")
        self._summary = Static(id="summary", markup=False)
        self._status = Static(id="status", markup=False)
        self._banner = Static(id="banner", markup=False)

    # -- layout

    def compose(self) -> ComposeResult:
        with Horizontal(id="top"):
            yield self._summary
            yield self._status
        yield self._banner
        with Vertical():
            with Horizontal(id="main"):
                yield self.table
                yield self._detail
            yield self._events
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        for one in self._themes:
            self.register_theme(one)
        if any(one.name == theme.DEFAULT for one in self._themes):
            self.theme = theme.DEFAULT
        for warning in self._warnings:
            self.notify(warning, severity="warning", markup=False)
        self.table.focus()
        self._draw_top()
        self.set_interval(FLUSH_S, self._repaint)
        self.set_interval(1.0, self._each_second)
        self._follow()

    def _line(self, key: str) -> Row:
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
                    self._hear()
                    self._events.add(self._model.apply(update))
                    self._dirty = True
            except WspilotError as error:
                self._lost(error)
            self._retry.clear()
            wait = RETRY_S[min(failures, len(RETRY_S) - 1)]
            failures += 1
            try:
                await asyncio.wait_for(self._retry.wait(), wait)
            except TimeoutError:
                pass

    def _hear(self) -> None:
        self._heard = time.time()
        if not self._connected:
            self._connected = True
            self.table.stale = False
            self.table.empty = EMPTY
            self._banner.remove_class("-shown")

    def _lost(self, error: WspilotError) -> None:
        self._connected = False
        self.table.stale = True
        self.table.empty = "No daemon yet."
        age = (
            f"; what you see is {format_duration(time.time() - self._heard)} old"
            if self._heard
            else ""
        )
        what = "no daemon" if isinstance(error, NoDaemon) else "daemon"
        self._banner.update(
            Text(clean(f"{what}: {error.message}{age} - {error.hint} - r tries now", 400))
        )
        self._banner.add_class("-shown")
        self._dirty = True

    # -- drawing

    def _repaint(self) -> None:
        if not self._dirty:
            return
        self._dirty = False
        self.table.show(self._model.keys())
        self._draw_top()
        self._draw_detail()

    def _each_second(self) -> None:
        """Times pass even when nothing happens."""
        if self._connected and not self.table.is_empty:
            self.table.refresh()
            self._draw_detail()
        self._draw_top()

    def _draw_detail(self) -> None:
        if self._detail.display:
            self._detail.show(self._model, self.table.cursor_key, time.time())

    def _draw_top(self) -> None:
        colours = self.theme_variables
        text = Text("wspilot  ", style="bold")
        for state, number in self._model.counts():
            style = f"not bold {colours.get(look.colour(state), '')}"
            text.append(f"{look.glyph(state)} {number} {state}   ", style=style)
        if self._read_only:
            text.append("read-only", style=colours.get("warning", ""))
        self._summary.update(text)
        self._status.update(Text(self._status_words()))

    def _status_words(self) -> str:
        status = self._model.status()
        if status is None or not self._connected:
            return "no daemon" if self._heard or not self._connected else ""
        polled = status["poll"]["at"]
        ago = f"{format_duration(time.time() - seconds_of(polled))} ago" if polled else "not yet"
        said = "" if status["poll"]["ok"] is not False else f" FAILING: {status['poll']['text']}"
        spool = status["spool"]
        trouble = f"  spool: {spool['text']}" if spool["text"] else ""
        trouble += f"  {spool['bad']} refused" if spool["bad"] else ""
        return f"{status['lrm']} asked {ago}{said}{trouble}"

    @on(TreeTable.Moved)
    def _moved(self) -> None:
        self._draw_detail()

    # -- acts

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What only changes things is hidden from who may only look."""
        return not (self._read_only and action in ("deploy", "destroy"))

    def action_open(self) -> None:
        """Unfold; on a leaf, or a second time, show the details."""
        key = self.table.cursor_key
        if key is None:
            return
        if key in self._model.folded:
            self._model.fold(key, False)
            self._dirty = True
        else:
            self.query_one("#main").add_class("-detail")
            self._draw_detail()

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

    def action_close_details(self) -> None:
        """Close the details on a narrow screen."""
        self.query_one("#main").remove_class("-detail")

    def action_retry(self) -> None:
        """Connect now."""
        self._retry.set()

    def action_help(self) -> None:
        """The keys."""
        self.push_screen(Help(one for one in self.BINDINGS if isinstance(one, Binding)))

    def action_next_theme(self) -> None:
        """Go through the themes."""
        names = [one.name for one in self._themes]
        if names:
            at = names.index(self.theme) if self.theme in names else -1
            self.theme = names[(at + 1) % len(names)]
            self._dirty = True

    @work(exit_on_error=False)
    async def action_deploy(self) -> None:
        """Choose an ensemble, deploy it, and stand on it."""
        made = await self.push_screen_wait(Deploy(self._source))
        if made is not None:
            self.notify("deployed: it comes up here", markup=False)
            self.table.select(f"workspaces/{made}")

    @work(exit_on_error=False)
    async def action_destroy(self) -> None:
        """Ask, naming what is lost; the target is the one under the cursor now."""
        loss = self._loss(self.table.cursor_key)
        if loss is None or not await self.push_screen_wait(Confirm(loss)):
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
            self.notify(f"{loss.title.removesuffix('?')}: accepted", markup=False)

    def _loss(self, key: str | None) -> Loss | None:
        ws = self._model.workspace_of(key or "")
        vms = self._model.vms_of(key or "")
        if key is None or ws is None or not vms or ws["state"] == "ended":
            return None
        left, _ = left_of(ws, time.time())
        names = ", ".join(vm["name"] for vm in vms[:6]) + (" ..." if len(vms) > 6 else "")
        count = f"{len(vms)} VM{'s' if len(vms) != 1 else ''}"
        lines = (
            f"{count}: {names}",
            "What is on their disks is lost.",
            f"Lease left: {left}." if left else "It is not active yet.",
            "The nodes go back to jobs.",
        )
        if key.startswith("workspaces/"):
            return Loss(ws["id"], f"Destroy the workspace {ws['name']}?", lines, ws["name"])
        if key.startswith("groups/"):
            group = key.split("/")[2]
            return Loss(f"{ws['id']}/{group}", f"Destroy the group {ws['name']}/{group}?", lines)
        return Loss(vms[0]["id"], f"Destroy the VM {vms[0]['name']}?", lines)


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

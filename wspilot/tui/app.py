"""The terminal interface: one main screen, dialogs over it, all from one source.

The way of an event: subscription -> `LiveModel.apply` -> at most four times a second the table
repaints what is visible. Requests run in workers; the screen never waits for the daemon.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import work
from textual._styles_cache import StylesCache
from textual.app import App
from textual.await_complete import AwaitComplete
from textual.events import Event, Paste
from textual.screen import Screen

from wspilot.client import Update
from wspilot.errors import UsageError, WspilotError
from wspilot.text import clean, visible
from wspilot.tui import habits, theme
from wspilot.tui.following import Following
from wspilot.tui.live import LiveModel
from wspilot.tui.rows import Rows
from wspilot.tui.screens.main import MainScreen
from wspilot.tui.source import ClientSource, Source
from wspilot.tui.tree import Tree
from wspilot.tui.words import in_words

if TYPE_CHECKING:
    from textual.command import CommandPalette

    from wspilot.tui.acting import Target
    from wspilot.tui.builder.sent import Sent
    from wspilot.tui.notices import Watch
    from wspilot.tui.widgets.treetable import TreeTable


def _everything() -> type[Any]:
    """The palette's provider: imported when it is opened."""
    from wspilot.tui.palette import Everything

    return Everything


class WspilotApp(App[None]):
    """Look at leases, deploy and destroy them."""

    TITLE = "wspilot"
    ENABLE_COMMAND_PALETTE = True
    COMMANDS: ClassVar[set[Any]] = {_everything}
    CSS = (
        MainScreen.STYLES
        + """
    Toast { max-width: 70; }
    Input > .input--placeholder { color: $secondary; text-style: italic; }
    SelectCurrent .arrow { color: $secondary; }
    CommandPalette SearchIcon { display: none; }
    """
    )

    def __init__(
        self,
        source: Source,
        read_only: bool = False,
        *,
        clock: Callable[[], float] = time.time,
        memory: habits.Memory | None = None,
        taste: habits.Taste | None = None,
        warnings: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.source, self.read_only, self.clock = source, read_only, clock
        self.memory, self._taste = memory or habits.Memory(), taste or habits.Taste()
        self.motion = self._taste.motion and self.animation_level != "none"
        self.animation_level = "none"  # nothing here moves by itself, least of all over a slow line
        self.keys: dict[str, str] = {}
        self.model = LiveModel()
        self.rows = Rows(self.model)
        self.outline = Tree(self.model, self.rows)
        self.connected, self.heard, self.error = False, 0.0, ""
        self.crash = ""  # what is told when all is over
        self._before = ""  # the theme, while another is looked at
        self._watch: Watch | None = None
        self._following = Following(source, self._take, self._lose)
        self._warnings = list(warnings or ())
        self._load_themes()
        self.main = MainScreen(clock, self)

    def _load_themes(self) -> None:
        self._themes, faults = theme.load_all()
        self._warnings += faults
        for one in self._themes:
            self.register_theme(one)
        wanted = self.memory.get("theme", "") or self._taste.theme
        names = set(self.available_themes)
        if wanted and wanted not in names:
            ours = ", ".join(one.name for one in self._themes)
            self._warnings.append(f"there is no theme {clean(wanted, 60)!r}; there are: {ours}")
        chosen = wanted if wanted in names else theme.DEFAULT
        if chosen in names:
            self.theme = chosen  # before the first frame: later all styles are made twice

    def get_default_screen(self) -> Screen[Any]:
        return self.main

    def pop_screen(self) -> AwaitComplete:
        """Textual 8 keeps the last 1,024 widgets whose colours it asked for in an `lru_cache`, and
        with each all that it has painted: half a MiB for every dialog that was ever open."""
        cached = getattr(StylesCache, "get_inner_outer", None)  # where a release has it
        getattr(cached, "cache_clear", bool)()
        return super().pop_screen()

    def on_mount(self) -> None:
        self._use_keys()
        for warning in self._warnings:
            self.tell(warning, "warning")
        self.theme_changed_signal.subscribe(self, lambda _: self._recolour())
        self.set_interval(1.0, self._look)
        self.call_after_refresh(self._begin)  # the skeleton first
        self._obey_signals()

    def _recolour(self) -> None:
        """What Textual leaves as it was: our own paint, and the palette where it is open."""
        self.stylesheet.update(self.screen, animate=False)
        self.main.repaint_all()

    def _obey_signals(self) -> None:
        """End in order: the terminal is given back as it was. (A browser's driver has its own.)"""
        if self.is_headless or self.is_web:
            return
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._end_by, number)

    def _end_by(self, number: int) -> None:
        self.exit(return_code=128 + number)

    def _use_keys(self) -> None:
        """The user's keymap; what clashes is said, and left as it was."""
        if self._taste.keys:
            from wspilot.tui import keymap  # and with it all screens

            self.keys, faults = keymap.judged(self._taste.keys, keymap.places())
            self._warnings += faults
            self.set_keymap(self.keys)

    @cached_property
    def sent(self) -> Sent:
        """The tokens of what was deployed and is not known to be leased."""
        from wspilot.tui.builder.sent import Sent

        home = self.source.home
        return Sent(home / "tui" / "sent.json" if home else None)

    @property
    def table(self) -> TreeTable:
        """The main screen's table."""
        return self.main.table

    # -- the source

    def _begin(self) -> None:
        """The first frame is out."""
        self._follow()

    @work(exclusive=True, exit_on_error=False, group="follow")
    async def _follow(self) -> None:
        await self._following.run()

    def _take(self, update: Update) -> None:
        self.model.apply(update)
        self.heard = self.clock()
        self._collect()
        first, self.connected = not self.connected, True
        self.main.heard(first)
        if first:
            self._look()

    def _lose(self, error: WspilotError) -> None:
        self._collect()
        said = in_words(error)
        self.error = said[:1].upper() + said[1:]
        self.connected = False
        self.main.lost()

    @staticmethod
    def _collect() -> None:
        """From now on. What is there stays: going through all of it again would hold up keys."""
        if not gc.isenabled():  # the command line has turned it off
            gc.freeze()
            gc.enable()

    def retry(self) -> None:
        """Connect now."""
        self._following.retry()

    def _look(self) -> None:
        """Ring for what deserves it."""
        if not self.connected:
            return
        if self._watch is None:
            from wspilot.tui.notices import Watch

            self._watch = Watch()
        for notice in self._watch.look(self.model, self.clock()):
            if self._taste.bell:
                self.bell()
            self._tell_desktop(notice.text)
            self.tell(notice.text, notice.level)

    def _tell_desktop(self, text: str) -> None:
        """By the terminal, where it can. (A browser is none.)"""
        from wspilot.tui import desktop

        if self._driver is None or self.is_headless or self.is_web:
            return
        way = desktop.way(self._taste.desktop, os.environ)
        if made := desktop.sequence(text, way, os.environ):
            self._driver.write(made)

    # -- what must not happen

    async def on_event(self, event: Event) -> None:
        """Nothing pasted acts upon the terminal, not in the lines of Textual's own either."""
        if isinstance(event, Paste):
            from textual.widgets import Input  # which the first frame does without

            if isinstance(self.focused, Input):
                event.text = visible("".join(event.text.splitlines()[:1]))
        await super().on_event(event)

    def _handle_exception(self, error: Exception) -> None:
        """Kept in a file; Textual then gives the terminal back."""
        self.note_crash(error)
        super()._handle_exception(error)

    def _fatal_error(self) -> None:
        """Textual would print a traceback: `crash` is told instead."""
        self._close_messages_no_wait()

    def note_crash(self, error: BaseException) -> None:
        """The first one counts: others follow from it."""
        if not self.crash:
            from wspilot.tui import crash

            home = self.source.home
            place = home / "tui" if home else habits.state_dir()
            self.crash = crash.keep(place, error, self.model.items["events"].values())

    # -- what everybody may ask for

    def tell(self, words: str, level: str) -> None:
        """A toast, and a line in the events: toasts go. `level` as of events."""
        severity: Any = {"info": "information"}.get(level, level)
        self.notify(clean(words, 400), severity=severity, markup=False)
        self.model.note(words, level, self.clock())
        self.main.dirty = True

    def use_theme(self, name: str) -> None:
        """Now, and in the next session."""
        self.theme = name
        self.memory.keep("theme", name)

    def on_command_palette_option_highlighted(
        self, event: CommandPalette.OptionHighlighted
    ) -> None:
        """A theme is shown while the palette's cursor is on it."""
        hit = getattr(event.highlighted_event.option, "hit", None)
        command = getattr(hit, "command", None)
        meant = getattr(command, "func", None) == self.use_theme
        self._preview(str(getattr(command, "args", ("",))[0]) if meant else "")

    def on_command_palette_closed(self, event: CommandPalette.Closed) -> None:
        """Nothing was chosen: the theme is what it was. (What was chosen sets its own.)"""
        if not event.option_selected:
            self._preview("")
        self._before = ""

    def _preview(self, name: str) -> None:
        """Show a theme for now; empty: the one before again."""
        if name:
            self._before = self._before or self.theme
            self.theme = name
        elif self._before:
            self.theme, self._before = self._before, ""

    def action_next_theme(self) -> None:
        """Go through our themes."""
        names = [one.name for one in self._themes]
        if names:
            at = names.index(self.theme) if self.theme in names else -1
            self.use_theme(names[(at + 1) % len(names)])

    def reach(self, verb: str, target: Target) -> None:
        """Into a guest: this screen makes room, and comes back."""
        from wspilot.tui.guest import reach

        reach(self, verb, target)


def run(home: Path, *, demo: bool = False, read_only: bool = False, mouse: bool = True) -> int:
    """Show the interface until it is closed. Raises UsageError where TERM cannot draw it."""
    if os.environ.get("TERM", "") in ("", "dumb") and "TEXTUAL_DRIVER" not in os.environ:
        raise UsageError(
            "this terminal (TERM) cannot draw the interface", "use: wspilot list --watch"
        )
    source: Source
    memory = habits.Memory()
    if demo:
        from wspilot.tui.demo import DemoSource

        source = DemoSource()
    else:
        source = ClientSource(home)
        memory = habits.Memory(home / "tui" / "kept.json")
    taste, warnings = habits.read_taste(habits.config_dir() / "tui.toml")
    app = WspilotApp(source, read_only, memory=memory, taste=taste, warnings=warnings)
    try:
        app.run(mouse=mouse)
    except Exception as error:  # outside of every handler: the driver, the event loop
        app.note_crash(error)
    if app.crash:
        print(f"wspilot: {app.crash}", file=sys.stderr)
        return 1
    return app.return_code or 0


__all__ = ["WspilotApp", "run"]

"""The builder's draft: a form and its TOML side by side, editable both ways, checked as one types.

Only what somebody changes in the form changes the TOML, and only there. The check is the daemon's
own validator (a dry run through the socket). The draft survives a crash.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Static, TextArea
from textual.worker import Worker, WorkerState

from wspilot.errors import WspilotError
from wspilot.text import clean
from wspilot.tui import look
from wspilot.tui.builder import asking, draft, files
from wspilot.tui.builder.area import TomlArea
from wspilot.tui.builder.cost import faults, start
from wspilot.tui.builder.form import Form, Groups
from wspilot.tui.builder.toml_edit import edited
from wspilot.tui.builder.toml_out import dumps

if TYPE_CHECKING:
    from wspilot.tui.app import WspilotApp

CHECK_S = 0.3  # after the last key
LOOK_S = 1.0  # whether the daemon is there again
WIDE, TALL = 116, 30
CHECKING, GOOD, BAD = "is being checked", "can be deployed: F5", "cannot be deployed"


class Drafting(Screen[str]):
    """The document and its two faces; its result is the id of the new workspace, or None."""

    DEFAULT_CSS = """
    Drafting #top { height: 1; background: $panel; padding: 0 1; }
    Drafting #title { width: 1fr; height: 1; text-style: bold; }
    Drafting #state { width: auto; height: 1; }
    Drafting .error { color: $error; }
    Drafting .success { color: $success; }
    Drafting .secondary { color: $secondary; }
    Drafting #sides { height: 1fr; }
    Drafting Form { width: 1fr; padding: 1 1 0 2; }
    Drafting.-low Form { padding: 0 1 0 2; }
    Drafting #said { height: 9; border-top: solid $secondary 40%; background: $surface;
                  padding: 0 1; scrollbar-size-vertical: 1; }
    Drafting #said:focus { border-top: solid $primary; }
    Drafting #said Static { width: 1fr; height: auto; }
    Drafting.-low #said { height: 6; }
    Drafting.-one TomlArea { display: none; }
    Drafting.-one.-toml TomlArea { display: block; }
    Drafting.-one.-toml Form { display: none; }
    """

    def __init__(self, app: WspilotApp, like: dict[str, Any] | None = None) -> None:
        super().__init__()
        self._wspilot, self._source = app, app.source
        home = self._source.home
        self._file = files.DraftFile(home / "tui" / "draft.toml" if home else None)
        self._types: tuple[str, ...] = ()
        text = "" if like else self._file.load()
        self._restored = bool(text)
        self._kept = self._text = text or dumps(like or draft.empty())
        self._loaded = self._text if text or like else ""  # what changes are told against
        self._ours = self._restored  # the file holds what is written here
        self._doc, self._unread = draft.read(self._text)
        self._form, self._area = Form(self._edited), TomlArea(self._text)
        self._verdict, self._state = Static("", markup=False), Static("", id="state", markup=False)
        self._typing = "", "", ""  # a field, the text before it was typed in, and after
        self._good: draft.Doc | None = None  # what was checked and may be deployed
        self._checking, self._connected = True, app.connected

    def compose(self) -> ComposeResult:
        with Horizontal(id="top"):
            yield Static("Build an ensemble", id="title", markup=False)
            yield self._state
        with Horizontal(id="sides"):
            yield self._form
            yield self._area
        with VerticalScroll(id="said"):
            yield self._verdict
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self._sized()
        if self._restored:
            self._wspilot.tell("Your draft is back: ctrl+n begins anew, F7 loads another.", "info")
        self._show(0)
        by_hand = self._unread or draft.odd(self._doc)
        self.action_switch() if by_hand else self.query_one("#w-name").focus()
        self._offer()
        self._check()
        self.set_interval(LOOK_S, self._look)

    def on_unmount(self) -> None:
        self._keep()

    def on_resize(self) -> None:
        self._sized()

    def _sized(self) -> None:
        self.set_class(self.size.width < WIDE, "-one")
        self.set_class(self.size.height < TALL, "-low")

    def _look(self) -> None:
        """When the daemon is there again, it is asked again."""
        before, self._connected = self._connected, self._wspilot.connected
        if self._connected and not before:
            self._offer()
            self._check()

    @work(exclusive=True, exit_on_error=False, group="offer")
    async def _offer(self) -> None:
        """What the site has to give: the catalogue, the images."""
        try:
            site = await asking.site(self._source)
        except WspilotError as error:
            said = f"What there is to lease is not known: {asking.told(error)}"
            self._form.offer({}, [said])
            return
        self._types = site.types
        self._form.offer(site.choices, site.lines)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Whatever else goes wrong is said, too."""
        if event.state is WorkerState.ERROR:
            said = f"{event.worker.group}: went wrong: {event.worker.error!r}"
            self._wspilot.tell(said, "error")
            if event.worker.group == "check":
                self._judge([said])

    def action_switch(self) -> None:
        """To the TOML, and back; in a narrow terminal the one takes the other's place."""
        there = self._area.has_focus
        self.set_class(not there, "-toml")
        (self.query_one(Groups) if there else self._area).focus()

    # -- both ways

    def _edited(self, group: int | None, name: str, text: str) -> None:
        """Typed into the form."""
        self._read()
        if group is None:
            new, field = draft.with_workspace(self._doc, name, text), "w"
        else:
            new, field = draft.with_group(self._doc, group, name, text), "g"
        if not self._unread:
            self._now(new, self._form.group, f"{field}-{name}")

    def _now(self, doc: draft.Doc, group: int, but: str = "") -> None:
        """Another document, made by the form: the TOML follows where it has changed."""
        if doc != self._doc:
            self._doc, self._text = doc, self._anew(doc, f"{group} {but}" if but else "")
            self._area.become(self._text)
            self._check()
        self._form.show(doc, group, but)

    def _anew(self, doc: draft.Doc, field: str) -> str:
        """The TOML of another document. While one field is typed, made from what was there before
        it: a value that is gone for a moment keeps its place and its comment."""
        before, old, made = self._typing
        if not field or (before, made) != (field, self._text):
            old = self._text
        text = edited(old, doc)
        self._typing = field, old, text
        if "#" in old and "#" not in text:
            self._wspilot.tell("The TOML was written anew, without its comments; ctrl+z there "
                               "brings them back.", "warning")  # fmt: skip
        return text

    @on(TextArea.Changed)
    def _wrote(self, event: TextArea.Changed) -> None:
        event.stop()
        self._read()

    def catch_up(self) -> None:
        """What was just typed, on either side, counts before a key acts on the whole."""
        self._read()
        self._form.hear()

    def _read(self) -> None:
        """What is written by hand: the form follows where it can be read."""
        if self._area.text == self._text:
            return
        self._text = self._area.text
        doc, self._unread = draft.read(self._text)
        if not self._unread:
            self._doc = doc
        self._show(self._form.group)
        self._check()

    def _show(self, group: int) -> None:
        self._form.disabled = bool(self._unread)
        last = max(0, len(draft.groups(self._doc)) - 1)
        self._form.show(self._doc, min(group, last))

    # -- the check

    def _check(self) -> None:
        """From this moment on nothing that was checked before is deployed."""
        self._good, self._checking = None, True
        self._title(CHECKING, "secondary")
        self._judged()

    @work(exclusive=True, exit_on_error=False, group="check")
    async def _judged(self) -> None:
        await asyncio.sleep(CHECK_S)
        if not await asyncio.to_thread(self._keep):
            self._wspilot.tell("The draft is not kept: the disk refuses it.", "warning")
        if self._unread:
            self._judge([f"The TOML cannot be read: {self._unread}"])
            return
        doc = self._doc
        try:
            cost = await asking.plan(self._source, doc)
        except WspilotError as error:
            if error.message.startswith("ensemble: "):
                found = faults(error.message)
                self._judge([one.text for one in found])
                self._form.blame(found)
            else:
                self._judge([asking.told(error)])
            return
        self._good, self._checking = doc, False
        self._form.blame(())
        self._title(GOOD, "success", "ready")
        when = start(self._wspilot.model)
        self._say("", cost[0], cost[1], when, *cost[2:])

    def _judge(self, wrong: list[str]) -> None:
        """It cannot be deployed: why."""
        self._checking = False
        self._form.blame(())
        self._title(BAD, "error", "failed")
        self._say("error", *(f"{look.glyph('failed')} {clean(one, 1000)}" for one in wrong))

    def _say(self, colour: str, *lines: str) -> None:
        self._verdict.set_classes(colour)
        self._verdict.update("\n".join(lines))

    def _title(self, words: str, colour: str, sign: str = "") -> None:
        self._state.set_classes(colour)
        self._state.update(f"{look.glyph(sign)} {words}" if sign else words)

    def _keep(self) -> bool:
        """The draft, where something was written; False: the disk refuses."""
        text = self._text
        if text == self._kept:
            return True
        self._ours = kept = self._file.keep(text)
        self._kept = text
        return kept

    def _may(self) -> bool:
        """Where the form cannot change the TOML, it says why."""
        self.catch_up()
        why = self._unread or draft.odd(self._doc)
        if why:
            self._wspilot.tell(f"Put the TOML right first (F9): {why}", "warning")
        return not why

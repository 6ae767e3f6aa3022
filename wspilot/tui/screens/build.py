"""The ensemble builder: a form and its TOML side by side, editable both ways, checked as one types.

Only what somebody changes in the form changes the TOML, and only there. The check is the daemon's
own validator (a dry run through the socket); only what it has accepted can be deployed, and what
is sent is what was checked. The draft survives a crash.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Static, TextArea
from textual.worker import Worker, WorkerState

from wspilot.asks import token
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
WIDE, TALL = 100, 30
CHECKING, GOOD, BAD = "is being checked", "can be deployed: F5", "cannot be deployed"


def _key(key: str, action: str, label: str, tip: str, *, show: bool = True) -> Binding:
    """Before the editor's own: F6 and F7 select there."""
    return Binding(key, action, label, show=show, tooltip=tip, priority=True, id=f"build.{action}")


class Build(Screen[str]):
    """The id of the new workspace, or None."""

    DEFAULT_CSS = """
    Build #top { height: 1; background: $panel; padding: 0 1; }
    Build #title { width: 1fr; height: 1; text-style: bold; }
    Build #state { width: auto; height: 1; }
    Build #sides { height: 1fr; }
    Build Form { width: 1fr; padding: 1 1 0 2; }
    Build.-low Form { padding: 0 1 0 2; }
    Build #said { height: 9; border-top: solid $secondary 40%; background: $surface;
                  padding: 0 1; scrollbar-size-vertical: 1; }
    Build #said:focus { border-top: solid $primary; }
    Build #said Static { width: 1fr; height: auto; }
    Build.-low #said { height: 6; }
    Build.-one TomlArea { display: none; }
    Build.-one.-toml TomlArea { display: block; }
    Build.-one.-toml Form { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        _key("f1", "help", "Help", "this page; also ? where nothing is typed"),
        Binding("question_mark", "help", "Help", show=False, id="build.help-too"),
        _key("f2", "add", "Add", "a group more"),
        _key("f3", "copy", "Copy group", "the group once more, with another name", show=False),
        _key("f4", "remove", "Remove group", "without the group", show=False),
        _key("f5", "deploy", "Deploy", "lease it, once"),
        _key("f6", "script", "Script", "what would be asked for, and the job script"),
        _key("f7", "load", "Load", "an example, or a file"),
        _key("f8", "save", "Save", "into a file; F7 offers it again"),
        _key("f9", "switch", "TOML", "to the TOML, and back"),
        _key("ctrl+n", "anew", "New", "begin with an empty one; undo brings this back", show=False),
        Binding("colon", "palette", "Palette", id="build.palette", show=False,
                key_display=": ^p", tooltip="everything that can be done, by name"),
        Binding("escape", "leave", "Close", id="build.leave", tooltip="close; the draft is kept"),
    ]  # fmt: skip

    def __init__(self, app: WspilotApp, like: dict[str, Any] | None = None) -> None:
        super().__init__()
        self._wspilot, self._source = app, app.source
        home = self._source.home
        self._file = files.DraftFile(home / "tui" / "draft.toml" if home else None)
        self._types: tuple[str, ...] = ()
        text = "" if like else self._file.load()
        self._restored = bool(text)
        self._kept = self._text = text or dumps(like or draft.empty())
        self._ours = self._restored  # the file holds what is written here
        self._doc, self._unread = draft.read(self._text)
        self._form, self._area = Form(), TomlArea(self._text)
        self._verdict, self._state = Static("", markup=False), Static("", id="state", markup=False)
        self._typing = "", "", ""  # a field, the text before it was typed in, and after
        self._good: draft.Doc | None = None  # what was checked and may be deployed
        self._checking, self._connected = True, app.connected
        self._sending = False

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

    # -- both ways

    @on(Form.Changed)
    def _edited(self, event: Form.Changed) -> None:
        if event.group is None:
            new, field = draft.with_workspace(self._doc, event.field_name, event.text), "w"
        else:
            new, field = draft.with_group(self._doc, event.group, event.field_name, event.text), "g"
        if not self._unread:
            self._now(new, self._form.group, f"{field}-{event.field_name}")

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
        """Written by hand: the form follows where it can be read."""
        event.stop()
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

    @work(exclusive=True, exit_on_error=False, group="check")
    async def _check(self) -> None:
        self._good, self._checking = None, True
        self._title(CHECKING, "secondary")
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
        self._verdict.update(Text("\n".join((cost[0], cost[1], when, *cost[2:]))))

    def _judge(self, wrong: list[str]) -> None:
        """It cannot be deployed: why."""
        self._checking = False
        self._form.blame(())
        self._title(BAD, "error", "failed")
        sign, style = look.glyph("failed"), self._style("error")
        self._verdict.update(Text("\n".join(f"{sign} {clean(one, 1000)}" for one in wrong), style))

    def _title(self, words: str, colour: str, sign: str = "") -> None:
        self._state.update(Text(f"{look.glyph(sign)} {words}" if sign else words,
                                self._style(colour)))  # fmt: skip

    def _style(self, colour: str) -> str:
        return look.style(self.app.theme_variables.get(colour, ""))

    def _keep(self) -> bool:
        """The draft, where something was written; False: the disk refuses."""
        text = self._text
        if text == self._kept:
            return True
        self._ours = kept = self._file.keep(text)
        self._kept = text
        return kept

    # -- groups

    def _may(self) -> bool:
        """Where the form cannot change the TOML, it says why."""
        why = self._unread or draft.odd(self._doc)
        if why:
            self._wspilot.tell(f"Put the TOML right first (F9): {why}", "warning")
        return not why

    def action_add(self) -> None:
        """One group more."""
        if self._may():
            self._now(*draft.added(self._doc, self._types))
            self.query_one("#g-name").focus()

    def action_copy(self) -> None:
        """The group once more."""
        if self._may():
            self._now(*draft.copied(self._doc, self._form.group))

    def action_remove(self) -> None:
        """Without the group."""
        if self._may():
            self._now(*draft.removed(self._doc, self._form.group))

    def action_move(self, by: int) -> None:
        """The group further up or down."""
        if self._may():
            self._now(*draft.moved(self._doc, self._form.group, by))

    def action_group(self, at: int) -> None:
        """To a group."""
        self._form.show(self._doc, at)
        self.query_one(Groups).focus()

    def action_undo(self) -> None:
        """Without the last change."""
        self._area.undo()

    # -- files

    @work(exit_on_error=False, group="load")
    async def action_load(self) -> None:
        """An example, or a file."""
        from wspilot.tui.screens.load import Load

        text = await self.app.push_screen_wait(Load())
        if text is not None:
            self._take(text)

    def action_anew(self) -> None:
        """An empty one."""
        self._take(dumps(draft.empty(self._types)))

    def _take(self, text: str) -> None:
        """Another text in the place of this one."""
        self._area.become(text)
        self._form.group = 0
        (self._area if self.has_class("-toml") else self.query_one(Groups)).focus()

    @work(exit_on_error=False, group="save")
    async def action_save(self) -> None:
        """Into a file."""
        from wspilot.tui.screens.ask import Ask
        from wspilot.tui.screens.choose import Choose

        name = draft.field(draft.workspace(self._doc), "name").replace("/", "-") or "ensemble"
        offered = str(files.own_dir() / f"{name}.toml")
        said = await self.app.push_screen_wait(Ask("Save as", offered, "a path"))
        if not said:
            return
        try:
            path = Path(said).expanduser()
            there = await asyncio.to_thread(path.exists)
            ways = [("keep", "keep it"), ("replace", "replace it")]
            if there and await self.app.push_screen_wait(
                Choose(f"{clean(said, 200)} is there already", ways)
            ) != "replace":  # fmt: skip
                self._wspilot.tell(f"{said}: not saved, it was there already", "info")
                return
            await asyncio.to_thread(files.save, path, self._text)
        except (OSError, RuntimeError, ValueError) as error:
            self._wspilot.tell(f"{said}: not saved: {error}", "error")
        else:
            self._wspilot.tell(f"saved: {path}", "info")

    @work(exclusive=True, exit_on_error=False, group="script")
    async def action_script(self) -> None:
        """The job script and the dry run, in full."""
        from wspilot.tui.screens.paper import Paper

        if self._unread:
            self._wspilot.tell(f"The TOML cannot be read: {self._unread}", "error")
            return
        try:
            lines = await asking.script(self._source, self._doc)
        except WspilotError as error:
            self._wspilot.tell(asking.told(error), "error")
        else:
            self.app.push_screen(Paper("What would be asked for", lines))

    # -- the keys

    def action_switch(self) -> None:
        """To the TOML, and back; in a narrow terminal the one takes the other's place."""
        there = self._area.has_focus
        self.set_class(not there, "-toml")
        (self.query_one(Groups) if there else self._area).focus()

    def action_help(self) -> None:
        """The keys."""
        from wspilot.tui.builder.help import help_page

        self.app.push_screen(help_page([*self.BINDINGS, *Groups.BINDINGS], self._wspilot.keys))

    def action_palette(self) -> None:
        """Everything by name."""
        self.app.action_command_palette()

    @property
    def group_names(self) -> list[str]:
        """Of the groups, for the palette."""
        return [draft.field(one, "name") or "?" for one in draft.groups(self._doc)]

    # -- the end

    def action_deploy(self) -> None:
        """Lease it, once."""
        if self._sending:
            self._wspilot.tell("It is being sent: the daemon has not answered yet.", "info")
        elif self._checking:
            self._wspilot.tell("It is still being checked: F5 again in a moment.", "info")
        elif self._good is None:
            self._wspilot.tell("It cannot be deployed as it stands: see below.", "warning")
        else:
            self._sending = True
            # Of the app: the outcome is told even when this screen is closed meanwhile.
            self._wspilot.run_worker(self._send(self._good, self._text), exit_on_error=False)

    async def _send(self, doc: draft.Doc, text: str) -> None:
        self._title("is being deployed", "secondary")
        key, tokens = dumps(doc), self._wspilot.tokens
        try:
            made = await asking.deploy(self._source, doc, tokens.setdefault(key, token()))
        except WspilotError as error:
            self._sending = False
            self._wspilot.tell(_not_deployed(error), "error")
            if self.is_attached:
                self._check()
        else:
            tokens.pop(key, None)
            await asyncio.to_thread(self._forget, text)
            self._landed(made)

    def _forget(self, text: str) -> None:
        """The draft of what is deployed."""
        if self._ours and self._file.load() == text:
            self._file.drop()
            self._kept = text

    def _landed(self, made: str) -> None:
        """The new workspace is there: to it, unless this screen was left."""
        if not self.is_attached:
            self._wspilot.tell("Deployed: it comes up in Leases, all of it or nothing.", "info")
            return
        while self.app.screen is not self:  # what stands above: the help, the job script
            self.app.pop_screen()
        self.dismiss(made)

    def action_leave(self) -> None:
        """Close; the draft is kept."""
        self.dismiss(None)


def _not_deployed(error: WspilotError) -> str:
    said = asking.told(error)
    if asking.unsure(error):
        return f"It is not known whether it is deployed: {said}. F5 sends it again: it is leased " \
               "once at most."  # fmt: skip
    return f"not deployed: {said}"

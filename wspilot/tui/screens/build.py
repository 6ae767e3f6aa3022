"""The ensemble builder: a form and the TOML beside it, two views of one document.

Checks as one types, by the daemon's own validator (a dry run through the socket). Only what it has
accepted can be deployed, and what is sent is what was checked. The draft survives a crash.
"""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import tomllib
from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Static, TextArea

from wspilot.errors import WspilotError
from wspilot.text import clean, format_duration, format_size
from wspilot.tui import look
from wspilot.tui.builder import draft, files
from wspilot.tui.builder.cost import cost, faults, start
from wspilot.tui.builder.form import Form, Groups
from wspilot.tui.builder.toml_out import dumps

if TYPE_CHECKING:
    from wspilot.tui.app import WspilotApp

CHECK_S = 0.3  # after the last key
WIDE = 100


class Build(Screen[str]):
    """The id of the new workspace, or None."""

    DEFAULT_CSS = """
    Build #title { height: 1; background: $panel; padding: 0 1; text-style: bold; }
    Build #sides { height: 1fr; }
    Build Form { width: 1fr; padding: 1 1 0 2; }
    Build TextArea { width: 1fr; border: none; border-left: outer $panel; padding: 0 1; }
    Build TextArea:focus { border: none; border-left: outer $primary; }
    Build #said { height: 9; border-top: solid $secondary 40%; background: $surface;
                  padding: 0 1; scrollbar-size-vertical: 1; }
    Build #said Static { width: 1fr; height: auto; }
    Build.-one TextArea { display: none; }
    Build.-one.-toml TextArea { display: block; }
    Build.-one.-toml Form { display: none; }
    Build.-low #said { height: 5; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f5", "deploy", "Deploy", id="build.deploy", tooltip="lease it"),
        Binding("f2", "add", "Add group", id="build.add"),
        Binding("f3", "copy", "Copy", id="build.copy", show=False),
        Binding("f4", "remove", "Remove", id="build.remove", show=False),
        Binding("f6", "script", "Job script", id="build.script"),
        Binding("f7", "load", "Load", id="build.load"),
        Binding("f8", "save", "Save", id="build.save"),
        Binding("f9", "switch", "TOML", id="build.switch", tooltip="form or TOML"),
        Binding("escape", "leave", "Close", id="build.leave", tooltip="the draft is kept"),
    ]

    def __init__(self, app: WspilotApp, like: dict[str, Any] | None = None) -> None:
        super().__init__()
        self._wspilot, self._source = app, app.source
        home = self._source.home
        self._file = files.DraftFile(home / "tui" / "draft.toml" if home else None)
        self._types: list[str] = []
        text = "" if like else self._file.load()
        self._restored = bool(text)
        self._doc: draft.Doc = like or draft.empty()
        self._text = text or dumps(self._doc)
        self._form, self._area = Form(), TextArea(self._text, id="toml", soft_wrap=False)
        self._verdict = Static("", markup=False)
        self._good: draft.Doc | None = None  # what was checked and may be deployed
        self._token, self._sending = "", False
        self._checking: asyncio.Task[None] | None = None

    def compose(self) -> ComposeResult:
        yield Static("Build an ensemble", id="title", markup=False)
        with Horizontal(id="sides"):
            yield self._form
            yield self._area
        with VerticalScroll(id="said", can_focus=False):
            yield self._verdict
        with Vertical(id="bottom"):
            yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self._sized()
        if self._restored:
            self._wspilot.tell("Your draft is back. F7 loads another; esc keeps it.", "info")
            self._from_text(self._text)
        self._form.show(self._doc, 0)
        self.query_one("#w-name").focus()
        self._offer()
        self._check()

    def on_resize(self) -> None:
        self._sized()

    def _sized(self) -> None:
        self.set_class(self.size.width < WIDE, "-one")
        self.set_class(self.size.height < 28, "-low")

    @work(exit_on_error=False, group="offer")
    async def _offer(self) -> None:
        """What the site has to give: the catalogue, the images."""
        try:
            kinds = (await self._source.call("types"))["types"]
            images = (await self._source.call("images"))["images"]
        except (WspilotError, KeyError):
            return  # the check says it, too
        self._types = [str(one["name"]) for one in kinds]
        self._form.offer({
            "type": [(one["name"], f"{one['name']}: {one['cpus']} cpu, "
                      f"{format_size(one['memory_mib'])}") for one in kinds],
            "image": [(one["name"], clean(one["name"], 60)) for one in images
                      if not one.get("fault")],
        }, [f"  {one['name']:10} {one['cpus']} cpu, {format_size(one['memory_mib'])}, disk "
            f"{format_size(one['disk_mib'])}, at most {format_duration(one['max_duration_s'])}"
            for one in kinds])  # fmt: skip

    # -- both ways

    @on(Form.Changed)
    def _edited(self, event: Form.Changed) -> None:
        if event.group is None:
            self._now(draft.with_workspace(self._doc, event.field_name, event.text))
        else:
            new = draft.with_group(self._doc, event.group, event.field_name, event.text)
            self._now(new)

    def _now(self, doc: draft.Doc, group: int | None = None) -> None:
        """Another document, made by the form: the TOML is written anew."""
        if doc == self._doc and group is None:
            return
        self._doc = doc
        self._text = dumps(doc)
        self._area.load_text(self._text)
        self._form.show(doc, self._form.group if group is None else group)
        self._check()

    @on(TextArea.Changed)
    def _wrote(self, event: TextArea.Changed) -> None:
        event.stop()
        if self._area.text != self._text:
            self._text = self._area.text
            self._from_text(self._text)
            self._check()

    def _from_text(self, text: str) -> None:
        """Another document, written by hand: the form follows where it can be read."""
        try:
            doc = tomllib.loads(text)
        except (ValueError, RecursionError):
            return  # the check says where
        if doc != self._doc:
            self._doc = doc
            self._form.show(doc, min(self._form.group, max(0, len(draft.groups(doc)) - 1)))

    # -- the check

    @work(exclusive=True, exit_on_error=False, group="check")
    async def _check(self) -> None:
        self._good = None
        await asyncio.sleep(CHECK_S)
        text = self._text
        await asyncio.to_thread(self._file.keep, text)
        try:
            doc = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            self._say([f"The TOML cannot be read: {error}"], "error")
            self._form.blame(())
            return
        try:
            answer = await self._source.call("deploy", ensemble=doc, dry_run=True)
        except WspilotError as error:
            found = faults(error.message)
            self._form.blame(found)
            self._say([f"{look.glyph('failed')} {one.text}" for one in found], "error")
            return
        self._form.blame(())
        self._good, self._token = doc, uuid.uuid4().hex
        sure = f"{look.glyph('ready')} It can be deployed: F5."
        self._say([sure, *cost(answer["plan"]), start(self._wspilot.model)], "success")

    def _say(self, lines: list[str], colour: str) -> None:
        style = look.style(self.app.theme_variables.get(colour, ""))
        page = Text()
        for n, line in enumerate(lines):
            bad = n == 0 or colour == "error"
            page.append(f"{clean(line, 1000)}\n", style if bad else "")
        self._verdict.update(page)

    # -- groups

    def action_add(self) -> None:
        """One group more."""
        self._now(*draft.added(self._doc, self._types))
        self.query_one("#g-name").focus()

    def action_copy(self) -> None:
        """The group once more."""
        self._now(*draft.copied(self._doc, self._form.group))

    def action_remove(self) -> None:
        """Without the group."""
        self._now(*draft.removed(self._doc, self._form.group))

    def action_move(self, by: int) -> None:
        """The group further up or down."""
        self._now(*draft.moved(self._doc, self._form.group, by))

    # -- files

    @work(exit_on_error=False, group="file")
    async def action_load(self) -> None:
        """An example, or a file."""
        from wspilot.tui.screens.load import Load

        text = await self.app.push_screen_wait(Load())
        if text is not None:
            self._area.load_text(text)
            self._area.focus() if self.has_class("-toml") else self.query_one(Groups).focus()

    @work(exit_on_error=False, group="file")
    async def action_save(self) -> None:
        """Into a file."""
        from wspilot.tui.screens.ask import Ask

        name = draft.field(self._doc.get("workspace") or {}, "name") or "ensemble"
        path = await self.app.push_screen_wait(Ask("Save as", f"{name}.toml", "a path"))
        if path:
            try:
                place = await asyncio.to_thread(files.save, Path(path), self._text)
            except (OSError, RuntimeError, ValueError) as error:
                self._wspilot.tell(f"{path}: not saved: {error}", "error")
            else:
                self._wspilot.tell(f"saved: {place}", "info")

    @work(exit_on_error=False, group="file")
    async def action_script(self) -> None:
        """The job script and the dry run, in full."""
        from wspilot.tui.screens.paper import Paper

        try:
            doc = tomllib.loads(self._text)
            answer = await self._source.call("deploy", ensemble=doc, show_script=True)
        except (ValueError, RecursionError) as error:
            self._wspilot.tell(f"The TOML cannot be read: {error}", "error")
        except WspilotError as error:
            self._wspilot.tell(f"{error.message} {error.hint}", "error")
        else:
            lines = [*cost(answer["plan"]), "", *str(answer.get("script", "")).split("\n")]
            self.app.push_screen(Paper("What would be asked for", lines))

    def action_switch(self) -> None:
        """Form or TOML; where both are shown, to the other one."""
        self.toggle_class("-toml")
        (self._area if self.has_class("-toml") else self.query_one("#w-name")).focus()

    # -- the end

    def action_deploy(self) -> None:
        """Lease it, once."""
        if self._good is None:
            self._wspilot.tell("It cannot be deployed as it stands: see below.", "warning")
        elif not self._sending:
            self._sending = True
            self._send(self._good, self._token)

    @work(exit_on_error=False, group="send")
    async def _send(self, doc: draft.Doc, token: str) -> None:
        try:
            answer = await self._source.call("deploy", ensemble=doc, token=token)
        except WspilotError as error:
            self._wspilot.tell(f"not deployed: {error.message}. {error.hint}", "error")
        else:
            await asyncio.to_thread(self._file.drop)
            self.dismiss(str(answer["workspace"]["id"]))
        finally:
            self._sending = False

    def action_leave(self) -> None:
        """Close; the draft is kept."""
        self.dismiss(None)

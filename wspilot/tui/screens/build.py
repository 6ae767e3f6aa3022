"""The ensemble builder: its keys. The draft is in `drafting`, its files in `filing`, deploying in
`sending`."""

from __future__ import annotations

from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType

from wspilot.errors import WspilotError
from wspilot.tui.builder import asking, draft
from wspilot.tui.builder.form import Groups
from wspilot.tui.screens.sending import Sending


def _key(key: str, action: str, label: str, tip: str, *, show: bool = True) -> Binding:
    """Before the editor's own: F6 and F7 select there."""
    return Binding(key, action, label, show=show, tooltip=tip, priority=True, id=f"build.{action}")


class Build(Sending):
    """Build an ensemble, and deploy it."""

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
        _key("f10", "changes", "Changes", "what differs from what was loaded", show=False),
        _key("ctrl+n", "anew", "New", "begin with an empty one; undo brings this back", show=False),
        Binding("colon", "palette", "Palette", id="build.palette", show=False,
                key_display=": ^p", tooltip="everything that can be done, by name"),
        Binding("escape", "leave", "Close", id="build.leave", tooltip="close; the draft is kept"),
    ]  # fmt: skip

    # -- groups

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
        self.catch_up()
        self._form.show(self._doc, at)
        self.query_one(Groups).focus()

    def action_undo(self) -> None:
        """Without the last change."""
        self._area.undo()

    # -- what else keys do

    @work(exclusive=True, exit_on_error=False, group="script")
    async def action_script(self) -> None:
        """The job script and the dry run, in full."""
        self.catch_up()
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

    def action_leave(self) -> None:
        """Close; the draft is kept."""
        self.dismiss(None)

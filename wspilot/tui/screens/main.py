"""The main screen and its keys: one table of bindings feeds footer, help and palette."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from wspilot.tui.screens.handling import Handling
from wspilot.tui.views import VIEWS

GROUPS: dict[str, list[str]] = {}
"""Ids of bindings by the heading that they stand below in the help."""


def _key(keys: str, action: str, label: str, tip: str, group: str, *, show: bool = False,
         display: str | None = None) -> Binding:  # fmt: skip
    name = action.replace("('", ".").replace("')", "").replace("(", ".").replace(")", "")
    id = "app." + name.removeprefix("app.")
    GROUPS.setdefault(group, []).append(id)
    return Binding(keys, action, label, show=show, key_display=display, tooltip=tip, id=id)


class MainScreen(Handling):
    """Look at leases, deploy and act on them."""

    def action_help(self) -> None:
        """The keys."""
        from wspilot.tui.screens.help import Help

        keys = [one for one in self.BINDINGS if isinstance(one, Binding)]
        self.app.push_screen(Help(VIEWS[self.how.view], keys, GROUPS, self._wspilot.keys))

    def action_palette(self) -> None:
        """Everything by name."""
        self.app.action_command_palette()

    def action_retry(self) -> None:
        """Connect now."""
        self._wspilot.retry()

    BINDINGS: ClassVar[list[BindingType]] = [
        _key("n", "deploy", "New", "build an ensemble and deploy it", "Act", show=True),
        _key("a", "act", "Act", "choose a verb for the selection, or for all that is marked", "Act",
             show=True),
        _key("d", "destroy", "Destroy", "end it; asks first and names what is lost", "Act",
             show=True),
        _key("x", "extend", "Extend", "make the lease longer", "Act"),
        _key("o", "verb('console')", "Console", "the VM's console in this terminal", "Act"),
        _key("S", "verb('ssh')", "Ssh", "log in to the VM", "Act"),
        _key("e", "clone", "Another", "build an ensemble like this workspace", "Act"),
        _key("y", "copy_address", "Copy", "copy its address (OSC 52)", "Act"),
        _key("Y", "copy_row", "Copy JSON", "copy the item as JSON", "Act"),
        _key("enter", "details", "Details", "the selection on the whole width, and back", "Look",
             show=True, display="⏎"),
        _key("slash", "filter", "Filter", "show only lines with ...; esc shows all again", "Look",
             show=True, display="/"),
        _key("right_square_bracket", "page(1)", "Page", "next page of the details: events, "
             "commands, logs, console", "Look", display="]"),
        _key("left_square_bracket", "page(-1)", "Page back", "the page before", "Look",
             display="["),
        _key("L", "logs", "Logs", "its logs", "Look"),
        _key("w", "wrap", "Wrap", "fold long lines of logs", "Look"),
        _key("f", "follow", "Its events", "only the selection's events, or all", "Look"),
        _key("b", "strip", "Events below", "show or hide the events below", "Look"),
        _key("right,l", "open", "Unfold", "unfold", "Look", display="→ l"),
        _key("left,h", "close", "Fold", "fold, or go to what it belongs to", "Look", display="← h"),
        _key("z", "fold_all", "Fold all", "fold all workspaces, or unfold them", "Look"),
        _key("escape", "back", "Back", "details, filter, marks: the topmost goes", "Look",
             display="esc"),
        *(_key(view.key, f"view('{view.name}')", view.title, view.about, "Views")
          for view in VIEWS.values()),
        _key("space", "mark", "Mark", "mark the line for an act on many", "Mark"),
        _key("ctrl+@,ctrl+space", "mark_range", "Mark to here", "mark from the last mark to here",
             "Mark", display="^space"),
        _key("asterisk", "mark_all", "Mark all", "all lines of this kind, or none", "Mark",
             display="*"),
        _key("s", "sort", "Sort", "choose the column to sort by (or click its head)", "Arrange"),
        _key("c", "columns", "Columns", "choose the columns", "Arrange"),
        _key("less_than_sign", "sort_next(-1)", "Sort left", "sort by the column before", "Arrange",
             display="<"),
        _key("greater_than_sign", "sort_next(1)", "Sort right", "sort by the next column",
             "Arrange", display=">"),
        _key("v", "filter_state", "One state", "only what is in one state", "Arrange"),
        _key("T", "times", "Times", "ages, or times of day", "Arrange"),
        _key("p", "pause", "Pause", "let the screen stand still", "Arrange"),
        _key("plus", "zoom(-1)", "Zoom in", "the timeline, closer", "Timeline",
             display="+"),
        _key("minus", "zoom(1)", "Zoom out", "the timeline, wider", "Timeline", display="-"),
        _key("less_than_sign,comma,shift+left", "pan(-0.25)", "Earlier", "to the past", "Timeline",
             display="<"),
        _key("greater_than_sign,full_stop,shift+right", "pan(0.25)", "Later", "to the future",
             "Timeline", display=">"),
        _key("0", "now", "Now", "follow now again", "Timeline"),
        _key("F", "fit", "Fit", "all that lives", "Timeline"),
        _key("question_mark,f1", "help", "Help", "the keys of this place", "Always", show=True,
             display="?"),
        _key("colon,ctrl+p", "palette", "Palette", "everything that can be done, by name",
             "Always", display=": ^p"),
        _key("t", "app.next_theme", "Theme", "the next theme; the palette shows all", "Always"),
        _key("r", "retry", "Retry", "connect to the daemon now", "Always"),
        _key("ctrl+z", "app.suspend_process", "Suspend", "back to the shell; fg returns", "Always",
             display="^z"),
        _key("q", "app.quit", "Quit", "close at once; leases go on", "Always", show=True),
    ]  # fmt: skip

"""The builder's help: what it is, and its keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from textual.binding import Binding, BindingType

from wspilot.tui.screens.help import Help
from wspilot.tui.views import View

ABOUT = "a form and its TOML; each follows the other, and the daemon checks as you type"
NOTES = (
    "Comments in the TOML stay when the form changes a line. Scripts (user_data) and ssh_keys are "
    "written in the TOML. Nothing is leased before F5; the draft is kept when this is closed, and "
    "after a crash."
)
MOVES = (
    ("Tab shift+Tab", "fields, groups, TOML, verdict"),
    ("enter space", "open a choice; on a group: to its fields"),
)


def help_page(bindings: Sequence[BindingType], keymap: Mapping[str, str]) -> Help:
    """The page."""
    keys = [one for one in bindings if isinstance(one, Binding) and one.tooltip]
    groups = {
        "The ensemble": [one.id or "" for one in keys if (one.id or "").startswith("build.")],
        "On the list of groups": [one.id or "" for one in keys
                                  if (one.id or "").startswith("groups.")],
    }  # fmt: skip
    view = View("build", "", "Build an ensemble", (), "", ABOUT)
    return Help(view, keys, groups, keymap, MOVES, NOTES)

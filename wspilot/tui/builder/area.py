"""The TOML beside the form: an editor in which nothing acts upon the terminal."""

from __future__ import annotations

import re

from rich.text import Text
from textual.widgets import TextArea
from textual.widgets.text_area import Selection

from wspilot.text import visible
from wspilot.tui import look

_PARTS = re.compile(r"^\s*(?P<comment>#.*)|^(?P<table>\s*\[.*)|^(?P<key>\s*[\w.-]+\s*=)")


class TomlArea(TextArea):
    """Comments and keys have their colours; control characters their signs."""

    DEFAULT_CSS = """
    TomlArea { width: 1fr; border: none; border-left: outer $panel; padding: 0 1;
               background: $surface; scrollbar-size-vertical: 1; scrollbar-size-horizontal: 1; }
    TomlArea:focus { border: none; border-left: outer $primary; }
    """

    def __init__(self, text: str) -> None:
        super().__init__(text, id="toml", soft_wrap=False)
        self.match_cursor_bracket = self.highlight_cursor_line = False

    def get_line(self, line_index: int) -> Text:
        """As it is drawn."""
        line = Text(visible(self.document.get_line(line_index), lines=True), end="", no_wrap=True)
        if match := _PARTS.match(line.plain):
            variables = self.app.theme_variables
            styles = {"comment": look.style(variables.get("secondary", "")), "table": "bold",
                      "key": look.style(variables.get("primary", ""))}  # fmt: skip
            kind = match.lastgroup or ""
            line.stylize(styles[kind], match.start(kind), match.end(kind))
        return line

    def undo(self) -> None:
        """Textual measures before it has put the cursor back, which is then beyond the end."""
        self.selection = Selection()
        super().undo()

    def redo(self) -> None:
        """The same the other way."""
        self.selection = Selection()
        super().redo()

    def become(self, text: str) -> None:
        """Another text: only lines that differ are replaced, so undo and the cursor go on."""
        old, new = self.document.lines, text.split("\n")
        if old == new:
            return
        fewest, top, low = min(len(old), len(new)), 0, 0
        while top < fewest - 1 and old[top] == new[top]:
            top += 1
        while low < fewest - top and old[-1 - low] == new[-1 - low]:
            low += 1
        if low:
            end, lines = (len(old) - low, 0), [f"{line}\n" for line in new[top : len(new) - low]]
            self.replace("".join(lines), (top, 0), end)
        else:
            self.replace("\n".join(new[top:]), (top, 0), self.document.end)

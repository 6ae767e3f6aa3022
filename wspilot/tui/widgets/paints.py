"""Text styles by name, from the theme's colours.

Textual's component classes do the same, at the price of one more node each in the first frame's
style sheet: here they are made when they are used.
"""

from __future__ import annotations

from rich.style import Style
from textual.widget import Widget

from wspilot.tui import look

# Names that are not a colour of the theme themselves.
_OTHERS = {"dim": "secondary", "soon": "warning", "now": "error", "marked": "accent", "flash": ""}
_BOLD = ("now", "marked", "flash")


class Paints:
    """Of one widget; made again when the theme changes."""

    def __init__(self, widget: Widget) -> None:
        self._widget, self._theme = widget, ""
        self._styles: dict[str, Style] = {}

    def style(self, name: str) -> Style:
        """Foreground and weight only; empty for `foreground` and what is unknown."""
        app = self._widget.app
        if app.theme != self._theme:
            self._theme, self._styles = app.theme, {}
        found = self._styles.get(name)
        if found is None:
            colour = look.style(app.theme_variables.get(_OTHERS.get(name, name), ""))
            found = Style(color=colour or None, bold=True if name in _BOLD else None)
            if name in ("", "foreground"):
                found = Style()
            self._styles[name] = found
        return found

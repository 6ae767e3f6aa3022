"""How states look: a glyph, a word and a colour, so that colour is never the only sign."""

from __future__ import annotations

import locale
import os
from collections.abc import Mapping
from functools import cache

# state -> (glyph, ASCII glyph, name of a theme colour)
_STATES: Mapping[str, tuple[str, str, str]] = {
    "pending": ("◌", ".", "secondary"),
    "submitting": ("◌", ".", "secondary"),
    "queued": ("◌", ".", "secondary"),
    "starting": ("◔", "o", "primary"),
    "reserving": ("◔", "o", "primary"),
    "propagating": ("◔", "o", "primary"),
    "provisioning": ("◑", "o", "primary"),
    "booting": ("◑", "o", "primary"),
    "running": ("●", "*", "success"),
    "active": ("●", "*", "success"),
    "ready": ("●", "*", "success"),
    "clean": ("●", "*", "success"),
    "in use": ("●", "*", "primary"),
    "pausing": ("◐", "=", "warning"),
    "paused": ("◐", "=", "warning"),
    "resuming": ("◑", "o", "primary"),
    "suspending": ("◐", "=", "warning"),
    "suspended": ("◐", "=", "warning"),
    "rebooting": ("◑", "o", "primary"),
    "stopping": ("◒", "-", "warning"),
    "stopped": ("○", "-", "secondary"),
    "releasing": ("◒", "-", "warning"),
    "ending": ("◒", "-", "warning"),
    "degraded": ("▲", "!", "warning"),
    "unknown": ("?", "?", "warning"),
    "failed": ("✖", "x", "error"),
    "preempted": ("✖", "x", "error"),
    "dirty": ("✖", "x", "error"),
    "repairing": ("◑", "o", "warning"),
    "terminated": ("·", ".", "secondary"),
    "released": ("·", ".", "secondary"),
    "ended": ("·", ".", "secondary"),
}
LEVELS: Mapping[str, tuple[str, str]] = {
    "info": (" ", " "),
    "warning": ("▲", "!"),
    "error": ("✖", "x"),
}


@cache
def ascii_only() -> bool:
    """True where the terminal is not known to draw more than ASCII."""
    utf8 = "utf" in locale.getpreferredencoding(False).lower()
    return not utf8 or os.environ.get("TERM") == "linux"


def glyph(state: str) -> str:
    """The sign of a state."""
    return _STATES.get(state, ("?", "?", ""))[1 if ascii_only() else 0]


def colour(state: str) -> str:
    """The theme colour of a state, by its name in the theme."""
    return _STATES.get(state, ("", "", "foreground"))[2]


def level(name: str) -> str:
    """The sign of an event's level."""
    return LEVELS.get(name, (" ", " "))[1 if ascii_only() else 0]


def tree_marks() -> tuple[str, str]:
    """(open, folded)."""
    return ("v", ">") if ascii_only() else ("▾", "▸")


def bar(number: int) -> str:
    """What fills the bar of the n-th phase: told apart without colours, too."""
    return "#=+:o%"[number % 6] if ascii_only() or "NO_COLOR" in os.environ else "█"


def style(colour: str) -> str:
    """A theme's colour as rich knows it; Textual's own words (`ansi_blue`, `auto`) have none."""
    return colour if colour.startswith("#") and len(colour) == 7 else ""

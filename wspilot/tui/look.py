"""How states look: a glyph, a word and a colour, so that colour is never the only sign."""

from __future__ import annotations

import locale
import os
from collections.abc import Iterable, Mapping
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
    "ok": ("●", "*", "success"),
    "destroyed": ("·", ".", "secondary"),
    "abandoned": ("▲", "!", "warning"),
    "info": (" ", " ", "foreground"),
    "warning": ("▲", "!", "warning"),
    "error": ("✖", "x", "error"),
    "terminated": ("·", ".", "secondary"),
    "released": ("·", ".", "secondary"),
    "ended": ("·", ".", "secondary"),
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
    return glyph(name) if name in ("warning", "error") else " "


def tree_marks() -> tuple[str, str]:
    """(open, folded)."""
    return ("v", ">") if ascii_only() else ("▾", "▸")


def sort_mark(down: bool) -> str:
    """The direction of a sorted column."""
    return ("v" if down else "^") if ascii_only() else ("▾" if down else "▴")


def key(name: str) -> str:
    """The name of a key, in what the terminal can draw."""
    if ascii_only():
        for sign, word in (("⏎", "enter"), ("→", "right"), ("←", "left")):
            name = name.replace(sign, word)
    return name


def mark() -> str:
    """A marked line."""
    return "+" if ascii_only() else "▌"


def new() -> str:
    """A line that has just come."""
    return "*" if ascii_only() else "•"


def gauge(share: float | None, size: int) -> str:
    """A bar of `size` cells that is full at 1; nothing for None."""
    if share is None or size < 1:
        return ""
    full, empty = ("=", "-") if ascii_only() else ("━", "╌")
    done = min(size, max(0, int(share * size + 1e-9)))
    return full * done + empty * (size - done)


SPARKS = "▁▂▃▄▅▆▇█"


def spark(values: Iterable[float]) -> str:
    """Values as a line of small bars; nothing where the terminal has none."""
    numbers = list(values)
    if not numbers or ascii_only():
        return ""
    top = max(numbers) or 1.0
    return "".join(SPARKS[min(7, int(value / top * 7.999))] for value in numbers)


# kind of a bar of the timeline -> (glyph, ASCII glyph)
_CHART = {"wait": ("░", "."), "phase": ("▓", "+"), "up": ("█", "="), "odd": ("▒", "%"),
          "ahead": ("┈", "-"), "end": ("▐", "]"), "lost": ("✖", "X"), "over": ("▌", "|"),
          "now": ("│", ":")}  # fmt: skip


# What is to be known of them: (kind, what it says, theme colour).
LEGEND = (("wait", "waits", "secondary"), ("phase", "phase", "primary"), ("up", "up", "success"),
          ("odd", "paused/unknown", "warning"), ("ahead", "ahead", "secondary"),
          ("end", "end", "warning"), ("lost", "lost", "error"))  # fmt: skip


def chart(kind: str) -> str:
    """What a kind of bar is drawn with: told apart without colours, too."""
    return _CHART[kind][1 if ascii_only() else 0]


def bar(number: int) -> str:
    """What fills the bar of the n-th phase: told apart without colours, too."""
    return "#=+:o%"[number % 6] if ascii_only() or "NO_COLOR" in os.environ else "█"


def style(colour: str) -> str:
    """A theme's colour as rich knows it; Textual's own words (`ansi_blue`, `auto`) have none."""
    if colour.startswith("ansi_"):
        name = colour.removeprefix("ansi_")
        return "" if name == "default" else name
    return colour if colour.startswith("#") and len(colour) == 7 else ""

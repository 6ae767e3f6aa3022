"""How times, counts and states are said on the screen. Pure."""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from wspilot.errors import WspilotError
from wspilot.text import clean, format_duration, format_size

SOON_S = 600.0  # a lease that ends within this is marked
NOW_S = 120.0  # and within this once more
_DIGITS = re.compile(r"(\d+)")
_WORST = ("failed", "unknown", "stopping", "pending", "propagating", "starting", "booting",
          "rebooting", "resuming", "suspending", "pausing", "suspended", "paused", "stopped",
          "running", "terminated")  # fmt: skip


def left_of(ws: Mapping[str, Any], now: float) -> tuple[str, str]:
    """(lease time left, how near its end is: "", "soon" or "now")."""
    if not ws.get("ends") or ws.get("wanted") != "active":
        return "", ""
    left = max(0.0, seconds_of(ws["ends"]) - now)
    return brief(left) if left < NOW_S else age(
        left
    ), "now" if left < NOW_S else "soon" if left < SOON_S else ""


@lru_cache(maxsize=8192)
def seconds_of(text: str | None) -> float:
    """Seconds since 1970 of an RFC 3339 time in UTC; 0 for what is none."""
    try:
        return calendar.timegm(time.strptime((text or "")[:19], "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return 0.0


@lru_cache(maxsize=8192)
def exact_seconds(text: str | None) -> float:
    """The same with its fraction: phases are shorter than a second."""
    whole, fraction = seconds_of(text), re.search(r"\.\d+", text or "")
    return whole + float(fraction[0]) if whole and fraction else whole


def clock(text: str) -> str:
    """The local time of day of an RFC 3339 time."""
    return time.strftime("%H:%M:%S", time.localtime(seconds_of(text))) if text else "--:--:--"


def moment(text: str | None, now: float) -> str:
    """Time of day, with the date where it is not today's; empty for none."""
    if not text:
        return ""
    then, today = time.localtime(seconds_of(text)), time.localtime(now)
    form = "%H:%M:%S" if then[:3] == today[:3] else "%m-%d %H:%M"
    return time.strftime(form, then)


def told(event: Mapping[str, Any]) -> str:
    """The text of an event with its subject: `slot n2fgbdp3: ready`."""
    text, slot = str(event["text"]), str(event["slot"])
    return f"slot {slot}: {text}" if event["kind"] == "slot" and slot not in text else text


def in_words(error: WspilotError, most: int = 300) -> str:
    """An error and what to do about it, in one line; hints have colons of their own."""
    hint = "" if error.hint == "nothing was changed" else error.hint
    return clean(f"{error.message.rstrip('.')}; {hint}" if hint else error.message, most)


def since(doc: Mapping[str, Any], now: float) -> str:
    """How long it has been in its state."""
    return age(now - seconds_of(doc["since"])) if doc["since"] else ""


def age(seconds: float) -> str:
    """For how long, in steps of 5 s in its first minute, of 10 s in its first ten.

    With every second of it a screen of young VMs was all painted again each second.
    """
    if seconds < 5:
        return "<5s"
    step = 5 if seconds < 60 else 10 if seconds < 600 else 60
    return format_duration(seconds // step * step)


def brief(seconds: float) -> str:
    """A duration that stands still long enough to be read: from ten minutes on no seconds."""
    return format_duration(seconds // 60 * 60 if seconds >= 600 else max(0.0, seconds))


def size_about(mib: int) -> str:
    """A size to be read: `512MiB`, `29.2GiB`."""
    return f"{mib / 1024:.1f}GiB".replace(".0G", "G") if mib >= 1024 else f"{mib}MiB"


def plural(count: int, noun: str) -> str:
    """`1 VM`, `2 VMs`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def worst(states: Iterable[str]) -> str:
    """The state that stands for several: the one that most needs to be seen."""
    found = set(states)
    return next((state for state in _WORST if state in found), "pending")


def size(mib: int) -> str:
    """MiB for people; empty for none."""
    return format_size(mib) if mib else ""


def waits(doc: Mapping[str, Any]) -> str:
    """What it waits for."""
    return f"waits for {doc['waits_for']}" if doc.get("waits_for") else ""


@lru_cache(maxsize=32768)
def natural(text: str) -> tuple[tuple[bool, int, str], ...]:
    """A sort key in which node9 comes before node10."""
    return tuple(
        (False, int(part), "") if part.isdecimal() and part.isascii() else (True, 0, part.lower())
        for part in _DIGITS.split(text)
        if part
    )

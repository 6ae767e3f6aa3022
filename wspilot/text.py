"""Foreign text made harmless, and the units people write: durations, memory, names.

Names, logs, scheduler output and console lines are data. They pass through `clean` once, where they
enter, so that no later reader has to think of escape sequences. Standard library only.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from wspilot.errors import UsageError

# C0 (but not tab and newline), DEL, C1, and the marks that reorder what a terminal shows.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_DURATION = re.compile(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?")
_SIZE = re.compile(r"(\d{1,12})(MiB|GiB|TiB)")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_MIB = {"MiB": 1, "GiB": 1024, "TiB": 1024 * 1024}


def clean(text: str | bytes, limit: int = 4096, lines: bool = False) -> str:
    """`text` without control characters, at most `limit` characters; one line unless `lines`."""
    if isinstance(text, bytes):
        text = text[: limit * 4].decode("utf-8", "replace")
    text = text[: limit * 4].replace("\r\n", "\n").replace("\t", " ")
    if not lines:
        text = " ".join(text.split("\n"))
    text = _SURROGATE.sub("\ufffd", _CONTROL.sub("", text)).strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def visible(text: str, lines: bool = False) -> str:
    """`text` with a sign for every control character: for what is edited, where nothing may be
    left out. Not longer, not shorter; `lines`: tabs and newlines stay."""
    signs = _SURROGATE.sub("\ufffd", _CONTROL.sub(_sign, text))
    return signs if lines else signs.replace("\t", "\u2409").replace("\n", "\u240a")


def _sign(match: re.Match[str]) -> str:
    code = ord(match[0])
    return chr(0x2400 + code) if code < 32 else "\u2421" if code == 127 else "\ufffd"


def parse_duration(text: object, where: str = "duration") -> int:
    """Seconds in `90s`, `10m`, `2h`, `1h30m` or `1d`. A bare number is an error: of what?"""
    match = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None or not any(match.groups()):
        raise UsageError(
            f"{where}: {clean(repr(text), 80)} is not a duration",
            "write it with its unit: 90s, 10m, 2h, 1h30m or 1d",
        )
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if total > 366 * 86400:
        raise UsageError(f"{where}: {clean(str(text), 80)} is more than a year", "ask for less")
    return total


def format_duration(seconds: float) -> str:
    """`1h30m`, `10m`, `45s`: at most two units, so that it fits a column."""
    whole = max(0, round(seconds))
    parts: list[str] = []
    for name, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count}{name}")
        if len(parts) == 2 or (parts and not count):
            break
    return "".join(parts) or "0s"


def parse_size(text: object, where: str = "memory") -> int:
    """MiB in `512MiB`, `2GiB` or `1TiB`."""
    match = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise UsageError(
            f"{where}: {clean(repr(text), 80)} is not a size", "write it as 512MiB or 2GiB"
        )
    return int(match.group(1)) * _MIB[match.group(2)]


def format_size(mib: int) -> str:
    """`512MiB`, `2GiB`: the largest unit that loses nothing."""
    for unit in ("TiB", "GiB"):
        if mib and mib % _MIB[unit] == 0:
            return f"{mib // _MIB[unit]}{unit}"
    return f"{mib}MiB"


def check_name(text: object, where: str = "name") -> str:
    """A name that is safe everywhere it goes: host names, job names, file names, taps."""
    if not isinstance(text, str) or not _NAME.fullmatch(text):
        raise UsageError(
            f"{where}: {clean(repr(text), 80)} is not a name",
            "use 1 to 32 characters a-z, 0-9 and -, beginning and ending with a letter or digit",
        )
    return text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known word, or all of them when none is near."""
    choices = sorted(known)
    near = difflib.get_close_matches(word[:100], choices, 1, 0.6)  # 1 MB of it took 0.3 s
    if near:
        return f"did you mean {near[0]!r}?"
    return "known here: " + ", ".join(choices) if choices else ""

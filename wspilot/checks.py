"""Reads values out of documents that people wrote, and collects everything that is wrong with them.

Every fault names its place; a wrong value is replaced by its default so that the rest is still
looked at. Invariant: whatever is in the document, the only exception is UsageError, and neither its
text nor the time that it takes grows with rubbish.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from wspilot.errors import UsageError, WspilotError
from wspilot.text import clean, did_you_mean, parse_duration, parse_size

Reader = Callable[[Any, str], Any]
SHOWN = 20  # faults in one message; did_you_mean costs too much to ask it for thousands
LINE = 1000  # characters of one text
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@%+,/=-]{0,127}")
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")  # messages.NODE_RE
_PORTS = re.compile(r"([0-9]{1,5})-([0-9]{1,5})")
_LINK = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")  # IFNAMSIZ is 16 with its end


class Checker:
    """Reads values out of a document and collects what is wrong with them."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.faults: list[str] = []
        self.unshown = 0

    def fault(self, where: str, what: str) -> None:
        """Note that `what` is wrong at `where`."""
        if len(self.faults) < SHOWN:
            self.faults.append(f"{where}: {what}")
        else:
            self.unshown += 1

    def near(self, word: object, known: Iterable[str]) -> str:
        """The nearest known word, to put behind a fault; empty where there is none."""
        hint = did_you_mean(show(word), known) if len(self.faults) < SHOWN else ""
        return f"; {hint}" if hint else ""

    def known(self, table: Mapping[str, Any], where: str, keys: Iterable[str]) -> None:
        """Every key of `table` is one of `keys`."""
        keys = tuple(keys)
        for key in table:
            if key not in keys:
                self.fault(at(where, show(key)), f"unknown key{self.near(key, keys)}")

    def table(self, doc: Mapping[str, Any], key: str, where: str = "") -> Mapping[str, Any]:
        """The table under `key`; empty where there is none."""
        value = doc.get(key, {})
        if isinstance(value, Mapping):
            return value
        self.fault(at(where, key), "must be a table")
        return {}

    def get(
        self, table: Mapping[str, Any], where: str, key: str, default: Any, read: Reader
    ) -> Any:
        """`read(value, place)`, or the default where the key is missing or wrong."""
        if key not in table:
            return default
        try:
            return read(table[key], at(where, key))
        except WspilotError as error:
            place, _, what = error.message.partition(": ")
            self.fault(place, what + (f" ({error.hint})" if error.hint else ""))
            return default

    def done(self) -> None:
        """Raise UsageError when anything was wrong."""
        if self.faults:
            more = [f"and {self.unshown} faults more"] if self.unshown else []
            lines = "; ".join([*self.faults, *more])
            raise UsageError(f"{self.source}: {lines}", "nothing was changed")


def at(where: str, key: str) -> str:
    """The path of a key."""
    return f"{where}.{key}" if where else key


def show(value: object) -> str:
    """A foreign word as it may stand in a message."""
    return clean(value[:240] if isinstance(value, str) else repr(value)[:240], 60)


def quoted(value: object) -> str:
    """A foreign value with its quotes, so that its type can be seen."""
    return clean(repr(value[:240] if isinstance(value, str) else value)[:240], 60)


def text(value: Any, where: str) -> str:
    """One line of text, without control characters and blanks around it; not empty."""
    if not isinstance(value, str) or not 0 < len(value) <= LINE or clean(value, LINE) != value:
        raise UsageError(f"{where}: must be one line of text, not {quoted(value)}")
    return value


def word(value: Any, where: str) -> str:
    """A word that a batch system's option takes: it can be no option itself, and no shell."""
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise UsageError(f"{where}: must be one word, not {quoted(value)}")
    return value


def link(value: Any, where: str) -> str:
    """The name of a network device."""
    if not isinstance(value, str) or not _LINK.fullmatch(value):
        raise UsageError(f"{where}: must be a device's name of 1 to 15 letters, digits, _ . and -")
    return value


def node_name(value: Any, where: str) -> str:
    """The name of a host, as messages carry it; with a letter, or it would be a number of them."""
    good = isinstance(value, str) and _NODE.fullmatch(value) and not value.isdigit()
    if not good:
        raise UsageError(f"{where}: {quoted(value)} is not the name of a node")
    return str(value)


def one_of(choices: tuple[str, ...]) -> Reader:
    """A word out of a list."""

    def read(value: Any, where: str) -> str:
        if not isinstance(value, str) or value not in choices:
            raise UsageError(f"{where}: {quoted(value)} is not one of {', '.join(choices)}")
        return value

    return read


def count(low: int, high: int) -> Reader:
    """A whole number in a range."""

    def read(value: Any, where: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise UsageError(f"{where}: must be a whole number, not {quoted(value)}")
        if not low <= value <= high:
            raise UsageError(f"{where}: {quoted(value)} is not between {low} and {high}")
        return value

    return read


def number(low: float, high: float) -> Reader:
    """A number from `low` to `high`."""

    def read(value: Any, where: str) -> float:
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not good or not math.isfinite(value) or not low <= value <= high:
            raise UsageError(
                f"{where}: must be a number from {low:g} to {high:g}, not {quoted(value)}"
            )
        return float(value)

    return read


def duration(low: int) -> Reader:
    """A duration in seconds, at least `low`."""

    def read(value: Any, where: str) -> int:
        seconds = parse_duration(_short(value), where)
        if seconds < low:
            raise UsageError(f"{where}: {quoted(value)} is too short; at least {low}s")
        return seconds

    return read


def size(low: int) -> Reader:
    """A size in MiB, at least `low`."""

    def read(value: Any, where: str) -> int:
        mib = parse_size(_short(value), where)
        if not low <= mib <= 1 << 40:
            raise UsageError(f"{where}: {quoted(value)} is not between {low}MiB and 1048576TiB")
        return mib

    return read


def _short(value: Any) -> Any:
    # int() of more than 4,300 digits raises a ValueError, and nothing that long has a meaning
    return value if not isinstance(value, str) or len(value) <= 40 else value[:40] + "..."


def flag(value: Any, where: str) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise UsageError(f"{where}: must be true or false, not {quoted(value)}")
    return value


def list_of(read: Reader, most: int = 64) -> Reader:
    """A list of things, as a tuple."""

    def read_all(value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise UsageError(f"{where}: must be a list, not {quoted(value)}")
        if len(value) > most:
            raise UsageError(f"{where}: {len(value)} entries are more than {most}")
        return tuple(read(item, f"{where}[{n}]") for n, item in enumerate(value))

    return read_all


def directory(value: Any, where: str) -> Path:
    """An absolute path; `~` is the home directory."""
    try:
        path = Path(text(value, where)).expanduser()
    except RuntimeError:
        raise UsageError(f"{where}: {quoted(value)}: there is no such user") from None
    if not path.is_absolute():
        raise UsageError(f"{where}: {quoted(value)} must be an absolute path")
    return path


def cidr(value: Any, where: str) -> str:
    """An IPv4 network with room for guests."""
    network = ipaddress.IPv4Network(range_(value, where))
    if network.prefixlen > 30:
        raise UsageError(f"{where}: {value} has no room for guests", "use /30 or larger")
    if network.prefixlen < 8:
        raise UsageError(f"{where}: {value} is larger than any private network", "use /8 or less")
    return str(network)


def range_(value: Any, where: str) -> str:
    """A range of IPv4 addresses, as `10.77.0.0/24`, or one address."""
    try:
        return str(ipaddress.IPv4Network(text(value, where)))
    except ValueError as error:
        why = clean(str(error), 120)
        raise UsageError(f"{where}: {why}", "write it as 10.77.0.0/24") from None


def ports(value: Any, where: str) -> tuple[int, int]:
    """A range of TCP ports, as `30000-30099`."""
    match = _PORTS.fullmatch(value) if isinstance(value, str) else None
    low, high = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1024 <= low <= high <= 65535:
        raise UsageError(
            f"{where}: {quoted(value)} is no range of ports from 1024 to 65535",
            "write it as 30000-30099",
        )
    return low, high


def address(value: Any, where: str) -> str:
    """An IPv4 address."""
    try:
        return str(ipaddress.IPv4Address(text(value, where)))
    except ValueError as error:
        raise UsageError(f"{where}: {clean(str(error), 120)}") from None

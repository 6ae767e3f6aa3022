"""themes/*.toml as Textual themes. A broken file is a warning that names it, never the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomllib
from textual.color import Color, ColorParseError
from textual.theme import Theme

from wspilot.text import clean
from wspilot.tui.habits import config_dir

COLOURS = (
    "primary",
    "secondary",
    "accent",
    "foreground",
    "background",
    "surface",
    "panel",
    "success",
    "warning",
    "error",
)
DEFAULT = "night"


def folder() -> Path:
    """themes/ of the installed package, else of the checkout."""
    package = Path(__file__).resolve().parents[1]
    packed = package / "_data" / "themes"
    return packed if packed.is_dir() else package.parent / "themes"


def load_all() -> tuple[list[Theme], list[str]]:
    """Ours and the user's (`themes/` beside tui.toml), which may replace ours by name."""
    ours, faults = load()
    theirs, more = load(config_dir() / "themes")
    names = {one.name for one in theirs}
    every = [one for one in ours if one.name not in names] + theirs
    first = ("night", "day")  # the next theme after the dark one is a bright one
    every.sort(key=lambda one: (*(one.name != name for name in first), one.name))
    return every, faults + more


def load(place: Path | None = None) -> tuple[list[Theme], list[str]]:
    """(themes, warnings) of a directory."""
    themes, warnings = [], []
    for path in sorted((place or folder()).glob("*.toml")):
        try:
            text = path.read_text("utf-8")
            themes.append(_read(tomllib.loads(text), text))
        except (OSError, ValueError, KeyError, TypeError) as error:
            warnings.append(f"theme {path.name} was left out: {clean(str(error), 200)}")
    return themes, warnings


def _read(doc: dict[str, Any], text: str) -> Theme:
    """The theme of a file. Raises ValueError, which names the line."""
    for key in doc:
        if key not in ("name", "dark", *COLOURS):
            raise ValueError(f"unknown key {key!r}{_line(text, key)}")
    for key in ("name", "primary"):
        if not isinstance(doc.get(key), str):
            raise ValueError(f"{key} is missing or not a text{_line(text, key)}")
    colours = {key: doc[key] for key in COLOURS if key in doc}
    for key, value in colours.items():
        try:
            Color.parse(value)
        except (ColorParseError, TypeError, AttributeError):
            raise ValueError(f"{key}: {value!r} is not a colour{_line(text, key)}") from None
    if not isinstance(doc.get("dark", True), bool):
        raise ValueError(f"dark is true or false{_line(text, 'dark')}")
    variables = {"footer-key-foreground": doc.get("accent", doc["primary"])}
    if "surface" in doc:  # Textual's own is black beside a dark box
        variables["scrollbar-background"] = doc["surface"]
    return Theme(doc["name"], dark=doc.get("dark", True), variables=variables, **colours)


def _line(text: str, key: str) -> str:
    """Where a key stands: ` (at line 3)`."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.partition("=")[0].strip() == key:
            return f" (at line {number})"
    return ""

"""themes/*.toml as Textual themes. A broken file is a warning that names it, never the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomllib
from textual.theme import Theme

from wspilot.text import clean

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


def load(place: Path | None = None) -> tuple[list[Theme], list[str]]:
    """(themes, warnings) of a directory."""
    themes, warnings = [], []
    for path in sorted((place or folder()).glob("*.toml")):
        try:
            themes.append(_read(tomllib.loads(path.read_text("utf-8"))))
        except (OSError, ValueError, KeyError, TypeError) as error:
            warnings.append(f"theme {path.name} was left out: {clean(str(error), 200)}")
    return themes, warnings


def _read(doc: dict[str, Any]) -> Theme:
    unknown = sorted(set(doc) - {"name", "dark", *COLOURS})
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}")
    for key in ("name", "primary"):
        if not isinstance(doc.get(key), str):
            raise ValueError(f"{key} is missing or not a text")
    from textual.color import Color, ColorParseError

    for key in COLOURS:
        if key in doc:
            try:
                Color.parse(doc[key])
            except ColorParseError as error:
                raise ValueError(f"{key}: {error}") from None
    colours = {key: doc[key] for key in COLOURS if key in doc}
    variables = {"footer-key-foreground": doc.get("accent", doc["primary"])}
    return Theme(doc["name"], dark=bool(doc.get("dark", True)), variables=variables, **colours)

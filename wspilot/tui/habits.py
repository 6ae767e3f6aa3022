"""What is kept between sessions (theme, columns, sorting), and what the user has set in tui.toml.

Kept in a file of its own that nobody edits; a broken one is forgotten. tui.toml is the user's: a
fault in it is a warning that names it, and the rest holds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomllib

from wspilot.home import home_dir
from wspilot.text import clean, did_you_mean

Doc = dict[str, Any]


def config_dir() -> Path:
    """The user's settings: `$XDG_CONFIG_HOME/wspilot`."""
    named = os.environ.get("XDG_CONFIG_HOME")
    return (Path(named) if named else Path.home() / ".config") / "wspilot"


def state_dir() -> Path:
    """Where the interface keeps what is its own."""
    return home_dir() / "tui"


class Memory:
    """Small values by name; written at once, atomically. Without a path nothing is kept."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._values: Doc = {}
        if path is not None:
            try:
                values = json.loads(path.read_text("utf-8"))
                self._values = values if isinstance(values, dict) else {}
            except (OSError, ValueError):
                pass

    def get(self, name: str, default: Any) -> Any:
        """What was kept, where it is of the default's kind."""
        value = self._values.get(name, default)
        return value if isinstance(value, type(default)) else default

    def keep(self, name: str, value: Any) -> None:
        """For the next session. A disk that refuses is no reason to stop."""
        if self._values.get(name) == value:
            return
        self._values[name] = value
        if self._path is not None:
            write_atomically(self._path, json.dumps(self._values, indent=1))


def write_atomically(path: Path, text: str) -> bool:
    """Replace a file of ours; False when the disk refuses."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(text, "utf-8")
        temporary.replace(path)
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Taste:
    """What tui.toml says."""

    theme: str = ""
    bell: bool = True
    motion: bool = True
    desktop: str = "auto"
    keys: Mapping[str, str] = field(default_factory=dict)
    """By the id of a binding: `app.destroy = "D"`."""


_READERS: Mapping[str, Callable[[Any], bool]] = {
    "theme": lambda value: isinstance(value, str),
    "bell": lambda value: isinstance(value, bool),
    "motion": lambda value: isinstance(value, bool),
    "desktop": lambda value: value in ("auto", "off", "osc9", "osc777"),  # `desktop.py`
    "keys": lambda value: (
        isinstance(value, dict) and all(isinstance(one, str) for one in value.values())
    ),
}  # fmt: skip
_WANTED = {"theme": "a name", "bell": "true or false", "motion": "true or false",
           "desktop": "auto, off, osc9 or osc777",
           "keys": 'a table of texts: "app.destroy" = "D"'}  # fmt: skip


def read_taste(path: Path) -> tuple[Taste, list[str]]:
    """(settings, warnings); no file is no warning."""
    try:
        doc = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return Taste(), []
    except (OSError, ValueError) as error:
        return Taste(), [f"{path.name} was not read: {clean(str(error), 200)}"]
    good: Doc = {}
    warnings = []
    for key, value in doc.items():
        if key not in _READERS:
            near = did_you_mean(key, _READERS)
            warnings.append(f"{path.name}: unknown key {clean(key, 60)!r}; {near}")
        elif not _READERS[key](value):
            warnings.append(f"{path.name}: {key} is {_WANTED[key]}")
        else:
            good[key] = value
    return Taste(**good), warnings

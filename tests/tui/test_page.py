"""docs/tui.md says what is so."""

from __future__ import annotations

import re
from pathlib import Path

from textual.binding import Binding

from wspilot.tui import theme
from wspilot.tui.filters import FIELDS
from wspilot.tui.screens.main import MainScreen

PAGE = (Path(__file__).parents[2] / "docs" / "tui.md").read_text()


def rows() -> list[str]:
    """The page's table of keys, as the bindings say it."""
    keys = [one for one in MainScreen.BINDINGS if isinstance(one, Binding)]
    return [f"| `{one.id}` | `{one.key_display or one.key}` | {one.tooltip} |" for one in keys]


def test_its_keys_are_the_keys() -> None:
    said = [line for line in PAGE.splitlines() if re.match(r"\| `app\.", line)]
    assert said == rows(), "put in:\n" + "\n".join(rows())


def test_its_themes_and_fields_are_all() -> None:
    themes = next(line for line in PAGE.splitlines() if line.startswith("theme = "))
    assert set(re.findall(r"[a-z-]+", themes.partition("#")[2])) == {
        one.name for one in theme.load()[0]
    }
    fields = PAGE.split("Fields: ")[1]
    assert all(re.search(rf"\b{field}\b", fields) for field in FIELDS)

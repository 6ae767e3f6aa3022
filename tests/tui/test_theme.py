"""Themes are files; a broken one is a warning."""

from __future__ import annotations

from pathlib import Path

import pytest

from wspilot.tui import theme


def test_the_themes_that_come_along_are_good() -> None:
    themes, warnings = theme.load()
    assert {one.name for one in themes} >= {"night", "day"} and not warnings


@pytest.mark.parametrize(
    "text",
    ["name = ", 'name = "x"', 'name = "x"\nprimary = "nocolour"', 'name="x"\nprimary="red"\nfoo=1'],
)
def test_a_broken_theme_is_left_out_with_a_warning(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    themes, warnings = theme.load(tmp_path)
    assert not themes and "bad.toml" in warnings[0]


def test_the_line_of_a_mistake_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('name = "x"\nprimary = \n')
    assert "line 2" in theme.load(tmp_path)[1][0]

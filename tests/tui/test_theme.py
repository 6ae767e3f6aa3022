"""Themes are files; a broken one is a warning."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.color import Color

from wspilot.tui import theme

THEMES, WARNINGS = theme.load()
TEXTS = ("foreground", "primary", "secondary", "accent", "success", "warning", "error")


def test_the_themes_that_come_along_are_good() -> None:
    names = {one.name for one in THEMES}
    assert names >= {"night", "day", "contrast-dark", "contrast-light", "safe-dark", "safe-light"}
    assert not WARNINGS and {one.dark for one in THEMES} == {True, False}


@pytest.mark.parametrize("name", [one.name for one in THEMES])
def test_every_text_can_be_read(name: str) -> None:
    """WCAG's ratio: 4.5 for text, 7 where high contrast is promised."""
    one = next(one for one in THEMES if one.name == name)
    least = 7.0 if name.startswith("contrast") else 4.5
    for ground in ("background", "surface", "panel"):
        for text in TEXTS:
            pair = Color.parse(getattr(one, text)), Color.parse(getattr(one, ground))
            got = ratio(*pair)
            need = least if ground != "panel" else least * 0.75
            assert got >= need, f"{text} on {ground}: {got:.1f} < {need}"


def ratio(text: Color, ground: Color) -> float:
    bright, dark = sorted((luminance(text), luminance(ground)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def luminance(colour: Color) -> float:
    parts = [part / 255 for part in (colour.r, colour.g, colour.b)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4
              for part in parts]  # fmt: skip
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_users_themes_come_along_and_may_replace_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    place = tmp_path / "wspilot" / "themes"
    place.mkdir(parents=True)
    (place / "mine.toml").write_text('name = "mine"\nprimary = "#ff0000"\n')
    (place / "night.toml").write_text('name = "night"\nprimary = "#00ff00"\n')
    (place / "bad.toml").write_text('name = "bad"\nprimary = "nocolour"\n')
    themes, warnings = theme.load_all()
    found = {one.name: one.primary for one in themes}
    assert found["mine"] == "#ff0000" and found["night"] == "#00ff00" and "bad" not in found
    assert warnings == [
        "theme bad.toml was left out: primary: 'nocolour' is not a colour (at line 2)"
    ]


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

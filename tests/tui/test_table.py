"""Widths of columns and of text, counted in cells of the terminal."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from wspilot.tui.widgets.treetable import COLUMNS, aligned, fit, layout


@pytest.mark.parametrize("width", range(37, 260, 3))
def test_columns_and_gaps_are_exactly_the_width(width: int) -> None:
    columns = layout(width)
    assert 1 + sum(size + 1 for _, size in columns) == width
    assert columns[0][1] >= 19 and all(size > 0 for _, size in columns)


def test_columns_go_by_priority() -> None:
    shown = {width: {column.field for column, _ in layout(width)} for width in (20, 55, 80, 110)}
    assert shown[20] == {"name", "state"} and shown[55] == {"name", "state", "left"}
    assert shown[80] == {"name", "state", "node", "left", "why"}
    assert len(shown[110]) == len(COLUMNS)


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "集群のノード",
        "e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301",
        "👩‍🔬👩‍🔬👩‍🔬",
        "",
        "a集",
    ],
)
@pytest.mark.parametrize("size", range(0, 12))
def test_text_is_fitted_in_cells(text: str, size: int) -> None:
    assert cell_len(fit(text, size)) == size
    assert cell_len(aligned(COLUMNS[5], text, size)) == size


def test_what_is_cut_says_so() -> None:
    assert fit("abcdef", 4) == "abc…" and fit("集群集群", 6) == "集群… "

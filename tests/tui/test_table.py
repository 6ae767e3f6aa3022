"""Widths of columns and of text, counted in cells of the terminal."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from wspilot.tui.views import LEASES, VIEWS, View
from wspilot.tui.widgets.columns import aligned, fit, layout


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_columns_and_gaps_are_exactly_the_width(view: View) -> None:
    for width in range(37, 260):
        columns = layout(view.columns, width)
        assert 1 + sum(size + 1 for _, size in columns) == width
        assert all(size >= column.width for column, size in columns)


def test_columns_go_by_priority() -> None:
    shown = {
        width: {column.field for column, _ in layout(LEASES.columns, width)}
        for width in (20, 55, 80, 110)
    }
    assert shown[20] == {"name", "state"} and shown[55] == {"name", "state", "left"}
    assert shown[80] == {"name", "state", "node", "left", "why"}
    assert len(shown[110]) == len(LEASES.columns)


def test_columns_that_are_not_wanted_make_room() -> None:
    shown = layout(LEASES.columns, 110, {"address", "why"})
    assert {column.field for column, _ in shown}.isdisjoint({"address", "why"})
    assert 1 + sum(size + 1 for _, size in shown) == 110


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
    assert cell_len(aligned(LEASES.columns[5], text, size)) == size


def test_what_is_cut_says_so() -> None:
    assert fit("abcdef", 4) == "abc…" and fit("集群集群", 6) == "集群… "

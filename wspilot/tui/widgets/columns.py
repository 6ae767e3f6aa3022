"""Columns of a table: which fit, how wide they are, and text cut to cells of the terminal. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from wspilot.tui import look


@dataclass(frozen=True)
class Column:
    """A column: its title, its width, and from which table width on it is shown.

    Width 0 takes what is left; `grows` may take as much more.
    """

    field: str
    title: str
    width: int
    shown_from: int = 0
    right: bool = False
    grows: int = 0


def layout(
    columns: Sequence[Column], width: int, hidden: Collection[str] = ()
) -> list[tuple[Column, int]]:
    """The columns of a table this wide and their widths; with the gaps exactly the width."""
    shown = [one for one in columns if width >= one.shown_from and one.field not in hidden]
    spare = max(0, width - 1 - sum(column.width + 1 for column in shown))
    last = next((one for one in shown if not one.width), None)
    keep = 24 if last else 0
    grown: dict[str, int] = {}
    growing = [one for one in shown if one.grows]
    for n, column in enumerate(growing):
        share = max(0, spare - keep) // (len(growing) - n + (1 if last else 0))
        grown[column.field] = more = min(column.grows, share)
        spare -= more
    if shown:
        rest = last or (growing or shown)[0]
        grown[rest.field] = grown.get(rest.field, 0) + spare
    return [(one, one.width + grown.get(one.field, 0)) for one in shown]


def aligned(column: Column, text: str, size: int) -> str:
    """Exactly `size` columns, to the left or right."""
    text = fit(text, size)
    return " " * (size - cell_len(text.rstrip())) + text.rstrip() if column.right else text


def fit(text: str, size: int) -> str:
    """Exactly `size` columns; an ellipsis where something is cut."""
    if size <= 0:
        return ""
    if cell_len(text) <= size:
        return set_cell_size(text, size)
    mark = "~" if look.ascii_only() else "…"
    return set_cell_size(set_cell_size(text, size - 1).rstrip() + mark, size)

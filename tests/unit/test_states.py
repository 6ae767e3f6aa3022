"""docs/states.md is printed from model.py: `python -m tests.unit.test_states` writes it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path

import pytest

from wspilot.model import (
    FINAL_SLOT,
    SLOT_MOVES,
    VM_MOVES,
    WORKSPACE_MOVES,
    SlotState,
    VmState,
    WorkspaceState,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "states.md"
Moves = Mapping[Enum, frozenset[Enum]]
TABLES: tuple[tuple[str, type[Enum], Moves], ...] = (
    ("Slot", SlotState, SLOT_MOVES),  # type: ignore[arg-type]
    ("VM", VmState, VM_MOVES),  # type: ignore[arg-type]
    ("Workspace", WorkspaceState, WORKSPACE_MOVES),  # type: ignore[arg-type]
)


def render() -> str:
    """The page."""
    lines = [
        "# States and moves",
        "",
        "Printed from `wspilot/model.py`. A move that is not here is a late or repeated word: it",
        "changes nothing. `unknown` is a state of its own: nothing automatic leads out of it but",
        "the word of somebody who knows.",
    ]
    for title, states, moves in TABLES:
        lines += ["", f"## {title}", "", "| from | to |", "|---|---|"]
        for state in states:
            to = ", ".join(f"`{other.value}`" for other in states if other in moves[state])
            lines.append(f"| `{state.value}` | {to or 'final'} |")
    return "\n".join(lines) + "\n"


def test_the_page_is_what_the_tables_say() -> None:
    assert PAGE.read_text() == render(), "run: python -m tests.unit.test_states"


@pytest.mark.parametrize(("title", "states", "moves"), TABLES)
def test_every_state_has_its_row_and_can_be_left_unless_it_is_final(
    title: str, states: type[Enum], moves: Moves
) -> None:
    assert set(moves) == set(states)
    final = {state for state in states if not moves[state]}
    expected = {
        "Slot": FINAL_SLOT,
        "VM": {VmState.TERMINATED},
        "Workspace": {WorkspaceState.ENDED},
    }
    assert final == expected[title]


if __name__ == "__main__":
    PAGE.write_text(render())

"""docs/faults.md names a test in every line, and every test that it names exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.real.storm import FAULTS as STORM
from tests.sim.faults import Fault
from tests.sim.mutants import MUTANTS

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "faults.md").read_text("utf-8")
BODY = PAGE[PAGE.index("\n## ") :]
LINES = [re.sub(r"\s+", " ", item) for item in re.split(r"\n- ", BODY)[1:]]
KINDS = {
    "sim": {fault.value for fault in Fault},
    "storm": set(STORM),
    "planted": {mutant.name for mutant in MUTANTS},
}


def named(text: str, kind: str) -> set[str]:
    """What the text names of this kind."""
    return set(re.findall(rf"`{kind}: ([^`]+)`", text))


@cache
def functions(path: str) -> frozenset[str]:
    tree = ast.parse((TESTS / path).read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[2:42])
def test_every_line_names_a_test(line: str) -> None:
    line = line.partition(" ## ")[0]
    assert line.startswith("**")
    assert "::test_" in line or any(named(line, kind) for kind in KINDS)


@pytest.mark.parametrize(("path", "name"), sorted(set(re.findall(r"`([^` ]+)::(\w+)`", BODY))))
def test_what_is_named_exists(path: str, name: str) -> None:
    assert name in functions(path)


@pytest.mark.parametrize("kind", KINDS)
def test_every_fault_that_can_be_injected_has_a_line_and_no_other(kind: str) -> None:
    assert named(BODY, kind) == KINDS[kind]


def test_backticks_hold_together_over_line_ends() -> None:
    assert all(line.count("`") % 2 == 0 for line in LINES)

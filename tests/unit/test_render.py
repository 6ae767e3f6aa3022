"""Tables for people: hostile names, wide letters, narrow terminals, colour only where wanted."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from tests.unit.fake_daemon import HOSTILE, T0, books
from wspilot.cli import render
from wspilot.daemon import documents


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make stdout a terminal of so many columns."""

    def make(columns: int) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)

    return make


def test_columns_line_up_by_what_a_terminal_shows() -> None:
    text = render.table(("NAME", "B"), [("日本", "x"), ("ab", "y"), ("e\u0301", "z")])
    head, *rows = text.splitlines()
    assert head.index("B") == 6
    assert [render.width(row[: row.index(end)]) for row, end in zip(rows, "xyz", strict=True)] == [
        6
    ] * 3


def test_hostile_text_is_harmless_everywhere() -> None:
    made = books()
    ws = documents.workspace(made, made.workspace("aaaa1111"))["workspace"]  # type: ignore[arg-type]
    for doc in (ws, *ws["vms"], *ws["slots"]):
        for key in ("name", "cause", "waits_for", "node", "job"):
            if key in doc:
                doc[key] = HOSTILE
        doc["causes"] = [HOSTILE]
    event = {"at": "2026-01-01T00:00:00Z", "level": "info", "kind": "vm", "text": HOSTILE,
             "node": HOSTILE, "slot": ""}  # fmt: skip
    shown = render.show(ws, T0) + render.workspaces([ws], T0) + render.event(event)
    assert "\x1b" not in shown and "\u202e" not in shown
    assert render.event(event).count("\n") == 0
    assert len(render.workspaces([ws], T0).splitlines()) == 2


@pytest.mark.parametrize("columns", [10, 40, 80])
def test_no_line_is_wider_than_the_terminal(
    terminal: Callable[[int], None], columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal(columns)
    monkeypatch.setenv("NO_COLOR", "1")
    rows = [("日本" * 30, "active", "x" * 200), ("b", "failed", "because " * 20)]
    lines = render.table(("NAME", "STATE", "WHY"), rows).splitlines()
    assert all(render.width(line) <= columns for line in lines)
    assert any(line.endswith("…") for line in lines)


def test_colour_on_a_terminal_only(
    terminal: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [("failed", "active", "")]
    assert "\x1b" not in render.table(("NAME", "STATE", "WHY"), rows)
    terminal(80)
    assert "\x1b[32mactive\x1b[0m" in render.table(("NAME", "STATE", "WHY"), rows)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in render.table(("NAME", "STATE", "WHY"), rows)


def test_phase_times_fit_80_columns(
    terminal: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal(80)
    monkeypatch.setenv("NO_COLOR", "1")
    made = books()
    ws = documents.workspace(made, made.workspace("aaaa1111"))["workspace"]  # type: ignore[arg-type]
    for vm in ws["vms"]:
        vm.update(node="node0001", waits_for="", cause="")
        vm["nics"] = [{"ip": "10.78.0.2"}, {"ip": "10.77.0.2"}]
        vm["spans"] = [{"name": name, "seconds": 1234.5} for name in render.PHASES]
    lines = render.vms(ws["vms"]).splitlines()
    assert lines[0].split() == [
        "VM", "STATE", "NODE", "INVOKE", "PROP", "CREATE", "BOOT", "ADDRESS",
    ]  # fmt: skip
    assert all(line.count("1234.5") == 4 and "10.78.0.2" in line for line in lines[1:])


def test_an_empty_list_says_what_to_do() -> None:
    assert "wspilot deploy" in render.workspaces([], T0)

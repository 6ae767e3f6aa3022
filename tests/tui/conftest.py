"""Every screen looks the same wherever and whenever it is tested, and nobody waits for its clock.

Frozen are the zone, the words of the terminal, the user's files, and what moves by itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.widgets import Input, TextArea

from wspilot.tui import following, look
from wspilot.tui.screens import base, drafting

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"TZ": "UTC", "TERM": "xterm-256color", "COLORTERM": "truecolor",
               "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "COLUMNS": "80", "LINES": "24"}  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Snapshots that differ are shown in one place, whatever directory this was called from."""
    if config.getoption("snapshot_report", "") == "snapshot_report.html":
        config.option.snapshot_report = str(ROOT / ".cache" / "snapshots.html")


@pytest.fixture(autouse=True)
def everywhere_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in [one for one in os.environ if one.startswith(("LC_", "WSPILOT", "NO_COLOR"))]:
        monkeypatch.delenv(name)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "WSPILOT_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setattr("locale.getpreferredencoding", lambda *_: "UTF-8")
    monkeypatch.setattr(Input, "_toggle_cursor", lambda _: None)  # it stays lit
    monkeypatch.setattr(TextArea, "_toggle_cursor_blink_visible", lambda _: None)
    time.tzset()
    look.ascii_only.cache_clear()
    yield
    monkeypatch.undo()
    time.tzset()
    look.ascii_only.cache_clear()


@pytest.fixture(autouse=True)
def quick(everywhere_the_same: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Repaints come often; a lost connection comes back when a test says so, not by itself."""
    monkeypatch.setattr(base, "FLUSH_S", 0.03)
    monkeypatch.setattr(drafting, "CHECK_S", 0.03)
    monkeypatch.setattr(following, "RETRY_S", (3600.0,))

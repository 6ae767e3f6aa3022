"""The screen repaints more often under test, so that no test waits for a quarter of a second."""

from __future__ import annotations

import pytest

from wspilot.tui.screens import base, build


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "FLUSH_S", 0.03)
    monkeypatch.setattr(build, "CHECK_S", 0.03)

"""The screen repaints more often under test, so that no test waits for a quarter of a second."""

from __future__ import annotations

import pytest

from wspilot.tui import app


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "FLUSH_S", 0.03)

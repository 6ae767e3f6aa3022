"""The daemon's clock: seconds since 1970 that never go back, also not over a restart."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from wspilot.config import load
from wspilot.daemon import service as service_
from wspilot.daemon.core.books import Books
from wspilot.daemon.service import Service
from wspilot.model import EventRecord


def test_a_clock_that_was_set_back_between_two_daemons_delays_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(service_.log, "warning", lambda text, *args: said.append(text % args))
    books = Books()
    ahead = time.time() + 3600
    for n, at in enumerate((ahead - 5, ahead, ahead - 1)):
        books.put(EventRecord(str(n), at, "info", "slot", "x"))
    service = Service(load(None, tmp_path), tmp_path)
    service.go_on_from(books.latest())
    assert ahead <= service.now() < ahead + 5 and "behind the books" in said[0]
    before = service.now()
    time.sleep(0.01)
    assert service.now() > before


def test_a_clock_that_is_right_is_kept(tmp_path: Path) -> None:
    books = Books()
    books.put(EventRecord("1", time.time() - 60, "info", "slot", "x"))
    service = Service(load(None, tmp_path), tmp_path)
    service.go_on_from(books.latest())
    service.go_on_from(Books().latest())
    assert abs(service.now() - time.time()) < 1

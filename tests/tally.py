"""A pytest plugin that writes each test's outcome to a file as it happens (env WSPILOT_TALLY).

Why not the junit report: pytest writes that at its end, and a stage that is stopped has none.
A line is `begin NODEID`, or `passed|failed|skipped NODEID`, plus `\\t` and the reason of a skip.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import NoReturn

import pytest

_PATH = os.environ.get("WSPILOT_TALLY", "")


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    # Fixtures are finalised on KeyboardInterrupt; a plain SIGTERM would leave their daemons behind.
    raise KeyboardInterrupt


def pytest_configure(config: pytest.Config) -> None:
    signal.signal(signal.SIGTERM, _interrupt)


def _note(line: str) -> None:
    if _PATH:
        with open(_PATH, "a", encoding="utf-8", errors="replace") as file:
            file.write(line + "\n")


def pytest_runtest_logstart(nodeid: str) -> None:
    _note(f"begin {nodeid}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    # A test has up to three reports; set-up and teardown count only when something is wrong.
    if report.failed:
        _note(f"failed {report.nodeid}")
    elif report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else "expected to fail"
        _note(f"skipped {report.nodeid}\t{reason}".replace("\n", " "))
    elif report.when == "call":
        _note(f"passed {report.nodeid}")


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _note(f"failed {report.nodeid}")
    elif report.skipped:
        _note(f"skipped {report.nodeid}\t{report.longrepr}".replace("\n", " "))

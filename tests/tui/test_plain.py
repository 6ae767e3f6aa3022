"""`--a11y`: the interface as lines, for those who hear it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.fake_daemon import FakeApi, books, served, site_answers


def test_it_is_the_list_again_after_each_change_and_draws_nothing(tmp_path: Path) -> None:
    with served(tmp_path / "h", FakeApi(site_answers(books()))):
        command = [sys.executable, "-m", "wspilot", "--home", str(tmp_path / "h")]
        listed = subprocess.run([*command, "list"], capture_output=True, text=True, timeout=60)
        shown = subprocess.Popen(
            [*command, "tui", "--a11y"], stdin=-3, stdout=-1, stderr=-1, text=True
        )
        try:
            assert shown.stdout is not None
            head, first = (shown.stdout.readline() for _ in range(2))
            assert shown.poll() is None  # it goes on
            shown.send_signal(signal.SIGINT)
            _, said = shown.communicate(timeout=60)
        finally:
            shown.kill()
            shown.wait(10)
    expected = listed.stdout.splitlines()
    assert head.split() == expected[0].split() and first.split()[0] == expected[1].split()[0]
    assert "\x1b" not in head + first + said and "Traceback" not in said


@pytest.mark.parametrize("other", ["--demo", "--web"])
def test_it_has_no_demo_and_no_browser(other: str) -> None:
    done = subprocess.run([sys.executable, "-m", "wspilot", "tui", "--a11y", other],
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    assert done.returncode == 2 and "wspilot tui --a11y" in done.stderr

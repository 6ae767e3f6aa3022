"""The shared filesystem stops answering under a real daemon: it goes on, says so, and can be ended.

Found by hand: the daemon's loop looked at the directory itself, and hung with it, for ever.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.test_kills_node import Hangs
from wspilot.client import call
from wspilot.errors import NoDaemon, TimedOut

pytestmark = pytest.mark.real
SITE = '[site]\nspool = "{spool}"\nallow_root = true\n[vmm.sim]\nboot_s = 0.2\n'


class Daemon:
    """One whose spool lies on a filesystem that can hang."""

    def __init__(self, root: Path, spool: Path) -> None:
        self.root, self.home = root, root / "home"
        self.home.mkdir(mode=0o700)
        (root / "site.toml").write_text(SITE.format(spool=spool))
        self.start()

    def start(self) -> None:
        argv = [sys.executable, "-m", "wspilot", "--home", str(self.home), "daemon", "--config"]
        with (self.root / "log").open("ab") as log:
            self.child = subprocess.Popen(
                [*argv, str(self.root / "site.toml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.until(self.answers, 20)

    def answers(self) -> bool:
        try:
            return bool(call(self.home, "ping", {}, 2))
        except (NoDaemon, TimedOut):
            return False

    def ask(self, verb: str, **params: Any) -> dict[str, Any]:
        """An answer, whatever hangs: a loop that hangs gives none at all."""
        return call(self.home, verb, params, 10)

    def act(self, verb: str, **params: Any) -> dict[str, Any]:
        return self.ask(verb, token=os.urandom(16).hex(), **params)

    def state(self) -> str:
        return str(self.ask("show", id="one")["workspace"]["state"])

    def until(self, done: Callable[[], bool], limit: float) -> None:
        end = time.monotonic() + limit
        while not done():
            assert time.monotonic() < end, (self.root / "log").read_text()[-3000:]
            time.sleep(0.1)

    def close(self) -> None:
        self.child.kill()
        self.child.wait(20)


@pytest.fixture
def hangs(tmp_path: Path) -> Iterator[Hangs]:
    made = Hangs(tmp_path / "fuse")
    yield made
    made.close()


def test_a_spool_that_hangs_holds_up_no_answer_and_the_daemon_can_be_ended(
    hangs: Hangs, tmp_path: Path
) -> None:
    spool = hangs.mount / "spool"
    spool.mkdir(mode=0o700)
    daemon = Daemon(tmp_path, spool)
    try:
        daemon.act("deploy", type="small", count=1, duration="1h", name="one")
        daemon.until(lambda: daemon.state() == "active", 30)
        hangs.stop()
        daemon.until(lambda: "not answered" in _spool(daemon), 15)
        assert daemon.state() == "active", "nothing is decided because of it"
        daemon.child.send_signal(signal.SIGTERM)
        assert daemon.child.wait(10) == 0
        hangs.go_on()
        daemon.start()
        hangs.stop()
        time.sleep(0.5)
        daemon.act("destroy", ids=["one"])
        time.sleep(1)
        assert daemon.state() == "ending"
        hangs.go_on()
        daemon.until(lambda: daemon.state() == "ended", 30)
        daemon.until(lambda: _spool(daemon) == "", 5)
    finally:
        hangs.go_on()
        if daemon.child.poll() is None:
            daemon.act("destroy", all=True)
            daemon.until(lambda: not daemon.ask("list")["workspaces"], 30)
        daemon.close()


def _spool(daemon: Daemon) -> str:
    return str(daemon.ask("status")["status"]["spool"]["text"])

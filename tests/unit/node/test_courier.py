"""The courier alone: what it does when the spool is not there."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import time
from pathlib import Path

from wspilot.node.courier import Courier, Round


def test_a_spool_that_is_gone_is_not_asked_in_a_loop(tmp_path: Path) -> None:
    """It once took a third of a core on every node until the spool came back."""
    ours, theirs = socket.socketpair()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = os.fork()
    if child == 0:
        ours.close()
        with contextlib.suppress(ConnectionError):  # its words are not read here
            Courier(theirs, Round(tmp_path / "gone", "abcdefgh_n1_01234567")).run()
        os._exit(0)
    theirs.close()
    time.sleep(1.5)
    ours.close()
    assert os.waitpid(child, 0)[1] == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3

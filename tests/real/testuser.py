"""An ordinary user for one test run: whoever it is, what runs as it can only be ours.

The name holds the number of the process that made it; a later run removes users whose maker is
gone (kill -9) and who run nothing. Invariant: after `remove()` neither user nor process is there.
"""

from __future__ import annotations

import pwd
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from tests import processes
from tests.processes import Process

_NAME = re.compile(r"wstest-(\d+)-\d+")
_serial = count(1)


class TestUser:
    """Made by `create`, ended by `remove`; needs root."""

    __test__ = False  # pytest: not a class of tests

    def __init__(self) -> None:
        self.name = ""
        self.uid = -1
        self.gid = -1
        self.home = Path()

    def create(self, home: Path) -> None:
        """Add the user; `home` is made, and belongs to the user."""
        _remove_stale()
        self.name = f"wstest-{processes.me().pid}-{next(_serial)}"
        _account_tool("useradd", "-M", "-U", "-d", str(home), "-s", "/bin/bash", self.name)
        entry = pwd.getpwnam(self.name)
        self.uid, self.gid, self.home = entry.pw_uid, entry.pw_gid, home
        _remove_files_of(self.uid)  # an earlier user's, who had this number
        home.mkdir(mode=0o755, parents=True)
        shutil.chown(home, self.uid, self.gid)

    def processes(self) -> list[Process]:
        """What runs as this user now."""
        return [] if self.uid < 0 else _processes_of(self.uid)

    def remove(self) -> None:
        """Kill what is left, remove the user and the user's files outside of its home."""
        if self.uid < 0:
            return
        for process in (left := self.processes()):
            process.kill()
        processes.wait_until_gone(left, 5)
        _remove_files_of(self.uid)
        _account_tool("userdel", self.name)
        self.uid = -1


def _processes_of(uid: int) -> list[Process]:
    found = []
    for process in processes.everything():
        try:
            owner = Path(f"/proc/{process.pid}").stat().st_uid
        except OSError:
            continue
        if owner == uid and process.state not in "ZX":
            found.append(process)
    return found


def _remove_files_of(uid: int) -> None:
    """The node-local directories that wspilot gives each uid (DESIGN.md section 6)."""
    for path in (Path(f"/var/tmp/wspilot-{uid}"), Path(f"/tmp/wspilot-{uid}")):
        shutil.rmtree(path, ignore_errors=True)


def _remove_stale() -> None:
    for entry in pwd.getpwall():
        found = _NAME.fullmatch(entry.pw_name)
        if found is None or processes.look_up(int(found[1])) or _processes_of(entry.pw_uid):
            continue
        _remove_files_of(entry.pw_uid)
        _account_tool("userdel", entry.pw_name)


def _account_tool(*argv: Sequence[str] | str) -> None:
    """useradd and userdel lock /etc/passwd, and give up when another one has it: try again."""
    for attempt in range(20):
        done = subprocess.run(
            [f"/usr/sbin/{argv[0]}", *map(str, argv[1:])],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        if done.returncode not in (1, 10):  # cannot update, or lock, the password file
            break
        time.sleep(0.05 * (attempt + 1))
    if done.returncode:
        raise RuntimeError(f"{argv}: exit {done.returncode}: {done.stderr.strip()}")

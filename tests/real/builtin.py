"""A whole wspilot on the built-in batch system: daemon, pilots, VMs, and what is left of them.

Nodes have names of their own, so that what one test leaves below /tmp and /var/tmp is told apart
from what others use there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from tests import processes
from tests.processes import Process
from wspilot.client import call
from wspilot.daemon.core.books import Books
from wspilot.daemon.store import Store
from wspilot.errors import WspilotError
from wspilot.home import read_record

SITE = """\
[site]
vmm = "{vmm}"
{site}
[lrm.local]
nodes = {nodes}
grace = "3s"
{lrm}
[vmm.sim]
boot_s = 0.1
stop_s = 0.05
{more}
"""


def files_below(top: Path) -> Iterator[Path]:
    """All of them; what vanishes meanwhile is passed over."""
    for folder, _, names in os.walk(top):
        yield from (Path(folder, name) for name in names)


class Builtin:
    """One home and its daemon."""

    def __init__(self, home: Path, nodes: Sequence[str]) -> None:
        self.home, self.nodes = home, nodes

    def start(self) -> None:
        """Start the daemon."""
        argv = [sys.executable, "-m", "wspilot", "--home", str(self.home), "daemon", "--detach",
                "--config", str(self.home / "site.toml"), "--json"]  # fmt: skip
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def call(self, method: str, /, **params: Any) -> dict[str, Any]:
        return call(self.home, method, params, timeout_s=150)

    def deploy(self, **params: Any) -> dict[str, Any]:
        """A lease, as it was accepted."""
        found: dict[str, Any] = self.call("deploy", **params)["workspace"]
        return found

    def wait(self, id: str, goal: str = "active", seconds: float = 120) -> dict[str, Any]:
        found: dict[str, Any] = self.call("wait", id=id, **{"for": goal, "timeout_s": seconds})[
            "workspace"
        ]
        return found

    def destroy(self, *ids: str) -> None:
        self.call("destroy", ids=list(ids))

    def end(self, id: str) -> dict[str, Any]:
        """Destroy a lease and wait for its confirmed end."""
        self.destroy(id)
        return self.wait(id, "ended")

    def show(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("show", id=id)["workspace"]
        return found

    def until(self, id: str, true: Any, seconds: float = 30) -> dict[str, Any]:
        """The workspace once it is as wanted."""
        end = time.monotonic() + seconds
        while not true(ws := self.show(id)):
            assert time.monotonic() < end, json.dumps(ws, indent=1)
            time.sleep(0.1)
        return ws

    def events(self) -> list[str]:
        return [event["text"] for event in self.call("events")["events"]]

    # -- what there is of it outside its home

    def processes(self) -> list[Process]:
        """Daemon, batch system, launchers, pilots, guardians, guests: all name the home."""
        mark = str(self.home)
        return [
            one
            for one in processes.everything()
            if one.state not in "ZX"
            and (mark in one.command() or any(mark in word for word in processes.environ(one)))
        ]

    def left(self) -> dict[str, list[str]]:
        """What no ended lease may leave: by kind."""
        uid, spool = os.getuid(), self.home / "spool"
        files = [
            str(path)
            for top in (Path(f"/tmp/wspilot-{uid}"), Path(f"/var/tmp/wspilot-{uid}"))
            for node in self.nodes
            for path in sorted(files_below(top / node))
            if path.name != "boot_id" and not _is_cached(path)
        ]
        spooled = [
            str(path)
            for name in ("new", "hb", "cmd", "tmp", "bad")
            for path in sorted((spool / name).iterdir())
        ]
        keys = [str(path) for path in sorted(spool.glob("slots/*/key"))]
        slots = [one["id"] for one in self.call("slots")["slots"]
                 if one["state"] not in ("released", "failed", "preempted")]  # fmt: skip
        helpers = [one.command() for one in self.processes() if _of_a_lease(one.command())]
        return {"files": files, "spool": spooled, "keys": keys, "slots": slots, "links": links(),
                "rules": rules(), "processes": helpers}  # fmt: skip

    def stop(self) -> Books:
        """End the daemon; the books as they lie on disk."""
        record = read_record(self.home)
        if record is not None:
            os.kill(record.pid, signal.SIGTERM)
        end = time.monotonic() + 10
        while read_record(self.home) is not None and time.monotonic() < end:
            time.sleep(0.05)
        with closing(Store(self.home / "store")) as store:
            return Books.load(store.load())


def _end_leases(one: Builtin) -> None:
    """What a test that failed has not ended."""
    with suppress(WspilotError, OSError):
        open_ = one.call("list")["workspaces"]
        one.destroy(*(ws["id"] for ws in open_))
        for ws in open_:
            one.wait(ws["id"], "ended", 20)


def _is_cached(path: Path) -> bool:
    """A whole image in a node's cache (and its lock) stays for the next lease; a part may not."""
    return (
        path.parent.name == "images"
        and re.fullmatch(r"[0-9a-f]{64}(\.lock)?", path.name) is not None
    )


def _of_a_lease(command: str) -> bool:
    return any(
        word in command for word in (" launch ", " pilot --", "-guardian ", "-courier ", "qemu-")
    )


def links() -> list[str]:
    """Network devices of this host."""
    return sorted(path.name for path in Path("/sys/class/net").iterdir())


def rules() -> list[str]:
    """Packet filters, where this user may see them."""
    if shutil.which("nft") is None or os.getuid() != 0:
        return []
    done = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, timeout=20)
    return done.stdout.splitlines()


@contextmanager
def builtin(
    vmm: str = "sim",
    nodes: int = 4,
    *,
    site: str = "",
    lrm: str = "",
    more: str = "",
    images: Mapping[str, Path] | None = None,
) -> Iterator[Builtin]:
    """Start one, and end everything of it; a process that stays is a failure."""
    home = Path(tempfile.mkdtemp(prefix="wspilot-builtin-"))
    names = [f"b{os.getpid()}n{n}" for n in range(1, nodes + 1)]
    one = Builtin(home, names)
    try:
        text = SITE.format(vmm=vmm, nodes=json.dumps(names), site=site, lrm=lrm, more=more)
        (home / "site.toml").write_text(text)
        for name, place in (images or {}).items():
            shutil.copytree(place, home / "images" / name)
        one.start()
        yield one
    finally:
        if (log := home / "log" / "daemon.log").exists():
            print(log.read_text()[-4000:])  # shown by pytest when something failed
        if read_record(home) is not None:
            _end_leases(one)
            one.stop()
        left = processes.wait_until_gone(one.processes(), 15)
        told = [process.command() for process in left]
        for process in left:
            process.kill()
        for top in (f"/tmp/wspilot-{os.getuid()}", f"/var/tmp/wspilot-{os.getuid()}"):
            for name in names:
                shutil.rmtree(Path(top) / name, ignore_errors=True)
        shutil.rmtree(home, ignore_errors=True)
    assert not told, f"processes are left: {told}"

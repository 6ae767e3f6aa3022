"""A daemon of many VMs that change all the time, as a process of its own: `Crowd`.

The socket, its lines and its queues are the product's own (`ControlServer`); only what they carry
is made up. Each event is a delta of its own, of one VM and one line of the stream, as from a daemon
that commits every notification by itself: the dearest case. The books are counted, so that who
looks at them can tell whether the events were really sent, and whether a client had to begin again.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.unit.fake_daemon import record_for
from wspilot.client import call
from wspilot.daemon.control import ControlServer
from wspilot.errors import NotFound, WspilotError
from wspilot.messages import rfc3339
from wspilot.tui import canned

Doc = dict[str, Any]
EACH = 100  # VMs of a workspace
STARTS_S = 60.0
TICK_S = 0.02
QUIET_S = 3600.0  # what is quiet has been so for a while
PHASES = ("propagating", "starting", "booting", "running")


class Crowd:
    """What the socket gives access to, and how often it was asked for."""

    def __init__(self, vms: int, age_s: float) -> None:
        at = time.time() - age_s
        self.items: dict[str, Doc] = {"status/daemon": canned.status(at, at)}
        self.vms: list[Doc] = []
        for first in range(0, vms, EACH):
            self._add(f"w{first // EACH:04}", min(EACH, vms - first), at)
        self.sent = self.subscribed = self.snapshots = 0
        self.asked_at = 0.0
        self._listeners: list[Callable[[int, list[Doc], list[str]], None]] = []

    def _add(self, name: str, count: int, at: float) -> None:
        ws = canned.workspace(name, f"lease-{name}", [("vm", "small", count)], "active", at)
        made = [
            canned.vm(f"{name}v{n:03}", ws, "vm", "small", n, "running", at,
                      node=f"node{n % 64}", octet=n % 250)
            for n in range(1, count + 1)
        ]  # fmt: skip
        ws["vms"] = [vm["id"] for vm in made]
        self.vms += made
        self.items |= {f"{one['table']}/{one['id']}": one for one in (ws, *made)}

    async def call(self, method: str, params: Mapping[str, Any], uid: int) -> Doc:
        if method != "counts":
            raise NotFound(f"no method {method!r}")
        return {"sent": self.sent, "subscribed": self.subscribed, "snapshots": self.snapshots,
                "listening": len(self._listeners), "asked_at": self.asked_at}  # fmt: skip

    def snapshot(self) -> tuple[int, list[Doc]]:
        self.snapshots += 1
        return self.sent, list(self.items.values())

    def listen(self, callback: Callable[[int, list[Doc], list[str]], None]) -> Callable[[], None]:
        self.subscribed, self.asked_at = self.subscribed + 1, time.monotonic()
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    async def change(self, per_second: float) -> None:
        """So many events a second, for ever."""
        chance, due, before = random.Random(1), 0.0, time.monotonic()
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            due, before = due + per_second * (now - before), now
            while due >= 1:
                due -= 1
                self._tell(chance)

    def _tell(self, chance: random.Random) -> None:
        at, vm = time.time(), chance.choice(self.vms)
        state = chance.choice([one for one in PHASES if one != vm["state"]])
        share = chance.random() if state == "propagating" else None
        vm.update(state=state, since=rfc3339(at), progress=share)
        self.sent += 1
        event = canned.event(f"e{self.sent}", "vm", f"{vm['name']} is {state}", at, vm=vm["id"],
                             workspace=vm["workspace"], node=vm["node"])  # fmt: skip
        for callback in tuple(self._listeners):
            callback(self.sent, [dict(vm), event], [])


async def _serve(home: Path, vms: int, per_second: float, age_s: float) -> None:
    crowd, path = Crowd(vms, age_s), home / "s.sock"
    server = ControlServer(path, crowd)
    await server.start()
    record_for(home, path)
    await crowd.change(per_second)


@contextmanager
def crowd(
    home: Path, vms: int, per_second: float = 0, age_s: float = QUIET_S
) -> Iterator[Callable[[], Doc]]:
    """Serve it at `home`; gives the counts whenever they are asked for. Ended afterwards.

    `age_s`: for so long all has been as it is.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    given = map(str, (home, vms, per_second, age_s))
    argv = [sys.executable, "-m", "tests.bench.crowd", *given]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)

    def counts() -> Doc:
        return call(home, "counts", {})

    try:
        end = time.monotonic() + STARTS_S
        while True:
            try:
                counts()
                break
            except WspilotError:
                assert process.poll() is None and time.monotonic() < end, "the crowd did not start"
                time.sleep(0.05)
        yield counts
    finally:
        process.kill()
        process.wait(10)


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2]), *map(float, sys.argv[3:5])))

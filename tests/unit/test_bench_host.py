"""`wspilot bench host`: what is asked, refused and ended, at the daemon's side and the caller's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.sites import site
from wspilot import hostfigures
from wspilot.daemon.api import ServiceApi
from wspilot.daemon.core import step
from wspilot.daemon.service import Service
from wspilot.errors import Refused, UsageError
from wspilot.node.benchhost import Guests, Plan

ASK = {"token": "t1", "rounds": 2, "mib": 64, "guests": 0, "kernel": "/k", "initrd": "", "node": "",
       "duration": "10m"}  # fmt: skip
XEN = '[site]\nlrm = "{}"\nvmm = "xen"\n{}\n[[type]]\nname = "s"\ncpus = 1\nmemory = "128MiB"\n'


class Daemon:
    """One without a store, a socket or a batch system."""

    def __init__(self, tmp_path: Path, lrm: str = "slurm", more: str = "") -> None:
        self.service = Service(site(XEN.format(lrm, more)), tmp_path)
        self.service.turn = self._turn  # type: ignore[method-assign]
        self.api = ServiceApi(self.service)

    def _turn(self, events: Any) -> list[bool]:
        books, rules = self.service.books, self.service.rules
        done = [step(books, event, self.service.now(), rules).done for event in events]
        books.settle()
        return done

    async def ask(self, **more: Any) -> Any:
        return (await self.api.call("bench", {**ASK, **more}, 0))["bench"]


@pytest.mark.parametrize(
    ("key", "most"),
    [("rounds", hostfigures.MOST_ROUNDS), ("guests", hostfigures.MOST_GUESTS),
     ("mib", hostfigures.MOST_MIB)],
)  # fmt: skip
async def test_the_node_takes_what_the_daemon_lets_through_and_no_more(
    tmp_path: Path, key: str, most: int
) -> None:
    def plan(rounds: int = 2, mib: int = 64, guests: int = 0) -> Plan:
        return Plan(rounds, mib, Guests(guests, "/k"))

    plan(**{key: most})
    with pytest.raises(Refused):
        plan(**{key: most + 1})
    fits = min(most, 100_000)  # no count on the socket is larger
    assert (await Daemon(tmp_path).ask(**{key: fits}))["state"] == "submitting"
    with pytest.raises(UsageError):
        await Daemon(tmp_path).ask(**{key: most + 1})

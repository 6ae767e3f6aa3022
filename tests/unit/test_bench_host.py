"""`wspilot bench host`: what is asked, refused and ended, at the daemon's side and the caller's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.fake_daemon import FakeApi, served
from tests.unit.sites import site
from wspilot import hostfigures
from wspilot.cli.benchhost import bench_host
from wspilot.cli.parse import parse
from wspilot.daemon import benching
from wspilot.daemon.api import ServiceApi
from wspilot.daemon.core import step
from wspilot.daemon.service import Service
from wspilot.daemon.slotfiles import pilot_settings
from wspilot.errors import Refused, UsageError, WspilotError
from wspilot.node.benchhost import Guests, Plan
from wspilot.node.core.settings import read_settings

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


async def test_torque_is_asked_for_a_whole_node_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="whole node") as caught:
        await Daemon(tmp_path, "torque").ask()
    assert "[site] node_cpus" in caught.value.hint
    daemon = Daemon(tmp_path, "torque", "node_cpus = 8")
    slot = daemon.service.books.slot((await daemon.ask())["id"])
    assert slot is not None and slot.ppn == 8
    assert (await Daemon(tmp_path, "slurm").ask())["state"] == "submitting"


@pytest.mark.parametrize(("said", "walltime_s"), [("3m", 180), ("2m31s", 180), ("3m1s", 240)])
async def test_a_duration_is_whole_minutes_and_leaves_time_for_a_round(
    tmp_path: Path, said: str, walltime_s: int
) -> None:
    daemon = Daemon(tmp_path)
    slot = daemon.service.books.slot((await daemon.ask(duration=said))["id"])
    assert slot is not None and slot.walltime_s == walltime_s


@pytest.mark.parametrize("said", ["0s", "1s", "2m"])
async def test_a_duration_without_time_for_a_round_is_refused_naming_the_least(
    tmp_path: Path, said: str
) -> None:
    daemon = Daemon(tmp_path)
    with pytest.raises(UsageError, match="no time for a round") as caught:
        await daemon.ask(duration=said)
    assert "2m20s" in caught.value.message and "--duration 3m" in caught.value.hint
    assert not list(daemon.service.books.slots())


async def test_the_least_duration_leaves_its_job_time_before_its_hard_end(tmp_path: Path) -> None:
    """What the daemon counts is what the node's own clock counts."""
    daemon = Daemon(tmp_path, "slurm", '[budget]\nlaunch = "5m"\nslack = "105s"')
    with pytest.raises(UsageError) as caught:
        await daemon.ask(duration="1m")
    least = caught.value.hint.split()[-3]
    slot = daemon.service.books.slot((await daemon.ask(duration=least))["id"])
    assert slot is not None
    site, driver = daemon.service.site, daemon.service.driver
    words = pilot_settings(site, driver, None, slot, b"", [])
    assert read_settings(words).hard_end(0.0) >= benching.ROUND_S
    with pytest.raises(UsageError):
        await daemon.ask(duration=f"{slot.walltime_s - 60}s", token="t2")


SLOT = {"id": "s" * 8, "state": "failed", "cause": "no node within 2h", "node": "", "ended": True,
        "figures": None}  # fmt: skip


def host(home: Path, api: FakeApi, *words: str) -> WspilotError:
    """How it ends at the caller's side, with a daemon that says what it is told to."""
    with served(home, api), pytest.raises(WspilotError) as caught:
        bench_host(parse(["bench", "host", *words]), home)
    return caught.value


async def test_a_slot_is_waited_for_as_long_as_its_caller_waits(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    slot = daemon.service.books.slot((await daemon.ask(wait_s=7200))["id"])
    assert slot is not None and slot.bench["wait_s"] == 7200


def test_a_callers_time_limit_goes_along_and_why_nothing_came_is_told(tmp_path: Path) -> None:
    api = FakeApi({"bench": {"schema": 1, "bench": SLOT}})
    assert "no node within 2h" in host(tmp_path, api, "--timeout", "2h").message
    assert [params["wait_s"] for _, params in api.calls] == [7200]


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

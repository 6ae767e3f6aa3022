"""`wspilot bench host`: what is asked, refused and ended, at the daemon's side and the caller's."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fake_daemon import FakeApi, books, served
from tests.unit.sites import site
from wspilot import hostfigures
from wspilot.cli import benchhost, render
from wspilot.cli.benchhost import bench_host
from wspilot.cli.parse import parse
from wspilot.client import Update, call
from wspilot.daemon import benching, documents
from wspilot.daemon.api import ServiceApi
from wspilot.daemon.core import step
from wspilot.daemon.service import Service
from wspilot.daemon.slotfiles import pilot_settings
from wspilot.errors import NoDaemon, NotFound, Refused, TimedOut, UsageError, WspilotError
from wspilot.node.benchhost import Guests, Plan
from wspilot.node.core.settings import read_settings
from wspilot.tui.live import LiveModel
from wspilot.tui.rows import Rows

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


@pytest.mark.parametrize(("node", "told"), [("n7", "measures n7"), ("", "measures a node")])
async def test_its_slot_is_shown_as_what_it_is(tmp_path: Path, node: str, told: str) -> None:
    daemon = Daemon(tmp_path)
    await daemon.ask(node=node)
    slots = documents.listing("slots", daemon.service.books, daemon.service.books.slots())["slots"]
    assert told in render.slots(slots, daemon.service.now())
    item = documents.item(daemon.service.books, next(daemon.service.books.slots()))
    (made := LiveModel()).apply(Update(1, True, ({**item, "waits_for": ""},)))
    row = Rows(made).row(f"slots/{item['id']}", daemon.service.now())
    assert row.cells["cause"] == told
    other = documents.listing("slots", books(), books().slots())["slots"]
    assert "measures" not in render.slots(other, daemon.service.now())


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
    api.answers.setdefault("ping", {"schema": 1})
    with served(home, api), pytest.raises(WspilotError) as caught:
        bench_host(parse(["bench", "host", *words]), home)
    return caught.value


def of(api: FakeApi, method: str) -> list[dict[str, Any]]:
    """What that method was called with."""
    return [params for name, params in api.calls if name == method]


async def test_a_slot_is_waited_for_as_long_as_its_caller_waits(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    slot = daemon.service.books.slot((await daemon.ask(wait_s=7200))["id"])
    assert slot is not None and slot.bench["wait_s"] == 7200


def test_a_callers_time_limit_goes_along_and_why_nothing_came_is_told(tmp_path: Path) -> None:
    api = FakeApi({"bench": {"schema": 1, "bench": SLOT}})
    assert "no node within 2h" in host(tmp_path, api, "--timeout", "2h").message
    assert [params["wait_s"] for params in of(api, "bench")] == [7200]


async def test_a_slot_is_ended_by_its_request_where_its_id_was_never_heard(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    slot = (await daemon.ask())["id"]
    with pytest.raises(NotFound):
        await daemon.api.call("bench_end", {"of": "another", "token": "e0"}, 0)
    assert daemon.service.books.slot(slot).wanted == "held"  # type: ignore[union-attr]
    await daemon.api.call("bench_end", {"of": ASK["token"], "token": "e1"}, 0)
    assert daemon.service.books.slot(slot).wanted == "released"  # type: ignore[union-attr]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_answer_ends_what_was_asked_for(tmp_path: Path, number: int) -> None:
    def unheard(*_: object) -> None:
        raise AssertionError("nobody heeds it yet")

    def answer(_: object) -> dict[str, Any]:
        os.kill(os.getpid(), number)
        return {"schema": 1, "bench": {**SLOT, "ended": False, "state": "queued"}}

    api = FakeApi({"ping": {"schema": 1}, "bench": answer, "bench_end": {"schema": 1}})
    before = signal.signal(signal.SIGTERM, unheard)
    try:
        with served(tmp_path, api), pytest.raises(KeyboardInterrupt):
            bench_host(parse(["bench", "host"]), tmp_path)
        assert signal.getsignal(signal.SIGTERM) is unheard
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [one["of"] for one in of(api, "bench_end")] == [of(api, "bench")[0]["token"]]


def test_a_lost_answer_ends_what_was_asked_for_and_a_refusal_has_nothing_to_end(
    tmp_path: Path,
) -> None:
    api = FakeApi({"bench": TimedOut("no answer"), "bench_end": {"schema": 1}})
    assert host(tmp_path, api).message == "no answer"
    assert [one["of"] for one in of(api, "bench_end")] == [of(api, "bench")[0]["token"]]
    api = FakeApi({"bench": Refused("no Xen"), "bench_end": NotFound("no slot of that request")})
    assert host(tmp_path, api).message == "no Xen"


def away(monkeypatch: pytest.MonkeyPatch, method: str, times: int) -> list[float]:
    """The daemon is away for so many calls of a method; the seconds slept meanwhile."""
    left, slept = [None] * times, []

    def hears(home: Path, name: str, params: dict[str, Any]) -> dict[str, Any]:
        if name == method and left:
            left.pop()
            raise NoDaemon("it is away")
        return call(home, name, params)

    monkeypatch.setattr(benchhost, "call", hears)
    monkeypatch.setattr(benchhost.time, "sleep", slept.append)
    return slept


@pytest.mark.parametrize("method", ["bench", "bench_look", "bench_end"])
def test_a_daemon_that_is_started_again_meanwhile_is_asked_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    waits = {**SLOT, "ended": False, "state": "queued"}
    looks = TimedOut("enough") if method == "bench_end" else {"schema": 1, "bench": SLOT}
    api = FakeApi({"bench": {"schema": 1, "bench": waits}, "bench_look": looks,
                   "bench_end": {"schema": 1}})  # fmt: skip
    slept = away(monkeypatch, method, 1)
    told = host(tmp_path, api).message
    assert ("enough" if method == "bench_end" else "no node within 2h") in told
    assert benchhost.AWAY_S in slept
    assert len(of(api, "bench_end")) == (method == "bench_end")


def test_a_slot_that_cannot_be_ended_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    away(monkeypatch, "bench_end", 2)
    api = FakeApi({"bench": TimedOut("no answer")})
    assert host(tmp_path, api).message == "no answer"
    said = capsys.readouterr().err
    assert "it is away" in said and "walltime" in said


def test_no_daemon_at_all_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slept = away(monkeypatch, "none", 0)
    with pytest.raises(NoDaemon, match="no daemon runs"):
        bench_host(parse(["bench", "host"]), tmp_path)
    assert slept == [] and capsys.readouterr().err == ""


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

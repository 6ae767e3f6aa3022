"""A bench whose helper fails it: what it took is given back, or said to be left."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from wspilot.errors import WspilotError
from wspilot.messages import Kind
from wspilot.node import benchhost, benchjob, killall, root
from wspilot.node.core.settings import Settings
from wspilot.node.launcher import Job
from wspilot.node.places import Places

SLOT = "ab12cd34"
SETTINGS = Settings(SLOT, 600.0, 900.0, {}, adapter="balloon", vmm="xen", allow_root=True,
                    bench={"rounds": 1, "mib": 256})  # fmt: skip


class Helper:
    """Answers as the root helper does, and refuses to give memory back `refusals` times."""

    def __init__(self) -> None:
        self.taken, self.refusals, self.journal = 0, 0, Path()

    def ask(self, verb: str, words: Mapping[str, Any], limit_s: float = 0) -> Mapping[str, Any]:
        if verb == "balloon-take":
            self.taken, self.journal = words["mib"], Path(words["journal"])
        if verb == "xen-list" and self.taken and not self.journal.exists():
            with contextlib.suppress(root.Declined):  # a stray
                self._give()
        if verb == "balloon-give":
            self._give()
        seconds = dict.fromkeys(("reduce", "restore", "list"), 0.1)
        return {**seconds, "taken_mib": self.taken, "dom0_mib": 1024}

    def _give(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise root.Declined("the root helper refuses balloon-give: not in time")
        self.taken = 0


class Voice:
    """What the job said last."""

    told: tuple[Kind, dict[str, Any]]

    def __init__(self, *_: object) -> None:
        pass

    def say(self, kind: Kind, **data: Any) -> None:
        Voice.told = kind, data

    def beat(self) -> None:
        pass


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Helper]:
    one = Helper()
    monkeypatch.setattr(root, "ask", one.ask)
    here = killall.Roots(tmp_path / "run", tmp_path / "keep")
    here.keep.mkdir()
    for module in (benchhost, benchjob):
        places = lambda node, uid: Places(node, uid, here.run, here.keep)  # noqa: E731
        monkeypatch.setattr(module, "Places", places)
    monkeypatch.setattr(benchhost, "kill_all", lambda scope: killall.run(scope, here))
    monkeypatch.setattr(benchjob, "Voice", Voice)
    monkeypatch.setattr(benchjob, "read_slot", lambda _: SETTINGS)
    heard = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield one
    for number, handler in heard.items():
        signal.signal(number, handler)


def measure(tmp_path: Path) -> int:
    return benchjob.measure(Job(tmp_path, SLOT, (), time.monotonic()), 1, "n1", ["n1"])


def left(tmp_path: Path) -> list[str]:
    return [path.name.partition("_")[0] for path in tmp_path.rglob("*.journal")]


def test_a_job_whose_memory_does_not_go_back_says_that_its_node_is_not_clean(
    helper: Helper, tmp_path: Path
) -> None:
    helper.refusals = 99
    assert measure(tmp_path) == 1
    kind, data = Voice.told
    assert helper.taken == 256 and kind is Kind.FAILED
    assert (data["clean"], data["node_clean"]) == (False, False)
    assert "refuses balloon-give" in str(data["causes"])
    assert left(tmp_path) == [SLOT], "whoever comes next undoes it from this"


def test_a_job_that_fails_gives_its_memory_back_and_is_clean(
    helper: Helper, tmp_path: Path
) -> None:
    helper.refusals = 1
    assert measure(tmp_path) == 1
    kind, data = Voice.told
    assert helper.taken == 0 and kind is Kind.FAILED and "refuses balloon-give" in data["cause"]
    assert (data["clean"], data["node_clean"], data["causes"]) == (True, True, [])
    assert not list((tmp_path / "keep").iterdir())


def test_a_term_that_comes_as_the_last_round_is_done_is_heeded(
    helper: Helper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = benchjob._deaf, list[int]()

    def late() -> None:
        calls.append(1)
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        real()

    monkeypatch.setattr(benchjob, "_deaf", late)
    assert measure(tmp_path) == 1
    kind, data = Voice.told
    assert kind is Kind.FAILED and data["clean"] and "has ended the job" in data["cause"]


@pytest.mark.parametrize(
    ("refusals", "why", "stays"),
    [(99, "kill-all left", ["bench000"]), (1, "refuses balloon-give", [])],
)
def test_by_hand_it_is_undone_at_once_or_the_error_says_what_is_left(
    helper: Helper, tmp_path: Path, refusals: int, why: str, stays: list[str]
) -> None:
    helper.refusals = refusals
    with pytest.raises(WspilotError, match=f"^(the root helper )?{why}"):
        benchhost.bench(benchhost.Plan(1, 256), as_json=True)
    assert left(tmp_path) == stays

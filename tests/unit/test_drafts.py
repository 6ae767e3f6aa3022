"""What killed couriers leave in the spool: nothing of it stays, and nothing of the living goes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.unit.test_spool import PILOT, SLOT, note, spool
from wspilot.daemon.drafts import REST_S
from wspilot.daemon.spool import Spool
from wspilot.messages import HB, NEW, Kind
from wspilot.node.files import put

__all__ = ["spool"]  # a fixture


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def killed(spool: Spool, monkeypatch: pytest.MonkeyPatch, direction: str, name: str) -> Path:
    """A courier's own work, up to its rename."""

    def rename(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "rename", rename)
        put(spool.root, direction, name, b"x")
    (left,) = [one for one in (spool.root / "tmp").iterdir() if one.name.endswith(name)]
    return left


def drafts(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    one = note()
    return [
        killed(spool, monkeypatch, NEW, one.file_name(1)),
        killed(spool, monkeypatch, HB, one.beat_name()),
    ]


def test_a_killed_couriers_drafts_go_once_its_slot_is_proved_ended(
    spool: Spool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = drafts(spool, monkeypatch)
    own = spool.root / "tmp" / ".1234.5678"  # the daemon's own
    own.touch()
    for _ in range(3):
        spool.drafts.clear()
        clock.now += 10 * REST_S
    assert all(one.exists() for one in left), "a slot on the books: a courier may come back to it"
    spool.close_slot(SLOT, proved=False)
    for _ in range(3):
        spool.drafts.clear()
        clock.now += 10 * REST_S
    assert all(one.exists() for one in left), "nor is it over while a node has not spoken"
    spool.close_slot(SLOT, proved=True)
    spool.drafts.clear()
    assert all(one.exists() for one in left), "one may be about to be renamed"
    clock.now += REST_S
    spool.drafts.clear()
    assert [path.name for path in (spool.root / "tmp").iterdir()] == [own.name]


def test_a_draft_that_is_written_again_has_not_rested(
    spool: Spool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, _ = drafts(spool, monkeypatch)
    spool.close_slot(SLOT, proved=True)
    for n in range(5):
        os.utime(left, ns=(n, n))
        spool.drafts.clear()
        clock.now += REST_S
    assert left.exists()
    spool.drafts.clear()
    assert not left.exists()


def test_a_courier_that_hung_before_its_rename_brings_its_word_all_the_same(
    spool: Spool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    (left, _), name = drafts(spool, monkeypatch), note().file_name(1)
    spool.close_slot(SLOT, proved=True)
    spool.drafts.clear()
    clock.now += REST_S
    spool.drafts.clear()
    with pytest.raises(FileNotFoundError):  # as its rename meets it: an OSError, tried again
        left.rename(spool.root / NEW / name)
    put(spool.root, NEW, name, b"x")
    assert (spool.root / NEW / name).read_bytes() == b"x"


def test_a_heartbeat_that_came_after_the_end_goes_and_a_living_slots_stays(
    spool: Spool, clock: Clock
) -> None:
    beat = note(5, Kind.HEARTBEAT).beat_name()
    spool.write_slot("living00", {"key": (b"00", 0o600)})
    spool.close_slot(SLOT, proved=True)
    for name in (beat, f"living00_n_1_{PILOT[:8]}.json", f"unheard0_n_1_{PILOT[:8]}.json"):
        (spool.root / HB / name).touch()
    spool.drafts.clear()
    assert len(list((spool.root / HB).iterdir())) == 3
    clock.now += REST_S
    spool.drafts.clear()
    assert beat not in [path.name for path in (spool.root / HB).iterdir()]
    assert len(list((spool.root / HB).iterdir())) == 2

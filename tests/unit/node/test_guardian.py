"""Real guardians in a real process of their own, with time limits made short; the pilot is a child
that does nothing, and sends its bytes when the test does."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wspilot.messages import HB, NEW, Kind, Notification, parse_beat_name, parse_note_name
from wspilot.messages import read_note as read
from wspilot.node import guardian, proc
from wspilot.node.courier import Courier, Round
from wspilot.node.guardian import Ward
from wspilot.node.journal import Journal, create
from wspilot.node.places import Places
from wspilot.node.signing import Writer
from wspilot.node.undo import RUNDIR

HANG_S = 20.0
KEY, SLOT, PILOT = b"k" * 32, "abcd1234", "01234567-0000-4000-8000-000000000000"


class Bench:
    """A node's directories, a spool, a pilot, and its guardian."""

    def __init__(self, root: Path) -> None:
        for name in ("run", "keep", "spool/new", "spool/hb", "spool/tmp"):
            (root / name).mkdir(parents=True)
        self.spool = root / "spool"
        self.places = Places("n1", os.getuid(), root / "run", root / "keep")
        self.pilot = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        self.file = root / "v1.sim"
        self.file.write_text("")
        self.journal = self._journal()
        self.pipe: socket.socket | None = None

    def _journal(self) -> Journal:
        path = self.places.journal(SLOT, PILOT)
        self.places.make(path.parent)
        header = {"boot": proc.boot_id(), "slot": SLOT, "pilot": PILOT}
        header.update(pid=self.pilot.pid, start=proc.start_time(self.pilot.pid))
        journal = create(path, header)
        journal.intend(RUNDIR, {"path": str(self.places.make(self.places.rundir(PILOT)))})
        identity = {"uuid": "u", "files": [str(self.file)]}
        journal.intend("vm:v1", {"vmm": "sim", "identity": identity})
        return journal

    def guard(self, suspendable: bool = True) -> socket.socket:
        ward = Ward(
            pid=self.pilot.pid,
            start=proc.start_time(self.pilot.pid) or 0,
            boot_id=proc.boot_id(),
            places=self.places,
            journal=self.journal,
            writer=Writer(SLOT, "n1", 1, KEY, of=PILOT),
            where=Round(self.spool),
            suspendable=suspendable,
            restore_s=1.0,
            heartbeat_s=0.2,
        )
        self.pipe = guardian.start(ward)
        self.journal.close()  # as the pilot's end does
        return self.pipe

    def beat(self, seconds: float) -> None:
        """A living pilot's bytes."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.pipe is not None
            self.pipe.send(guardian.BEAT)
            time.sleep(0.05)

    def told(self) -> list[Notification]:
        found = sorted((self.spool / NEW).iterdir(), key=lambda path: path.name)
        return [read(NEW, KEY, p.read_bytes(), parse_note_name(p.name)) for p in found]

    def last(self, kind: Kind, limit: float = 5) -> Notification:
        end = time.monotonic() + limit
        while not (found := [one for one in self.told() if one.kind is kind]):
            assert time.monotonic() < end, [one.kind for one in self.told()]
            time.sleep(0.01)
        return found[-1]

    def gone(self, limit: float = 5) -> None:
        """The guardian has ended."""
        assert self.pipe is not None
        self.pipe.setblocking(True)
        self.pipe.settimeout(limit)
        while self.pipe.recv(100):
            pass

    def close(self) -> None:
        self.pilot.kill()
        self.pilot.wait(10)
        if self.pipe is not None:
            self.pipe.close()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    for name, value in (("TICK_S", 0.1), ("LOOK_S", 0.3), ("HUNG_S", 1.0)):
        monkeypatch.setattr(f"wspilot.node.core.guard.{name}", value)
    monkeypatch.setattr(guardian, "LAST_S", 0.2)
    made = Bench(tmp_path)
    yield made
    made.close()


def test_a_farewell_ends_it_silently(bench: Bench) -> None:
    bench.guard().send(guardian.FAREWELL)
    bench.gone()
    assert bench.told() == [] and bench.file.exists()


def test_a_pilot_that_is_killed_after_its_farewell_leaves_nothing(bench: Bench) -> None:
    """Found by a storm: its words were stored, its journal and its logs stayed."""
    bench.journal.settle("vm:v1")
    pipe = bench.guard()
    pipe.send(guardian.FAREWELL)
    bench.pilot.kill()
    bench.pilot.wait(10)
    bench.gone()
    assert bench.told() == []
    assert not list(bench.places.keep_root.iterdir()) and not list(bench.places.run_root.iterdir())


def test_end_of_file_without_it_means_killed(bench: Bench) -> None:
    pipe = bench.guard()
    bench.pilot.kill()
    bench.pilot.wait(10)
    pipe.shutdown(socket.SHUT_WR)
    failed = bench.last(Kind.FAILED)
    assert failed.of == PILOT and failed.data["clean"] is True and failed.data["causes"] == []
    assert failed.data["undone"] == ["VM v1 ended"] and not bench.file.exists()
    assert 0 <= failed.data["undone_after_s"] < 1
    assert failed.data["neighbours"] == [] and failed.data["node_clean"] is True
    assert bench.last(Kind.KILLED).data["vms"] == ["v1"]
    bench.gone()
    assert not list((bench.places.keep_root).iterdir()), "journal, outbox and directory are gone"


def test_a_pilot_that_hangs_is_killed(bench: Bench) -> None:
    bench.guard()
    bench.beat(1.5)
    assert bench.pilot.poll() is None
    assert bench.last(Kind.FAILED).data["clean"] is True
    assert bench.pilot.wait(5) == -signal.SIGKILL


def test_a_suspended_pilot_is_shown_and_waited_for(bench: Bench) -> None:
    bench.guard()
    bench.pilot.send_signal(signal.SIGSTOP)
    log = bench.last(Kind.LOG)
    assert log.data["suspended"] is True and log.data["level"] == "warning" and log.of == PILOT
    time.sleep(1.3)  # longer than it may hang
    (beat,) = (bench.spool / HB).iterdir()
    note = read(HB, KEY, beat.read_bytes(), parse_beat_name(beat.name))
    assert note.of == PILOT and note.data == {"last_seq": 1, "state": "suspended"}
    assert [one.kind for one in bench.told()] == [Kind.LOG] and bench.file.exists()
    bench.pilot.send_signal(signal.SIGCONT)
    end = time.monotonic() + HANG_S
    while len(bench.told()) < 2:
        assert time.monotonic() < end
        bench.beat(0.05)
    assert bench.last(Kind.LOG).data["suspended"] is False
    assert bench.pipe is not None
    bench.pipe.send(guardian.FAREWELL)
    bench.gone()


def test_a_suspended_pilot_loses_what_may_not_stay_taken(bench: Bench) -> None:
    bench.guard(suspendable=False)
    bench.pilot.send_signal(signal.SIGSTOP)
    released = bench.last(Kind.RELEASED)
    assert released.data["clean"] is True and not bench.file.exists()
    assert next(one.kind for one in bench.told()) is Kind.PREEMPTED
    assert bench.pilot.wait(5) == -signal.SIGKILL


def test_without_a_spool_its_words_lie_in_the_outbox_in_time(bench: Bench) -> None:
    pipe = bench.guard()
    bench.spool.rename(bench.spool.with_name("aside"))
    bench.pilot.kill()
    pipe.shutdown(socket.SHUT_WR)
    bench.gone(HANG_S)  # a second of restore budget, and not until the spool is back
    words = [json.loads(p.read_bytes()[65:]) for p in sorted(bench.places.outbox.iterdir())]
    assert [one["kind"] for one in words] == ["killed", "failed"]
    assert not bench.file.exists() and not bench.journal.path.exists()


def test_a_courier_that_hangs_neither_holds_the_guardian_nor_outlives_it(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(courier: Courier) -> None:
        (tmp_path / "pid").write_text(str(os.getpid()))
        time.sleep(3 * HANG_S)

    monkeypatch.setattr(Courier, "run", hang)
    pipe = bench.guard()
    bench.pilot.kill()
    pipe.shutdown(socket.SHUT_WR)
    bench.gone(HANG_S)
    assert not bench.journal.path.exists()
    courier = int((tmp_path / "pid").read_text())
    end = time.monotonic() + HANG_S
    while proc.state(courier) not in ("", "Z"):
        assert time.monotonic() < end, "it outlives its guardian"
        time.sleep(0.01)


def test_what_cannot_be_undone_is_said_and_stays(bench: Bench) -> None:
    bench.journal.intend("mystery", {"n": 1})
    pipe = bench.guard()
    bench.pilot.kill()
    pipe.shutdown(socket.SHUT_WR)
    data: Any = bench.last(Kind.FAILED).data
    assert data["clean"] is False and "mystery" in data["causes"][0]
    bench.gone()
    assert bench.journal.path.exists()

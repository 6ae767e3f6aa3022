"""DESIGN.md section 9, one test a row: what happens under this fault alone, in many stories.

`test_sim` throws all faults together and looks at what must always hold; here each promise is
looked at by itself, with what it says beyond that. Rows about real things have real tests besides
(docs/faults.md names them); the last row, two daemons on one home, has only those, in
tests/unit/test_home_lock.py.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.sim.faults import Fault
from tests.sim.head import Head
from tests.sim.node import RESTORE_S
from tests.sim.play import Play, play
from wspilot.daemon.core import events as d
from wspilot.daemon.spool import Spool
from wspilot.messages import NEW, Kind, Notification, rfc3339, seal
from wspilot.model import NodeState, Outcome, SlotState

F = Fault
N = 25
KEY = b"\x11" * 32


def stories(*kinds: Fault, first: int = 0, count: int = N) -> Iterator[Play]:
    """Plays under these faults alone, in which one of them did strike."""
    found = 0
    for seed in range(first, first + 40 * count):
        one = play(seed, kinds=kinds, users=1)  # nobody to wait for
        if one.chance.injected:
            found += 1
            yield one
        if found == count:
            return
    raise AssertionError(f"{kinds} never strike")


def outcomes(plays: Iterable[Play]) -> Counter[Outcome | None]:
    return Counter(ws.outcome for one in plays for ws in one.head.books.workspaces())


def said(one: Play, text: str) -> bool:
    return any(text in event.text for event in one.head.books.events())


def test_daemon_killed_at_any_instruction_no_lease_ends_and_nothing_is_submitted_twice() -> None:
    for one in stories(F.DAEMON_KILLED, F.HEAD_CRASH):
        assert outcomes([one]).keys() == {Outcome.OK}
        # A slot asked for in advance (policy `warm`) may be given up before its qsub ever ran.
        slots = [slot for slot in one.head.books.slots() if slot.job or not slot.claimed]
        assert len(one.lrm.jobs) == len(slots)


def test_pilot_killed_the_guardian_undoes_and_reports_and_addresses_are_free() -> None:
    for one in stories(F.PILOT_KILLED):
        for ws in one.head.books.workspaces():
            told = " ".join((ws.cause, *ws.causes))  # the job's end may be seen before the word
            assert ws.outcome is Outcome.OK or "killed" in told
        assert not one.head.books.held and not any(host.taken for host in one.hosts.values())


def test_node_dead_or_guardian_killed_too_is_failed_and_addresses_wait_for_proof() -> None:
    by, dirty = Counter[str](), 0
    for one in stories(F.NODE_CRASH, F.BOTH_KILLED):
        dirty += said(one, "is dirty")
        by.update(vm.proof.by for vm in one.head.books.vms() if vm.proof)
    assert dirty and by["repair"] and by["reboot"]


def test_crash_in_mid_reserve_or_kill_without_grace_is_undone_within_the_budget() -> None:
    overlaps = []
    for one in stories(F.NO_GRACE, F.PILOT_KILLED):
        for event in one.head.books.events():
            overlaps += [event.data["undone_after_s"]] if "undone_after_s" in event.data else []
    assert overlaps and max(overlaps) <= RESTORE_S  # measured, and shown as an event


def test_sigterm_is_told_first_then_vms_stop_within_the_grace_and_memory_is_back() -> None:
    preempted = 0
    for one in stories(F.PREEMPTED):  # Lrm.overdue: no pilot may be left when the grace is over
        kinds: dict[str, list[Kind]] = {}
        for _, event in one.head.history:
            if isinstance(event, d.Heard):
                kinds.setdefault(event.note.pilot, []).append(event.note.kind)
        for heard in kinds.values():
            if Kind.PREEMPTED in heard:
                ends = [n for n, kind in enumerate(heard) if kind in (Kind.KILLED, Kind.RELEASED)]
                assert heard.index(Kind.PREEMPTED) < min(ends)
        preempted += outcomes([one])[Outcome.PREEMPTED]
    assert preempted


def test_daemon_dead_and_the_lease_over_the_pilots_end_vms_and_restore_on_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Head, "_again", lambda self: None)  # it never comes back
    monkeypatch.setattr(Play, "_calm", lambda self: self.clock.run(self.clock.now + 900))
    ran = 0
    for one in stories(F.DAEMON_KILLED):
        ran += len(one.pilots)
        for host in one.hosts.values():
            assert not host.vms and not host.taken and not host.journals
    assert ran


def test_shared_filesystem_hangs_leases_end_on_time_and_messages_arrive_when_it_is_back() -> None:
    for one in stories(F.SHARE_HANGS, F.COURIER_STUCK):
        assert not any(host.vms for host in one.hosts.values())
        for node in one.head.books.nodes():
            assert node.state is NodeState.CLEAN


def test_job_suspended_held_or_rerun_is_shown_and_no_second_set_of_vms_starts() -> None:
    shown = Counter[str]()
    for one in stories(F.SUSPENDED, F.HELD, F.RERUN):  # Truth.launched: one set of pilots a slot
        for text in ("has suspended job", "has held job", "started this slot's job again"):
            shown[text] += said(one, text)
    assert all(shown.values()) and len(shown) == 3


def test_qstat_fails_is_empty_forgets_or_invents_a_job_and_that_is_not_gone() -> None:
    for one in stories(F.POLL_FAILED, F.POLL_EMPTY, F.POLL_INVENTS):
        assert outcomes([one]).keys() == {Outcome.OK}


def test_qsubs_answer_is_lost_and_found_by_name_and_owner_before_any_second_try() -> None:
    found = 0
    for one in stories(F.QSUB_LOST, F.QSUB_VANISHED):  # Lrm.submit: never a second living job
        assert outcomes([one]).keys() == {Outcome.OK}
        found += said(one, "found the lost job")
    assert found


def test_qdel_fails_and_is_repeated_until_qstat_agrees() -> None:
    repeated = 0
    for one in stories(F.QDEL_FAILED, F.QDEL_UNHEARD, F.HELD, F.DESTROY, count=2 * N):
        repeated += sum(slot.cancel_tries > 1 for slot in one.head.books.slots())
        for slot in one.head.books.slots():
            assert slot.state in (SlotState.RELEASED, SlotState.FAILED, SlotState.PREEMPTED)
    assert repeated


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """A real one, with one slot whose key is known."""
    spool = Spool(tmp_path / "spool")
    spool.prepare()
    spool.write_slot("aaaaaaaa", {"key": (KEY.hex().encode(), 0o600)})
    return spool


def _file(spool: Spool, seq: int, key: bytes = KEY) -> str:
    uuid = "aaaaaaaa-0000-4000-8000-000000000000"
    note = Notification("aaaaaaaa", "n1", uuid, 1, seq, Kind.LOG, rfc3339(1e9), 1.0, {"text": "x"})
    name = note.file_name(seq)
    (spool.root / NEW / name).write_bytes(seal(NEW, key, note.body()))
    return name


def test_spool_50000_at_once_are_applied_once_and_forged_ones_quarantined(
    spool: Spool,
) -> None:
    for seq in range(1, 50_001):
        _file(spool, seq)
    forged = _file(spool, 50_001, key=b"0" * 32)
    torn = _file(spool, 50_002)
    (spool.root / NEW / torn).write_bytes(b"half")
    os.utime(spool.root / NEW / torn, (1, 1))  # nobody is still writing it
    (spool.root / NEW / "link.json").symlink_to("/etc/passwd")
    heard: list[int] = []
    end = time.monotonic() + 300
    while list((spool.root / NEW).iterdir()) and time.monotonic() < end:
        more = True
        while more:
            batch = spool.read()
            heard += [one.note.seq for one in batch.received]
            spool.unlink([one.file for one in batch.received if one.file])
            more = batch.more
        time.sleep(0.2)  # a torn file is in doubt for a moment
    assert heard == list(range(1, 50_001))
    refused = {path.name.removesuffix(".why") for path in (spool.root / "bad").iterdir()}
    assert refused == {forged, torn, "link.json"}


def test_disk_full_refuses_new_leases_and_loses_none() -> None:
    for one in stories(F.DISK_FULL):
        assert outcomes([one]).keys() == {Outcome.OK}


def test_clocks_differ_and_nothing_is_decided_by_them() -> None:
    for one in stories(F.CLOCK_SKEW):
        assert outcomes([one]).keys() == {Outcome.OK}
        skews = [node.skew_s for node in one.head.books.nodes() if node.skew_s is not None]
        real = {host.name: host.skew_s for host in one.hosts.values()}
        for node in one.head.books.nodes():
            assert node.skew_s is None or abs(node.skew_s - real[node.id]) < 10
        assert skews

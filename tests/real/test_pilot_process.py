"""Real launchers, pilots, couriers and guardians on every interpreter; only VMs are simulated.

Nothing may be left in ps, /tmp and /var/tmp afterwards, whatever the test did.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.interpreters import interpreters, oldest
from tests.real.slotyard import BUDGET, Slot
from wspilot.messages import Kind, Verb
from wspilot.nodecode import build

pytestmark = pytest.mark.real
Make = Callable[..., Slot]


@pytest.fixture
def make(tmp_path: Path, zipapp: Path) -> Iterator[Make]:
    slots: list[Slot] = []

    def one(python: str = "", **settings: Any) -> Slot:
        slots.append(Slot(tmp_path / str(len(slots)), zipapp, python or oldest(), **settings))
        return slots[-1]

    yield one
    for slot in slots:
        slot.close()
    for slot in slots:
        assert slot.processes() == []
        assert slot.leftovers() == []


def running(slot: Slot) -> subprocess.Popen[bytes]:
    """A launched slot with one running VM."""
    job = slot.launch()
    slot.wait(Kind.RESERVED)
    slot.create()
    slot.vm("vm000001", "running")
    return job


def test_there_are_interpreters_to_try() -> None:
    found = list(interpreters())
    assert "3.9" in found, "install Python 3.9 (pyenv install 3.9): node code must run on it"
    assert len(found) >= 2


def _states(vms: list[dict[str, Any]]) -> list[Any]:
    return [vm["state"] for vm in vms]


@pytest.mark.parametrize("version", list(interpreters()))
def test_a_lease_from_started_to_released(make: Make, version: str) -> None:
    slot = make(interpreters()[version], heartbeat_s=0.5)
    job = running(slot)
    started, reserved = slot.wait(Kind.STARTED), slot.wait(Kind.RESERVED)
    assert started.data["python"].startswith(version)
    assert started.data["boot_id"] and started.data["cpus"] and started.data["memory_mib"] > 100
    assert reserved.data["taken_mib"] == 64
    spans = slot.vm("vm000001", "running").data["spans"]
    assert [span["name"] for span in spans] == ["propagate", "create", "boot"]
    assert 0.19 < spans[2]["seconds"] < 10
    beats, end = (slot.spool / "hb"), time.monotonic() + 15
    while not any(beats.iterdir()) or _states(slot.beat().data["vms"]) != ["running"]:
        assert time.monotonic() < end, "no heartbeat knows of it"
        time.sleep(0.05)
    assert slot.beat().data["state"] == "ready"
    slot.send(Verb.RELEASE, cause="enough")
    released = slot.wait(Kind.RELEASED)
    assert released.data["undone"] == ["64 MiB given back"]
    assert job.wait(10) == 0
    slot.listen()
    assert [note.seq for note in slot.heard] == list(range(1, len(slot.heard) + 1))
    assert (slot.place / "console-vm000001.log").read_text().startswith("one/vm/1")


def test_sigterm_is_told_first_and_ends_in_order(make: Make) -> None:
    slot = make()
    job = running(slot)
    told = len(slot.heard)
    job.send_signal(signal.SIGTERM)
    job.send_signal(signal.SIGTERM)
    assert job.wait(10) == 0
    slot.listen()
    # What the guest said of its context just before may still have been under way.
    kinds = [note.kind for note in slot.heard[told:] if note.kind is not Kind.CONTEXT]
    assert kinds[0] is Kind.PREEMPTED
    assert kinds[-1] is Kind.RELEASED
    assert kinds.count(Kind.PREEMPTED) == 1
    assert slot.wait(Kind.KILLED).data["vms"] == ["vm000001"]


def test_memory_that_comes_back_slowly_is_no_pilot_that_hangs(make: Make) -> None:
    # longer than a guardian bears silence (guard.HUNG_S)
    slot = make(vmm_options={"host": {"release_s": 13}}, budget={**BUDGET, "restore": 30})
    job = slot.launch()
    slot.wait(Kind.RESERVED)
    slot.send(Verb.RELEASE, cause="enough")
    assert "64 MiB given back" in slot.wait(Kind.RELEASED, limit=40).data["undone"]
    assert "failed" not in slot.kinds() and job.wait(15) == 0


def test_a_killed_pilot_is_undone_by_its_guardian(make: Make) -> None:
    slot = make()
    job = running(slot)
    assert any(path.name.endswith(".sim") for path in slot.leftovers())
    pid = slot.pilot_pid()
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    failed = slot.wait(Kind.FAILED)
    assert time.monotonic() - began < BUDGET["restore"]
    started = slot.wait(Kind.STARTED)
    assert failed.of == started.pilot and failed.pilot != started.pilot
    assert failed.data["clean"] is True
    assert failed.data["undone"] == ["VM vm000001 ended", "64 MiB given back"] or (
        failed.data["undone"] == ["64 MiB given back", "VM vm000001 ended"]
    )
    assert slot.wait(Kind.KILLED).data["vms"] == ["vm000001"]
    assert job.wait(5) == 1


def test_a_killed_guardian_is_replaced(make: Make) -> None:
    slot = make()
    running(slot)
    (line,) = [one for one in slot.processes() if "wspilot-guardian" in one]
    os.kill(int(line.split()[0]), signal.SIGKILL)
    slot.wait(Kind.LOG, lambda note: "guardian died" in note.data["text"])
    os.kill(slot.pilot_pid(), signal.SIGKILL)
    assert slot.wait(Kind.FAILED).data["clean"] is True


def test_a_killed_courier_is_replaced_and_nothing_is_lost(make: Make) -> None:
    slot = make()
    job = running(slot)
    (line,) = [one for one in slot.processes() if "wspilot-courier" in one]
    os.kill(int(line.split()[0]), signal.SIGKILL)
    slot.create("vm000002")
    slot.vm("vm000002", "running")
    slot.send(Verb.RELEASE)
    slot.wait(Kind.RELEASED)
    assert job.wait(10) == 0
    seqs = sorted({note.seq for note in slot.heard})
    assert seqs == list(range(1, len(seqs) + 1))


def test_a_second_start_uses_nothing_and_says_restarted(make: Make) -> None:
    slot = make()
    first = running(slot)
    second = slot.launch()
    assert second.wait(10) == 1
    restarted = slot.wait(Kind.FAILED)
    assert restarted.epoch == 2 and restarted.data["cause"] == "restarted"
    assert restarted.pilot != slot.wait(Kind.STARTED).pilot
    assert first.poll() is None
    assert sum(note.kind is Kind.STARTED for note in slot.heard) == 1
    slot.send(Verb.RELEASE)
    assert first.wait(10) == 0


def test_a_slot_that_the_daemon_closed_starts_nothing(make: Make) -> None:
    slot = make()
    (slot.place / "epoch.1").mkdir()
    assert slot.launch().wait(10) == 1
    assert slot.wait(Kind.FAILED).epoch == 2


def test_too_few_nodes_is_packed(make: Make) -> None:
    slot = make(nodes=2)
    assert slot.launch((slot.node, slot.node)).wait(10) == 1
    assert slot.wait(Kind.FAILED).data["cause"].startswith("packed")


def test_two_nodes_get_one_pilot_each(make: Make) -> None:
    slot = make(nodes=2)
    job = slot.launch((slot.node, f"{slot.node}b"))
    slot.wait(Kind.RESERVED, lambda note: note.node == slot.node)
    slot.wait(Kind.RESERVED, lambda note: note.node == f"{slot.node}b")
    job.send_signal(signal.SIGTERM)
    assert job.wait(10) == 0
    slot.listen()
    assert sum(note.kind is Kind.RELEASED for note in slot.heard) == 2


def test_the_lease_ends_on_time_without_a_daemon(make: Make) -> None:
    slot = make(lease_s=1)
    job = running(slot)
    began = time.monotonic()
    assert job.wait(30) == 0
    assert time.monotonic() - began > 0.5
    releasing = slot.wait(Kind.RELEASING)
    assert releasing.data == {"cause": "the lease is over", "over": True}
    slot.wait(Kind.RELEASED)


def test_the_hard_end_comes_before_the_batch_systems_limit(make: Make) -> None:
    # 5 + 2 + 5 + 5 s of budgets are kept free: 10 s after the launcher began it is over.
    slot = make(walltime_s=27, lease_s=1000)
    began = time.monotonic()
    job = running(slot)
    assert job.wait(30) == 0
    assert time.monotonic() - began < 27, "the walltime"
    assert slot.wait(Kind.RELEASING).data["cause"] == "the batch system's limit is near"
    slot.wait(Kind.RELEASED)


def test_nothing_is_imported_once_it_has_begun(make: Make) -> None:
    slot = make()
    # Python then writes a line for each import to the job's output.
    job = slot.launch(PYTHONVERBOSE="1")
    slot.wait(Kind.RESERVED)
    output = slot.place / "job.out"
    begun = output.stat().st_size
    assert "wspilot.node.pilot" in output.read_text()
    slot.create()
    slot.vm("vm000001", "running")
    slot.send(Verb.RELEASE)
    slot.wait(Kind.RELEASED)
    assert job.wait(10) == 0
    later = output.read_bytes()[begun:].decode().splitlines()
    assert [line for line in later if line.startswith("import ")] == []


def test_the_zipapp_may_vanish_under_a_running_pilot(make: Make, tmp_path: Path) -> None:
    slot = make()
    slot.zipapp = tmp_path / "own.pyz"
    build(slot.zipapp)
    job = running(slot)
    slot.zipapp.write_bytes(b"")
    slot.zipapp.unlink()
    slot.create("vm000002")
    slot.vm("vm000002", "running")
    slot.send(Verb.DESTROY, vm="vm000002", grace_s=1)
    slot.vm("vm000002", "terminated")
    slot.send(Verb.RELEASE)
    slot.wait(Kind.RELEASED)
    assert job.wait(10) == 0
    assert "Error" not in slot.output() and "released" in slot.output()


def test_a_spool_that_is_gone_ends_in_the_outbox_and_is_delivered_later(make: Make) -> None:
    slot = make(lease_s=1)
    job = running(slot)
    slot.listen()
    aside = slot.spool.with_name("aside")
    slot.spool.rename(aside)
    try:
        assert job.wait(20) == 0
        outbox = [path for path in slot.leftovers() if path.parent.name == "outbox"]
        assert outbox, "the last word must lie in the outbox"
    finally:
        aside.rename(slot.spool)
    repair = make(repair=True)
    repair.node = slot.node
    place = repair.spool / "slots" / slot.id
    place.mkdir()
    job = repair.launch()
    assert job.wait(10) == 0
    delivered = [path.name for path in repair.spool.glob(f"new/*_{slot.id}_*")]
    assert sorted(path.name for path in outbox) == sorted(delivered)
    for name in delivered:
        (repair.spool / "new" / name).rename(slot.spool / "new" / name)
    slot.wait(Kind.RELEASED)


def test_what_killed_processes_left_is_undone_by_the_next_pilot(make: Make) -> None:
    slot = make()
    running(slot)
    lines = slot.processes()
    pids = {}
    for word in ("wspilot-guardian", " pilot --spool"):
        (line,) = [one for one in lines if word in one]
        pids[word] = int(line.split()[0])
    os.kill(pids[" pilot --spool"], signal.SIGSTOP)  # or it would start another guardian
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    slot.children[0].wait(10)
    assert any(path.suffix == ".journal" for path in slot.leftovers())
    after = make(repair=True)
    after.node = slot.node
    assert after.launch().wait(10) == 0
    undone = after.wait(Kind.RELEASED).data["undone"]
    assert "VM vm000001 ended" in undone and "64 MiB given back" in undone


def test_faults_of_a_vm_are_told_with_their_cause(make: Make) -> None:
    faults = {
        "one/vm/1": {"create": "no such image"},
        "one/vm/2": {"ready": "never"},
        "one/vm/3": {"dies_s": 0.3},
    }
    slot = make(vmm_options={"boot_s": 0.1, "stop_s": 0, "fail": faults})
    job = slot.launch()
    for vm in ("vm000001", "vm000002", "vm000003"):
        slot.create(vm, boot_s=1)
    assert "no such image" in slot.vm("vm000001", "failed").data["cause"]
    assert "within 1 s" in slot.vm("vm000002", "failed").data["cause"]
    assert "ended by itself" in slot.vm("vm000003", "failed").data["cause"]
    slot.send(Verb.RELEASE)
    slot.wait(Kind.RELEASED)
    assert job.wait(10) == 0


def test_a_pilot_does_not_run_as_root_unless_the_site_says_so(make: Make) -> None:
    slot = make(allow_root=False)
    job = slot.launch()
    code = job.wait(10)
    if os.getuid() == 0:
        assert code == 1 and "root" in slot.wait(Kind.FAILED).data["cause"]
    else:
        slot.wait(Kind.RESERVED)


def test_a_stopped_pilot_of_adapter_sim_is_taken_back(make: Make) -> None:
    slot = make()
    running(slot)
    os.kill(slot.pilot_pid(), signal.SIGSTOP)
    assert "suspended" in slot.wait(Kind.PREEMPTED).data["cause"]
    slot.wait(Kind.RELEASED)


def test_a_stopped_pilot_of_adapter_none_is_waited_for(make: Make) -> None:
    slot = make(adapter="none", take_mib=0)
    job = running(slot)
    os.kill(slot.pilot_pid(), signal.SIGSTOP)
    time.sleep(3)
    os.kill(slot.pilot_pid(), signal.SIGCONT)
    slot.send(Verb.RELEASE)
    slot.wait(Kind.RELEASED)
    assert job.wait(10) == 0
    assert all(note.kind is not Kind.PREEMPTED for note in slot.heard)


def test_a_sigterm_in_a_pilots_first_moment_is_not_lost(make: Make) -> None:
    slot = make()
    job = slot.launch()
    end = time.monotonic() + 10
    while not any(" pilot --spool" in line for line in slot.processes()):
        assert time.monotonic() < end
        time.sleep(0.002)
    job.send_signal(signal.SIGTERM)
    assert job.wait(10) == 0
    slot.wait(Kind.RELEASED)
    assert slot.wait(Kind.PREEMPTED).seq <= 3

"""One node's processes, killed, stopped, hung or robbed of their program, with real QEMU guests.

Nothing may be left in ps, /tmp and /var/tmp afterwards, whatever the test did.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import processes
from tests.processes import Process
from tests.real.interpreters import oldest
from tests.real.slotyard import BUDGET, Slot
from wspilot.errors import WspilotError
from wspilot.guest import build_guest, default_cache
from wspilot.messages import HB, Kind, Verb, parse_beat_name, read_note
from wspilot.node.vmm.qemu import Qemu
from wspilot.nodecode import build

pytestmark = pytest.mark.real
Make = Callable[..., Slot]


@pytest.fixture(scope="module")
def image() -> dict[str, Any]:
    try:
        Qemu().check()
        guest = build_guest(default_cache() / "guest", default_cache() / "deb")
    except WspilotError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{error.message}: {error.hint}")
    return {"name": "default", "kind": "kernel", **guest.image}


@pytest.fixture
def make(tmp_path: Path, zipapp: Path) -> Iterator[Make]:
    slots: list[Slot] = []

    def one(**settings: Any) -> Slot:
        usual = {"adapter": "none", "take_mib": 0, "vmm": "qemu", "vmm_options": {"accel": "tcg"}}
        place = settings.pop("place", tmp_path / str(len(slots)))
        slots.append(Slot(place, zipapp, oldest(), **{**usual, **settings}))
        return slots[-1]

    yield one
    for slot in slots:
        slot.close()
    for slot in slots:
        assert slot.processes() == []
        assert slot.leftovers() == []


def running(slot: Slot, image: dict[str, Any], count: int = 1) -> subprocess.Popen[bytes]:
    """A launched slot with guests that run (their boot is not waited for)."""
    job = slot.launch()
    slot.wait(Kind.RESERVED)
    for n in range(1, count + 1):
        slot.create(f"vm{n:06d}", image=image, memory_mib=128, ready="process")
    for n in range(1, count + 1):
        slot.vm(f"vm{n:06d}", "running")
    return job


def named(slot: Slot, word: str) -> Process:
    (line,) = [one for one in slot.processes() if word in one]
    found = processes.look_up(int(line.split()[0]))
    assert found is not None
    return found


def guests(slot: Slot) -> list[Process]:
    """QEMUs of this slot, by the environment that its pilot gave them."""
    mark = f"WSPILOT_SLOT={slot.id}"
    return [
        one
        for one in processes.everything()
        if "-uuid" in one.command() and mark in processes.environ(one)
    ]


def kill_all(slot: Slot, *more: str) -> tuple[int, dict[str, Any]]:
    """As an Epilog runs it: no PATH, no HOME."""
    done = subprocess.run(
        [slot.python, "-I", str(slot.zipapp), "kill-all", "--json", "--node", slot.node, *more],
        env={"WSPILOT_SLOT": "none"},
        capture_output=True,
        timeout=30,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_stopped_pilot_is_shown_and_its_guest_waits(make: Make, image: dict[str, Any]) -> None:
    slot = make(heartbeat_s=0.5)
    job = running(slot, image)
    before = [one.pid for one in guests(slot)]
    pilot = slot.wait(Kind.STARTED).pilot
    os.kill(slot.pilot_pid(), signal.SIGSTOP)
    shown = slot.wait(Kind.LOG, lambda note: note.data.get("suspended") is True)
    assert shown.of == pilot and shown.pilot != pilot and "stopped" in shown.data["text"]
    beats: list[Path] = []
    end = time.monotonic() + 20
    while not beats and time.monotonic() < end:
        beats = [path for path in (slot.spool / "hb").iterdir() if shown.pilot[:8] in path.name]
        time.sleep(0.05)
    (beat,) = (read_note(HB, slot.key, p.read_bytes(), parse_beat_name(p.name)) for p in beats)
    assert beat.data["state"] == "suspended" and beat.of == pilot
    os.kill(slot.pilot_pid(), signal.SIGCONT)
    slot.wait(Kind.LOG, lambda note: note.data.get("suspended") is False)
    assert [one.pid for one in guests(slot)] == before
    slot.send(Verb.RELEASE)
    slot.wait(Kind.RELEASED)
    assert job.wait(10) == 0


def test_a_pilot_that_is_killed_while_stopped_is_undone(make: Make, image: dict[str, Any]) -> None:
    slot = make()
    running(slot, image, 2)
    slot.pilot_pid()
    named(slot, "wspilot-courier").kill(signal.SIGSTOP)  # the whole job is suspended
    os.kill(slot.pilot_pid(), signal.SIGSTOP)
    slot.wait(Kind.LOG, lambda note: note.data.get("suspended") is True)
    os.kill(slot.pilot_pid(), signal.SIGKILL)
    failed = slot.wait(Kind.FAILED)
    assert failed.data["clean"] is True and not guests(slot)
    assert failed.data["undone_after_s"] < BUDGET["restore"]


def test_the_zipapp_removed_and_then_the_pilot_killed(
    make: Make, image: dict[str, Any], tmp_path: Path
) -> None:
    slot = make()
    slot.zipapp = tmp_path / "own.pyz"
    build(slot.zipapp)
    running(slot, image)
    slot.zipapp.write_bytes(b"not a program any more")
    slot.zipapp.unlink()
    named(slot, "wspilot-guardian").kill()  # its successor begins without a program, too
    slot.wait(Kind.LOG, lambda note: "guardian died" in note.data["text"])
    slot.create("vm000002", image=image, memory_mib=128, ready="process")
    slot.vm("vm000002", "running")
    os.kill(slot.pilot_pid(), signal.SIGKILL)
    failed = slot.wait(Kind.FAILED)
    assert sorted(failed.data["undone"]) == ["VM vm000001 ended", "VM vm000002 ended"]
    assert not guests(slot)


def test_what_nobody_was_left_to_undo_is_undone_by_the_next_pilot_which_says_so(
    make: Make, image: dict[str, Any]
) -> None:
    slot = make()
    running(slot, image, 2)
    os.kill(slot.pilot_pid(), signal.SIGSTOP)  # or it would fork another guardian
    named(slot, "wspilot-guardian").kill()
    os.kill(slot.pilot_pid(), signal.SIGKILL)
    slot.children[0].wait(10)
    after = make()
    after.node = slot.node
    job = after.launch()
    reserved = after.wait(Kind.RESERVED)
    assert reserved.data["node_clean"] is True and reserved.data["neighbours"] == []
    assert sorted(reserved.data["undone"]) == ["VM vm000001 ended", "VM vm000002 ended"]
    assert "earlier pilot" in after.wait(Kind.LOG).data["text"]
    after.send(Verb.RELEASE)
    after.wait(Kind.RELEASED)
    assert job.wait(10) == 0 and not guests(slot)


def test_a_repair_job_names_its_neighbours_and_kills_a_guardian_that_outstays(
    make: Make, image: dict[str, Any]
) -> None:
    neighbour, slot = make(), make()
    slot.node = neighbour.node
    running(neighbour, image)
    running(slot, image)
    guardian = named(slot, "wspilot-guardian")
    guardian.kill(signal.SIGSTOP)
    os.kill(slot.pilot_pid(), signal.SIGKILL)
    slot.children[0].wait(10)
    repair = make(repair=True, budget={**BUDGET, "restore": 1})
    repair.node = slot.node
    assert repair.launch().wait(20) == 0
    released = repair.wait(Kind.RELEASED)
    assert released.data["clean"] is True and released.data["neighbours"] == [neighbour.id]
    assert released.data["undone"] == ["VM vm000001 ended"]
    assert set(repair.kinds()) <= {"started", "log", "released"}
    assert not guests(slot) and len(guests(neighbour)) == 1
    neighbour.send(Verb.RELEASE)
    assert neighbour.wait(Kind.RELEASED).data["neighbours"] == []
    assert neighbour.children[0].wait(10) == 0


def test_kill_all_ends_a_living_lease_of_eight_guests(make: Make, image: dict[str, Any]) -> None:
    slot = make()
    job = running(slot, image, 8)
    assert len(guests(slot)) == 8
    code, told = kill_all(slot)
    assert code == 0 and told["clean"] is True and not guests(slot)
    assert [one["slot"] for one in told["journals"]] == [slot.id]
    assert len(told["journals"][0]["vms"]) == 8 and told["seconds"] < 10
    assert slot.wait(Kind.FAILED).data["clean"] is True
    assert job.wait(10) == 1


def test_kill_all_ends_a_suspended_job_with_all_its_processes(
    make: Make, image: dict[str, Any]
) -> None:
    slot = make()
    job = running(slot, image)
    for process in (named(slot, " pilot --spool"), named(slot, "wspilot-courier"), *guests(slot)):
        process.kill(signal.SIGSTOP)
    assert kill_all(slot, "--slot", slot.id)[0] == 0
    assert job.wait(10) == 1 and not guests(slot)


def test_kill_all_by_job_and_by_slot_leaves_the_others(make: Make, image: dict[str, Any]) -> None:
    one, two = make(), make()
    two.node = one.node
    for slot, job in ((one, "11.server"), (two, "12.server")):
        slot.launch(PBS_JOBID=job)
        slot.wait(Kind.RESERVED)
        slot.create(image=image, memory_mib=128, ready="process")
        slot.vm("vm000001", "running")
    assert kill_all(one, "--job", "99")[1]["journals"] == []
    code, told = kill_all(one, "--job", "11")
    assert code == 0 and [each["slot"] for each in told["journals"]] == [one.id]
    assert not guests(one) and len(guests(two)) == 1
    assert kill_all(two, "--slot", two.id)[0] == 0 and not guests(two)


def test_kill_all_ends_a_guest_whose_journal_was_lost(make: Make, image: dict[str, Any]) -> None:
    slot = make()
    job = running(slot, image)
    (journal,) = [path for path in slot.leftovers() if path.suffix == ".journal"]
    journal.unlink()
    code, told = kill_all(slot)
    assert code == 0 and [one["name"] for one in told["guests"]] == ["one/vm/1"]
    assert not guests(slot)
    slot.send(Verb.RELEASE)
    slot.wait(Kind.RELEASED)
    assert job.wait(10) == 0


def test_a_later_epoch_repairs_on_all_nodes(make: Make) -> None:
    slot = make(nodes=2, vmm="sim", vmm_options={"boot_s": 0.1}, adapter="sim", take_mib=64)
    nodes = (slot.node, f"{slot.node}b")
    job = slot.launch(nodes)
    for node in nodes:
        slot.wait(Kind.RESERVED, lambda note, node=node: note.node == node)  # type: ignore[misc]
    pilots = [int(note.data["pid"]) for note in slot.heard if note.kind is Kind.STARTED]
    for pid in pilots:
        os.kill(pid, signal.SIGSTOP)
    for line in slot.processes():
        if "wspilot-guardian" in line:
            os.kill(int(line.split()[0]), signal.SIGKILL)
    for pid in pilots:
        os.kill(pid, signal.SIGKILL)
    job.wait(10)
    assert slot.launch(nodes).wait(15) == 1
    for node in nodes:
        failed = slot.wait(Kind.FAILED, lambda note, node=node: note.node == node)  # type: ignore[misc]
        assert failed.epoch == 2 and failed.data["cause"] == "restarted"
        assert failed.data["clean"] is True and failed.data["undone"] == ["64 MiB given back"]


def test_a_launcher_that_can_start_nothing_says_why(make: Make) -> None:
    slot = make(vmm="sim", start=["/nonexistent/srun", "-N", "{nodes}"])
    assert slot.launch().wait(10) == 1
    failed = slot.wait(Kind.FAILED)
    assert "/nonexistent/srun" in failed.data["cause"] and failed.data["nothing_started"] is True


def test_a_node_that_lets_nobody_begin_says_why(make: Make) -> None:
    slot = make(vmm="sim")
    place = Path(f"/var/tmp/wspilot-{os.getuid()}") / slot.node
    place.parent.mkdir(mode=0o700, exist_ok=True)
    place.symlink_to("/")
    try:
        assert slot.launch().wait(10) == 1
        failed = slot.wait(Kind.FAILED)
        assert "somebody else made it" in failed.data["cause"] and failed.data["clean"] is True
    finally:
        place.unlink()


# -- a shared filesystem that stops answering


class Hangs:
    """A FUSE filesystem (bindfs) whose server can be stopped."""

    def __init__(self, place: Path) -> None:
        if not Path("/dev/fuse").exists():
            pytest.skip("no FUSE on this machine (/dev/fuse)")
        self.mount, behind = place / "mnt", place / "behind"
        for path in (self.mount, behind):
            path.mkdir(parents=True)
        self._server = subprocess.Popen(
            ["bindfs", "-f", "-o", "attr_timeout=0,entry_timeout=0", str(behind), str(self.mount)],
            stdin=subprocess.DEVNULL,
        )
        end = time.monotonic() + 10
        while not self.mount.is_mount():
            assert time.monotonic() < end and self._server.poll() is None, "no FUSE on this machine"
            time.sleep(0.02)

    def stop(self) -> None:
        self._server.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._server.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.go_on()
        self._server.terminate()  # it unmounts, once nobody is there any more
        try:
            self._server.wait(10)
        finally:
            if self.mount.is_mount():
                subprocess.run(["umount", "-l", str(self.mount)], check=False, timeout=10)
            self._server.kill()
            self._server.wait(10)


@pytest.fixture
def hangs(tmp_path: Path) -> Iterator[Hangs]:
    made = Hangs(tmp_path / "fuse")
    yield made
    made.close()


def couriers(slot: Slot) -> list[str]:
    return sorted(line.split()[0] for line in slot.processes() if "wspilot-courier" in line)


def test_a_courier_on_a_hung_filesystem_is_replaced_and_the_node_is_given_back_on_time(
    hangs: Hangs, make: Make, image: dict[str, Any]
) -> None:
    slot = make(place=hangs.mount / "one", heartbeat_s=1, walltime_s=1000)
    job = running(slot, image)
    slot.listen()
    first = couriers(slot)
    hangs.stop()
    end = time.monotonic() + 45
    while couriers(slot) == first:
        assert time.monotonic() < end, "a courier that is silent for 30 s is replaced"
        time.sleep(0.1)
    assert len(guests(slot)) == 1 and job.poll() is None
    began = time.monotonic()
    job.send_signal(signal.SIGTERM)
    assert job.wait(15) == 0, "the spool hangs; the node does not wait for it"
    assert time.monotonic() - began < slot.settings["grace_s"] + 1 and not guests(slot)
    outbox = [path for path in slot.leftovers() if path.parent.name == "outbox"]
    assert outbox
    hangs.go_on()
    repair = make(place=hangs.mount / "one", repair=True)
    repair.node = slot.node
    assert repair.launch().wait(15) == 0
    assert not any(path.exists() for path in outbox)
    kinds = [note.kind for note in _heard(slot)]
    assert Kind.PREEMPTED in kinds and Kind.RELEASED in kinds
    assert any("silent for 30 s" in str(note.data) for note in slot.heard)


def _heard(slot: Slot) -> list[Any]:
    """Its own messages; the repair job's lie beside them."""
    for path in list((slot.spool / "new").iterdir()):
        if f"_{slot.id}_" not in path.name:
            path.unlink()
    slot.listen()
    return slot.heard

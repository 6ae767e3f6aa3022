"""Real QEMU, real guests. Needs Debian's qemu-system-x86, qemu-utils and apt's package lists."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from wspilot.errors import WspilotError
from wspilot.guest import GuestImage, build_guest, default_cache
from wspilot.node.vmm import stale
from wspilot.node.vmm.base import EventKind, VmEvent, VmSpec, parse_spec
from wspilot.node.vmm.kvm import probe
from wspilot.node.vmm.qemu import PROGRAMS, Qemu, program

pytestmark = pytest.mark.real
BOOT_S = 90.0  # under TCG, 2 cores shared with everybody else; 3 s when quiet


@pytest.fixture(scope="session")
def guest() -> GuestImage:
    try:
        Qemu().check()
        return build_guest(default_cache() / "guest", default_cache() / "deb", disk=True)
    except WspilotError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{error.message}: {error.hint}")


class Node:
    """A VMM with a run-time directory, and what its VMs have said."""

    def __init__(self, rundir: Path) -> None:
        self.qemu = Qemu()
        self.rundir = rundir
        self.events: list[VmEvent] = []

    def emit(self, event: VmEvent) -> None:
        self.events.append(event)

    async def create(self, spec: VmSpec) -> Mapping[str, Any]:
        log = self.rundir / f"{spec.id}.log"
        return (await self.qemu.create(spec, self.rundir, log, self.emit)).identity

    async def until(self, vm: str, kind: EventKind, count: int = 1) -> VmEvent:
        end = time.monotonic() + BOOT_S
        while time.monotonic() < end:
            found = [one for one in self.events if one.vm == vm and one.kind is kind]
            if len(found) >= count:
                return found[count - 1]
            await asyncio.sleep(0.01)
        raise AssertionError(f"no {kind.value} from {vm}: {self.events}, {self.log(vm)[-500:]!r}")

    async def until_logged(self, vm: str, text: bytes) -> None:
        end = time.monotonic() + BOOT_S
        while text not in self.log(vm):
            assert time.monotonic() < end, self.log(vm)[-500:]
            await asyncio.sleep(0.02)

    def log(self, vm: str) -> bytes:
        return (self.rundir / f"{vm}.log").read_bytes()

    def kinds(self, vm: str) -> list[str]:
        return [one.kind.value for one in self.events if one.vm == vm]

    def left(self) -> list[str]:
        return sorted(path.name for path in self.rundir.iterdir() if path.suffix != ".log")

    def types(self, vm: str, line: str) -> None:
        """As if somebody typed at the guest's console."""
        self.qemu._vms[vm]._channels[0].ours.send(line.encode() + b"\n")


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    one = Node(tmp_path)
    yield one
    pids = [vm.identity["pid"] for vm in one.qemu._vms.values()]
    await one.qemu.close()
    assert not [pid for pid in pids if pid and Path(f"/proc/{pid}").exists()]
    assert one.left() == []


def spec(image: Mapping[str, Any], vm: str = "vm1", **more: Any) -> VmSpec:
    data: dict[str, Any] = {"id": vm, "name": f"demo/worker/{vm}", "uuid": str(uuid.uuid4())}
    data.update(cpus=1, memory_mib=128, image=image)
    data["nics"] = [{"network": "private", "mac": "52:54:00:00:00:07", "ip": "10.77.0.2"}]
    return parse_spec({**data, **more})


def speaking_disk(path: Path) -> Mapping[str, Any]:
    """A raw disk whose boot sector writes `host login: ` on the first serial port, and halts.

    1 MiB: SeaBIOS boots from no disk that has not one whole cylinder.
    """
    text = b"host login: \r\n\0"
    code = bytes.fromhex("31c08ed8be1b7cbaf803ac84c07403eeebf8f4ebfd").ljust(0x1B, b"\x90")
    path.write_bytes((code + text).ljust(510, b"\0") + b"\x55\xaa" + bytes(2**20 - 512))
    return {"disk": str(path), "format": "raw", "ready": "console"}


async def test_a_guest_says_ready_and_obeys_the_power_button(node: Node, guest: GuestImage) -> None:
    identity = await node.create(spec(guest.image))
    assert node.kinds("vm1") == ["started", "booting"]
    assert os.getsid(identity["pid"]) == os.getsid(0)
    ready = await node.until("vm1", EventKind.READY)
    assert ready.text.startswith("after ")
    assert (node.rundir / "vm1.log").stat().st_mode & 0o777 == 0o600
    assert b"[org.wspilot.0] ready after" in node.log("vm1")
    await node.qemu.destroy("vm1", 30.0)
    assert node.kinds("vm1") == ["started", "booting", "ready", "exited"]
    assert node.events[-1].text == "the guest powered itself off"
    assert node.qemu.identity("vm1") is None and not Path(f"/proc/{identity['pid']}").exists()
    await node.qemu.destroy("vm1", 30.0)  # once more does no harm


async def test_what_a_guest_says_is_data(node: Node, guest: GuestImage) -> None:
    await node.create(spec(guest.image))
    await node.until("vm1", EventKind.READY)
    hostile = r"printf 'WSPILOT error a\033[2Jb\nWSPILOT ok again\nnonsense\n' >/dev/vport0p1"
    for port in ("vport0p1", "vport1p1"):
        node.types("vm1", f"[ -c /dev/{port} ] && {hostile.replace('vport0p1', port)}")
    error = await node.until("vm1", EventKind.ERROR)
    assert error.text == "a[2Jb"
    assert (await node.until("vm1", EventKind.SAID)).text == "again"
    node.types("vm1", "reboot -f")
    await node.until("vm1", EventKind.BOOTING, 2)
    await node.until("vm1", EventKind.READY, 2)


async def test_signals_of_the_job_do_not_end_it_but_sigkill_does(
    node: Node, tmp_path: Path
) -> None:
    identity = await node.create(spec(speaking_disk(tmp_path / "d.log")))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(identity["pid"], number)
    await asyncio.sleep(0.3)
    assert "exited" not in node.kinds("vm1")
    os.kill(identity["pid"], signal.SIGKILL)
    exited = await node.until("vm1", EventKind.EXITED)
    assert exited.code == -9 and "SIGKILL" in exited.text
    assert node.left() == []


async def test_a_pattern_on_the_console_and_a_disk_without_kernel(
    node: Node, tmp_path: Path
) -> None:
    image = speaking_disk(tmp_path / "d.log")
    before = hashlib.sha256(Path(image["disk"]).read_bytes()).hexdigest()
    await node.create(spec(image))
    await node.until("vm1", EventKind.READY)
    assert node.left() == ["vm1.qcow2", "vm1.qmp"]
    assert b"host login:" in node.log("vm1")
    await node.qemu.destroy("vm1", 0.0)
    assert node.events[-1].text == "ended" and node.left() == []
    assert hashlib.sha256(Path(image["disk"]).read_bytes()).hexdigest() == before


async def test_pause_suspend_stop_and_reboot_keep_what_is_on_its_disk(
    node: Node, guest: GuestImage
) -> None:
    assert guest.disk is not None
    await node.create(spec(guest.disk))
    await node.until("vm1", EventKind.READY)
    node.types("vm1", "echo kept >/kept; sync; memory=alive; echo wr'itten'")
    await node.until_logged("vm1", b"written")
    await node.qemu.act("vm1", "pause", {})
    node.types("vm1", "echo while pau'sed'")
    await asyncio.sleep(0.5)
    assert b"while paused" not in node.log("vm1")
    await node.qemu.act("vm1", "resume", {})
    await node.until_logged("vm1", b"while paused")

    await node.qemu.act("vm1", "suspend", {})
    identity = node.qemu.identity("vm1")
    assert identity is not None and identity["pid"] is None
    assert any(name.endswith(".memory") for name in node.left())
    await node.qemu.act("vm1", "resume", {})
    node.types("vm1", "echo mem'ory' $memory")
    await node.until_logged("vm1", b"memory alive")
    assert not any(name.endswith(".memory") for name in node.left())

    await node.qemu.act("vm1", "stop", {"grace_s": 20.0})
    assert "exited" not in node.kinds("vm1") and node.left() == ["vm1.qcow2"]
    await node.qemu.act("vm1", "start", {})
    await node.until("vm1", EventKind.READY, 2)
    await node.qemu.act("vm1", "reboot", {"grace_s": 20.0})
    await node.until("vm1", EventKind.READY, 3)
    node.types("vm1", "echo still $(cat /kept)")
    await node.until_logged("vm1", b"still kept")
    await node.qemu.act("vm1", "suspend", {})
    await node.qemu.destroy("vm1", 5.0)
    assert node.left() == []


async def test_root_on_a_disk_that_is_never_written_to(node: Node, guest: GuestImage) -> None:
    assert guest.disk is not None
    base = Path(guest.disk["disk"])
    before = hashlib.sha256(base.read_bytes()).hexdigest()
    await node.create(spec(guest.disk))
    await node.until("vm1", EventKind.READY)
    node.types("vm1", "echo written >/kept; sync; df / | grep -o /dev/root; echo done-$((6*7))")
    await node.until_logged("vm1", b"done-42")
    assert (node.rundir / "vm1.qcow2").stat().st_mode & 0o777 == 0o600
    await node.qemu.destroy("vm1", 0.0)
    assert hashlib.sha256(base.read_bytes()).hexdigest() == before


@pytest.mark.parametrize("grace_s", [0.0, 5.0])
async def test_a_stopped_qemu_is_gone_within_two_seconds(
    node: Node, tmp_path: Path, grace_s: float
) -> None:
    identity = await node.create(spec(speaking_disk(tmp_path / "d.log")))
    await node.until("vm1", EventKind.READY)
    os.kill(identity["pid"], signal.SIGSTOP)
    begin = time.monotonic()
    await node.qemu.destroy("vm1", grace_s)
    assert time.monotonic() - begin < 15
    assert node.events[-1].code == -9


async def test_the_least_grace_decides(node: Node, tmp_path: Path) -> None:
    """A guest that ignores its power button; SIGTERM comes while somebody waits for it."""
    await node.create(spec(speaking_disk(tmp_path / "d.log")))
    await node.until("vm1", EventKind.READY)
    patient = asyncio.ensure_future(node.qemu.destroy("vm1", 60.0))
    await asyncio.sleep(0.2)
    assert not patient.done()
    begin = time.monotonic()
    await node.qemu.destroy("vm1", 0.0)
    await patient
    assert time.monotonic() - begin < 15


async def test_destroyed_while_it_is_created(node: Node, tmp_path: Path) -> None:
    image = speaking_disk(tmp_path / "d.log")
    for wait_s in (0.0, 0.03, 0.1):
        making = asyncio.ensure_future(node.create(spec(image)))
        await asyncio.sleep(wait_s)
        await node.qemu.destroy("vm1", 0.0)
        with contextlib.suppress(WspilotError):
            await making
        assert node.qemu._vms == {} and node.left() == []


@pytest.mark.parametrize("begun", ["_tools", "_child"])
async def test_a_cancelled_create_leaves_nothing(node: Node, tmp_path: Path, begun: str) -> None:
    """Cancelled as soon as qemu-img, or QEMU itself, has been started."""
    making = asyncio.ensure_future(node.create(spec(speaking_disk(tmp_path / "d.log"))))
    await asyncio.sleep(0)
    machine = node.qemu._vms["vm1"]
    while not getattr(machine, begun):  # noqa: ASYNC110
        await asyncio.sleep(0)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert node.qemu._vms == {} and node.left() == []


async def test_why_it_did_not_start(node: Node, tmp_path: Path) -> None:
    image = speaking_disk(tmp_path / "d.log")
    with pytest.raises(WspilotError, match="memory"):
        await node.create(spec(image, memory_mib=16 * 1024 * 1024))
    (tmp_path / "no.log").write_bytes(b"no qcow2 at all")
    with pytest.raises(WspilotError, match="its image's root is not a qcow2"):
        await node.create(spec({"disk": str(tmp_path / "no.log"), "format": "qcow2"}))
    with pytest.raises(WspilotError, match=r"kernel .*/nowhere cannot be read on this node"):
        await node.create(spec({"kernel": "/nowhere"}))
    with pytest.raises(WspilotError, match="cannot be started"):
        await node.qemu.create(spec(image), node.rundir, tmp_path / "no" / "dir.log", node.emit)
    assert {one.kind for one in node.events} <= {EventKind.EXITED}
    assert node.qemu._vms == {} and node.left() == []


async def test_four_guests_at_once(node: Node, guest: GuestImage) -> None:
    names = [f"vm{number}" for number in range(1, 5)]
    await asyncio.gather(*(node.create(spec(guest.image, name)) for name in names))
    await asyncio.gather(*(node.until(name, EventKind.READY) for name in names))
    for name in names:
        identity = node.qemu.identity(name)
        assert identity is not None
        used = _status_mib(identity["pid"], "VmHWM")
        one = spec(guest.image, name)
        assert used <= one.memory_mib + node.qemu.overhead_mib(one), f"{name} uses {used} MiB"
    await node.qemu.close()
    assert [node.kinds(name)[-1] for name in names] == ["exited"] * 4
    assert node.left() == []


def _status_mib(pid: int, key: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


LONELY = """
import asyncio, json, sys
from pathlib import Path
from wspilot.node.vmm.base import parse_spec
from wspilot.node.vmm.qemu import Qemu

async def main():
    spec, rundir = parse_spec(json.loads(sys.argv[1])), Path(sys.argv[2])
    handle = await Qemu().create(spec, rundir, rundir / "vm.log", lambda event: None)
    print(json.dumps(dict(handle.identity)), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
def lonely(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A pilot of its own with one VM, and that VM's identity."""
    image = dict(speaking_disk(tmp_path / "d.log"))
    data = {"id": "vm", "name": "vm", "uuid": str(uuid.uuid4()), "cpus": 1, "memory_mib": 32}
    argv = [sys.executable, "-c", LONELY, json.dumps({**data, "image": image}), str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        identity = json.loads(process.stdout.readline())
        yield process, identity
        process.kill()
    stale.kill_stale(identity)


def test_a_killed_pilot_takes_its_vms_along(
    lonely: tuple[subprocess.Popen[str], dict[str, Any]],
) -> None:
    process, identity = lonely
    assert stale.find({**identity, "pid": None, "start": None}) == identity["pid"]
    process.kill()
    end = time.monotonic() + 15
    while stale.find(identity) is not None and time.monotonic() < end:
        time.sleep(0.01)
    assert stale.find(identity) is None
    assert Path(identity["qmp"]).exists()  # a kill tidies nothing: that is the journal's work
    assert stale.kill_stale(identity)
    assert not Path(identity["qmp"]).exists() and not Path(identity["files"][0]).exists()


@pytest.mark.parametrize("stopped", [False, True])
def test_another_process_ends_it_while_the_pilot_hangs(
    lonely: tuple[subprocess.Popen[str], dict[str, Any]], stopped: bool
) -> None:
    process, identity = lonely
    process.send_signal(signal.SIGSTOP)  # its QMP connection stays open
    if stopped:
        os.kill(identity["pid"], signal.SIGSTOP)
    begin = time.monotonic()
    intent = {**identity, "pid": None, "start": None}
    assert stale.kill_stale(intent)
    assert time.monotonic() - begin < 10  # a hang; the figures are in the benchmark
    assert stale.find(identity) is None


def test_a_stranger_is_never_touched() -> None:
    one = str(uuid.uuid4())
    argv = [sys.executable, "-c", "import time; time.sleep(60)", "-uuid", one]
    with subprocess.Popen(argv) as stranger:
        try:
            deadline = time.monotonic() + 5
            identity = {"uuid": one, "pid": stranger.pid, "qmp": "", "files": []}
            while not stale.is_it(identity, stranger.pid) and time.monotonic() < deadline:
                time.sleep(0.01)
            start = stale.start_time(stranger.pid)
            assert start is not None
            for other in (
                {**identity, "uuid": str(uuid.uuid4()), "start": start},  # pid used again
                {**identity, "start": start + 1},  # same words, another start
                {**identity, "uuid": "", "start": start},
                {**identity, "pid": None, "uuid": one[:-1]},
                {**identity, "pid": os.getpid(), "start": None},
                {**identity, "pid": 1, "start": None},
            ):
                assert stale.kill_stale(other)
                assert stranger.poll() is None, other
            assert stale.kill_stale({**identity, "start": start})
            assert stranger.wait(2) == -signal.SIGKILL
        finally:
            stranger.kill()


async def test_the_probe_proves_and_comes_back(guest: GuestImage, tmp_path: Path) -> None:
    where = program("QEMU", PROGRAMS)
    proved = await probe(where, 20.0, accel="tcg", cpu="max")  # the probe's own proof
    assert proved.works, proved.why
    begin = time.monotonic()
    verdict = await probe(where, 1.0, accel="kvm", cpu="qemu64")
    assert time.monotonic() - begin < 15 and verdict.why
    # A hanging guest, wherever this runs: the program is QEMU's stand-in that never ends.
    begin = time.monotonic()
    sleeper = _sleeper(tmp_path)
    hung = await probe(str(sleeper), 0.3, accel="tcg", cpu="max")
    assert not hung.works and "without end" in hung.why and time.monotonic() - begin < 15
    mine = [path.read_bytes() for path in _children()]
    assert not [argv for argv in mine if b"isa-debug" in argv or b"sleep" in argv]


def _children() -> list[Path]:
    """The command lines of this process's children, dead ones too."""
    pids = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [Path(f"/proc/{pid}/cmdline") for pid in pids]


def _sleeper(folder: Path) -> Path:
    path = folder / "sleeper"
    path.write_text("#!/bin/sh\nexec sleep 60\n")
    path.chmod(0o755)
    return path

"""Real QEMUs on the rootless switch's cables: no guest runs before the switch has joined it.

QEMU 7.2 dies of a frame that a guest sends into a stream that nobody has joined (SIGSEGV). A guest
that boots has nothing to send for long enough; one that is resumed goes on where it was.
"""

from __future__ import annotations

import asyncio
import socket
import uuid
from pathlib import Path

import pytest

from tests.bench import network
from wspilot.guest import GuestImage, build_guest, default_cache
from wspilot.node.vmm.base import EventKind, VmEvent, parse_spec
from wspilot.node.vmm.qemu import Qemu

pytestmark = pytest.mark.real
HANG_S, ROUNDS = 60.0, 6


@pytest.fixture(scope="module")
def guest() -> GuestImage:
    return build_guest(default_cache() / "guest", default_cache() / "deb")


async def test_a_guest_does_not_run_before_its_cable_is_in(
    guest: GuestImage, tmp_path: Path
) -> None:
    said, started = list[VmEvent](), asyncio.Event()

    def hear(event: VmEvent) -> None:
        said.append(event)
        if event.kind is EventKind.STARTED:
            started.set()

    path = tmp_path / "v1.0.nic"
    listens = f"stream,id=net0,server=on,addr.type=unix,addr.path={path}"
    nic = {"network": "private", "mac": "02:57:0a:4d:00:02", "ip": "10.77.0.2",
           "netdev": [listens]}  # fmt: skip
    data = {"id": "v1", "name": "w/vm/1", "uuid": str(uuid.uuid4()), "cpus": 1, "memory_mib": 128,
            "image": dict(guest.image), "nics": [nic]}  # fmt: skip
    vmm = Qemu()
    making = asyncio.ensure_future(
        vmm.create(parse_spec(data), tmp_path, tmp_path / "console", hear)
    )
    try:
        await asyncio.wait_for(started.wait(), HANG_S)
        await asyncio.sleep(2)
        assert not making.done() and not any(one.kind is EventKind.BOOTING for one in said)
        with socket.socket(socket.AF_UNIX) as cable:
            cable.connect(str(path))
            await asyncio.wait_for(making, HANG_S)
            assert any(one.kind is EventKind.BOOTING for one in said)
    finally:
        making.cancel()
        await vmm.close()


async def test_guests_that_are_resumed_with_frames_to_send_go_on(guest: GuestImage) -> None:
    async with network._pair(guest, ours=True) as pair:
        await pair.took()
        for _ in range(ROUNDS):
            for verb in ("suspend", "resume"):
                await asyncio.gather(*(pair.vmm.act(vm, verb, {}) for vm in ("v2", "v3")))
            await pair.took()

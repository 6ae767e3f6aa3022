"""Images and the life of a pilot: what is killed or destroyed in mid-transfer leaves nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.interpreters import oldest
from tests.real.slotyard import BUDGET, Slot
from tests.unit.node.imageyard import Web, disk, image
from wspilot.guest import GuestImage, build_guest, default_cache
from wspilot.imagefiles import File, digest
from wspilot.messages import Kind, Verb

HANG_S = 30.0
pytestmark = pytest.mark.real
Make = Callable[..., Slot]


@pytest.fixture(scope="module")
def guest() -> GuestImage:
    return build_guest(default_cache() / "guest", default_cache() / "deb", disk=True)


@pytest.fixture
def slot(tmp_path: Path, zipapp: Path) -> Iterator[Slot]:
    """One whose node keeps no images, so that nothing at all may be left."""
    (tmp_path / "repository").mkdir()
    images = {"cache_mib": 0, "repository": str(tmp_path / "repository")}
    usual = {"adapter": "none", "take_mib": 0, "vmm": "qemu", "vmm_options": {"accel": "tcg"}}
    one = Slot(tmp_path, zipapp, oldest(), budget={**BUDGET, "boot": 90}, images=images, **usual)
    yield one
    one.close()
    assert one.processes() == [] and one.leftovers() == []


def spec(guest: GuestImage) -> dict[str, Any]:
    """The guest as a headnode's `create` has it."""
    assert guest.disk is not None
    files = {}
    for role in ("kernel", "initrd", "disk"):
        path = Path(str(guest.disk[role]))
        files[role] = File(path.name, str(path), digest(path), path.stat().st_size).spec()
    return {**guest.disk, "name": "mini", "kind": "kernel", "files": files, "partitions": []}


def until(so: Callable[[], bool], limit_s: float = 15.0) -> None:
    end = time.monotonic() + limit_s
    while not so():
        assert time.monotonic() < end
        time.sleep(0.02)


def fetching(slot: Slot) -> bool:
    """Does a transfer run, and has some of the file come?"""
    parts = [path for path in slot.leftovers() if path.suffix == ".part"]
    return any(path.stat().st_size for path in parts) and any(
        "wspilot-image fetch" in line for line in slot.processes()
    )


def test_a_vm_boots_from_the_cache_and_is_saved(
    slot: Slot, guest: GuestImage, tmp_path: Path
) -> None:
    slot.launch()
    slot.wait(Kind.RESERVED)
    slot.create(image=spec(guest), memory_mib=128, boot_s=90, disk_mib=64)
    slot.vm("vm000001", "propagating")
    slot.vm("vm000001", "running", 90)
    cached = [path.name for path in slot.leftovers() if path.parent.name == "images"]
    assert len(cached) == 3, "kernel, initrd and disk; no part and no lock"
    asked = slot.send(Verb.SAVE, vm="vm000001", image="mine")
    answer = slot.wait(Kind.ANSWER, lambda note: note.data["re"] == asked, 60)
    assert answer.data["ok"] and answer.data["data"]["image"] == "mine", answer.data
    assert (tmp_path / "repository" / "mine" / "image.json").exists()
    again = slot.send(Verb.SAVE, vm="vm000001", image="../up")
    refused = slot.wait(Kind.ANSWER, lambda note: note.data["re"] == again, 60)
    assert not refused.data["ok"] and "is not a name" in refused.data["message"]
    slot.send(Verb.RELEASE)
    slot.wait(Kind.RELEASED, limit=20)


def test_a_destroyed_vm_takes_its_transfer_along(slot: Slot, tmp_path: Path) -> None:
    data = disk(tmp_path / "d", 8)
    with Web({"/d": data}, pace_s=0.3) as web:
        slot.launch()
        slot.wait(Kind.RESERVED)
        slot.create(image=image(f"{web.url}/d", data))
        slot.vm("vm000001", "propagating")
        until(lambda: fetching(slot))
        slot.wait(Kind.PROGRESS)
        slot.send(Verb.DESTROY, vm="vm000001")
        slot.vm("vm000001", "terminated")
        assert not any("wspilot-image" in line for line in slot.processes())
        assert not [path for path in slot.leftovers() if path.suffix in (".part", ".lock")]
        slot.send(Verb.RELEASE)
        slot.wait(Kind.RELEASED)


@pytest.mark.parametrize("how", ["pilot", "term"])
def test_a_killed_pilot_leaves_no_transfer(slot: Slot, tmp_path: Path, how: str) -> None:
    data = disk(tmp_path / "d", 8)
    with Web({"/d": data}, pace_s=0.3) as web:
        job = slot.launch()
        slot.wait(Kind.RESERVED)
        slot.create(image=image(f"{web.url}/d", data))
        slot.vm("vm000001", "propagating")
        until(lambda: fetching(slot))
        if how == "pilot":
            os.kill(slot.pilot_pid(), signal.SIGKILL)
            slot.wait(Kind.FAILED)
        else:
            os.killpg(job.pid, signal.SIGTERM)
            slot.wait(Kind.PREEMPTED)
        until(lambda: not any("wspilot-image" in line for line in slot.processes()), HANG_S)
        until(lambda: slot.leftovers() == [], HANG_S)


def test_a_wrong_image_fails_its_vm_and_no_other(
    slot: Slot, guest: GuestImage, tmp_path: Path
) -> None:
    good, bad = spec(guest), spec(guest)
    bad["files"] = {**bad["files"], "disk": {**bad["files"]["disk"], "sha256": "ab" * 32}}
    slot.launch()
    slot.wait(Kind.RESERVED)
    slot.create("vm000001", image=bad, memory_mib=128, ready="process")
    slot.create("vm000002", image=good, memory_mib=128, ready="process")
    assert "another SHA-256" in slot.vm("vm000001", "failed", 30).data["cause"]
    slot.vm("vm000002", "running", 30)
    slot.send(Verb.RELEASE)
    slot.wait(Kind.RELEASED, limit=20)

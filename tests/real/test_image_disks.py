"""Real guests on disks made of cached files: overlays, partitions, blanks; and a disk saved.

Needs qemu-system-x86, qemu-utils, e2fsprogs and util-linux.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.real.test_qemu import Node, spec
from tests.unit.node.imageyard import ground, image
from tests.unit.sites import site
from wspilot.errors import Refused, WspilotError
from wspilot.guest import GuestImage, build_guest, default_cache
from wspilot.images import load_images
from wspilot.node.images import Images
from wspilot.node.vmm.base import EventKind

pytestmark = pytest.mark.real
MARK = "kept-by-save"


@pytest.fixture(scope="module")
def guest() -> GuestImage:
    return build_guest(default_cache() / "guest", default_cache() / "deb", disk=True)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    (tmp_path / "rundir").mkdir()
    one = Node(tmp_path / "rundir")
    yield one
    await one.qemu.close()
    assert one.left() == []


def run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (argv, done.stderr)
    return done.stdout


def partition(path: Path, label: str, word: str) -> Path:
    """A cached partition: an ext4 with one file in it."""
    tree = path.parent / f"{path.name}.tree"
    tree.mkdir()
    (tree / "word").write_text(f"{word}\n")
    run("mke2fs", "-q", "-F", "-t", "ext4", "-L", label, "-d", str(tree), str(path), "8M")
    return path


async def types(node: Node, line: str, end: str) -> None:
    """At the guest's console; `end` is printed by arithmetic, so that the echo does not count."""
    node.types("vm1", f"{line}; echo {end}-$((6*7))")
    await node.until_logged("vm1", f"{end}-42".encode())


async def test_a_disk_rebuilt_from_cached_partitions_and_blank_ones(
    node: Node, guest: GuestImage, tmp_path: Path
) -> None:
    assert guest.disk is not None
    home = partition(tmp_path / "home.ext4", "home", "from-the-cache")
    before = home.read_bytes()
    parts = [{"path": str(home), "format": "raw", "role": "/home"}]
    blank = [{"size_mib": 64, "fs": "ext4", "label": "scratch"},
             {"size_mib": 16, "fs": "swap", "label": "swap"},
             {"size_mib": 8, "fs": "none"}]  # fmt: skip
    image = {**guest.disk, "partitions": parts, "blank": blank}
    began = time.monotonic()
    await node.create(spec(image, disk_mib=256))
    await node.until("vm1", EventKind.READY)
    listing = "for d in /sys/block/vd?; do echo $(cat $d/serial):$(cat $d/size); done"
    await types(node, listing, "listed")
    disks = re.findall(r"(\w+):(\d+)\r", node.log("vm1").decode("utf-8", "replace"))
    assert [(serial, int(size) // 2048) for serial, size in disks] == [
        ("root", 256), ("part0", 8), ("blank0", 64), ("blank1", 16), ("blank2", 8),
    ], "MiB, in this order; the root is as large as the lease type says"  # fmt: skip
    await types(node, "mkdir -p /a /b; mount -t ext4 /dev/vdb /a; mount -t ext4 /dev/vdc /b; "
                "cat /a/word; echo new >/a/word; echo x >/b/file && echo b-written; sync; "
                "swapon /dev/vdd && echo swaps-on; umount /a /b", "mounted")  # fmt: skip
    log = node.log("vm1")
    assert b"from-the-cache" in log and b"b-written" in log and b"swaps-on" in log
    assert home.read_bytes() == before, "the cached partition is never written to"
    assert len(node.left()) == 6 and time.monotonic() - began < 120
    await node.qemu.destroy("vm1", 0.0)
    assert node.left() == []


async def saved(images: Images, node: Node, name: str, **data: Any) -> Mapping[str, Any]:
    """As the pilot does it."""
    made = await node.qemu.act("vm1", "save", {"left_s": 300.0, "rate_mib": 50.0, **data})
    return await images.save("vm1", name, made["image"], made["flat"])


async def test_a_running_guests_disk_is_saved_and_boots_again(
    node: Node, guest: GuestImage, tmp_path: Path
) -> None:
    assert guest.disk is not None
    repository = tmp_path / "repository"
    repository.mkdir()
    images = Images(ground(tmp_path / "node", "n1", repository=str(repository)))
    await node.create(spec(guest.disk))
    await node.until("vm1", EventKind.READY)
    await types(node, f"echo {MARK} >/mark; sync", "marked")
    assert (await saved(images, node, "mine"))["image"] == "mine"
    await types(node, "true", "goes-on")
    with pytest.raises(WspilotError, match="exists already"):
        await saved(images, node, "mine")
    with pytest.raises(Refused, match=r"is reckoned with .* and 1s are left"):
        await saved(images, node, "late", left_s=1.0)
    assert sorted(path.name for path in repository.iterdir()) == ["mine"], "nothing half made"
    assert node.left() == ["vm1.qcow2", "vm1.qmp"], "and nothing on the node"
    await node.qemu.destroy("vm1", 0.0)

    found = load_images(repository, site("[site]\nvmm = 'qemu'"))["mine"]
    assert found.fault == "" and set(found.files) == {"kernel", "initrd", "disk"}
    said = json.loads((repository / "mine" / "image.json").read_text())
    assert said["sizes"]["root.qcow2"] == (repository / "mine" / "root.qcow2").stat().st_size
    run("qemu-img", "check", "-q", str(repository / "mine" / "root.qcow2"))
    ready = await images.propagate("vm1", found.spec(), lambda done: None)
    await node.create(spec(ready))
    await node.until("vm1", EventKind.READY, 2)
    await types(node, "cat /mark", "read")
    assert node.log("vm1").count(MARK.encode()) >= 2
    await node.qemu.destroy("vm1", 0.0)
    await images.close()


async def test_a_stopped_guests_disk_is_saved_clean(
    node: Node, guest: GuestImage, tmp_path: Path
) -> None:
    assert guest.disk is not None
    (tmp_path / "repository").mkdir()
    images = Images(ground(tmp_path / "node", "n1", repository=str(tmp_path / "repository")))
    await node.create(spec(guest.disk))
    await node.until("vm1", EventKind.READY)
    await types(node, f"echo {MARK} >/mark", "marked")
    await node.qemu.act("vm1", "stop", {"grace_s": 30.0})
    await saved(images, node, "clean")
    raw = tmp_path / "raw"
    disk = tmp_path / "repository" / "clean" / "root.qcow2"
    run("qemu-img", "convert", "-O", "raw", str(disk), str(raw))
    assert MARK in run("debugfs", "-R", "cat /mark", str(raw))
    await node.qemu.act("vm1", "start", {})
    await node.until("vm1", EventKind.READY, 2)
    await images.close()


@pytest.mark.parametrize("option", ["backing", "data-file"])
async def test_what_qemu_img_makes_to_read_the_host_is_refused_on_the_node(
    node: Node, tmp_path: Path, option: str
) -> None:
    """The negative control: qemu-img itself opens the other file without a word."""
    secret, disk = tmp_path / "secret", tmp_path / "repository" / "disk.qcow2"
    secret.write_bytes(b"a host's secret\n".ljust(1 << 20, b"."))
    disk.parent.mkdir()
    if option == "backing":
        more = ["-b", str(secret), "-F", "raw"]
    else:
        more = ["-o", f"data_file={secret},data_file_raw=on"]
    run("qemu-img", "create", "-q", "-f", "qcow2", *more, str(disk), "1M")
    secret.write_bytes(b"a host's secret\n".ljust(1 << 20, b"."))
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(disk), str(tmp_path / "leak"))
    assert (tmp_path / "leak").read_bytes().startswith(b"a host's secret"), "it would be read"

    images = Images(ground(tmp_path / "node", "n1"))
    asked = image(str(disk), disk.read_bytes(), "qcow2")
    with pytest.raises(WspilotError, match="any file of the host"):
        await images.propagate("vm1", asked, lambda done: None)
    with pytest.raises(WspilotError, match="any file of the host"):  # and where nobody propagated
        await node.create(spec({"disk": str(disk), "format": "qcow2"}))
    await images.close()

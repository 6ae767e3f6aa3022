"""What a VM's disks and seed cost (budget with tap and filter: 150 ms), and what the source of an
image is read for eight nodes (budget: 2 x its bytes, each cache verified)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from tests.bench.measure import Sample, sample, show
from tests.unit.node.imageyard import Nodes, Web, disk, image
from wspilot.node.context import make_seed
from wspilot.node.vmm.base import parse_spec
from wspilot.node.vmm.disks import disks_of
from wspilot.node.vmm.machine import Machine

RUNS, NODES, MIB = 20, 8, 64
PICTURE: dict[str, Any] = {"members": [], "keys": []}


def run() -> None:
    """Print both tables."""
    with tempfile.TemporaryDirectory(prefix="wspilot-bench-images-") as place:
        _disks(Path(place))
    for share in (True, False):
        with tempfile.TemporaryDirectory(prefix="wspilot-bench-images-") as place:
            asyncio.run(_propagation(Path(place), share))


def _disks(place: Path) -> None:
    base = place / "base.img"
    disk(base, 64)
    plain = {"disk": str(base), "format": "raw"}
    blank = [{"size_mib": 1024, "fs": "ext4"}, {"size_mib": 512, "fs": "swap"}]
    show("a VM's disks", [
        sample("overlay", RUNS, lambda: asyncio.run(_make(place, plain))),
        sample("seed", RUNS, lambda: _seed(place)),
        sample("overlay, a blank ext4 and a swap", RUNS,
               lambda: asyncio.run(_make(place, {**plain, "blank": blank}))),
    ])  # fmt: skip


async def _make(place: Path, image: dict[str, Any]) -> None:
    data = {"id": "vm1", "name": "vm1", "uuid": str(uuid.uuid4()), "cpus": 1, "memory_mib": 64}
    spec = parse_spec({**data, "image": image, "disk_mib": 1024})
    disks = disks_of(spec, place)
    await Machine(spec, {"files": [], "qmp": ""}, print, lambda: None).make_disks(disks)
    for one in disks:
        Path(one.path).unlink()


def _seed(place: Path) -> None:
    path = place / "seed"
    make_seed(path, {"id": "vm1", "name": "a/vm/1", "hostname": "vm-1", "nics": []}, PICTURE)
    path.unlink()


async def _propagation(place: Path, share: bool) -> None:
    data = disk(place / "disk", MIB)
    digest = hashlib.sha256(data).hexdigest()
    with Web({"/disk": data}) as web:
        nodes = Nodes(place, NODES, share=share)
        asked = image(f"{web.url}/disk", data)
        taken = []
        for _ in range(2):
            began = time.perf_counter()
            got = await nodes.propagate(asked)
            taken.append(time.perf_counter() - began)
        for one in got:
            with open(one["disk"], "rb") as file:
                assert hashlib.file_digest(file, "sha256").hexdigest() == digest
        with contextlib.suppress(OSError):
            await nodes.close()
    how = "passed on from node to node" if share else "each from the source"
    title = f"{MIB} MiB to {NODES} nodes, {how}: {web.sent / len(data):.2f} x its bytes were read"
    first, again = (Sample(name, (one,)) for name, one in zip(("first", "cached"), taken))
    show(title, [first, again])

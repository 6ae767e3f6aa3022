"""What a VM costs its node before its process starts: overlay, seed and NICs together (issue 5:
150 ms). On networks without rights everywhere; on a bridge (tap, filter and DHCP, by the root
helper through sudo) where this is root, in a lab of its own.

CPU time, the tools' own included, tells on a busy machine what a quiet one needs at least.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.bench.measure import Sample, show
from tests.real.bridgelab import Site, journals
from tests.unit.node.imageyard import disk
from wspilot.node import journal, patch
from wspilot.node.context import make_seed
from wspilot.node.core.settings import Settings
from wspilot.node.network import user, way
from wspilot.node.places import Places
from wspilot.node.vmm.base import VmSpec, parse_spec
from wspilot.node.vmm.disks import disks_of
from wspilot.node.vmm.machine import Machine

RUNS, MEMBERS, BUDGET_MS = 20, 16, 150
KEY = bytes(range(32)).hex()


@dataclass(frozen=True)
class Took:
    """Seconds by the clock, and of CPU (our own and that of every process that ended meanwhile)."""

    clock: float
    cpu: float

    def __add__(self, other: Took) -> Took:
        return Took(self.clock + other.clock, self.cpu + other.cpu)


Times = dict[str, list[Took]]


def run() -> None:
    """Print the table."""
    place = Path(tempfile.mkdtemp(prefix="wspilot-preparing-"))
    try:
        times = asyncio.run(_without_rights(place))
        if os.geteuid() == 0 and shutil.which("nft") and shutil.which("dnsmasq"):
            times["NIC on a bridge"] = _on_a_bridge()
            rest = zip(times["overlay"], times["seed"], times["NIC on a bridge"])
            times["overlay, seed and NIC on a bridge"] = [a + b + c for a, b, c in rest]
    finally:
        shutil.rmtree(place, ignore_errors=True)
    title = f"one VM, before its process starts (budget: {BUDGET_MS} ms)"
    show(title, [Sample(name, tuple(one.clock for one in took)) for name, took in times.items()])
    show("the same, CPU", [
        Sample(name, tuple(one.cpu for one in took)) for name, took in times.items()
    ])  # fmt: skip


async def _without_rights(place: Path) -> Times:
    base = place / "base.img"
    disk(base, 64)
    book = journal.create(place / "j", {"v": 1, "slot": "s" * 8})
    settings = Settings("s" * 8, 100, 200, {}, workspace_key=KEY)
    one = user.User(way.Ground(settings, "n1", Places("n1", os.getuid()), book, place))
    await one.start()
    names = ("overlay", "seed", "NIC without rights", "overlay, seed and NIC without rights")
    times: Times = {name: [] for name in names}
    try:
        for number in range(RUNS):
            data = _data(number, base)
            spec = parse_spec(data)
            taken = [
                await _took(lambda spec=spec: _disks(spec, place)),
                await _took(lambda data=data: _seed(place, data)),
                await _took(lambda spec=spec: one.attach(spec.id, 0, spec.nics[0])),
            ]
            for name, took in zip(names, (*taken, taken[0] + taken[1] + taken[2])):
                times[name].append(took)
            await one.detach(spec.id)
    finally:
        await one.close()
    times["a patched copy instead of a seed"] = await _patched(place)
    return times


async def _took(do: Callable[[], Any]) -> Took:
    began, cpu = time.perf_counter(), _cpu()
    await do()
    return Took(time.perf_counter() - began, _cpu() - cpu)


def _cpu() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


def _data(number: int, base: Path) -> dict[str, Any]:
    ip = f"10.77.0.{number + 2}"
    nic = {"network": "private", "mac": f"02:57:0a:4d:00:{number + 2:02x}", "ip": ip, "prefix": 24,
           "deny": ["169.254.0.0/16"]}  # fmt: skip
    return {"id": f"v{number}", "name": f"w/n/{number}", "uuid": str(uuid.uuid4()), "cpus": 1,
            "memory_mib": 128, "disk_mib": 1024, "image": {"disk": str(base), "format": "raw"},
            "nics": [nic], "host": f"n-{number}"}  # fmt: skip


def _picture() -> Mapping[str, Any]:
    members = [{"host": f"n-{n}", "networks": ["private"], "ips": [f"10.77.0.{n + 2}"],
                "provides": ["n"]} for n in range(MEMBERS)]  # fmt: skip
    return {"members": members, "keys": []}


async def _disks(spec: VmSpec, place: Path) -> None:
    await Machine(spec, {"files": [], "qmp": ""}, print, lambda: None).make_disks(
        disks_of(spec, place)
    )


async def _seed(place: Path, data: Mapping[str, Any]) -> None:
    make_seed(place / f"{data['id']}.seed", data, _picture())


async def _patched(place: Path) -> list[Took]:
    """Of a 16 MiB ext4; the copy costs more with more."""
    tree, base = place / "tree", place / "root.img"
    (tree / "etc").mkdir(parents=True)
    base.touch()
    argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-d", str(tree), str(base), "16M"]
    maker = await asyncio.create_subprocess_exec(*argv)
    assert await maker.wait() == 0
    taken = []
    for number in range(RUNS):
        data = {**_data(number, base), "id": f"p{number}"}
        spec = replace(parse_spec(data), patch=patch.entries(data, _picture()))
        taken.append(await _took(lambda spec=spec: _disks(spec, place)))
    return taken


def _on_a_bridge() -> list[Took]:
    """Of each `net-attach`, with the taps of those before it there."""
    taken = []
    with Site(1) as site, journals(65534) as home:
        (home / "j.journal").touch()
        os.chown(home / "j.journal", 65534, 65534)
        node = site.nodes[0]
        node.ask("about", {})
        for number in range(RUNS):
            nic = {**_data(number, Path("/"))["nics"][0], "bridge": "wbr", "slot": "s" * 8,
                   "vm": f"v{number}", "number": 0,
                   "journal": str(home / "j.journal")}  # fmt: skip
            del nic["network"]
            began, cpu = time.perf_counter(), _cpu()
            made = node.ask("net-attach", nic)
            taken.append(Took(time.perf_counter() - began, _cpu() - cpu))
            assert "tap" in made, made
        node.ask("net-detach", {"slot": "s" * 8})
        assert node.left() == []
    return taken

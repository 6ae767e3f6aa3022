"""8 MiB between two real guests: through our switches (frames pinned, sealed, opened), against
QEMU's own stream netdev, which does nothing but carry frames (DESIGN.md section 10: 1.3 x)."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.bench.measure import Sample, show
from wspilot.guest import GuestImage, build_guest, default_cache
from wspilot.node import journal
from wspilot.node.context import make_seed
from wspilot.node.core.settings import Settings
from wspilot.node.network import user, way
from wspilot.node.places import Places
from wspilot.node.vmm.base import VmEvent, parse_spec
from wspilot.node.vmm.qemu import Qemu

RUNS, MIB = 8, 8
KEY = bytes(range(32)).hex()
LIMIT_S = 180.0
GIVES = f"#!/bin/sh\nmkdir -p /w && dd if=/dev/urandom of=/w/x bs=1M count={MIB} && httpd -h /w\n"
TAKES = f"""#!/bin/sh
get() {{ wget -q -O - http://10.77.0.2/x | wc -c; }}
n=0; until [ "$(get 2>/dev/null)" = {MIB << 20} ]; do n=$((n+1)); [ $n -gt 60 ] && exit 1; sleep 1
done
now() {{ cut -d' ' -f1 /proc/uptime | tr -d .; }}
for i in {" ".join(map(str, range(RUNS)))}; do
  a=$(now); [ "$(get)" = {MIB << 20} ] || exit 1; b=$(now); t="$t $((b - a))"
done
echo took$t
"""


def run() -> None:
    """Print the table."""
    guest = build_guest(default_cache() / "guest", default_cache() / "deb")
    taken = [
        Sample(name, asyncio.run(_pair(guest, ours)))
        for name, ours in (("QEMU's stream netdev", False), ("our switches, two nodes", True))
    ]
    show(f"{MIB} MiB from guest to guest", taken, 1.0, "s")


async def _pair(guest: GuestImage, ours: bool) -> tuple[float, ...]:
    """Seconds of each transfer, by the taking guest's own clock."""
    place = Path(tempfile.mkdtemp(prefix="wspilot-net-"))
    ways: list[user.User] = []
    vmm = Qemu()
    said: asyncio.Queue[VmEvent] = asyncio.Queue()
    try:
        port = _free_port()
        for number in (2, 3):
            nic: Mapping[str, Any] = {
                "network": "private", "mac": f"02:57:0a:4d:00:{number:02x}",
                "ip": f"10.77.0.{number}", "prefix": 24, "deny": []}  # fmt: skip
            if ours:
                ways.append(_way(place, number))
                await ways[-1].start()
                nic = await ways[-1].attach(f"v{number}", 0, nic)
            else:
                side = "on" if number == 2 else "off"
                stream = f"stream,id=net0,server={side},addr.type=inet,addr.host=127.0.0.1"
                nic = {**nic, "netdev": [f"{stream},addr.port={port}"]}
            await _start(vmm, guest, place, number, nic, said)
        facts = {f"n{at}": one.facts() for at, one in enumerate(ways)}
        for one in ways:
            await one.peers(facts)
        return await asyncio.wait_for(_result(said), LIMIT_S)
    finally:
        await vmm.close()
        for one in ways:
            await one.close()
        shutil.rmtree(place, ignore_errors=True)


def _way(place: Path, number: int) -> user.User:
    settings = Settings("s" * 8, 100, 200, {}, workspace_key=KEY)
    book = journal.create(place / f"j{number}", {"v": 1, "slot": "s" * 8})
    name = f"n{number}"
    return user.User(way.Ground(settings, name, Places(name, os.getuid()), book, place))


async def _start(
    vmm: Qemu,
    guest: GuestImage,
    place: Path,
    number: int,
    nic: Mapping[str, Any],
    said: asyncio.Queue[VmEvent],
) -> None:
    data = {"id": f"v{number}", "name": f"w/{number}", "uuid": str(uuid.uuid4()), "cpus": 1,
            "memory_mib": 128, "image": dict(guest.image), "host": f"w-{number}", "nics": [nic],
            "user_data": GIVES if number == 2 else TAKES}  # fmt: skip
    seed = place / f"{number}.seed"
    make_seed(seed, data, {})
    spec = replace(parse_spec(data), seed=str(seed))
    await vmm.create(spec, place, place / f"console{number}", said.put_nowait)


async def _result(said: asyncio.Queue[VmEvent]) -> tuple[float, ...]:
    while True:
        event = await said.get()
        if event.text.startswith("took "):
            return tuple(int(word) / 100 for word in event.text.split()[1:])
        assert event.kind.value not in ("error", "exited"), event


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])

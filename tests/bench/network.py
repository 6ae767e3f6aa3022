"""8 MiB between two real guests: through our switches (frames pinned, sealed, opened), against
QEMU's own stream netdev, which does nothing but carry frames (DESIGN.md section 10: 1.3 x).

Both pairs are there at once and take turns, one standing still while the other transfers: what
else this machine does then falls on both.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import statistics
import tempfile
import uuid
from collections.abc import AsyncIterator, Mapping
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
# Its clock stands still with it, so a pause between two transfers does not count.
TAKES = f"""#!/bin/sh
for p in /sys/class/virtio-ports/*; do
  read -r name <"$p/name" && [ "$name" = org.wspilot.0 ] && port=/dev/${{p##*/}}
done
get() {{ wget -q -O - http://10.77.0.2/x | wc -c; }}
n=0; until [ "$(get 2>/dev/null)" = {MIB << 20} ]; do n=$((n+1)); [ $n -gt 60 ] && exit 1; sleep 1
done
now() {{ cut -d' ' -f1 /proc/uptime | tr -d .; }}
while :; do
  sleep 1
  a=$(now); [ "$(get)" = {MIB << 20} ] || exit 1; b=$(now)
  echo "WSPILOT ok took $((b - a))" >$port
done
"""


def run() -> None:
    """Print the table."""
    guest = build_guest(default_cache() / "guest", default_cache() / "deb")
    theirs, ours = asyncio.run(_both(guest))
    show(f"{MIB} MiB from guest to guest, taking turns", [theirs, ours], 1.0, "s")
    each = sorted(b / a for a, b in zip(theirs.seconds, ours.seconds))
    low, high = each[0], each[-1]
    print(f"ours / QEMU's, round by round: median {statistics.median(each):.2f}, "
          f"{low:.2f} to {high:.2f} (budget: 1.3)")  # fmt: skip


async def _both(guest: GuestImage) -> tuple[Sample, Sample]:
    """Seconds of each transfer, by the taking guest's own clock."""
    async with contextlib.AsyncExitStack() as stack:
        theirs = await stack.enter_async_context(_pair(guest, False))
        ours = await stack.enter_async_context(_pair(guest, True))
        for one in (theirs, ours):  # what runs now is the first of each, which does not count
            await one.took()
            await one.stand()
        taken: list[list[float]] = [[], []]
        for _ in range(RUNS):
            for pair, seconds in zip((theirs, ours), taken):
                await pair.go()
                seconds.append(await pair.took())
                await pair.stand()
    return (Sample("QEMU's stream netdev", tuple(taken[0])),
            Sample("our switches, two nodes", tuple(taken[1])))  # fmt: skip


class Pair:
    """Two guests, the second of which fetches from the first again and again."""

    def __init__(self, vmm: Qemu) -> None:
        self.vmm = vmm
        self.said: asyncio.Queue[VmEvent] = asyncio.Queue()

    async def took(self) -> float:
        async with asyncio.timeout(LIMIT_S):
            while True:
                event = await self.said.get()
                if event.text.startswith("took "):
                    return int(event.text.split()[1]) / 100
                assert event.kind.value not in ("error", "exited"), event

    async def stand(self) -> None:
        await asyncio.gather(*(self.vmm.act(f"v{n}", "pause", {}) for n in (2, 3)))

    async def go(self) -> None:
        await asyncio.gather(*(self.vmm.act(f"v{n}", "resume", {}) for n in (2, 3)))


@contextlib.asynccontextmanager
async def _pair(guest: GuestImage, ours: bool) -> AsyncIterator[Pair]:
    place = Path(tempfile.mkdtemp(prefix="wspilot-net-"))
    ways: list[user.User] = []
    pair = Pair(Qemu())
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
            await _start(pair.vmm, guest, place, number, nic, pair.said)
        facts = {f"n{at}": one.facts() for at, one in enumerate(ways)}
        for one in ways:
            await one.peers(facts)
        yield pair
    finally:
        await pair.vmm.close()
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


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])

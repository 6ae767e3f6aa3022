"""One compute node of the rootless network, as a process: started inside a network namespace, as an
ordinary user. `python -m tests.real.usernode NUMBER PLACE GUEST OTHER`: one real guest that pings
the other's. Says a line of JSON for its trunk, reads the peers, then prints what its guest says."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from dataclasses import replace
from pathlib import Path

from wspilot.node import journal
from wspilot.node.context import make_seed
from wspilot.node.core.settings import Settings
from wspilot.node.network import user, way
from wspilot.node.places import Places
from wspilot.node.vmm.base import VmEvent, parse_spec
from wspilot.node.vmm.qemu import Qemu

KEY = bytes(range(32)).hex()
SCRIPT = """#!/bin/sh
n=0
until ping -c 1 -W 1 {0} >/dev/null 2>&1; do n=$((n+1)); [ $n -gt 40 ] && break; sleep 1; done
ping -c 5 -W 2 {0} | sed -n '/received/p'
"""


async def main(number: int, place: Path, guest: Path, other: int) -> None:
    settings = Settings("s" * 8, 100, 200, {}, workspace_key=KEY)
    book = journal.create(place / "j", {"v": 1, "slot": "s" * 8})
    name = f"n{number}"
    one = user.User(way.Ground(settings, name, Places(name, os.getuid()), book, place))
    await one.start()
    print(json.dumps(one.facts()), flush=True)
    await one.peers(json.loads(await asyncio.to_thread(sys.stdin.readline)))
    over = asyncio.Event()

    def emit(event: VmEvent) -> None:
        print(json.dumps({"kind": event.kind.value, "text": event.text}), flush=True)
        if event.kind.value in ("said", "error", "exited"):
            over.set()

    image = {"kernel": str(guest / "vmlinuz"), "initrd": str(guest / "initrd"),
             "append": json.loads((guest / "image.json").read_text())["append"]}  # fmt: skip
    members = [{"host": f"w-{n}", "networks": ["private"], "ips": [f"10.77.0.{n}"]}
               for n in (number, other)]  # fmt: skip
    nic = {"network": "private", "mac": f"02:57:0a:4d:00:{number:02x}", "ip": f"10.77.0.{number}",
           "prefix": 24, "deny": []}  # fmt: skip
    data = {"id": "v1", "name": f"w/{number}", "uuid": str(uuid.uuid4()), "cpus": 1,
            "memory_mib": 128, "image": image, "host": f"w-{number}",
            "user_data": SCRIPT.format(f"w-{other}")}  # fmt: skip
    nics = [await one.attach("v1", 0, nic)]
    make_seed(place / "v1.seed", {**data, "nics": nics}, {"members": members})
    vmm = Qemu()
    spec = replace(parse_spec({**data, "nics": nics}), seed=str(place / "v1.seed"))
    try:
        await vmm.create(spec, place, place / "console", emit)
        await asyncio.wait_for(over.wait(), 120)
        await asyncio.to_thread(sys.stdin.readline)  # the sister may still be asking
    finally:
        await vmm.close()
        await one.close()


if __name__ == "__main__":
    _, n, where, image, sister = sys.argv
    asyncio.run(main(int(n), Path(where), Path(image), int(sister)))

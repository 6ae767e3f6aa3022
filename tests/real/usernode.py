"""One compute node's VM, as a process: started inside a network namespace, as an ordinary user.
`python -m tests.real.usernode WAY NUMBER PLACE GUEST OTHER`: one real guest that pings the other's.
Says a line of JSON for its trunk, reads the peers, then prints what its guest says: on the way
`user` also, from then on, how many packets of which kind have come to it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from dataclasses import replace
from pathlib import Path

from wspilot.node import journal, network
from wspilot.node.context import make_seed
from wspilot.node.core.settings import Settings
from wspilot.node.network import way
from wspilot.node.places import Places
from wspilot.node.vmm.base import VmEvent, parse_spec
from wspilot.node.vmm.qemu import Qemu

KEY = bytes(range(32)).hex()
DHCP = """cat >/tmp/bound <<'E'
#!/bin/sh
[ "$1" != bound ] || { ifconfig eth0 $ip netmask $subnet && echo "DHCP gave $ip" >/tmp/gave; }
E
chmod +x /tmp/bound
udhcpc -i eth0 -n -q -t 20 -s /tmp/bound 2>/dev/null
"""
# Some packets to a port where nobody listens; then, once the script is over, the kernel's counters.
COUNTS = """timeout 1 tftp -g -l /tmp/x -r x {0} 7777 >/dev/null 2>&1
for p in /sys/class/virtio-ports/*; do
  read -r name <"$p/name" && [ "$name" = org.wspilot.0 ] && port=/dev/${{p##*/}}
done
count() {{ awk '/^Icmp: [0-9]/ {{ icmp=$12" pings "$10" replies "$11 }}
  /^Udp: [0-9]/ {{ print "stamps "icmp" udp "$2+$3 }}' /proc/net/snmp; }}
{{ while kill -0 $$; do usleep 200000; done; was=
while :; do
  now=$(count); [ "$now" = "$was" ] || echo "WSPILOT ok $now" >$port
  was=$now; usleep 200000
done; }} >/dev/null 2>&1 &
"""
SCRIPT = """#!/bin/sh
{1}n=0
until ping -c 1 -W 1 {0} >/dev/null 2>&1; do n=$((n+1)); [ $n -gt 40 ] && break; sleep 1; done
full=$(($(cat /sys/class/net/eth0/mtu) - 28))  # what fits into one frame, beside its headers
{2}echo "$(cat /tmp/gave) $full: $(ping -c 5 -W 2 -s $full {0} | sed -n '/received/p')"
"""


async def main(way_name: str, number: int, place: Path, guest: Path, other: int) -> None:
    net = {"way": way_name, "bridge": "wbr"}
    settings = Settings("s" * 8, 100, 200, {}, workspace_key=KEY, networks={"private": net})
    name = f"n{number}"
    places = Places(f"{place.parent.name}-{number}", os.getuid())
    places.make(places.keep)
    book = journal.create(places.journal("s" * 8, "p" * 8), {"v": 1, "slot": "s" * 8})
    one = network.WAYS[way_name](way.Ground(settings, name, places, book, place))
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
           "prefix": 24, "deny": [], **net}  # fmt: skip
    other_name = f"w-{other}"
    asks = DHCP if way_name == "bridge" else ""
    counts = COUNTS.format(other_name) if way_name == "user" else ""
    data = {"id": f"v{number}", "name": f"w/{number}", "uuid": str(uuid.uuid4()), "cpus": 1,
            "memory_mib": 128, "image": image, "host": f"w-{number}",
            "user_data": SCRIPT.format(other_name, asks, counts)}  # fmt: skip
    nics = [await one.attach(f"v{number}", 0, nic)]
    # On a bridge only DHCP gives the address: one from the seed would answer until it is flushed.
    seeded = [{**nics[0], "ip": ""}] if asks else nics
    make_seed(place / "seed", {**data, "nics": seeded}, {"members": members})
    vmm = Qemu()
    spec = replace(parse_spec({**data, "nics": nics}), seed=str(place / "seed"))
    try:
        await vmm.create(spec, place, place / "console", emit)
        await asyncio.wait_for(over.wait(), 120)
        await asyncio.to_thread(sys.stdin.readline)  # the sister may still be asking
    finally:
        await vmm.close()
        await one.close()
        assert not book.entries
        book.remove()
        places.tidy()


if __name__ == "__main__":
    _, by, n, where, image, sister = sys.argv
    asyncio.run(main(by, int(n), Path(where), Path(image), int(sister)))

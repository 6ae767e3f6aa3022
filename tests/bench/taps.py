"""A NIC on a bridge by the root helper, against the same steps by hand (budget: with overlay and
seed under 150 ms a VM). Needs root; in a namespace of its own."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

from tests.bench.measure import sample, show
from tests.real.bridgelab import Node, Site, journals

RUNS = 15
BY_HAND = """\
ip tuntap add dev wsx{0} mode tap user nobody
nft -f - <<'N'
table bridge hand {{
chain g{0} {{
type filter hook prerouting priority -300; policy accept;
iifname "wsx{0}" ether saddr != 02:57:0a:4d:00:{0:02x} drop
}}
}}
N
ip link set dev wsx{0} master wbr up
"""


def run() -> None:
    """Print the table."""
    with journals(65534) as home, Site(1) as site:
        [node] = site.nodes
        journal = home / "one.journal"
        journal.touch()
        samples = [
            sample("by hand, as root (sh, ip, nft; no DHCP)", RUNS, _hand(node)),
            sample("an empty sudo", RUNS, lambda: node.run("sudo", "-n", "true")),
            sample("the helper, asked what it allows", RUNS, lambda: node.ask("about", {})),
            sample("the helper: a NIC comes", RUNS, _comes(node, journal)),
            sample("the helper: a VM's NIC goes", RUNS, _goes(node)),
        ]
        show("a NIC on a bridge: tap, filter, DHCP", samples)


def _hand(node: Node) -> Callable[[], object]:
    numbers = count(2)
    return lambda: node.run("sh", "-ec", BY_HAND.format(next(numbers)))


def _comes(node: Node, journal: Path) -> Callable[[], object]:
    numbers = count(2)

    def attach() -> None:
        last = next(numbers)
        nic = {"ip": f"10.77.0.{last}", "prefix": 24, "mac": f"02:57:0a:4d:00:{last:02x}"}
        vm = {"slot": "s" * 8, "vm": f"v{last}", "number": 0, "journal": str(journal)}
        assert "tap" in node.ask("net-attach", {**vm, **nic, "bridge": "wbr"})

    return attach


def _goes(node: Node) -> Callable[[], object]:
    numbers = count(2)

    def detach() -> None:
        assert node.ask("net-detach", {"slot": "s" * 8, "vm": f"v{next(numbers)}"})["removed"]

    return detach

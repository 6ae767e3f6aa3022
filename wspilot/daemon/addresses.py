"""MAC and IP pools: the service assigns both, and frees them only on proof (DESIGN.md section 8).

The MAC is made from the IP, so that an address that is used again never meets an old DHCP lease.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Container, Iterator, Mapping

from wspilot.config import Network
from wspilot.errors import Refused
from wspilot.model import Nic

MAC_PREFIX = "02:57"  # locally administered; then the four bytes of the IP


class Pools:
    """One pass over the networks' addresses; a pass never gives the same address twice."""

    def __init__(self, networks: Mapping[str, Network]) -> None:
        self._networks = networks
        self._free: dict[str, Iterator[str]] = {}

    def assign(self, network: str, held: Container[str]) -> Nic:
        """The next address that nobody holds. Raises Refused when there is none."""
        free = self._free.setdefault(network, _hosts(self._networks[network]))
        for ip in free:
            if ip not in held:
                return Nic(network, mac_of(ip), ip)
        size = sum(1 for _ in _hosts(self._networks[network]))
        raise Refused(
            f"network {network} has no free address: all {size} are held",
            "wait for a lease to end, or give the network a larger cidr",
        )


def mac_of(ip: str) -> str:
    """The MAC that belongs to an IPv4 address."""
    return ":".join([MAC_PREFIX, *(f"{byte:02x}" for byte in ipaddress.IPv4Address(ip).packed)])


def _hosts(network: Network) -> Iterator[str]:
    """Its usable addresses; the first is the gateway's even where none is named."""
    cidr = ipaddress.IPv4Network(network.cidr)
    first = int(cidr.network_address) + 2
    for number in range(first, int(cidr.broadcast_address)):
        ip = str(ipaddress.IPv4Address(number))
        if ip != network.gateway:
            yield ip

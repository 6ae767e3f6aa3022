"""MAC and IP pools: the service assigns both, and frees them only on proof (DESIGN.md section 8).

The MAC is made from the IP, so that an address that is used again never meets an old DHCP lease.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Container, Mapping

from wspilot.config import Network
from wspilot.errors import Refused
from wspilot.model import Nic

MAC_PREFIX = "02:57"  # locally administered; then the four bytes of the IP


class Pools:
    """Gives out the networks' addresses in turn, from the lowest, and begins again at the end.

    Who holds what is the caller's to know: a network's own place is only where the next search
    begins, so that a pass over thousands of VMs costs one step each.
    """

    def __init__(self, networks: Mapping[str, Network]) -> None:
        self._pools = {name: _Pool(network) for name, network in networks.items()}

    def assign(self, network: str, held: Container[str]) -> Nic:
        """The next address that nobody holds. Raises Refused when there is none."""
        pool = self._pools[network]
        ip = pool.next_free(held)
        if ip is None:
            raise Refused(
                f"network {network} has no free address: all {pool.size} of {pool.cidr} are held",
                "wait for a lease to end, or give the network a larger cidr",
            )
        return Nic(network, mac_of(ip), ip)


class _Pool:
    """One network's usable addresses, as numbers."""

    def __init__(self, network: Network) -> None:
        self.cidr = ipaddress.IPv4Network(network.cidr)
        self._first = int(self.cidr.network_address) + 1
        self._end = int(self.cidr.broadcast_address)
        gateway = network.gateway or str(ipaddress.IPv4Address(self._first))
        # Name servers may lie elsewhere; those that lie here are no guest's either.
        self._kept = {
            int(address)
            for address in map(ipaddress.IPv4Address, (gateway, *network.dns))
            if self._first <= int(address) < self._end
        }
        self._next = self._first

    @property
    def size(self) -> int:
        return self._end - self._first - len(self._kept)

    def next_free(self, held: Container[str]) -> str | None:
        """The next free address after the one given last; None when all are held."""
        span = self._end - self._first
        for _ in range(span):
            number = self._next
            self._next = self._first + (number + 1 - self._first) % span
            ip = str(ipaddress.IPv4Address(number))
            if number not in self._kept and ip not in held:
                return ip
        return None


def mac_of(ip: str) -> str:
    """The MAC that belongs to an IPv4 address."""
    return ":".join([MAC_PREFIX, *(f"{byte:02x}" for byte in ipaddress.IPv4Address(ip).packed)])

"""Which of a node's own addresses others shall use: that of a network the site names."""

from __future__ import annotations

import array
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterator

from wspilot.errors import WspilotError
from wspilot.node.network.user import own_address

_SIOCGIFCONF = 0x8912
_SIZE = 40  # struct ifreq on 64-bit machines
_ROOM = 1024 * _SIZE


def own_address_in(network: str) -> str:
    """This host's IPv4 address in `network`; without one, that of its default route.

    Raises WspilotError, OSError.
    """
    if not network:
        return own_address()
    wanted = ipaddress.IPv4Network(network)
    for address in addresses():
        if ipaddress.IPv4Address(address) in wanted:
            return address
    raise WspilotError(f"this node has no address in {network} ([site] live_network)")


def addresses() -> Iterator[str]:
    """Every IPv4 address of this host, in the kernel's order (netdevice(7), SIOCGIFCONF)."""
    room = array.array("B", bytes(_ROOM))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("iL", _ROOM, room.buffer_info()[0])
        used = struct.unpack("iL", fcntl.ioctl(probe.fileno(), _SIOCGIFCONF, request))[0]
    raw = room.tobytes()[:used]
    for at in range(0, used, _SIZE):
        yield socket.inet_ntoa(raw[at + 20 : at + 24])

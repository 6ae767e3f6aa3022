"""What of a guest's frames may pass, and the trunk's seal: pure functions over bytes.

An allow-list (DESIGN.md section 7, guests are hostile): ARP and IPv4 from the port's own MAC and
address, and nothing else. IPv6, VLAN tags (0x8100, 0x88a8) and every other type are dropped.

A sealed frame is `id (8) | mac (16) | counter (8) | network (4) | frame`. The key is made from the
workspace's key and the sender's session, so that each direction has its own and a recording of an
earlier start is worth nothing; `id` is the session's beginning. 36 bytes, and 28 of UDP and IPv4.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import struct
from collections.abc import Iterable
from typing import Optional

from wspilot.node.values import dataclass

MTU = 1400  # a full frame of a guest, sealed, fits into one datagram of 1,500 bytes
ID, SEAL = 8, 16
HEADER = struct.Struct("!QI")
WINDOW = 1024  # frames that may arrive out of order
ARP, IPV4 = b"\x08\x06", b"\x08\x00"
_DHCP_PORTS = b"\0\x44\0\x43"  # from 68 to 67


@dataclass(frozen=True)
class Port:
    """What a guest's port is pinned to: raw bytes; `deny` are (network, mask) pairs."""

    mac: bytes
    ip: bytes
    deny: tuple[tuple[int, int], ...] = ()


def port(mac: str, ip: str, deny: Iterable[str]) -> Port:
    """A port from the words of a `create`. Raises ValueError."""
    networks = [ipaddress.IPv4Network(one) for one in deny]
    return Port(
        bytes.fromhex(mac.replace(":", "")),
        ipaddress.IPv4Address(ip).packed,
        tuple((int(one.network_address), int(one.netmask)) for one in networks),
    )


def allowed(frame: bytes, pinned: Port) -> bool:
    """May this frame leave the guest? DHCP questions are not asked here: see `is_dhcp`."""
    if len(frame) < 34 or frame[6:12] != pinned.mac:
        return False
    kind = frame[12:14]
    if kind == ARP:
        sender, claimed = frame[22:28], frame[28:32]
        ether = frame[14:20] == b"\0\x01\x08\0\x06\x04"
        return ether and sender == pinned.mac and claimed in (pinned.ip, b"\0\0\0\0")
    if kind != IPV4 or frame[14] >> 4 != 4 or frame[26:30] != pinned.ip:
        return False
    target = int.from_bytes(frame[30:34], "big")
    return not any(target & mask == network for network, mask in pinned.deny)


def is_dhcp(frame: bytes, pinned: Port) -> bool:
    """A guest asks for its address: answered here, never carried on."""
    at = 14 + (frame[14] & 15) * 4 if len(frame) > 34 else 0
    return (
        at >= 34
        and frame[6:12] == pinned.mac
        and frame[12:14] == IPV4
        and frame[23] == 17
        and frame[at : at + 4] == _DHCP_PORTS
    )


def question(pinned: Port, mac: bytes, ip: bytes) -> bytes:
    """Who has the port's address? From `mac` and `ip`, which are the network's own.

    No probe from 0.0.0.0: a guest that is just looking whether its address is free would take one
    for somebody else who wants it (RFC 5227, 2.1.1), and give the address back.
    """
    body = b"\0\x01\x08\0\x06\x04\0\x01" + mac + ip + bytes(6) + pinned.ip
    return (b"\xff" * 6 + mac + ARP + body).ljust(60, b"\0")


def is_answer(frame: bytes, pinned: Port) -> bool:
    """The guest says that the port's address is its own; asked of an `allowed` frame."""
    return frame[12:14] == ARP and frame[20:22] == b"\0\x02" and frame[28:32] == pinned.ip


class Sealer:
    """Seals what one sender says. Counters only grow, also over a restart of the switch."""

    def __init__(self, workspace_key: bytes, session: bytes, counter: int) -> None:
        self._key, self._id = trunk_key(workspace_key, session), session[:ID]
        self._counter = counter

    def seal(self, network: int, frame: bytes) -> bytes:
        self._counter += 1
        body = HEADER.pack(self._counter, network) + frame
        mac = hashlib.blake2s(body, key=self._key, digest_size=SEAL).digest()
        return self._id + mac + body


class Opener:
    """Opens what one sender has sealed; each frame once."""

    def __init__(self, workspace_key: bytes, session: bytes) -> None:
        self._key = trunk_key(workspace_key, session)
        self._highest = self._seen = 0

    def open(self, data: bytes) -> Optional[tuple[int, bytes]]:
        """(network, frame), or None for what is forged, torn, repeated or too old."""
        body = data[ID + SEAL :]
        if len(body) < HEADER.size + 14:
            return None
        mac = hashlib.blake2s(body, key=self._key, digest_size=SEAL).digest()
        if not hmac.compare_digest(mac, data[ID : ID + SEAL]):
            return None
        counter, network = HEADER.unpack_from(body)
        if not self._fresh(counter):
            return None
        return network, body[HEADER.size :]

    def _fresh(self, counter: int) -> bool:
        ahead = counter - self._highest
        if ahead > 0:
            self._seen = ((self._seen << ahead) | 1) & _MASK if ahead < WINDOW else 1
            self._highest = counter
            return True
        if -ahead >= WINDOW or self._seen >> -ahead & 1:
            return False
        self._seen |= 1 << -ahead
        return True


_MASK = (1 << WINDOW) - 1


def trunk_key(workspace_key: bytes, session: bytes) -> bytes:
    """The key of one sender's frames."""
    return hashlib.blake2s(b"trunk\0" + session, key=workspace_key[:32]).digest()


def network_id(name: str) -> int:
    """How a network is called on the trunk."""
    return int.from_bytes(hashlib.blake2s(name.encode(), digest_size=4).digest(), "big")

"""What of a guest's frames may pass, and the trunk's seal: pure functions over bytes.

An allow-list (DESIGN.md section 7, guests are hostile), the same as on a bridge (root_filter.py):
ARP and IPv4 from the port's own MAC and address to what is not denied, and nothing else. IPv6, VLAN
tags (0x8100, 0x88a8) and every other type are dropped, and so is DHCP in either direction.

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
UDP = 17
_ASKED = b"\0\x43"  # the port of a DHCP server
_DHCP_PORTS = b"\0\x44" + _ASKED


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
    """May this frame leave the guest? DHCP may not: what it asks is answered here (`is_dhcp`)."""
    if len(frame) < 34 or frame[6:12] != pinned.mac:
        return False
    kind = frame[12:14]
    if kind == ARP:
        return _allowed_arp(frame, pinned)
    if kind != IPV4 or not 0x45 <= frame[14] <= 0x4F or frame[26:30] != pinned.ip:
        return False
    if frame[23] == UDP and _is_served(frame):
        return False
    return not _denied(frame[30:34], pinned)


def _allowed_arp(frame: bytes, pinned: Port) -> bool:
    sender, claimed, asked = frame[22:28], frame[28:32], frame[38:42]
    return (
        len(asked) == 4
        and frame[14:20] == b"\0\x01\x08\0\x06\x04"
        and sender == pinned.mac
        and claimed in (pinned.ip, b"\0\0\0\0")
        and not _denied(asked, pinned)
    )


def _denied(address: bytes, pinned: Port) -> bool:
    target = int.from_bytes(address, "big")
    for network, mask in pinned.deny:  # noqa: SIM110 (each frame's way: any() takes twice as long)
        if target & mask == network:
            return True
    return False


def _is_served(frame: bytes) -> bool:
    """From or to a DHCP server's port? Not asked of a fragment's later parts: they name none."""
    at = 14 + (frame[14] & 15) * 4
    later = (frame[20] & 0x1F) or frame[21]
    return not later and _ASKED in (frame[at : at + 2], frame[at + 2 : at + 4])


def is_dhcp(frame: bytes, pinned: Port) -> bool:
    """A guest asks for its address: answered here, never carried on."""
    at = 14 + (frame[14] & 15) * 4 if len(frame) > 34 else 0
    return (
        at >= 34
        and frame[6:12] == pinned.mac
        and frame[12:14] == IPV4
        and frame[23] == UDP
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
        self._mac, self._id = trunk_mac(workspace_key, session), session[:ID]
        self._counter = counter

    def seal(self, network: int, frame: bytes) -> bytes:
        self._counter += 1
        body = HEADER.pack(self._counter, network) + frame
        mac = self._mac.copy()
        mac.update(body)
        return self._id + mac.digest() + body


class Opener:
    """Opens what one sender has sealed; each frame once."""

    def __init__(self, workspace_key: bytes, session: bytes) -> None:
        self._mac = trunk_mac(workspace_key, session)
        self._highest = self._seen = 0

    def open(self, data: bytes) -> Optional[tuple[int, bytes]]:
        """(network, frame), or None for what is forged, torn, repeated or too old."""
        body = data[ID + SEAL :]
        if len(body) < HEADER.size + 14:
            return None
        mac = self._mac.copy()
        mac.update(body)
        if not hmac.compare_digest(mac.digest(), data[ID : ID + SEAL]):
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


def trunk_mac(workspace_key: bytes, session: bytes) -> hashlib.blake2b:
    """The mac of one sender's frames, under a key of its own; to be copied for each frame."""
    key = hashlib.blake2b(b"trunk\0" + session, key=workspace_key[:32], digest_size=32).digest()
    return hashlib.blake2b(key=key, digest_size=SEAL)


def network_id(name: str) -> int:
    """How a network is called on the trunk."""
    return int.from_bytes(hashlib.blake2s(name.encode(), digest_size=4).digest(), "big")

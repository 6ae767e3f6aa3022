"""Answers a guest's DHCP questions with the address that the service gave it (RFC 2131, 2132).

Pure: a question's frame in, an answer's frame out. The lease outlasts every VM, so that nobody has
to be asked again.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Mapping
from typing import Any, Optional

from wspilot.node.network.frames import IPV4, Port
from wspilot.node.values import dataclass

DISCOVER, OFFER, REQUEST, ACK = 1, 2, 3, 5
LEASE_S = 30 * 86400
SERVER_MAC = b"\x02\x57\xff\xff\xff\xff"
_MAGIC = b"\x63\x82\x53\x63"


@dataclass(frozen=True)
class Answers:
    """What a network tells its guests; addresses as raw bytes."""

    server: bytes  # the network's own address: no guest ever has it
    mask: bytes
    router: bytes = b""
    dns: bytes = b""
    mtu: int = 1500


def answers(nic: Mapping[str, Any], mtu: int) -> Answers:
    """From a NIC of a `create`. Raises ValueError."""
    network = ipaddress.IPv4Network(f"{nic['ip']}/{nic.get('prefix', 24)}", strict=False)
    gateway = str(nic.get("gateway") or "")
    return Answers(
        ipaddress.IPv4Address(gateway or network.network_address + 1).packed,
        network.netmask.packed,
        ipaddress.IPv4Address(gateway).packed if gateway else b"",
        b"".join(ipaddress.IPv4Address(str(one)).packed for one in nic.get("dns", ())),
        mtu,
    )


def reply(frame: bytes, port: Port, told: Answers) -> Optional[bytes]:
    """The answer's frame; None for what is no question of this guest."""
    at = 14 + (frame[14] & 15) * 4 + 8
    ask = frame[at:]
    if len(ask) < 240 or ask[0] != 1 or ask[28:34] != port.mac or ask[236:240] != _MAGIC:
        return None
    kind = _option(ask[240:], 53)
    if kind not in (bytes([DISCOVER]), bytes([REQUEST])):
        return None
    wanted = _option(ask[240:], 50) or ask[12:16]
    if kind[0] == REQUEST and wanted != port.ip and wanted != bytes(4):
        return None  # it asks for an address that was another lease's: it will discover anew
    body = _body(ask, port, told, OFFER if kind[0] == DISCOVER else ACK)
    return _frame(body, port, told)


def _option(options: bytes, number: int) -> bytes:
    at = 0
    while at + 1 < len(options) and options[at] != 255:
        if options[at] == 0:
            at += 1
            continue
        length = options[at + 1]
        if options[at] == number:
            return options[at + 2 : at + 2 + length]
        at += 2 + length
    return b""


def _body(ask: bytes, port: Port, told: Answers, kind: int) -> bytes:
    head = b"\x02\x01\x06\0" + ask[4:8] + bytes(2) + ask[10:12] + bytes(4)
    head += port.ip + told.server + bytes(4) + port.mac.ljust(16, b"\0") + bytes(192)
    options = [
        (53, bytes([kind])),
        (54, told.server),
        (51, struct.pack("!I", LEASE_S)),
        (1, told.mask),
        (26, struct.pack("!H", told.mtu)),
        (3, told.router),
        (6, told.dns),
    ]
    packed = b"".join(bytes([code, len(value)]) + value for code, value in options if value)
    return head + _MAGIC + packed + b"\xff"


def _frame(body: bytes, port: Port, told: Answers) -> bytes:
    """Unicast on the wire, broadcast by address: a client without one takes either."""
    udp = struct.pack("!HHHH", 67, 68, 8 + len(body), 0) + body
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, told.server,
                       b"\xff" * 4)  # fmt: skip
    head = head[:10] + struct.pack("!H", _checksum(head)) + head[12:]
    return port.mac + SERVER_MAC + IPV4 + head + udp


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF

"""Raw Ethernet frames as a guest, or a stranger on the wire, would send them."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ALL = "ff:ff:ff:ff:ff:ff"
IPV4, ARP, IPV6, VLAN, VLAN_AD, LOCAL = 0x0800, 0x0806, 0x86DD, 0x8100, 0x88A8, 0x88B5
DISCOVER, OFFER = 1, 2
_MAGIC = b"\x63\x82\x53\x63"


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def ether(to: str, source: str, kind: int, payload: bytes) -> bytes:
    return (mac(to) + mac(source) + struct.pack("!H", kind) + payload).ljust(60, b"\0")


def tagged(frame: bytes, kind: int = VLAN, number: int = 5) -> bytes:
    return frame[:12] + struct.pack("!HH", kind, number) + frame[12:]


def arp(source: str, sender_mac: str, sender: str, target: str, mark: bytes = b"") -> bytes:
    head = struct.pack("!HHBBH", 1, IPV4, 6, 4, 1)
    who = mac(sender_mac) + socket.inet_aton(sender) + bytes(6) + socket.inet_aton(target)
    return ether(ALL, source, ARP, head + who + mark)


def udp(to: str, source: str, ends: tuple[str, str], ports: tuple[int, int], data: bytes) -> bytes:
    body = struct.pack("!HHHH", *ports, 8 + len(data), 0) + data
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 1, 0, 64, 17, 0,
                       *map(socket.inet_aton, ends))  # fmt: skip
    total = sum(struct.unpack("!10H", head))
    total = ~((total >> 16) + (total & 0xFFFF)) & 0xFFFF
    return ether(to, source, IPV4, head[:10] + struct.pack("!H", total) + head[12:] + body)


def ipv6(to: str, source: str, data: bytes) -> bytes:
    """A whole packet: the kernel drops one whose length is not true."""
    body = struct.pack("!HHHH", 1000, 2000, 8 + len(data), 0) + data
    ends = (ipaddress.IPv6Address("fe80::5").packed, ipaddress.IPv6Address("fe80::21").packed)
    head = struct.pack("!IHBB", 0x60000000, len(body), 17, 64)
    return ether(to, source, IPV6, head + b"".join(ends) + body)


def dhcp(source: str, kind: int, mark: bytes, client: str = "", server: str = "") -> bytes:
    """A guest's question, or the offer of `server` to `client`."""
    asks = kind == DISCOVER
    head = struct.pack("!BBBB4sHH", 1 if asks else 2, 1, 6, 0, mark[:4], 0, 0x8000) + bytes(16)
    body = head + mac(client or source).ljust(16, b"\0") + bytes(192) + _MAGIC
    body += bytes([53, 1, kind, 255]) + mark
    if asks:
        return udp(ALL, source, ("0.0.0.0", "255.255.255.255"), (68, 67), body)
    return udp(ALL, source, (server, "255.255.255.255"), (67, 68), body)


def offered(frame: bytes, mark: bytes) -> str | None:
    """The address that an answer to our question offers."""
    at = 14 + 20 + 8
    if frame[12:14] == b"\x08\0" and frame[23:24] == b"\x11" and frame[at + 4 : at + 8] == mark[:4]:
        return str(ipaddress.IPv4Address(frame[at + 16 : at + 20])) if frame[at] == 2 else None
    return None


def own(tap: str) -> int:
    """A tap's other end, as the VMM has it."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", tap.encode(), 0x1002))
    return fd


@contextmanager
def listening(device: str) -> Iterator[socket.socket]:
    """All frames that come to a device."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as one:
        one.bind((device, 0))
        one.setblocking(False)
        yield one


def frames(source: Any, limit_s: float) -> Iterator[bytes]:
    """What is read from a tap or socket until the time is over."""
    fd, end = source if isinstance(source, int) else source.fileno(), time.monotonic() + limit_s
    while (left := end - time.monotonic()) > 0:
        if select.select([fd], [], [], left)[0]:
            yield os.read(fd, 65536)


def comes(source: Any, mark: bytes, limit_s: float) -> bool:
    """Does a frame with our mark come in that time?"""
    return any(mark in frame for frame in frames(source, limit_s))

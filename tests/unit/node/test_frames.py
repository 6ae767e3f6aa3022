"""What a guest's frames may pass, and what a trunk lets in: bytes, one by one."""

from __future__ import annotations

import ipaddress
import struct

import pytest

from wspilot.node.network import dhcp, frames

MAC, IP = "02:57:0a:4d:00:02", "10.77.0.2"
PORT = frames.port(MAC, IP, ["169.254.0.0/16", "10.0.0.5/32"])
OTHER_MAC = bytes.fromhex("02570a4d0003")
ARP = b"\x08\x06"
KEY, SESSION = b"k" * 32, b"s" * 16


def ipv4(
    src: str = IP,
    dst: str = "10.77.0.3",
    mac: bytes = PORT.mac,
    kind: bytes = b"\x08\0",
    ports: tuple[int, int] = (0, 0),
    proto: int = 17,
    options: bytes = b"",
    part: int = 0,
) -> bytes:
    ends = ipaddress.IPv4Address(src).packed, ipaddress.IPv4Address(dst).packed
    first = 0x45 + len(options) // 4
    head = struct.pack("!BBHHHBBH4s4s", first, 0, 28, 0, part, 64, proto, 0, *ends) + options
    return OTHER_MAC + mac + kind + head + struct.pack("!HHI", *ports, 0)


def arp(
    mac: bytes = PORT.mac, ip: str = IP, ether: bytes = PORT.mac, asked: str = "10.77.0.3"
) -> bytes:
    body = b"\0\x01\x08\0\x06\x04\0\x01" + mac + ipaddress.IPv4Address(ip).packed
    return (
        b"\xff" * 6 + ether + ARP + body + b"\0" * 6 + ipaddress.IPv4Address(asked).packed
    ).ljust(60, b"\0")


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(ipv4(), id="ip"),
        pytest.param(arp(), id="arp"),
        pytest.param(arp(ip="0.0.0.0"), id="probe"),
        # each is the control of one below
        pytest.param(ipv4(ports=(68, 68)), id="udp-68"),
        pytest.param(ipv4(ports=(66, 53)), id="udp-66"),
        pytest.param(ipv4(ports=(67, 67), proto=6), id="tcp-67"),
        pytest.param(ipv4(ports=(67, 68), part=100), id="fragment's-later-part"),
        pytest.param(ipv4(options=b"\1" * 8, ports=(68, 53)), id="options"),
        pytest.param(ipv4(dst="10.0.0.6"), id="next-to-denied"),
        pytest.param(arp(asked="10.0.0.6"), id="arp-next-to-denied"),
    ],
)
def test_a_guests_own_frames_pass(frame: bytes) -> None:
    assert frames.allowed(frame, PORT)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(ipv4(mac=OTHER_MAC), id="mac"),
        pytest.param(ipv4(src="10.77.0.3"), id="ip"),
        pytest.param(arp(mac=OTHER_MAC), id="arp-mac"),
        pytest.param(arp(ip="10.77.0.3"), id="arp-ip"),
        pytest.param(arp(ether=OTHER_MAC), id="arp-ether"),
        pytest.param(arp(asked="169.254.169.254"), id="arp-denied"),
        pytest.param(arp(asked="10.0.0.5"), id="arp-denied-host"),
        pytest.param(arp(ip="0.0.0.0", asked="10.0.0.5"), id="arp-denied-probe"),
        pytest.param(arp()[:41], id="arp-short"),
        pytest.param(ipv4(ports=(67, 68)), id="dhcp-server"),
        pytest.param(ipv4(dst="255.255.255.255", ports=(67, 68)), id="dhcp-server-broadcast"),
        pytest.param(ipv4(ports=(67, 1024)), id="dhcp-relay"),
        pytest.param(ipv4(options=b"\1" * 8, ports=(67, 68)), id="dhcp-server-behind-options"),
        pytest.param(ipv4(ports=(67, 68), part=0x2000), id="dhcp-server-first-part"),
        pytest.param(ipv4(dst="255.255.255.255", ports=(68, 67)), id="dhcp-rebind"),
        pytest.param(ipv4(ports=(1024, 67)), id="dhcp-question"),
        pytest.param(ipv4(kind=b"\x86\xdd"), id="ipv6"),
        pytest.param(OTHER_MAC + PORT.mac + b"\x86\xdd\x60" + bytes(60), id="ipv6-whole"),
        pytest.param(ipv4(kind=b"\x81\0"), id="vlan"),
        pytest.param(OTHER_MAC + PORT.mac + b"\x81\0\0\x05" + ipv4()[12:], id="vlan-tagged"),
        pytest.param(OTHER_MAC + PORT.mac + b"\x88\xa8\0\x05" + ipv4()[12:], id="qinq"),
        pytest.param(OTHER_MAC + PORT.mac + b"\0\x20" + bytes(40), id="llc"),
        pytest.param(ipv4(dst="169.254.169.254"), id="denied"),
        pytest.param(ipv4(dst="10.0.0.5"), id="denied-host"),
        pytest.param(ipv4()[:33], id="short"),
        pytest.param(b"", id="empty"),
        pytest.param(PORT.mac * 2 + b"\x08\0" + b"\x65" + bytes(40), id="version"),
        pytest.param(ipv4()[:14] + b"\x44" + ipv4()[15:], id="header-too-short"),
    ],
)
def test_what_is_not_its_own_does_not(frame: bytes) -> None:
    assert not frames.allowed(frame, PORT)


def test_a_sealed_frame_is_opened_once_and_by_nobody_else() -> None:
    sealer, opener = frames.Sealer(KEY, SESSION, 100), frames.Opener(KEY, SESSION)
    sealed = sealer.seal(7, ipv4())
    assert opener.open(sealed) == (7, ipv4())
    assert opener.open(sealed) is None, "a replay"
    assert frames.Opener(b"x" * 32, SESSION).open(sealed) is None, "another workspace"
    assert frames.Opener(KEY, b"t" * 16).open(sealed) is None, "another session or direction"
    fresh = sealer.seal(7, ipv4())
    for at in range(8, len(fresh)):
        bent = bytearray(fresh)
        bent[at] ^= 1
        assert opener.open(bytes(bent)) is None
    assert opener.open(fresh[:-1]) is None and opener.open(b"") is None
    assert opener.open(fresh) is not None


def test_frames_may_come_out_of_order_within_the_window() -> None:
    sealer, opener = frames.Sealer(KEY, SESSION, 0), frames.Opener(KEY, SESSION)
    sealed = [sealer.seal(1, ipv4()) for _ in range(frames.WINDOW + 10)]
    for one in reversed(sealed[10:]):
        assert opener.open(one)
    assert not any(opener.open(one) for one in sealed), "too old, or seen"


def test_a_switch_that_begins_again_is_not_taken_for_a_replay() -> None:
    opener = frames.Opener(KEY, SESSION)
    assert opener.open(frames.Sealer(KEY, SESSION, 1_000_000).seal(1, ipv4()))
    assert opener.open(frames.Sealer(KEY, SESSION, 2_000_000_000).seal(1, ipv4()))


def ask(kind: int, mac: bytes = PORT.mac, wanted: bytes = b"", mine: bytes = bytes(4)) -> bytes:
    """`mine`: the address that the guest has already and asks for again."""
    body = b"\x01\x01\x06\0abcd" + bytes(4) + mine + bytes(12) + mac.ljust(16, b"\0") + bytes(192)
    body += b"\x63\x82\x53\x63" + bytes([53, 1, kind])
    body += (bytes([50, 4]) + wanted if wanted else b"") + b"\xff"
    udp = b"\0\x44\0\x43" + struct.pack("!HH", 8 + len(body), 0) + body
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, mine,
                       b"\xff" * 4)  # fmt: skip
    return b"\xff" * 6 + mac + b"\x08\0" + head + udp


TOLD = dhcp.answers({"ip": IP, "prefix": 24, "dns": ["10.77.0.1"]}, 1400)


def test_a_guest_is_told_its_address_and_nothing_else_is_answered() -> None:
    question = ask(dhcp.DISCOVER)
    assert frames.is_dhcp(question, PORT) and not frames.allowed(question, PORT)
    answer = dhcp.reply(question, PORT, TOLD)
    assert answer is not None and answer[:6] == PORT.mac and PORT.ip in answer
    assert bytes([53, 1, dhcp.OFFER]) in answer and bytes([26, 2, 5, 120]) in answer
    got = dhcp.reply(ask(dhcp.REQUEST, wanted=PORT.ip), PORT, TOLD)
    assert got is not None and bytes([53, 1, dhcp.ACK]) in got
    assert dhcp.reply(ask(dhcp.REQUEST, wanted=b"\x0a\x4d\0\x09"), PORT, TOLD) is None
    assert dhcp.reply(ask(8), PORT, TOLD) is None
    assert not frames.is_dhcp(ask(dhcp.DISCOVER, mac=OTHER_MAC), PORT)


def test_a_guest_that_has_its_address_is_told_so_again() -> None:
    """A renewal from its own address: an answer, and nothing that may be carried on."""
    rebind = ask(dhcp.REQUEST, mine=PORT.ip)
    assert frames.is_dhcp(rebind, PORT) and not frames.allowed(rebind, PORT)
    answer = dhcp.reply(rebind, PORT, TOLD)
    assert answer is not None and bytes([53, 1, dhcp.ACK]) in answer


def test_torn_questions_are_not_answered() -> None:
    whole = ask(dhcp.DISCOVER)
    for length in range(len(whole)):
        torn = whole[:length]
        if frames.is_dhcp(torn, PORT):
            dhcp.reply(torn, PORT, TOLD)


def test_the_networks_own_address_is_no_guests() -> None:
    """Where a gateway is named the first address may be a guest's: it must not answer itself."""
    told = dhcp.answers({"ip": "10.77.0.1", "prefix": 24, "gateway": "10.77.0.254"}, 1400)
    assert told.server == b"\x0a\x4d\0\xfe"
    asked = frames.question(PORT, dhcp.SERVER_MAC, told.server)
    assert len(asked) == 60 and asked[28:32] == told.server and not frames.is_answer(asked, PORT)


def test_nobody_asks_for_another_ones_address() -> None:
    """The frame is from the port's MAC; the question inside it speaks of another."""
    question = ask(dhcp.DISCOVER)
    at = question.rindex(PORT.mac)  # chaddr
    assert at > 40
    forged = question[:at] + OTHER_MAC + question[at + 6 :]
    assert frames.is_dhcp(forged, PORT) and dhcp.reply(forged, PORT, TOLD) is None
    assert dhcp.reply(question, PORT, TOLD) is not None

"""What a guest on a bridge may send, frame by frame, and what it would get away with unfiltered."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.real import wire
from tests.real.bridgelab import Node, Site, journals

pytestmark = pytest.mark.real
GUEST, IP = "02:57:0a:4d:00:05", "10.77.0.5"
OTHER, OTHER_IP = "02:57:0a:4d:00:06", "10.77.0.6"
PEER = "02:aa:bb:00:00:21"
PEER_IP = "10.77.0.21"
SLOT = "s" * 8
SOON_S, QUIET_S = 5.0, 0.3


@dataclass
class Guest:
    """A guest's tap on the first node, its end in our hands, and the wire as the second sees it."""

    node: Node
    tap: int
    outside: Any
    nic: dict[str, Any]

    def passes(self, frame: bytes, mark: bytes, limit_s: float) -> bool:
        os.write(self.tap, frame)
        return wire.comes(self.outside, mark, limit_s)

    def unfiltered(self) -> None:
        """The negative control: the same node without any rule of ours."""
        self.node.host("nft", "flush", "ruleset")


@pytest.fixture
def journal() -> Iterator[str]:
    """A pilot's journal of user nobody, whom the taps belong to."""
    with journals(65534) as home:
        (home / "j.journal").touch()
        yield str(home / "j.journal")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site(2) as one:
        yield one


@pytest.fixture(params=["nft", "ebtables-nft"])
def guest(request: pytest.FixtureRequest, site: Site, journal: str) -> Iterator[Guest]:
    node, far = site.nodes
    if request.param == "ebtables-nft":
        node.run("mount", "--bind", "/dev/null", "/usr/sbin/nft")
    nic = {"slot": SLOT, "vm": "v1", "number": 0, "journal": journal, "bridge": "wbr", "ip": IP,
           "prefix": 24, "mac": GUEST, "deny": ["169.254.0.0/16"]}  # fmt: skip
    try:
        assert node.ask("net-attach", nic) == {"tap": "wsv1.0"}
        with node.inside():
            tap = wire.own("wsv1.0")
        end = time.monotonic() + SOON_S
        while node.run("cat", "/sys/class/net/wsv1.0/brport/state") != "3\n":  # it forwards
            assert time.monotonic() < end, "the bridge does not see its carrier"
        with far.inside(), wire.listening("up0") as outside:
            try:
                yield Guest(node, tap, outside, nic)
            finally:
                os.close(tap)
        assert node.ask("net-detach", {"slot": SLOT}) == {"removed": ["wsv1.0"]}
        assert node.left() == []
    finally:
        if request.param == "ebtables-nft":
            node.run("umount", "/usr/sbin/nft")


def allowed(mark: bytes) -> dict[str, bytes]:
    return {
        "arp": wire.arp(GUEST, GUEST, IP, PEER_IP, mark),
        "arp probe": wire.arp(GUEST, GUEST, "0.0.0.0", PEER_IP, mark),
        "udp": wire.udp(PEER, GUEST, (IP, PEER_IP), (1000, 2000), mark),
        "broadcast": wire.udp(wire.ALL, GUEST, (IP, "10.77.0.255"), (1000, 2000), mark),
    }


def forbidden(mark: bytes) -> dict[str, bytes]:
    ours = wire.udp(PEER, GUEST, (IP, PEER_IP), (1000, 2000), mark)
    return {
        "another's MAC": wire.udp(PEER, OTHER, (IP, PEER_IP), (1000, 2000), mark),
        "another's IP": wire.udp(PEER, GUEST, (OTHER_IP, PEER_IP), (1000, 2000), mark),
        "ARP for another's IP": wire.arp(GUEST, GUEST, OTHER_IP, PEER_IP, mark),
        "ARP with another's MAC": wire.arp(GUEST, OTHER, IP, PEER_IP, mark),
        "ARP from another's MAC": wire.arp(OTHER, OTHER, OTHER_IP, PEER_IP, mark),
        "probe with another's MAC": wire.arp(GUEST, OTHER, "0.0.0.0", PEER_IP, mark),
        "IPv6": wire.ipv6(PEER, GUEST, mark),
        "VLAN": wire.tagged(ours),
        "VLAN of a provider": wire.tagged(ours, wire.VLAN_AD),
        "VLAN in a VLAN": wire.tagged(wire.tagged(ours), wire.VLAN_AD),
        "priority tag": wire.tagged(ours, number=0),
        "other ethertype": wire.ether(PEER, GUEST, wire.LOCAL, mark),
        "DHCP question on the wire": wire.dhcp(GUEST, wire.DISCOVER, mark),
        "DHCP question of another": wire.dhcp(OTHER, wire.DISCOVER, mark),
        "DHCP server": wire.dhcp(GUEST, wire.OFFER, mark, OTHER, IP),
        "denied address": wire.udp(PEER, GUEST, (IP, "169.254.1.1"), (1000, 2000), mark),
        "address that the node denies": wire.udp(
            PEER, GUEST, (IP, "192.168.77.9"), (1000, 2000), mark
        ),
        "ARP for a denied address": wire.arp(GUEST, GUEST, IP, "169.254.1.1", mark),
        "from 0.0.0.0": wire.udp(PEER, GUEST, ("0.0.0.0", PEER_IP), (68, 67), mark),
    }


def test_only_what_is_the_guests_own_leaves_its_port(guest: Guest) -> None:
    for name in allowed(b""):
        mark = secrets.token_bytes(12)
        assert guest.passes(allowed(mark)[name], mark, SOON_S), name
    marks = {name: secrets.token_bytes(12) for name in forbidden(b"")}
    for name, mark in marks.items():
        os.write(guest.tap, forbidden(mark)[name])
    seen = list(wire.frames(guest.outside, QUIET_S * 3))
    assert [n for n, mark in marks.items() if any(mark in one for one in seen)] == []
    learnt = guest.node.run("bridge", "fdb", "show", "dev", "wsv1.0")
    assert GUEST in learnt and OTHER not in learnt, "the bridge learns no stranger's MAC"
    guest.unfiltered()
    for name in marks:
        mark = secrets.token_bytes(12)
        assert guest.passes(forbidden(mark)[name], mark, SOON_S), f"control: {name}"


def test_a_guest_is_answered_by_its_own_node_alone_and_nobody_else_is(guest: Guest) -> None:
    mark = secrets.token_bytes(12)
    os.write(guest.tap, wire.dhcp(GUEST, wire.DISCOVER, mark))
    answers = (wire.offered(frame, mark) for frame in wire.frames(guest.tap, SOON_S))
    assert next(one for one in answers if one) == IP
    # A stranger on the wire who has the guest's MAC, or none that is known, hears nothing.
    for stranger in (GUEST, OTHER):
        guest.outside.send(wire.dhcp(stranger, wire.DISCOVER, mark))
        found = [wire.offered(frame, mark) for frame in wire.frames(guest.outside, QUIET_S * 4)]
        assert not any(found), stranger
    guest.unfiltered()
    guest.outside.send(wire.dhcp(GUEST, wire.DISCOVER, mark))
    answers = (wire.offered(frame, mark) for frame in wire.frames(guest.outside, SOON_S))
    assert next(one for one in answers if one) == IP, "control: without rules the wire is answered"
    mark = secrets.token_bytes(12)  # dnsmasq itself knows whom it serves
    guest.outside.send(wire.dhcp(OTHER, wire.DISCOVER, mark))
    os.write(guest.tap, wire.dhcp(OTHER, wire.DISCOVER, mark))
    for side in (guest.outside, guest.tap):
        found = [wire.offered(frame, mark) for frame in wire.frames(side, QUIET_S * 4)]
        assert not any(found), "who has no entry gets no address"


def test_a_dhcp_server_on_the_wire_does_not_reach_the_guest(guest: Guest) -> None:
    mark = secrets.token_bytes(12)
    guest.outside.send(wire.dhcp(PEER, wire.OFFER, mark, GUEST, "10.77.0.99"))
    assert not wire.comes(guest.tap, mark, QUIET_S)
    guest.unfiltered()
    guest.outside.send(wire.dhcp(PEER, wire.OFFER, mark, GUEST, "10.77.0.99"))
    assert wire.comes(guest.tap, mark, SOON_S), "control"

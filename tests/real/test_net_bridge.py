"""Networks on the nodes' bridges: real guests of two nodes, real DHCP, limits, and what is left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.bridgelab import Node, Site, journals
from tests.real.meeting import guests_meet

pytestmark = pytest.mark.real
SLOT = "s" * 8
HOME = Path(f"/var/tmp/wspilot-65534/wsb{os.getpid()}")
ROOTS = Path(f"/var/tmp/wspilot-0/wsb{os.getpid()}")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site(2) as one:
        yield one


@pytest.fixture
def node(site: Site) -> Iterator[Node]:
    """The first node, and places for its pilots' journals."""
    with journals(65534), journals(0):
        yield site.nodes[0]
    assert site.nodes[0].ask("net-list", {})["taps"] == {}, "no journal, no tap"
    assert site.nodes[0].left() == []


def nic(last: int, journal: Path = HOME / "one.journal") -> dict[str, Any]:
    journal.touch()
    return {"slot": SLOT, "vm": f"v{last}", "number": 0, "journal": str(journal), "bridge": "wbr",
            "ip": f"10.77.0.{last}", "prefix": 24, "mac": f"02:57:0a:4d:00:{last:02x}"}  # fmt: skip


def test_guests_of_two_nodes_meet_by_addresses_that_their_nodes_gave_them(site: Site) -> None:
    meeting = guests_meet("bridge", [one.argv() for one in site.nodes])
    for number, said in enumerate(meeting.said, 2):
        assert f"DHCP gave 10.77.0.{number}" in said
        assert "5 packets transmitted, 5 packets received, 0% packet loss" in said
    assert [one.left() for one in site.nodes] == [[], []]


def test_twenty_rounds_leave_nothing(node: Node) -> None:
    for _ in range(20):
        for last in (5, 6):
            assert "tap" in node.ask("net-attach", nic(last))
        assert node.ask("net-detach", {"slot": SLOT, "vm": "v5"}) == {"removed": ["wsv5.0"]}
        assert node.ask("net-detach", {"slot": SLOT}) == {"removed": ["wsv6.0"]}
        assert node.left() == []


def test_a_stray_of_a_pilot_that_is_gone_is_undone_by_the_next_call(node: Node) -> None:
    assert "tap" in node.ask("net-attach", nic(5, HOME / "gone.journal"))
    assert "tap" in node.ask("net-attach", nic(6))
    (HOME / "gone.journal").unlink()
    held = node.ask("net-list", {})
    assert (held["strays"], list(held["taps"])) == (["wsv5.0"], ["wsv6.0"])
    assert "wsv5.0" not in node.run("ip", "link") + node.run("nft", "list", "ruleset")


def test_what_another_boot_left_on_the_books_is_void(node: Node) -> None:
    assert "tap" in node.ask("net-attach", nic(5))
    record = "/var/lib/wspilot/wsv5.0.tap"
    node.run("sed", "-i", 's/"boot": "[^"]*"/"boot": "another"/', record)
    assert node.ask("net-list", {})["strays"] == ["wsv5.0"]
    node.run("sh", "-c", f"echo torn >{record}")
    assert node.ask("net-list", {}) == {"taps": {}, "strays": []}


def test_dnsmasq_that_died_is_started_again_with_all_its_guests(node: Node) -> None:
    node.ask("net-attach", nic(5))
    [pid] = [pid for pid, name in node.processes().items() if name == "dnsmasq"]
    os.kill(pid, 9)
    node.ask("net-attach", nic(6))
    [again] = [pid for pid, name in node.processes().items() if name == "dnsmasq"]
    assert again != pid
    assert {"wsv5.0", "wsv6.0"} <= set(node.run("ls", "/run/wspilot-root/wbr/hosts").split())


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "an address of nobody's": ({"ip": "10.79.0.5"}, "is not among yours"),
    "a bridge that is none for VMs": ({"bridge": "up0"}, "is not one of this node's for VMs"),
    "an option for a bridge": ({"bridge": "-h"}, "`bridge` is"),
    "a MAC that is not the address's": ({"mac": "02:57:0a:4d:00:06"}, "that of 10.77.0.5 is"),
    "a shell's characters": ({"vm": "a;reboot"}, "`vm` is"),
    "a slot with a newline": ({"slot": "a\nb"}, "`slot` is"),
    "another's journal": ({"journal": "/etc/passwd"}, "not below /var/tmp/wspilot-65534/"),
    "a way out of it": ({"journal": "/var/tmp/wspilot-65534/../x"}, "not below"),
    "rules in a range": ({"deny": ["10.0.0.0/8; accept"]}, "the NIC's addresses"),
    "no list": ({"deny": "all"}, "not a list"),
    "too many": ({"deny": ["10.0.0.0/8"] * 1025}, "at most 1024"),
    "a truth for a number": ({"number": True}, "`number` is"),
    "a huge number": ({"number": 10**30}, "`number` is"),
    "an option for dnsmasq": ({"gateway": "10.77.0.1,option:x"}, "the NIC's addresses"),
    "a name server with a newline": ({"dns": ["10.0.0.1\n#"]}, "the NIC's addresses"),
    "a device that is the host's": ({"bridge": "lo"}, "is not one of this node's for VMs"),
}


@pytest.mark.parametrize("what", BAD)
def test_the_helper_refuses_and_the_node_stays_as_it_was(node: Node, what: str) -> None:
    other, words = BAD[what]
    refused = node.ask("net-attach", {**nic(5), **other})
    assert words in refused["error"]
    assert node.left() == []


def test_an_address_is_held_once_and_nobody_undoes_anothers(node: Node) -> None:
    assert "tap" in node.ask("net-attach", nic(5, ROOTS / "j.journal"), user="root")
    assert "is held by tap wsv5.0" in node.ask("net-attach", {**nic(5), "vm": "v6"})["error"]
    other = {"ip": "10.77.0.7", "mac": "02:57:0a:4d:00:07"}
    assert "another user's" in node.ask("net-attach", {**nic(5), **other})["error"]
    assert "another user's" in node.ask("net-detach", {"slot": SLOT})["error"]
    assert node.ask("net-list", {})["taps"] == {}
    assert node.ask("net-detach", {"slot": SLOT}, user="root") == {"removed": ["wsv5.0"]}


@pytest.mark.parametrize(
    ("conf", "words"),
    [
        (None, "is not there: nothing is allowed"),
        ("[bridge wbr\n", "cannot be read"),
        ("[bridge wbr]\nnobody = 10.77.0.0/33\n", "is not a valid netmask"),
        ("[bridge wbr]\nroot = 10.77.0.0/24\n", "not among yours (none)"),
        ("[network]\ndeny = everything\n[bridge wbr]\nnobody = 10.77.0.0/24\n", "deny"),
    ],
)
def test_a_node_conf_that_is_missing_or_wrong_allows_nothing(
    node: Node, conf: str | None, words: str
) -> None:
    path = "/etc/wspilot/node.conf"
    node.run("cp", "-p", path, "/run/kept")
    try:
        node.run("rm", path)
        if conf is not None:
            node.run("tee", path, text=conf)
        assert words in node.ask("net-attach", nic(5))["error"]
    finally:
        node.run("cp", "-p", "/run/kept", path)


def test_a_node_conf_that_others_can_write_counts_for_nothing(node: Node) -> None:
    node.run("chmod", "666", "/etc/wspilot/node.conf")
    try:
        assert "can be written by others" in node.ask("net-attach", nic(5))["error"]
    finally:
        node.run("chmod", "644", "/etc/wspilot/node.conf")


HIDDEN = {
    "dnsmasq is not installed": ["/usr/sbin/dnsmasq"],
    "neither nft nor ebtables-nft": ["/usr/sbin/nft", "/usr/sbin/ebtables-nft"],
}


@pytest.mark.parametrize("words", HIDDEN)
def test_a_node_without_filter_or_dhcp_gets_no_tap(node: Node, words: str) -> None:
    for path in HIDDEN[words]:
        node.run("mount", "--bind", "/dev/null", path)
    try:
        assert words in node.ask("net-attach", nic(5))["error"]
    finally:
        for path in HIDDEN[words]:
            node.run("umount", path)
    assert node.left() == []


def test_a_bridge_without_an_address_says_what_dhcp_needs(node: Node) -> None:
    node.run("ip", "addr", "flush", "dev", "wbr")
    try:
        refused = node.ask("net-attach", nic(5))
        assert "has no IPv4 address" in refused["error"]
    finally:
        node.run("ip", "addr", "add", "192.168.77.1/24", "dev", "wbr")
    assert node.left() == []

"""What guests may not reach, whatever a site's file says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.unit.sites import site
from wspilot.config import load
from wspilot.daemon.effects import Effects
from wspilot.daemon.headnode import own_addresses
from wspilot.daemon.service import Service

USER = '[network.a]\ncidr = "10.0.0.0/24"\n'
BRIDGE = f'{USER}way = "bridge"\nbridge = "br0"\n'
LINK_LOCAL = "169.254.0.0/16"


def denied(toml: str, *headnode: str, node_too: bool = False) -> list[str]:
    return site(toml).networks["a"].denied(headnode, node_too)


def test_a_sites_own_list_adds_to_the_default() -> None:
    assert denied(USER) == [LINK_LOCAL]
    assert denied(USER + "deny = ['10.9.0.0/16']") == [LINK_LOCAL, "10.9.0.0/16"]
    assert denied(USER + f"deny = ['{LINK_LOCAL}']") == [LINK_LOCAL]
    assert site(USER).networks["a"].spec()["deny"] == [LINK_LOCAL]


def test_the_headnode_is_denied_wherever_it_is_not_part_of_the_network() -> None:
    outside, inside = "192.0.2.1", "10.0.0.9"
    for toml in (USER, BRIDGE):
        assert denied(toml, outside) == [LINK_LOCAL, f"{outside}/32"]
    assert denied(BRIDGE, inside) == [LINK_LOCAL, f"{inside}/32"], "its leg on the guests' wire"
    assert denied(USER, inside) == [LINK_LOCAL], "a sister's address there"
    assert denied(BRIDGE, inside, node_too=True) == [LINK_LOCAL], "the guest's own node"
    assert denied(BRIDGE, outside, node_too=True) == [LINK_LOCAL, f"{outside}/32"]


@pytest.mark.parametrize("key", ["gateway = '10.0.0.9'", "dns = ['10.0.0.9', '192.0.2.1']"])
def test_what_the_network_needs_of_the_headnode_is_reached(key: str) -> None:
    assert denied(BRIDGE + key, "10.0.0.9", "10.0.0.8") == [LINK_LOCAL, "10.0.0.8/32"]


def test_the_headnode_knows_its_own_addresses(tmp_path: Path) -> None:
    said = subprocess.run(["ip", "-o", "-4", "addr"], capture_output=True, text=True, check=True)
    words = [line.split() for line in said.stdout.splitlines()]
    theirs = {one[3].split("/")[0] for one in words if one[1] != "lo"}
    assert theirs <= set(own_addresses()) and not any(o.startswith("127.") for o in own_addresses())
    table = tmp_path / "t"
    table.write_text(
        "Local:\n"
        "  +-- 0.0.0.0/0 3 0 4\n"
        "     |-- 10.1.0.0\n        /16 link UNICAST\n"
        "     |-- 10.1.0.7\n        /32 host LOCAL\n"
        "     |-- 10.1.255.255\n        /32 link BROADCAST\n"
        "     |-- 127.0.0.1\n        /32 host LOCAL\n"
        "     |-- 10.1.0.7\n        /32 host LOCAL\n"
    )
    assert own_addresses(table) == ("10.1.0.7",)
    assert own_addresses(tmp_path / "none") == ()


async def test_a_create_carries_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wspilot.daemon.effects.own_addresses", lambda: ("192.0.2.1", "10.77.0.9"))
    service = Service(load(None, tmp_path), tmp_path)
    nic = {"network": "private", "mac": "02:57:0a:4d:00:02", "ip": "10.77.0.2"}
    made = Effects(service)._create_data({"image": {"name": "x"}, "ready": "", "nics": [nic]}, {})
    assert made["nics"][0]["deny"] == [LINK_LOCAL, "192.0.2.1/32"]
    assert made["nics"][0]["ip"] == "10.77.0.2" and made["nics"][0]["cidr"] == "10.77.0.0/16"

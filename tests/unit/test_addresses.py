"""MAC and IP pools: what is never given out, in which order, and the end of the supply."""

from __future__ import annotations

import ipaddress
import time

import pytest

from wspilot.daemon.addresses import Pools, mac_of
from wspilot.errors import Refused
from wspilot.settings import Network


def all_of(network: Network) -> list[str]:
    pools, held = Pools({"n": network}), set[str]()
    while True:
        try:
            held.add(pools.assign("n", held).ip)
        except Refused:
            return sorted(held, key=lambda ip: int(ipaddress.IPv4Address(ip)))


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Network("n", "10.0.0.0/29"), [2, 3, 4, 5, 6]),  # .1 is kept for a gateway
        (Network("n", "10.0.0.0/29", gateway="10.0.0.6"), [1, 2, 3, 4, 5]),
        (Network("n", "10.0.0.0/29", dns=("10.0.0.4", "192.0.2.1")), [2, 3, 5, 6]),
        (Network("n", "10.0.0.0/29", gateway="10.0.0.6", dns=("10.0.0.6",)), [1, 2, 3, 4, 5]),
        (Network("n", "10.0.0.0/30"), [2]),
        (Network("n", "10.0.0.0/30", dns=("10.0.0.2",)), []),
    ],
)
def test_network_broadcast_gateway_and_name_servers_are_never_a_guests(
    network: Network, expected: list[int]
) -> None:
    assert all_of(network) == [f"10.0.0.{n}" for n in expected]


def test_the_mac_is_made_from_the_ip() -> None:
    nic = Pools({"n": Network("n", "10.77.1.0/24")}).assign("n", ())
    assert (nic.network, nic.ip, nic.mac) == ("n", "10.77.1.2", "02:57:0a:4d:01:02")
    first = int(mac_of("255.255.255.255")[:2], 16)
    assert first & 0b11 == 0b10  # locally administered, and no group address


def test_addresses_in_use_are_passed_over_and_the_order_is_always_the_same() -> None:
    networks = {"a": Network("a", "10.0.0.0/24"), "b": Network("b", "10.0.1.0/24")}
    for _ in range(2):
        pools, held = Pools(networks), {"10.0.0.2", "10.0.0.4"}
        found = []
        for network in ("a", "b", "a", "b"):
            found.append(pools.assign(network, held).ip)
            held.add(found[-1])
        assert found == ["10.0.0.3", "10.0.1.2", "10.0.0.5", "10.0.1.3"]


def test_pools_that_live_on_give_a_freed_address_last() -> None:
    pools, held = Pools({"n": Network("n", "10.0.0.0/29")}), set[str]()
    for _ in range(4):
        held.add(pools.assign("n", held).ip)
    held.remove("10.0.0.2")
    assert [pools.assign("n", held).ip for _ in range(2)] == ["10.0.0.6", "10.0.0.2"]


def test_the_end_of_the_supply_names_the_network_and_its_size() -> None:
    network = Network("public", "10.0.0.0/28", dns=("10.0.0.3",))
    held = {f"10.0.0.{n}" for n in range(16)}
    with pytest.raises(Refused) as caught:
        Pools({"public": network}).assign("public", held)
    assert caught.value.message == (
        "network public has no free address: all 12 of 10.0.0.0/28 are held"
    )
    assert "larger cidr" in caught.value.hint
    assert len(all_of(network)) == 12


def test_ten_thousand_addresses_are_quick() -> None:
    pools, held = Pools({"n": Network("n", "10.77.0.0/16")}), set[str]()
    began = time.process_time()
    for _ in range(10_000):
        held.add(pools.assign("n", held).ip)
    assert len(held) == 10_000 and time.process_time() - began < 2

"""Which way a NIC goes, and what happens when one cannot be had."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from wspilot.errors import WspilotError
from wspilot.node import journal, network
from wspilot.node.core.settings import Settings
from wspilot.node.network import Ground, Ways, bridge, way
from wspilot.node.places import Places
from wspilot.node.vmm.base import VmSpec, parse_spec


class Wire:
    """A way that counts what is attached; its third NIC cannot be had."""

    def __init__(self, ground: Ground) -> None:
        self.there: list[tuple[str, int]] = []

    def facts(self) -> Mapping[str, Any]:
        return {"wire": 1}

    async def start(self) -> None: ...

    async def attach(self, vm: str, number: int, nic: Mapping[str, Any]) -> Mapping[str, Any]:
        if number == 2:
            raise WspilotError("no third NIC")
        self.there.append((vm, number))
        return {**nic, "tap": f"t{number}"}

    async def detach(self, vm: str) -> None:
        self.there = [one for one in self.there if one[0] != vm]

    async def answers(self, vm: str) -> bool:
        return vm in [one for one, _ in self.there]

    async def peers(self, peers: Mapping[str, Any]) -> None: ...

    async def close(self) -> None:
        self.there.clear()


@pytest.fixture
def ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ways:
    monkeypatch.setattr(network, "WAYS", {"wire": Wire})
    settings = Settings("s" * 8, 1, 2, {}, networks={"n": {"way": "wire"}, "m": {"way": "gone"}})
    book = journal.create(tmp_path / "j", {"v": 1, "slot": "s" * 8})
    return Ways(Ground(settings, "n1", Places("n1", 0), book, tmp_path), "qemu")


def spec(*ways: str) -> VmSpec:
    nics = [{"network": "n", "mac": "02:57:0a:4d:00:02", "way": one} for one in ways]
    return parse_spec({"id": "v1", "name": "v", "uuid": str(uuid.uuid4()), "cpus": 1,
                       "memory_mib": 1, "image": {}, "nics": nics})  # fmt: skip


async def test_each_nic_goes_its_way_and_one_that_names_none_is_closed(ways: Ways) -> None:
    nics = await ways.attach(spec("wire", ""))
    assert nics[0]["tap"] == "t0" and "tap" not in nics[1]
    assert ways.facts() == {"wire": 1}


@pytest.mark.parametrize("last", ["wire", "gone", "bridge"])
async def test_when_one_cannot_be_had_none_is_left(ways: Ways, last: str) -> None:
    with pytest.raises(WspilotError, match=r"third NIC|does not know"):
        await ways.attach(spec("wire", "wire", last))
    (wire,) = ways._ways.values()
    assert isinstance(wire, Wire) and wire.there == []


def test_an_entry_of_an_unknown_way_is_not_undone_in_silence() -> None:
    with pytest.raises(WspilotError, match="does not know the way"):
        network.undo({"way": "gone"})
    assert way.key("v1", 0).startswith(network.NIC)


async def test_a_vm_answers_where_one_of_its_ways_says_so(ways: Ways) -> None:
    assert not await ways.answers("v1")
    await ways.attach(spec("wire"))
    assert await ways.answers("v1") and not await ways.answers("v2")


async def test_on_a_bridge_a_port_that_refuses_is_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "PORT", 1)  # nobody listens there
    book = journal.create(tmp_path / "j", {"v": 1, "slot": "s" * 8})
    ground = Ground(Settings("s" * 8, 1, 2, {}), "n1", Places("n1", 0), book, tmp_path)
    one = bridge.Bridge(ground)
    one._ips = {("v1", 0): "127.0.0.1", ("v2", 0): "255.255.255.255"}
    assert await one.answers("v1")
    assert not await one.answers("v2") and not await one.answers("v3")

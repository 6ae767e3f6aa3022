"""A door into a guest: what QEMU is asked, in which order, and that nothing of it stays."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any

import pytest

from wspilot.errors import WspilotError
from wspilot.node.vmm.door import HUB, Door, hubbed

NIC = {"network": "private", "mac": "02:57:0a:4d:00:02", "ip": "10.77.0.2", "prefix": 16, HUB: True}


class Monitor:
    """QEMU's side: one forwarding rule, to a real listener, of which slirp takes what comes only
    at the `slow`th look after it was connected to."""

    def __init__(self, port: int, fails: str = "", slow: int = 0) -> None:
        self.asked: list[str] = []
        self._port, self._fails, self._slow, self._looks = port, fails, slow, 0

    async def do(self, command: str, data: Mapping[str, Any]) -> Any:
        line = str(data.get("command-line", data.get("id")))
        words = line.split() if command.startswith("human") else [command, line]
        self.asked.append(" ".join(words[:2]))
        await asyncio.sleep(0)
        if self._fails and self.asked[-1].startswith(self._fails):
            raise WspilotError("QEMU says no")
        if words[0] == "hostfwd_add":
            self._looks = 0
        if words[0] == "info":
            self._looks += 1
            said = f"Hub 0\r\n  TCP[HOST_FORWARD]  17 127.0.0.1 {self._port}  10.77.0.2 22 0 0\r\n"
            if self._looks > 1 + self._slow:
                said += f"  TCP[SYN_SENT]  18 127.0.0.1 {self._port}  10.77.0.2 22 0 0\r\n"
            return said
        return ""


@pytest.fixture
def server() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield one


async def test_it_is_plugged_in_with_the_first_connection_and_pulled_out_after_the_last(
    server: socket.socket,
) -> None:
    qemu = Monitor(server.getsockname()[1])
    door = Door(qemu.do, ({"mac": "x"}, NIC))
    (one, leave_one), (two, leave_two) = await asyncio.gather(door.dial(22), door.dial(22))
    forward = ["hostfwd_add door1", "info usernet", "info usernet", "hostfwd_remove door1"]
    assert qemu.asked == ["netdev_add door1", "netdev_add side1", *forward, *forward]
    await leave_one()
    assert len(qemu.asked) == 10
    await leave_two()
    assert qemu.asked[10:] == ["netdev_del side1", "netdev_del door1"]
    await leave_two()  # once more changes nothing
    assert len(qemu.asked) == 12
    one.close()
    two.close()


async def test_the_rule_stays_until_slirp_has_the_connection(server: socket.socket) -> None:
    qemu = Monitor(server.getsockname()[1], slow=3)
    link, leave = await Door(qemu.do, (NIC,)).dial(22)
    assert qemu.asked[2:] == ["hostfwd_add door0", *["info usernet"] * 5, "hostfwd_remove door0"]
    await leave()
    link.close()


async def test_what_the_guest_has_refused_is_not_waited_for(server: socket.socket) -> None:
    qemu = Monitor(server.getsockname()[1], slow=10**9)
    dialling = asyncio.ensure_future(Door(qemu.do, (NIC,)).dial(22))
    refused, _ = await asyncio.to_thread(server.accept)
    refused.close()
    link, leave = await dialling
    await leave()
    link.close()


@pytest.mark.parametrize("fails", ["netdev_add side", "hostfwd_add", "info"])
async def test_a_door_that_cannot_be_opened_leaves_nothing(
    server: socket.socket, fails: str
) -> None:
    qemu = Monitor(server.getsockname()[1], fails)
    door = Door(qemu.do, (NIC,))
    with pytest.raises(WspilotError, match="says no"):
        await door.dial(22)
    assert qemu.asked[-2:] == ["netdev_del side0", "netdev_del door0"]


async def test_where_nobody_listens_the_rule_goes_and_the_door_with_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    qemu = Monitor(port)
    with pytest.raises(WspilotError, match="does not answer"):
        await Door(qemu.do, (NIC,)).dial(22)
    assert qemu.asked[-3:] == ["hostfwd_remove door0", "netdev_del side0", "netdev_del door0"]


async def test_a_suspend_shuts_it_whoever_is_connected(server: socket.socket) -> None:
    qemu = Monitor(server.getsockname()[1])
    door = Door(qemu.do, (NIC,))
    link, leave = await door.dial(22)
    await door.shut()
    assert qemu.asked[-2:] == ["netdev_del side0", "netdev_del door0"]
    count = len(qemu.asked)
    await leave()
    assert len(qemu.asked) == count
    link.close()


async def test_a_guest_on_a_bridge_is_simply_connected_to(server: socket.socket) -> None:
    port = server.getsockname()[1]
    door = Door(Monitor(0).do, ({"ip": "127.0.0.1", "tap": "tap0"},))
    link, leave = await door.dial(port)
    await leave()
    link.close()
    with pytest.raises(WspilotError, match="no network"):
        await Door(Monitor(0).do, ({"mac": "x"},)).dial(port)


def test_a_hub_takes_the_nics_place() -> None:
    assert hubbed(2, ["dgram,id=net2,local.type=unix"]) == [
        "dgram,id=wire2,local.type=unix",
        "hubport,id=net2,hubid=2",
        "hubport,id=plug2,hubid=2,netdev=wire2",
    ]

"""A way from the node to a TCP port of a guest on a network without rights, while somebody uses it.

QEMU's own user network (slirp) is plugged beside the guest's NIC when the first connection is asked
for and pulled out after the last. It listens on 127.0.0.1 only until our own connection stands, a
few milliseconds, on a port that the kernel chose; `restrict=on`: the guest reaches nothing by it.

Invariant: `shut` leaves no slirp. A suspended guest's state would else name one, and could not be
resumed (its section is unknown to a QEMU that has none).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import socket
from collections.abc import Awaitable, Mapping
from typing import Any, Callable

from wspilot.errors import WspilotError

CONNECT_S, TAKEN_S = 5.0, 0.002
HUB = "hub"
_BOUND = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s")

Do = Callable[[str, Mapping[str, Any]], Awaitable[Any]]


def hubbed(number: int, netdevs: list[str]) -> list[str]:
    """QEMU's `-netdev` options with a hub between NIC `number` and its network: room for a door.

    `netdevs` are those of one socket, with the id `net<number>`, which the hub takes over.
    """
    wire = [one.replace(f"id=net{number}", f"id=wire{number}", 1) for one in netdevs]
    return [
        *wire,
        f"hubport,id=net{number},hubid={number}",
        f"hubport,id=plug{number},hubid={number},netdev=wire{number}",
    ]


class Door:
    """The doors of one VM's process. `do` is one QMP command; raises WspilotError."""

    def __init__(self, do: Do, nics: tuple[Mapping[str, Any], ...]) -> None:
        self._do, self._nics = do, nics
        self._turn = asyncio.Lock()
        self._open: dict[int, int] = {}  # NIC -> connections through it

    async def dial(self, port: int) -> tuple[socket.socket, Callable[[], Awaitable[None]]]:
        """A connection to a port of the guest, and what must be awaited after its end.

        Some 10 ms. On a bridge the guest is simply connected to. Raises WspilotError.
        """
        for number, nic in enumerate(self._nics):
            if nic.get("ip") and nic.get(HUB):
                return await self._through(number, nic, port)
        for nic in self._nics:
            if nic.get("ip") and nic.get("tap"):
                return await _connect(str(nic["ip"]), port), _nothing
        raise WspilotError("it has no network by which its node could reach it")

    async def shut(self) -> None:
        """No door is open any more; connections through one break. Raises WspilotError."""
        async with self._turn:
            for number in list(self._open):
                await self._pull(number)

    async def _through(
        self, number: int, nic: Mapping[str, Any], port: int
    ) -> tuple[socket.socket, Callable[[], Awaitable[None]]]:
        async with self._turn:
            try:
                if number not in self._open:
                    await self._plug(number, nic)
                link = await self._connect_by(number, str(nic["ip"]), port)
            except BaseException:
                if self._open.get(number) == 0:
                    await asyncio.shield(self._pull(number))
                raise
            self._open[number] += 1

        async def leave() -> None:
            async with self._turn:
                if number in self._open:
                    self._open[number] -= 1
                    if not self._open[number]:
                        await self._pull(number)

        return link, leave

    async def _plug(self, number: int, nic: Mapping[str, Any]) -> None:
        network = ipaddress.IPv4Network(f"{nic['ip']}/{nic.get('prefix', 24)}", strict=False)
        host = str(nic.get("gateway") or network.network_address + 1)  # never a guest's
        slirp = {
            "type": "user", "id": f"door{number}", "restrict": True, "ipv6": False,
            "net": str(network), "host": host, "dhcpstart": str(nic["ip"]),
            "dns": str(network.broadcast_address),  # it would answer for any other one
        }  # fmt: skip
        await self._do("netdev_add", slirp)
        self._open[number] = 0
        hub = {"type": "hubport", "id": f"side{number}", "hubid": number, "netdev": f"door{number}"}
        await self._do("netdev_add", hub)

    async def _pull(self, number: int) -> None:
        del self._open[number]
        with contextlib.suppress(WspilotError):  # the hub's port may never have come to be
            await self._do("netdev_del", {"id": f"side{number}"})
        await self._do("netdev_del", {"id": f"door{number}"})

    async def _connect_by(self, number: int, ip: str, port: int) -> socket.socket:
        said = await self._monitor(f"hostfwd_add door{number} tcp:127.0.0.1:0-{ip}:{port}")
        match = _BOUND.search(await self._monitor("info usernet"))
        if match is None:
            raise WspilotError(f"QEMU opened no way to port {port} of it: {said[:200]}")
        try:
            link = await _connect("127.0.0.1", int(match[1]))
            await self._taken(link, match[1])
            return link
        finally:
            rule = f"hostfwd_remove door{number} tcp:127.0.0.1:{match[1]}"
            await asyncio.shield(self._monitor(rule))

    async def _taken(self, link: socket.socket, bound: str) -> None:
        """Until slirp has the connection: the kernel had it first, and with the rule what slirp has
        not accepted yet is hung up on, as if nothing answered in the guest."""
        taken = re.compile(rf"TCP\[(?!HOST_FORWARD)\w+\]\s+\d+\s+127\.0\.0\.1\s+{bound}\s")
        end = asyncio.get_running_loop().time() + CONNECT_S
        try:
            while not taken.search(await self._monitor("info usernet")) and not _has_ended(link):
                if asyncio.get_running_loop().time() > end:
                    raise WspilotError(f"QEMU has not taken the connection in {CONNECT_S:g} s")
                await asyncio.sleep(TAKEN_S)
        except BaseException:
            link.close()
            raise

    async def _monitor(self, line: str) -> str:
        return str(await self._do("human-monitor-command", {"command-line": line}))


async def _connect(host: str, port: int) -> socket.socket:
    link = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    link.setblocking(False)
    try:
        connect = asyncio.get_running_loop().sock_connect(link, (host, port))
        await asyncio.wait_for(connect, CONNECT_S)
    except (OSError, asyncio.TimeoutError) as error:
        link.close()
        why = getattr(error, "strerror", "") or f"no answer within {CONNECT_S:g} s"
        raise WspilotError(f"port {port} of {host} does not answer: {why}") from error
    except BaseException:
        link.close()
        raise
    return link


def _has_ended(link: socket.socket) -> bool:
    """Has the guest refused it already?"""
    try:
        return not link.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


async def _nothing() -> None:
    """A bridge needs no closing."""

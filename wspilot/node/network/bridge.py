"""The way `bridge`: a tap a NIC on the node's own bridge, made and filtered by the root helper.

The helper pins MAC, IPv4 and ARP to the tap before it is plugged in, and answers the guest's DHCP
by MAC (`root_helper.py`). Its records name this pilot's journal: when that is gone, what is left of
it is a stray to whoever calls the helper next.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from typing import Any

from wspilot.errors import WspilotError
from wspilot.node import root
from wspilot.node.network import way

TUN = "/dev/net/tun"
ATTACH_S = DETACH_S = 90.0  # the helper's own limits end it sooner; others may be before us
PORT, ANSWER_S = 22, 1.0  # of a guest that is asked whether it is up; refused will do
TOLD = ("bridge", "mac", "ip", "prefix", "gateway", "dns", "deny")


class Bridge:
    """Implements `Way`."""

    def __init__(self, ground: way.Ground) -> None:
        self._ground = ground
        self._xen = ground.settings.vmm == "xen"  # which makes the device itself
        self._vms: dict[str, list[int]] = {}
        self._ips: dict[tuple[str, int], str] = {}

    def facts(self) -> Mapping[str, Any]:
        """Sisters need nothing of it: the bridge's wire joins the nodes."""
        return {}

    async def start(self) -> None:
        """A node that cannot do it says so while it is being reserved. Raises WspilotError."""
        if not self._xen and not os.access(TUN, os.R_OK | os.W_OK):
            raise WspilotError(
                f"{TUN} of this node cannot be opened by {os.geteuid()}",
                "its administrator: modprobe tun; chmod 666 " + TUN,
            )
        about = await root.asked("about", {})
        allowed = about.get("bridges") or {}
        for name, one in self._ground.settings.networks.items():
            if one.get("way") == "bridge" and not allowed.get(one.get("bridge")):
                raise WspilotError(
                    f"network {name}: this node allows {about.get('user')} no address on bridge "
                    f"{one.get('bridge')}",
                    "its administrator gives ranges in /etc/wspilot/node.conf",
                )

    async def attach(self, vm: str, number: int, nic: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `Way`. Some 50 ms."""
        journal, slot = self._ground.journal, self._ground.settings.slot
        words = {key: nic[key] for key in TOLD if key in nic}
        words.update(slot=slot, vm=vm, number=number, journal=str(journal.path), vif=self._xen)
        journal.intend(way.key(vm, number), {"way": "bridge", "slot": slot, "vm": vm})
        self._vms.setdefault(vm, []).append(number)
        try:
            made = await root.asked("net-attach", words, ATTACH_S)
        except root.Declined:
            journal.settle(way.key(vm, number))
            self._vms[vm].remove(number)
            raise
        self._ips[vm, number] = str(nic.get("ip") or "")
        return {**nic, "tap": str(made["tap"])}

    async def detach(self, vm: str) -> None:
        """See `Way`."""
        numbers = self._vms.pop(vm, [])
        if not numbers:
            return
        try:
            slot = self._ground.settings.slot
            await root.asked("net-detach", {"slot": slot, "vm": vm}, DETACH_S)
        except WspilotError:
            self._vms[vm] = (
                numbers  # still on the books: asked for again, by the undo at the latest
            )
            raise
        for number in numbers:
            self._ips.pop((vm, number), None)
            self._ground.journal.settle(way.key(vm, number))

    async def answers(self, vm: str) -> bool:
        """See `Way`. By TCP: a port that accepts or refuses; the node needs a way to the guest."""
        asked = [_answers(ip) for (one, _), ip in self._ips.items() if one == vm and ip]
        return any(await asyncio.gather(*asked))

    async def peers(self, peers: Mapping[str, Any]) -> None:
        """See `Way`; the bridge learns by itself."""

    async def close(self) -> None:
        """See `Way`."""
        for vm in list(self._vms):
            await self.detach(vm)


async def _answers(ip: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as link:
        link.setblocking(False)
        connect = asyncio.get_running_loop().sock_connect(link, (ip, PORT))
        try:
            await asyncio.wait_for(connect, ANSWER_S)
        except ConnectionRefusedError:
            return True
        except (OSError, asyncio.TimeoutError):
            return False
    return True


def undo(entry: Mapping[str, Any]) -> str:
    """The VM's taps, with their filter and DHCP. Blocks. Raises WspilotError."""
    done = root.ask("net-detach", {"slot": entry["slot"], "vm": entry["vm"]}, DETACH_S)
    removed = done.get("removed") or []
    return f"tap {', '.join(map(str, removed))} removed" if removed else ""

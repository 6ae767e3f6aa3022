"""The networks of one node's VMs: each NIC goes the way of its network (DESIGN.md section 7)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Callable, Optional

from wspilot.errors import WspilotError
from wspilot.node.network import bridge, user
from wspilot.node.network.way import NIC, Ground, Way
from wspilot.node.vmm.base import VmSpec
from wspilot.text import clean

# way -> how it is opened, and how one of its journal entries is undone in any process
WAYS: Mapping[str, Callable[[Ground], Way]] = {"bridge": bridge.Bridge, "user": user.User}
UNDO: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "bridge": bridge.undo,
    "user": user.undo,
}


class Ways:
    """All ways that a pilot's networks go. A NIC that names no way is closed to all sides."""

    def __init__(self, ground: Ground, vmm: str) -> None:
        known = {str(one.get("way")) for one in ground.settings.networks.values()}
        self._real = vmm != "sim"  # simulated VMs have no NICs
        here = known if self._real else ()
        self._ways = {name: make(ground) for name, make in WAYS.items() if name in here}

    def facts(self) -> Mapping[str, Any]:
        """What `started` says of them."""
        return {key: value for way in self._ways.values() for key, value in way.facts().items()}

    async def start(self) -> None:
        """Raises WspilotError."""
        await asyncio.gather(*(way.start() for way in self._ways.values()))

    async def attach(self, spec: VmSpec) -> tuple[Mapping[str, Any], ...]:
        """The VM's NICs, each with how it is reached. Raises WspilotError; then none is left."""
        nics = []
        try:
            for number, nic in enumerate(spec.nics):
                way = self._way(nic)
                nics.append(await way.attach(spec.id, number, nic) if way else nic)
        except BaseException:
            with contextlib.suppress(WspilotError, OSError):
                await asyncio.shield(self.detach(spec.id))
            raise
        return tuple(nics)

    def _way(self, nic: Mapping[str, Any]) -> Optional[Way]:
        name = nic.get("way")
        way = self._ways.get(str(name))
        if way is None and name and self._real:
            raise WspilotError(
                f"network {clean(str(nic.get('network')), 40)} goes the way "
                f"{clean(str(name), 20)}, which this node code does not know",
                'say way = "user" or "bridge"',
            )
        return way

    async def detach(self, vm: str) -> None:
        """All NICs of a VM; idempotent. Raises WspilotError."""
        for way in self._ways.values():
            await way.detach(vm)

    async def answers(self, vm: str) -> bool:
        """See `Way`."""
        return any([await way.answers(vm) for way in self._ways.values()])

    async def peers(self, peers: Mapping[str, Any]) -> None:
        """Where the sisters of this node are."""
        for way in self._ways.values():
            await way.peers(peers)

    async def close(self) -> None:
        """Nothing of them is left."""
        for way in self._ways.values():
            await way.close()


def undo(entry: Mapping[str, Any]) -> str:
    """Undo a NIC by its journal entry alone, in any process; in words. Raises WspilotError."""
    how = UNDO.get(str(entry.get("way")))
    if how is None:
        raise WspilotError(f"this node code does not know the way {entry.get('way')!r:.40}")
    return how(entry)


__all__ = ["NIC", "Ground", "Ways", "undo"]

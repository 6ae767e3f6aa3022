"""The seam between the pilot and a way of networking: `bridge` (with rights) or `user` (without).

Invariant: what a way does to the node stands in the undo journal first, under `nic:<vm>:<number>`,
and its module's `undo` needs nothing but that entry, in any process.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from wspilot.node.core.settings import Settings
from wspilot.node.journal import Journal
from wspilot.node.places import Places
from wspilot.node.values import dataclass

NIC = "nic:"  # what the journal's keys begin with


@dataclass(frozen=True)
class Ground:
    """What a way stands on: its pilot's settings, places, journal and run-time directory."""

    settings: Settings
    node: str
    places: Places
    journal: Journal
    rundir: Path


class Way(Protocol):
    """One way of networking for one pilot; called from the pilot's event loop."""

    def facts(self) -> Mapping[str, Any]:
        """What `started` says of it (the trunk's port); may be asked before `start`."""

    async def start(self) -> None:
        """Once, while the node is being reserved. Raises WspilotError."""

    async def attach(self, vm: str, number: int, nic: Mapping[str, Any]) -> Mapping[str, Any]:
        """The NIC and how the VMM reaches it: `tap` (a name) or `netdev` (QEMU's options).

        Raises WspilotError; then nothing of it is left.
        """

    async def detach(self, vm: str) -> None:
        """All NICs of a VM; idempotent. Settles their journal entries. Raises WspilotError."""

    async def answers(self, vm: str) -> bool:
        """Has one of the VM's addresses answered since this was last asked? They are asked again.

        Of a VM that is not attached here: False. Some ms; raises WspilotError.
        """

    async def peers(self, peers: Mapping[str, Any]) -> None:
        """Where the sisters of this node are: node -> {host, port, ...}; the whole, each time."""

    async def close(self) -> None:
        """Nothing of it is left; never raises for what is gone."""


def key(vm: str, number: int) -> str:
    """A NIC's journal key."""
    return f"{NIC}{vm}:{number}"

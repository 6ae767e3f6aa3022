"""Host adapters: how a node is made ready for VMs, and how it becomes a job node again.

`release` works from the journal's entry alone, blocks, and runs in any process: the guardian and
the next pilot use it too. `suspendable` says whether a suspended pilot may keep what it took.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from wspilot.errors import UsageError, WspilotError
from wspilot.node.host.balloon import Balloon
from wspilot.node.places import Places


class HostAdapter(Protocol):
    """One way of making room on a node."""

    name: str
    suspendable: bool

    def intent(self, mib: int) -> Mapping[str, Any]:
        """The journal's entry, before anything is taken."""

    async def reserve(self, entry: Mapping[str, Any]) -> int:
        """Take the memory; MiB taken. May be cancelled. Raises WspilotError."""

    def release(self, entry: Mapping[str, Any]) -> str:
        """Give it back, in words what was undone. Idempotent. Raises WspilotError."""

    def taken(self, entry: Mapping[str, Any]) -> int:
        """MiB that are taken now."""


class Nothing:
    """Adapter `none`: the batch system's own accounting makes room."""

    name = "none"
    suspendable = True

    def intent(self, mib: int) -> Mapping[str, Any]:
        """See `HostAdapter`."""
        return {"adapter": self.name}

    async def reserve(self, entry: Mapping[str, Any]) -> int:
        """See `HostAdapter`."""
        return 0

    def release(self, entry: Mapping[str, Any]) -> str:
        """See `HostAdapter`."""
        return ""

    def taken(self, entry: Mapping[str, Any]) -> int:
        """See `HostAdapter`."""
        return 0


class Sim:
    """Adapter `sim`: what it takes is a file, so that a test can see whether it came back.

    Options: `reserve_s` and `release_s` (how long they take), `fail` (a text: refuses),
    `stuck` (release fails).
    """

    name = "sim"
    suspendable = False

    def __init__(self, places: Places, options: Mapping[str, Any]) -> None:
        self._places, self._options = places, options

    def intent(self, mib: int) -> Mapping[str, Any]:
        """See `HostAdapter`."""
        file = self._places.keep / f"sim-{os.urandom(4).hex()}.taken"
        return {"adapter": self.name, "mib": mib, "file": str(file)}

    async def reserve(self, entry: Mapping[str, Any]) -> int:
        """See `HostAdapter`."""
        if self._options.get("fail"):
            raise WspilotError(f"adapter sim: {self._options['fail']}")
        import asyncio  # loaded in every pilot; kill-all does without

        Path(entry["file"]).write_text(str(entry["mib"]))
        await asyncio.sleep(float(self._options.get("reserve_s", 0)))
        return int(entry["mib"])

    def release(self, entry: Mapping[str, Any]) -> str:
        """See `HostAdapter`."""
        if self._options.get("stuck"):
            raise WspilotError("adapter sim: the memory does not come back")
        file = Path(entry["file"])
        if not file.exists():
            return ""
        time.sleep(float(self._options.get("release_s", 0)))
        file.unlink(missing_ok=True)
        return f"{entry['mib']} MiB given back"

    def taken(self, entry: Mapping[str, Any]) -> int:
        """See `HostAdapter`."""
        file = Path(entry["file"])
        return int(file.read_text()) if file.exists() else 0


def open_adapter(name: str, places: Places, options: Mapping[str, Any]) -> HostAdapter:
    """The adapter of that name. Raises UsageError."""
    if name == "none":
        return Nothing()
    if name == "sim":
        return Sim(places, options)
    if name == "balloon":
        return Balloon(options)
    raise UsageError(f"this node code has no host adapter {name!r}", "balloon, none or sim")

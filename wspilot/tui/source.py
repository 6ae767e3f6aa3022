"""Where updates come from and where requests go: a daemon's socket, or the canned site."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

from wspilot.client import CALL_S, Client, Update
from wspilot.errors import NoDaemon

LATER_S = 5.0


class Source(Protocol):
    """One connection at a time; `updates` begins a new one. `home`: None where there is none."""

    place: str
    home: Path | None

    def updates(self) -> AsyncIterator[Update]:
        """A snapshot, then deltas. Raises WspilotError when it ends."""
        ...

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One request. Raises WspilotError."""
        ...


class ClientSource:
    """The daemon of a home."""

    def __init__(self, home: Path) -> None:
        self.home: Path | None = home
        self._home = home
        self._client: Client | None = None
        self.place = str(home)

    async def updates(self) -> AsyncIterator[Update]:
        client = await Client.open(self._home)
        self._client = client
        try:
            async for update in client.subscribe():
                yield update
        finally:
            self._client = None
            await client.close()

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        if self._client is None:
            raise NoDaemon("there is no connection to the daemon", "it is tried again by itself")
        asked = params.get("timeout_s")  # the daemon's own limit comes first
        return await self._client.request(method, params, asked + LATER_S if asked else CALL_S)

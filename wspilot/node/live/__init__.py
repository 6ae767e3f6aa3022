"""The live channel: the one TCP port of a pilot (DESIGN.md section 7). Files stay the truth.

Nothing is said before the visitor has proved that it holds the slot's key but one line with a
nonce, for `PROVE_S` at the longest; strangers are let in at a bounded rate, and when there are too
many the oldest of them goes, so that whoever has the key gets in. What a visitor then wants is
`services.py`'s business.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Mapping
from typing import Any, Optional

from wspilot import channel
from wspilot.errors import WspilotError
from wspilot.node.live.address import own_address_in
from wspilot.node.live.services import MOST_VISITORS, Services
from wspilot.node.live.visit import Visit, open_visit
from wspilot.text import clean

PROVE_S = 3.0
WORDS_S = 0.3
MOST_STRANGERS = 32
ROUND, REST_S = 8, 0.02  # so many are let in at once, and then nobody for a while: 400 a second
BACKLOG = 64
log = logging.getLogger("wspilot")


class Live:
    """The channel of one pilot. `settings` is pilot.json's `live`; empty: there is none."""

    def __init__(
        self, settings: Mapping[str, Any], key: bytes, pilot: str, services: Services
    ) -> None:
        self._key, self._pilot, self._services = key, pilot, services
        self._strangers: dict[asyncio.Task[None], None] = {}  # the oldest first
        self._visits: set[asyncio.Task[None]] = set()
        self._listener: Optional[socket.socket] = None
        self._host = ""
        if settings:
            try:
                self._listener, self._host = listen(settings)
            except (OSError, WspilotError) as error:
                log.warning("no live channel: %s", error)

    def facts(self) -> Mapping[str, Any]:
        """What `started` says of it."""
        if self._listener is None:
            return {}
        return {"live": {"host": self._host, "port": self._listener.getsockname()[1]}}

    def start(self) -> None:
        """Let visitors in from now on."""
        if self._listener is not None:
            self._listener.setblocking(False)
            self._listener.listen(BACKLOG)
            self._arm()

    async def close(self) -> None:
        """Nobody is served any more. What has ended with its VM may say so first: `WORDS_S`."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        if self._visits:
            await asyncio.wait(self._visits, timeout=WORDS_S)
        going = [*self._strangers, *self._visits]
        for task in going:
            task.cancel()
        await asyncio.gather(*going, return_exceptions=True)

    # -- strangers

    def _arm(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        listener, loop = self._listener, asyncio.get_running_loop()
        if listener is None:
            return
        loop.remove_reader(listener)
        loop.call_later(REST_S, self._arm)
        with contextlib.suppress(OSError):  # nobody is left, or no descriptors are
            for _ in range(ROUND):
                link, _ = listener.accept()
                self._receive(link)

    def _receive(self, link: socket.socket) -> None:
        while len(self._strangers) >= MOST_STRANGERS:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.cancel()
        task = asyncio.ensure_future(self._meet(link))
        self._strangers[task] = None
        task.add_done_callback(lambda done: self._strangers.pop(done, None))

    async def _meet(self, link: socket.socket) -> None:
        """A stranger, from its first byte to its proof, or its end."""
        try:
            link.setblocking(False)
            visit = await asyncio.wait_for(open_visit(link, self._key, self._pilot), PROVE_S)
        except BaseException as error:
            link.close()
            if isinstance(error, (OSError, channel.BadChannel, asyncio.TimeoutError)):
                return
            raise
        task = asyncio.ensure_future(self._serve(visit))
        self._visits.add(task)
        task.add_done_callback(self._visits.discard)

    # -- visitors

    async def _serve(self, visit: Visit) -> None:
        """One that holds the key. Whatever happens to it happens to nobody else."""
        last = "the pilot ends"
        try:
            if len(self._visits) > MOST_VISITORS:
                await visit.refuse(f"{MOST_VISITORS} others are connected to this node")
            else:
                await self._services.serve(visit)
            last = ""
        except (OSError, channel.BadChannel, asyncio.TimeoutError, EOFError):
            last = ""
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("live channel")
            last = "a bug in the pilot; its log has the details"
        finally:
            visit.leave(last)


def listen(settings: Mapping[str, Any]) -> tuple[socket.socket, str]:
    """A bound socket, not listening yet, and the address that others reach it by.

    Raises OSError, WspilotError.
    """
    host = own_address_in(str(settings.get("network") or ""))
    ports = settings.get("ports") or (0, 0)
    low, high = int(ports[0]), int(ports[1])
    for port in range(low, high + 1):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(1)  # with SO_REUSEADDR only this shows that somebody else has it
            return listener, host
        except OSError as error:
            listener.close()
            why = error
    raise WspilotError(f"no port of {low} to {high} is free on {host}: {clean(str(why), 100)}")

"""Work that blocks, in a child process of its own: the pilot's loop goes on meanwhile.

Undoing what an earlier pilot left may take seconds a VM, and the loop has a courier, a guardian
and a SIGTERM to answer. The child shares nothing but a pipe and what it is given to keep; it is
killed when its time is over, and ends with the pilot.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Any

from wspilot.errors import TimedOut, WspilotError
from wspilot.node import forks

REAP_S, POLL_S = 1.0, 0.005


async def aside(
    work: Callable[[], Mapping[str, Any]], limit_s: float, title: str, keep: tuple[int, ...] = ()
) -> Mapping[str, Any]:
    """What `work` returns, as JSON brings it over; it also has the descriptors `keep`. Raises
    TimedOut, WspilotError."""
    ours, theirs = socket.socketpair()
    pilot = os.getpid()

    def main() -> None:
        forks.die_with(pilot)  # whoever undoes in the pilot's place shall be alone
        theirs.sendall(json.dumps(work()).encode())

    pid = forks.fork(main, [theirs.fileno(), *keep], title)
    theirs.close()
    ours.setblocking(False)
    try:
        raw = await asyncio.wait_for(_all(ours), limit_s)
    except asyncio.TimeoutError:
        raise TimedOut(f"{title} took longer than {limit_s:g} s") from None
    finally:
        ours.close()
        await asyncio.shield(_end(pid))
    try:
        result = json.loads(raw)
    except ValueError:
        raise WspilotError(f"{title} ended without a word") from None
    return result if isinstance(result, dict) else {}


async def _all(pipe: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    parts: list[bytes] = []
    while True:
        part = await loop.sock_recv(pipe, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)


async def _end(pid: int) -> None:
    """Kill and reap: our own child, so the pid cannot be anybody else's."""
    os.kill(pid, signal.SIGKILL)
    for _ in range(int(REAP_S / POLL_S)):
        if os.waitpid(pid, os.WNOHANG)[0]:  # noqa: ASYNC222 (WNOHANG)
            return
        await asyncio.sleep(POLL_S)

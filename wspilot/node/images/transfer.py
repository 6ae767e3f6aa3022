"""A child process of the pilot that may hang: it tells its progress, and dies when unwanted.

The shared filesystem may hang for hours, and the pilot must not (DESIGN.md section 6). The child
shares a socket with its pilot and nothing else; it stands in the undo journal under `image:<vm>`,
and the kernel kills it with the pilot.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Mapping
from typing import Any, Callable

from wspilot.errors import Code, WspilotError
from wspilot.node import forks
from wspilot.node.vmm.stale import start_time
from wspilot.text import clean

REAP_S, POLL_S = 1.0, 0.005
LINE_MAX = 1 << 16

Say = Callable[[Mapping[str, Any]], None]
Job = Callable[[Say], Mapping[str, Any]]


class Transfer:
    """One running child. `journal` takes its pid before anything else happens."""

    def __init__(self, job: Job, title: str) -> None:
        self._ours, theirs = socket.socketpair()
        pilot = os.getpid()

        def main() -> None:
            forks.die_with(pilot)
            _work(job, theirs)

        self.pid = forks.fork(main, [theirs.fileno()], title)
        self.start = start_time(self.pid)
        theirs.close()
        self._ours.setblocking(False)

    async def result(self, told: Callable[[Mapping[str, Any]], None]) -> Mapping[str, Any]:
        """What its job returns; `told` gets what it says meanwhile. Raises WspilotError.

        The child waits until `end`: what it holds is held until then.
        """
        loop = asyncio.get_running_loop()
        rest = b""
        while len(rest) < LINE_MAX:
            data = await loop.sock_recv(self._ours, LINE_MAX)
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                said = json.loads(line)
                if "error" in said:
                    raise WspilotError(said["error"], said["hint"], Code(said["code"]))
                if "result" in said:
                    return dict(said["result"])
                told(said)
        raise WspilotError("its image's transfer ended without a word")

    async def end(self) -> None:
        """Killed and reaped; one that hangs in the kernel is left to die by itself."""
        self._ours.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)  # our own child, not reaped: nobody else's pid
        for _ in range(int(REAP_S / POLL_S)):
            if _reaped(self.pid):
                return
            await asyncio.sleep(POLL_S)
        asyncio.get_running_loop().call_later(REAP_S, _reap_later, self.pid)


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _reap_later(pid: int) -> None:
    if not _reaped(pid):
        asyncio.get_running_loop().call_later(REAP_S, _reap_later, pid)


def _work(job: Job, pipe: socket.socket) -> None:
    """In the child: the job, its result or why there is none, then wait to be ended."""

    def say(said: Mapping[str, Any]) -> None:
        pipe.sendall(json.dumps(said).encode() + b"\n")

    try:
        say({"result": job(say)})
    except WspilotError as error:
        say({"error": error.message, "hint": error.hint, "code": int(error.code)})
    except Exception as error:  # whatever it is, the pilot hears of it
        text = clean(str(error), 300) or type(error).__name__
        say({"error": text, "hint": "", "code": int(Code.FAILED)})
    pipe.recv(1)

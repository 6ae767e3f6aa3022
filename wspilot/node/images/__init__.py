"""The images of one pilot's VMs: brought to the node's cache, held there, passed on to sisters.

Everything that may hang is a child process (`transfer.py`), in the undo journal under `image:<vm>`,
killed with its VM. Invariant: a path that `propagate` returns names a verified file that stays in
the cache until `release` of that VM, or the pilot's end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, Optional

from wspilot.errors import WspilotError
from wspilot.node import forks
from wspilot.node.aside import aside
from wspilot.node.images.cache import Cache
from wspilot.node.images.fetch import Task, bring_all
from wspilot.node.images.save import Saving, store
from wspilot.node.images.server import Server
from wspilot.node.images.swarm import Sister, sisters
from wspilot.node.images.transfer import Say, Transfer
from wspilot.node.images.wanted import Wanted, local, wanted
from wspilot.node.network.user import own_address
from wspilot.node.network.way import Ground
from wspilot.node.vmm.stale import end_process, lives, start_time

IMAGE = "image:"  # what the journal's keys begin with
SERVER = f"{IMAGE}server"  # no VM's id: those have no such letters
CACHE_MIB = 20 * 1024  # where the site says nothing
TRIM_S, DEATH_S, POLL_S = 5.0, 1.0, 0.01

Progress = Callable[[float], None]


def cache_of(ground: Ground) -> Cache:
    """This user's cache on this node."""
    cap = ground.settings.images.get("cache_mib")
    known = isinstance(cap, int) and not isinstance(cap, bool) and cap >= 0
    return Cache(ground.places.keep / "images", int(cap or 0) if known else CACHE_MIB)


class Images:
    """All images of one pilot; called from its event loop. `real`: VMs here have files."""

    def __init__(self, ground: Ground, real: bool = True) -> None:
        self._ground, self._cache = ground, cache_of(ground)
        settings = ground.settings
        self._key = bytes.fromhex(settings.workspace_key)
        self._sisters: tuple[Sister, ...] = ()
        self._held: dict[str, list[int]] = {}  # by VM: descriptors, each a shared lock
        self._running: set[Transfer] = set()
        self._server = 0
        self._listener: Optional[socket.socket] = None
        if real and self._key and not settings.repair and settings.images.get("share", True):
            self._listener = _listen()

    def facts(self) -> Mapping[str, Any]:
        """What `started` says: where sisters get images from this node."""
        if self._listener is None:
            return {}
        return {"cache": {"host": own_address(), "port": self._listener.getsockname()[1]}}

    def peers(self, peers: Mapping[str, Any]) -> None:
        """Where the sisters are; with the first of them this node begins to serve.

        Raises WspilotError, OSError.
        """
        if self._listener is not None:
            self._sisters = sisters(peers, self._ground.node)
            if self._sisters and not self._server:
                self._serve(self._listener)

    def _serve(self, listener: socket.socket) -> None:
        cache, key, pilot = self._cache, self._key, os.getpid()
        self._ground.places.make(cache.place)

        def main() -> None:
            forks.die_with(pilot)
            Server(listener, cache, key).run()

        listener.listen()  # until now sisters were refused, and did not wait
        self._server = forks.fork(
            main, [listener.fileno()], f"wspilot-images serve slot={self._ground.settings.slot}"
        )
        self._ground.journal.intend(SERVER, self._entry(self._server))

    def _title(self, what: str, vm: str = "") -> str:
        """So that operators know whose process it is."""
        return f"wspilot-{what} slot={self._ground.settings.slot}" + (f" vm={vm}" if vm else "")

    def _entry(self, pid: int) -> Mapping[str, Any]:
        return {"pid": pid, "start": start_time(pid), "cache": str(self._cache.place)}

    async def propagate(
        self, vm: str, image: Mapping[str, Any], progress: Progress
    ) -> Mapping[str, Any]:
        """The image with its files as they lie in this node's cache, verified, and held for `vm`.

        Cancelled, or raising WspilotError or OSError: nothing of a transfer is left.
        """
        files = wanted(image)
        if files:
            self._ground.places.make(self._cache.place)
            if not self._hold(vm, files):
                await self._bring(vm, files, progress)
        return local(image, {one.role: str(self._cache.path(one.sha256)) for one in files})

    def _hold(self, vm: str, files: tuple[Wanted, ...]) -> bool:
        held = [self._cache.hold(one.sha256, one.bytes) for one in files]
        if min(held) < 0:
            _close(held)
            return False
        self._held.setdefault(vm, []).extend(held)
        return True

    async def _bring(self, vm: str, files: tuple[Wanted, ...], progress: Progress) -> None:
        task = Task(self._cache, self._ground.node, self._sisters, self._key)
        total = sum(one.bytes for one in files) or 1

        def job(say: Say) -> Mapping[str, Any]:
            return bring_all(task, files, say)

        transfer = Transfer(job, self._title("image fetch", vm))
        key, done = f"{IMAGE}{vm}", False
        try:
            self._began(transfer, key)
            await transfer.result(lambda said: progress(said["done"] / total))
            done = self._hold(vm, files)  # while the child still holds them
        finally:
            await asyncio.shield(self._over(transfer, key, done))
        if not done:
            raise WspilotError("its image was here, and is gone: somebody removes files of ours")

    async def save(
        self, vm: str, name: str, image: Mapping[str, Any], flat: Mapping[str, str]
    ) -> Mapping[str, Any]:
        """Write `flat` (files by role, `vmm.flatten`) into the repository as image `name`, with the
        kernel and metadata of `image`; {"image", "bytes"}. The files go in any case.

        Cancelled, or raising WspilotError or OSError: the repository is as it was.
        """
        try:
            repository = str(self._ground.settings.images.get("repository") or "")
            if not repository.startswith("/"):
                raise WspilotError("this slot was not told where the image repository lies")
            task = Saving(Path(repository), name, image, flat)
            transfer = Transfer(
                lambda say: store(task, say),
                f"wspilot-image save slot={self._ground.settings.slot} vm={vm}",
            )
            key = f"{IMAGE}{vm}:save"
            try:
                self._began(transfer, key)
                return await transfer.result(lambda said: None)
            finally:
                await asyncio.shield(self._over(transfer, key, True))
        finally:
            for path in flat.values():
                Path(path).unlink(missing_ok=True)

    def _began(self, transfer: Transfer, key: str) -> None:
        self._running.add(transfer)
        self._ground.journal.intend(key, self._entry(transfer.pid))

    async def _over(self, transfer: Transfer, key: str, done: bool) -> None:
        await transfer.end()
        self._running.discard(transfer)
        self._ground.journal.settle(key)
        if not done:
            await self._trim()

    async def _trim(self) -> None:
        """Remove parts of the dead, and what is beyond the cap; a large file takes a while."""
        cache = self._cache

        def work() -> Mapping[str, Any]:
            return {"left": cache.trim()}

        with contextlib.suppress(WspilotError, OSError):
            await aside(work, TRIM_S, "wspilot-image trim")

    def release(self, vm: str) -> None:
        """A VM is gone: what only it used may be evicted. Idempotent."""
        _close(self._held.pop(vm, []))

    async def close(self) -> None:
        """Nothing of this pilot is left but the cache itself."""
        await asyncio.gather(*(transfer.end() for transfer in list(self._running)))
        for vm in list(self._held):
            self.release(vm)
        if self._server:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self._server, signal.SIGKILL)
                os.waitpid(self._server, 0)  # noqa: ASYNC222 (it hangs in no filesystem)
            self._server = 0
            self._ground.journal.settle(SERVER)
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        used = sum(entry.bytes for entry in self._cache.entries())
        if used > self._cache.cap_mib << 20:
            await self._trim()
        self._cache.tidy()


def undo(entry: Mapping[str, Any]) -> str:
    """End a transfer (or the server) by its journal entry, in any process; blocking."""
    pid, start = entry.get("pid"), entry.get("start")
    ended = False
    if isinstance(pid, int) and isinstance(start, int):
        ended = end_process(pid, start)
        end = time.monotonic() + DEATH_S  # one that hangs in the kernel dies when that lets it
        while lives((pid, start)) and time.monotonic() < end:
            time.sleep(POLL_S)
    Cache(Path(str(entry.get("cache"))), 1 << 40).tidy()
    return "an image's transfer ended" if ended else ""


def _listen() -> Optional[socket.socket]:
    """None where not even a port can be had: then every node goes to the source."""
    try:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind(("", 0))
    except OSError:
        return None
    return listener


def _close(held: list[int]) -> None:
    for fd in held:
        if fd >= 0:
            os.close(fd)


__all__ = ["IMAGE", "Cache", "Images", "cache_of", "undo"]

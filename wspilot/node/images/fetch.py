"""Bringing an image's files into the cache: the work of the child process (`transfer.py`).

Blocking, and may hang wherever a filesystem or a server hangs. Invariant: `<sha256>` appears in the
cache only after all of its bytes were hashed, checked and synced; whatever else ends this process
leaves a part that nobody opens.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import time
from collections.abc import Mapping
from typing import Any, BinaryIO, Callable, Optional

from wspilot import qcow2
from wspilot.errors import UsageError, WspilotError
from wspilot.node.images.cache import SOURCE, Cache, Lock
from wspilot.node.images.source import Read, opened, wrong_size
from wspilot.node.images.swarm import Sister, Swarm
from wspilot.node.images.wanted import Wanted
from wspilot.node.values import dataclass
from wspilot.text import clean

POLL_S = 0.1
STALL_S = 15.0  # of a sister: another one is looked for
BLOCK = 1 << 20
TELL = 1 << 22  # bytes between two words on the progress

TRIES = 3  # a file may be evicted between its arrival and our hold

Tell = Callable[[int], None]
Say = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Task:
    """What one child does. `key` is the workspace's; without sisters nobody is asked."""

    cache: Cache
    node: str = ""
    sisters: tuple[Sister, ...] = ()
    key: bytes = b""


@dataclass(frozen=True)
class Brought:
    """How many bytes came from where; none where the file was there already."""

    source: int = 0
    sisters: int = 0


def bring(task: Task, file: Wanted, tell: Tell) -> Brought:
    """See to it that the file is in the cache; `tell` is told how many of its bytes are there.

    One of several that want it at once fetches it, the others wait. Raises WspilotError, OSError.
    """
    cache = task.cache
    while not _is_here(cache, file):
        lock = cache.lock(file.sha256)
        if lock is None:
            with contextlib.suppress(OSError):
                tell(cache.part(file.sha256).lstat().st_size)
            time.sleep(POLL_S)
            continue
        with lock:
            if _is_here(cache, file) or cache.mend(file.sha256, file.bytes):
                break
            cache.make_room(file.bytes)
            return _fetch(task, file, lock, tell)
    if not _is_here(cache, file):
        raise WspilotError(
            f"the node's copy of {clean(file.where, 200)} was changed while a VM uses it",
            "lease another node; the copy goes when its VMs are gone",
        )
    check_disk(cache, file)
    tell(file.bytes)
    return Brought()


def _is_here(cache: Cache, file: Wanted) -> bool:
    fd = cache.hold(file.sha256, file.bytes)
    if fd >= 0:
        os.close(fd)
    return fd >= 0


def check_disk(cache: Cache, file: Wanted, part: bool = False) -> None:
    """A disk that names other files of this host is none. Raises UsageError."""
    if file.form:
        path = cache.part(file.sha256) if part else cache.path(file.sha256)
        try:
            qcow2.virtual_size(path, file.form)
        except UsageError as error:
            text = f"the image's {file.role}, {clean(file.where, 200)}, {error.message}"
            raise UsageError(text, error.hint) from None


def _fetch(task: Task, file: Wanted, lock: Lock, tell: Tell) -> Brought:
    part = task.cache.part(file.sha256)
    try:
        brought = _once(task, file, lock, tell, direct=not task.sisters)
        if brought is None and task.sisters:  # one of them, or the source as one of them saw it
            brought = _once(task, file, lock, tell, direct=True)
        if brought is None:
            raise WspilotError(
                f"{clean(file.where, 300)} is not what its repository says: another SHA-256 than"
                f" {file.sha256[:16]}...",
                "it is damaged or was changed; add it anew: wspilot images add",
            )
        check_disk(task.cache, file, part=True)
        task.cache.publish(file.sha256)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return brought


def _once(task: Task, file: Wanted, lock: Lock, tell: Tell, direct: bool) -> Optional[Brought]:
    """One try; None when the digest does not fit. `direct`: from the source, whoever has it."""
    part = task.cache.part(file.sha256)
    part.unlink(missing_ok=True)  # a new one: nobody is fed from what was wrong
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(part, flags, 0o600), "r+b", buffering=0) as out:
        sink = _Sink(out, file, tell)
        swarm = Swarm(task.node, task.sisters, task.key, file.sha256, lock)
        source = fed = 0
        while sink.have < file.bytes:
            before = sink.have
            stream = None if direct else swarm.feeder(before)
            if stream is not None:
                sink.drain(stream)
                fed += sink.have - before
                continue
            lock.say(SOURCE)
            with opened(file, before) as read:
                sink.take_all(read)
            source += sink.have - before
        if sink.digest() != file.sha256:
            return None
        os.fsync(out.fileno())
    return Brought(source, fed)


class _Sink:
    """The part, and what has come of it so far."""

    def __init__(self, out: BinaryIO, file: Wanted, tell: Tell) -> None:
        self._out, self._file, self._tell = out, file, tell
        self._sum = hashlib.sha256()
        self._told = 0
        self.have = 0

    def take_all(self, read: Read) -> None:
        """Everything from the source. Raises WspilotError when that is not as long as it was said
        to be."""
        while data := read():
            self._take(data)
        if self.have < self._file.bytes:
            raise wrong_size(self._file, self.have)

    def drain(self, stream: socket.socket) -> None:
        """From a sister, until it ends, is silent too long, or everything is here."""
        with stream:
            stream.settimeout(STALL_S)
            while self.have < self._file.bytes:
                try:
                    data = stream.recv(min(BLOCK, self._file.bytes - self.have))
                except OSError:
                    return
                if not data:
                    return
                self._take(data)

    def _take(self, data: bytes) -> None:
        if self.have + len(data) > self._file.bytes:
            raise wrong_size(self._file, self.have + len(data))
        self._sum.update(data)
        view = memoryview(data)
        while view:
            view = view[self._out.write(view) :]
        self.have += len(data)
        if self.have - self._told >= TELL or self.have == self._file.bytes:
            self._told = self.have
            self._tell(self.have)

    def digest(self) -> str:
        """Of what has come."""
        return self._sum.hexdigest()


def bring_all(task: Task, files: tuple[Wanted, ...], say: Say) -> Mapping[str, Any]:
    """Every file, one after the other; how many bytes came from where.

    They stay held until this process ends, so that its pilot finds them. Raises as `bring`.
    """
    source = fed = before = 0
    for file in files:
        base = before

        def tell(done: int, base: int = base) -> None:
            say({"done": base + done})

        for _ in range(TRIES):
            one = bring(task, file, tell)
            source, fed = source + one.source, fed + one.sisters
            if task.cache.hold(file.sha256, file.bytes) >= 0:
                break  # and never closed
        before += file.bytes
    return {"source": source, "sisters": fed}


__all__ = ["Brought", "Task", "bring", "bring_all", "check_disk"]

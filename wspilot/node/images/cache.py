"""Images on the node's own disk, named by what they hash to; shared by all pilots of a user there.

`<sha256>` is whole and was verified; `<sha256>.part` is being written; `<sha256>.lock` is held
(flock) by the one who writes it and says how far that is. Blocking, in any process, no network
filesystem.

Invariant: nobody opens a part; a file takes its own name only after its digest fitted and it was
synced; a file that somebody holds (a shared flock, as long as its VM is there) is never removed.
Every file bears the time of change that its digest makes (`stamp`): one that was written to
afterwards, by whomever, is not what it says any more, and is hashed again before it is used.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Optional

from wspilot.errors import Refused
from wspilot.node.values import dataclass

SHA = re.compile(r"[0-9a-f]{64}")
# What a lock's holder does (swarm.py): it looks for a feeder, stands for the source, is fed by a
# sister, reads the source.
WAITING, CANDIDATE, READING, SOURCE = b"w", b"c", b"r", b"s"
BLOCK = 1 << 20
SPARE = 64 << 20  # bytes of the file system that are not ours to fill
_MIB = 1 << 20


@dataclass(frozen=True)
class Entry:
    """A verified file of the cache."""

    path: Path
    bytes: int
    used: float


class Cache:
    """One node's cache of at most `cap_mib` (of what no VM uses)."""

    def __init__(self, place: Path, cap_mib: int) -> None:
        self.place, self.cap_mib = place, cap_mib

    def path(self, sha: str) -> Path:
        """Where a file of that digest is, or would be."""
        if not SHA.fullmatch(sha):
            raise ValueError(f"no digest: {sha[:80]!r}")
        return self.place / sha

    def part(self, sha: str) -> Path:
        """Where it is written."""
        return self.path(sha).with_suffix(".part")

    def hold(self, sha: str, size: int) -> int:
        """A descriptor that keeps the file in the cache while it is open; -1: it is not here."""
        path = self.path(sha)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return -1
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            info = os.fstat(fd)
            same = stat.S_ISREG(info.st_mode) and os.path.samestat(info, os.lstat(path))
            if same and info.st_size == size and info.st_mtime_ns == stamp(sha):
                with contextlib.suppress(OSError):
                    os.utime(fd, ns=(time.time_ns(), stamp(sha)))  # last used
                return fd
        except OSError:
            pass  # just being removed, or looked at
        os.close(fd)
        return -1

    def lock(self, sha: str) -> Optional[Lock]:
        """The right to write that file; None while somebody else has it. Raises OSError."""
        path = self.path(sha).with_suffix(".lock")
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        while True:
            fd = os.open(path, flags, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(fd), os.lstat(path)):
                    return Lock(fd, path)
            except BlockingIOError:
                os.close(fd)
                return None
            except FileNotFoundError:
                pass  # its last holder took it away
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def doing(self, sha: str) -> bytes:
        """What the writer of that file does; empty: nobody writes it."""
        try:
            fd = os.open(self.path(sha).with_suffix(".lock"), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return os.pread(fd, 1, 0) or WAITING
        except OSError:
            pass
        finally:
            os.close(fd)
        return b""

    def mend(self, sha: str, size: int) -> bool:
        """A file that was touched is hashed again: True when it is what it says; else it goes.

        By whoever has the lock.
        """
        path = self.path(sha)
        try:
            with _alone(path) as fd:
                if fd < 0:
                    return True  # in use, and whoever uses it has looked
                if os.fstat(fd).st_size == size and _hash(fd) == sha:
                    os.utime(fd, ns=(time.time_ns(), stamp(sha)))
                    return True
                path.unlink()
        except FileNotFoundError:
            pass
        return False

    def publish(self, sha: str) -> None:
        """The part is whole, verified and synced: it gets its name. Raises OSError."""
        part = self.part(sha)
        part.chmod(0o400)
        os.utime(part, ns=(time.time_ns(), stamp(sha)))
        part.rename(self.path(sha))
        _sync(self.place)

    def entries(self) -> list[Entry]:
        """What is in it, the least lately used first."""
        found = []
        for path in self.place.iterdir() if self.place.is_dir() else ():
            if SHA.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    info = path.lstat()
                    found.append(Entry(path, info.st_size, info.st_atime))
        return sorted(found, key=lambda entry: entry.used)

    def trim(self, room: int = 0) -> int:
        """Remove what nobody uses until there is `room` below the cap; the bytes that are left.

        Parts that nobody writes any more go in any case.
        """
        self._sweep()
        entries = self.entries()
        left = sum(entry.bytes for entry in entries)
        for entry in entries:
            if left + room <= self.cap_mib * _MIB:
                break
            left -= entry.bytes if self._evict(entry) else 0
        return left

    def make_room(self, size: int) -> None:
        """Before `size` bytes are written. Raises Refused when the disk has no place for them."""
        self.trim(size)
        for entry in self.entries():
            if _free(self.place) >= size + SPARE:
                return
            self._evict(entry)
        free = _free(self.place)
        if free < size + SPARE:
            raise Refused(
                f"the node's disk has {free // _MIB} MiB free at {self.place}, and the image needs"
                f" {size // _MIB} MiB",
                "lease another node, or free some of its disk",
            )

    def _evict(self, entry: Entry) -> bool:
        try:
            with _alone(entry.path) as fd:
                if fd >= 0:
                    entry.path.unlink()
                return fd >= 0
        except OSError:
            return True  # somebody else did

    def _sweep(self) -> None:
        """What killed writers left."""
        for path in list(self.place.glob("*.part")) + list(self.place.glob("*.lock")):
            if SHA.fullmatch(path.stem):
                with contextlib.suppress(OSError):
                    lock = self.lock(path.stem)
                    if lock is not None:
                        self.part(path.stem).unlink(missing_ok=True)
                        lock.close()

    def tidy(self) -> None:
        """Remove the place when it is empty."""
        with contextlib.suppress(OSError):
            self._sweep()
            self.place.rmdir()


class Lock:
    """The right to write one file of the cache, and the word on how far that is."""

    def __init__(self, fd: int, path: Path) -> None:
        self._fd, self._path = fd, path

    def say(self, doing: bytes) -> None:
        """One letter for whoever asks (`Cache.doing`)."""
        os.pwrite(self._fd, doing, 0)

    def close(self) -> None:
        """Given up; the file goes while it is still ours."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                self._path.unlink()
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def stamp(sha: str) -> int:
    """The time of change that a verified file bears, ns: within 1970 to 2004, whole seconds."""
    return (int(sha[:8], 16) >> 2) * 1_000_000_000


def _hash(fd: int, told: Callable[[int], None] = lambda done: None) -> str:
    total, at = hashlib.sha256(), 0
    while True:
        data = os.pread(fd, BLOCK, at)
        if not data:
            return total.hexdigest()
        total.update(data)
        at += len(data)
        told(at)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[int]:
    """The file, held by nobody else; -1 when somebody does. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            same = os.path.samestat(os.fstat(fd), os.lstat(path))
        except BlockingIOError:
            same = False
        yield fd if same else -1
    finally:
        os.close(fd)


def _free(place: Path) -> int:
    room = os.statvfs(place)
    return room.f_bavail * room.f_frsize


def _sync(place: Path) -> None:
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

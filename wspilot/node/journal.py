"""The undo journal: what would have to be undone if this process died now, on the node's own disk.

An entry is written, and is on disk, before its step is taken, and is settled after the step has
been undone. One line each: a checksum and a JSON object. A torn last line is an intent whose step
was never taken. The pilot holds an flock on the file and its guardian inherits that; whoever else
gets the lock knows that both are gone (DESIGN.md section 6).
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from wspilot.errors import WspilotError
from wspilot.node.files import read_private
from wspilot.node.values import dataclass

VERSION = 1
MAX_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Content:
    """What a journal says. `entries` are those not settled, in the order of their first intent."""

    header: Mapping[str, Any]
    entries: Mapping[str, Mapping[str, Any]]
    damaged: int = 0  # lines in the middle that are not ours any more


def parse(raw: bytes) -> Content:
    """Read a journal's bytes. Never raises: a damaged line is counted and left out."""
    header: Mapping[str, Any] = {}
    entries: dict[str, Mapping[str, Any]] = {}
    damaged = 0
    lines = raw.split(b"\n")
    for number, line in enumerate(lines):
        record = _record(line)
        if record is None:
            # Without its newline the last line is a step that was never taken.
            damaged += bool(line) and number < len(lines) - 1
        elif "v" in record:
            header = record
        elif record.get("done"):
            entries.pop(str(record.get("key")), None)
        elif isinstance(record.get("entry"), dict):
            entries[str(record.get("key"))] = record["entry"]
    return Content(header, entries, damaged)


def _record(line: bytes) -> Optional[Mapping[str, Any]]:
    check, blank, text = line.partition(b" ")
    try:
        if not blank or int(check, 16) != zlib.crc32(text):
            return None
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _line(record: Mapping[str, Any]) -> bytes:
    text = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


class Journal:
    """An open journal whose lock is held. `header` says whose it is."""

    def __init__(self, path: Path, fd: int, content: Content) -> None:
        self.path, self.fd = path, fd
        self.header = content.header
        self.entries: dict[str, Mapping[str, Any]] = dict(content.entries)
        self.damaged = content.damaged

    def intend(self, key: str, entry: Mapping[str, Any]) -> None:
        """On disk before the step is taken. The same key again replaces what is known of it."""
        self._append({"key": key, "entry": dict(entry)})
        self.entries[key] = dict(entry)

    def settle(self, key: str) -> None:
        """The step has been undone. On a full disk that is not written down, and undoing it once
        more does no harm; the end of the file needs no room."""
        if key in self.entries:
            del self.entries[key]
            try:
                self._append({"key": key, "done": True})
            except OSError:
                pass

    def reread(self) -> None:
        """Take over what another process, which held the same lock, wrote last."""
        content = parse(_read_whole_lines(self.fd))
        self.header, self.entries = content.header, dict(content.entries)
        self.damaged = content.damaged

    def set_aside(self) -> Path:
        """A damaged one, for a person to look at: nobody takes it for a journal any more."""
        aside = self.path.with_suffix(".damaged")
        self.path.rename(aside)
        return aside

    def remove(self) -> None:
        """Nothing is left to undo: the file goes while its lock is still held."""
        try:
            self.path.unlink()
        except FileNotFoundError:
            pass

    def close(self) -> None:
        """Let go of the lock (unless a guardian holds it too)."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _append(self, record: Mapping[str, Any]) -> None:
        data, size = _line(record), os.fstat(self.fd).st_size
        try:
            while data:
                data = data[os.write(self.fd, data) :]
        except OSError:
            os.ftruncate(self.fd, size)  # or the next line would be joined to half of this one
            raise
        os.fdatasync(self.fd)


def create(path: Path, header: Mapping[str, Any]) -> Journal:
    """A new journal, locked. Raises OSError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    journal = Journal(path, fd, Content({"v": VERSION, **header}, {}))
    journal._append(journal.header)
    return journal


def take(path: Path, uid: int) -> Optional[Journal]:
    """Another's journal, when its lock is free; None when it is held or the file is gone.

    Raises WspilotError when the file is not one of ours.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or info.st_uid != uid:
            raise WspilotError(f"{path} is not a file of uid {uid}")
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _still_there(path, info):
            os.close(fd)
            return None
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return Journal(path, fd, parse(_read_whole_lines(fd)))


def peek(path: Path) -> Content:
    """What a journal says whose lock somebody else holds; nothing when it is no file of ours."""
    try:
        return parse(read_private(path, MAX_BYTES))
    except (OSError, ValueError):
        return Content({}, {})


def is_held(path: Path) -> bool:
    """Does anybody hold its lock?"""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False


def _read(fd: int) -> bytes:
    return os.pread(fd, MAX_BYTES, 0)


def _read_whole_lines(fd: int) -> bytes:
    """By who holds the lock and will append: a torn last line is cut off."""
    raw = _read(fd)
    whole = raw.rfind(b"\n") + 1
    if whole < len(raw) < MAX_BYTES:
        os.ftruncate(fd, whole)
    return raw[:whole]


def _still_there(path: Path, info: os.stat_result) -> bool:
    """Was the file removed (undone by its owner) between our open and our lock?"""
    try:
        return os.path.samestat(os.lstat(path), info)
    except FileNotFoundError:
        return False

"""The files of an image: where they lie, how large they are, and what they must hash to.

A digest that image.json does not give is computed once and remembered while the file stays as it
is; a file too large for that is refused in words. Invariant: a `File` has been looked at: it is
there (or a URL), has the size that was said, and is of the format that was said.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wspilot import qcow2
from wspilot.errors import UsageError
from wspilot.text import clean

HASHED_MAX = 256 * 1024 * 1024  # at some 500 MB/s; a lease waits for it, once
BLOCK = 1 << 20
MOST = 16  # partitions, and blanks: QEMU's slots are few
FILESYSTEMS = ("ext4", "swap", "none")
FORMATS = ("qcow2", "raw")
BLANK_MAX_MIB = 1 << 24
_SHA = re.compile(r"[0-9a-f]{64}")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,15}")  # ext4's and swap's limit is 16
_URL = re.compile(
    r"https?://[A-Za-z0-9.:\[\]_-]+(/[!-~]*)?"
    r"|ssh://([A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?/[ -~]+"
)


@dataclass(frozen=True)
class File:
    """One file that a node must have."""

    name: str
    where: str
    """An absolute path, or a URL."""
    sha256: str
    bytes: int

    def spec(self) -> dict[str, Any]:
        """As a node is told of it."""
        kind = "path" if self.where.startswith("/") else "url"
        return {kind: self.where, "name": self.name, "sha256": self.sha256, "bytes": self.bytes}


class Folder:
    """One image's folder and its image.json, read with suspicion. Raises ValueError, OSError."""

    def __init__(self, place: Path, doc: Mapping[str, Any]) -> None:
        self._place = place
        self._sizes, self._sums = _table(doc, "sizes"), _table(doc, "sha256")
        self._urls = _table(doc, "urls")

    def file(self, key: str, value: object, form: str = "") -> File:
        """The file that `key` names; `form` (qcow2, raw) is checked where there is one."""
        if not isinstance(value, str) or not 0 < len(value) <= 255 or "\0" in value:
            raise ValueError(f"{key} must be the name of a file")
        said, sha = self._sizes.get(value), self._sums.get(value, "")
        if said is not None and (not isinstance(said, int) or isinstance(said, bool) or said < 0):
            raise ValueError(f"sizes: {clean(value, 80)} must be a number of bytes")
        if sha and (not isinstance(sha, str) or not _SHA.fullmatch(sha)):
            raise ValueError(f"sha256: {clean(value, 80)} must be 64 hex digits")
        if value in self._urls:
            return self._far(value, said, str(sha))
        path = self._inside(key, value)
        size = path.stat().st_size
        if said is not None and size != said:
            less = "is truncated: it " if size < said else ""
            raise ValueError(f"{key}: {clean(value, 80)} {less}has {size} bytes, not {said}")
        if form:
            _of_format(key, value, path, form)
        return File(value, str(path), str(sha) or _hashed(key, path), size)

    def _far(self, name: str, size: object, sha: str) -> File:
        url = self._urls[name]
        if not isinstance(url, str) or len(url) > 1000 or not _URL.fullmatch(url):
            raise ValueError(f"urls: {clean(name, 80)} must be an http, https or ssh URL")
        if not isinstance(size, int) or not sha:
            raise ValueError(f"urls: {clean(name, 80)} needs its `sizes` and `sha256` too")
        return File(name, url, sha, size)

    def _inside(self, key: str, value: str) -> Path:
        path = (self._place / value).resolve()
        if not path.is_relative_to(self._place.resolve()):
            raise ValueError(f"{key}: {clean(value, 80)} lies outside the image's folder")
        if not path.is_file():
            raise ValueError(f"{key}: {clean(value, 80)} is not there")
        return path


def is_url(text: str) -> bool:
    """One that nodes can fetch from."""
    return len(text) <= 1000 and _URL.fullmatch(text) is not None


def _table(doc: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = doc.get(key, {})
    if not isinstance(value, Mapping):
        raise ValueError(f"{key} must be a table")
    return value


def _of_format(key: str, name: str, path: Path, form: str) -> None:
    try:
        qcow2.virtual_size(path, form)
    except UsageError as error:
        hint = f" ({error.hint})" if error.hint else ""
        raise ValueError(f"{key}: {clean(name, 80)} {error.message}{hint}") from None


def partitions(folder: Folder, doc: Mapping[str, Any]) -> tuple[tuple[str, str, File], ...]:
    """(role, format, file) of each cached partition: a disk of its own for the guest."""
    found = []
    for n, one in enumerate(_entries(doc, "partitions", ("file", "format", "role"))):
        where = f"partitions[{n}]"
        form, role = one.get("format", "raw"), one.get("role", "")
        if form not in FORMATS:
            raise ValueError(f"{where}.format must be one of {', '.join(FORMATS)}")
        if not isinstance(role, str) or clean(role, 80) != role:
            raise ValueError(f"{where}.role must be one line of at most 80 characters")
        found.append((role, str(form), folder.file(f"{where}.file", one.get("file"), str(form))))
    return tuple(found)


def blanks(doc: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """{size_mib, fs, label} of each empty disk that a node makes for the guest."""
    from wspilot.text import parse_size

    found = []
    for n, one in enumerate(_entries(doc, "blank", ("size", "fs", "label"))):
        where, fs, label = f"blank[{n}]", one.get("fs", "none"), one.get("label", "")
        if fs not in FILESYSTEMS:
            raise ValueError(f"{where}.fs must be one of {', '.join(FILESYSTEMS)}")
        if not isinstance(label, str) or (label and not _LABEL.fullmatch(label)):
            raise ValueError(f"{where}.label must be at most 16 letters, digits, . _ and -")
        size = parse_size(one.get("size"), f"{where}.size")
        if not 1 <= size <= BLANK_MAX_MIB:
            raise ValueError(f"{where}.size must be 1MiB to 16TiB")
        found.append({"size_mib": size, "fs": fs, "label": label})
    return tuple(found)


def _entries(doc: Mapping[str, Any], key: str, known: tuple[str, ...]) -> list[Mapping[str, Any]]:
    value = doc.get(key, [])
    if not isinstance(value, list) or len(value) > MOST:
        raise ValueError(f"{key} must be a list of at most {MOST} tables")
    for n, one in enumerate(value):
        if not isinstance(one, Mapping) or not set(one) <= set(known):
            raise ValueError(f"{key}[{n}] must be a table of {', '.join(known)}")
    return value


# -- digests that nobody wrote down

_Mark = tuple[int, int, int, int, int]
_computed: dict[str, tuple[_Mark, str]] = {}
_lock = threading.Lock()  # the daemon reads images in several threads


def _hashed(key: str, path: Path) -> str:
    """Computed once for each state of the file, by size, times and inode."""
    info = path.stat()
    if info.st_size > HASHED_MAX:
        raise ValueError(
            f"{key}: {clean(path.name, 80)} has no sha256 in image.json and is too large to compute"
            " it while a lease waits: `wspilot images add` writes one"
        )
    mark = (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
    known = _computed.get(str(path))
    if known is None or known[0] != mark:
        with _lock:
            known = (mark, digest(path))
            _computed[str(path)] = known
    return known[1]


def digest(path: Path, progress: Callable[[int], None] = lambda done: None) -> str:
    """A file's SHA-256; `progress` is told how many bytes are done. Raises OSError."""
    total, done = hashlib.sha256(), 0
    with open(path, "rb", buffering=0) as file:
        while part := file.read(BLOCK):
            total.update(part)
            done += len(part)
            progress(done)
    return total.hexdigest()


def together(files: Mapping[str, File]) -> str:
    """One digest that stands for all files of an image, by role."""
    lines = "".join(f"{role} {file.sha256}\n" for role, file in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest() if files else ""


def synced(place: Path) -> None:
    """A directory's entries are on the disk. Raises OSError."""
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

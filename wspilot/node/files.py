"""Files on the spool: written whole or not at all, read only when they are ours."""

from __future__ import annotations

import os
import stat
from pathlib import Path

LARGEST = 64 * 1024


def put(spool: Path, direction: str, name: str, raw: bytes) -> None:
    """One file, complete or not at all. Raises OSError."""
    draft = spool / "tmp" / f"{direction}-{name}"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        while raw:
            raw = raw[os.write(fd, raw) :]
        if direction != "hb":
            os.fsync(fd)
    finally:
        os.close(fd)
    draft.rename(spool / direction / name)


def read_private(path: Path, limit: int = LARGEST) -> bytes:
    """A regular file of ours, never through a link. Raises OSError, ValueError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or info.st_uid != os.getuid():
            raise ValueError("not a regular file of this user")
        if info.st_size > limit:
            raise ValueError(f"larger than {limit} bytes")
        raw = b""
        while len(raw) <= limit:
            part = os.read(fd, limit + 1)
            if not part:
                return raw
            raw += part
        raise ValueError(f"larger than {limit} bytes")
    finally:
        os.close(fd)


def sync(place: Path) -> None:
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

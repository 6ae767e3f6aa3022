"""Is there an ext filesystem on a disk, so that files can be written into it without mounting it?

Read by us, 1 KiB of the superblock: no tool is let near a file nobody checked. Shared by headnode
and nodes; standard library only, Python 3.9.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Optional

from wspilot import qcow2
from wspilot.errors import UsageError

_AT, _LENGTH = 1024, 128
_MAGIC, _RECOVER, _JOURNAL_DEVICE = 0xEF53, 0x4, 0x8


def check(path: Path, form: str) -> None:
    """Raises UsageError where the disk holds no ext2, ext3 or ext4 from its first byte on, OSError.

    A compressed qcow2 that cannot be looked into from here passes: its node looks again.
    """
    block = superblock(path, form)
    if block is None:
        return
    magic, incompatible = struct.unpack_from("<H38xI", block, 56)
    if magic == _MAGIC and not incompatible & _JOURNAL_DEVICE:
        return
    first = qcow2.peek(path, form, 510, 2) or b""
    if first == b"\x55\xaa":
        raise UsageError(
            "has a partition table: only a disk that is one ext4 filesystem can be patched",
            "cut its root partition out, and boot it with a kernel from outside (--kernel)",
        )
    raise UsageError(
        "holds no ext2, ext3 or ext4 filesystem, so no file can be written into it",
        'use context = "agent" or "cloud-init", which write nothing',
    )


def is_clean(path: Path, form: str) -> bool:
    """False: its journal has to be replayed before anybody may write. Raises OSError."""
    block = superblock(path, form)
    if block is None:
        return False
    state, incompatible = struct.unpack_from("<H36xI", block, 58)
    return state == 1 and not incompatible & _RECOVER


def superblock(path: Path, form: str) -> Optional[bytes]:
    """None: a compressed image that cannot be looked into without tools."""
    return qcow2.peek(path, form, _AT, _LENGTH)

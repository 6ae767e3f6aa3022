"""What a disk image's file says of itself, read by us: no tool is let near a file nobody checked.

A qcow2 may name other files (a backing file, an external data file), and whoever opens it opens
those too: a hostile image would read the host's files into a guest. Shared by headnode and nodes;
standard library only, Python 3.9.

Invariant: a qcow2 that passes `virtual_size` names no other file than the one that was expected.
"""

from __future__ import annotations

import array
import os
import struct
import sys
from pathlib import Path
from typing import BinaryIO, Optional

from wspilot.errors import UsageError
from wspilot.text import clean

MAGIC = b"QFI\xfb"
SECTOR = 512
_V2 = struct.Struct(">4sIQIIQIIQQIIQ")  # 72 bytes
_V3 = struct.Struct(">QQQII")  # from 72 on
_KNOWN = 0b11101  # dirty, external data (refused below), compression type, extended L2
_CORRUPT, _DATA_FILE, _EXTENDED_L2 = 1 << 1, 1 << 2, 1 << 4
_DATA_NAME = 0x44415441
_OFFSET = 0x00FFFFFFFFFFFE00
_COMPRESSED = 1 << 62
_L1_MOST = 4 * 1024 * 1024  # entries; QEMU's own limit
_OTHERS = {
    b"KDMV": "a VMDK",
    b"COWD": "a VMDK",
    b"# Disk De": "a VMDK",
    b"conectix": "a VHD",
    b"vhdxfile": "a VHDX",
    b"QED\0": "a QED image",
    b"<<< Oracle VM": "a VDI",
    b"<<< QEMU VM": "a VDI",
    b"<<< Sun": "a VDI",
    b"\x1f\x8b": "compressed (gzip)",
    b"\xfd7zXZ\0": "compressed (xz)",
    b"\x28\xb5\x2f\xfd": "compressed (zstd)",
    b"BZh": "compressed (bzip2)",
    b"PK\x03\x04": "a zip archive",
}


def virtual_size(path: Path, form: str, backing: str = "") -> int:
    """Bytes of the disk that a guest sees. `backing` is the one backing file that may be named.

    Raises UsageError in words for what is no such image, is truncated, or names other files;
    OSError where it cannot be read.
    """
    with open(path, "rb") as file:
        return size_of(file, form, backing)


def size_of(file: BinaryIO, form: str, backing: str = "") -> int:
    """The same of an open file."""
    end = os.fstat(file.fileno()).st_size
    head = file.read(_V2.size + _V3.size)
    if form != "qcow2":
        if end == 0 or end % SECTOR:
            raise UsageError(f"is {end} bytes, no whole number of sectors: is it truncated?")
        return end
    return _qcow2(file, head, end, backing)


def guess(path: Path) -> str:
    """`qcow2` or `raw`, by its first bytes. Raises UsageError for what is neither, OSError."""
    with open(path, "rb") as file:
        head = file.read(16)
    if head.startswith(MAGIC):
        return "qcow2"
    for magic, what in _OTHERS.items():
        if head.startswith(magic):
            raise UsageError(
                f"is {what}, neither qcow2 nor raw",
                "unpack it, or convert it: qemu-img convert -O qcow2 FILE FILE.qcow2",
            )
    return "raw"


def _qcow2(file: BinaryIO, head: bytes, end: int, backing: str) -> int:
    if len(head) < _V2.size or not head.startswith(MAGIC):
        raise UsageError("is not a qcow2" if head[:4] != MAGIC else "is truncated in its header")
    (_, version, back_at, back_len, bits, size, crypt, l1, l1_at, refs_at, refs, _, _) = (
        _V2.unpack_from(head)
    )
    if version not in (2, 3) or not 9 <= bits <= 21 or l1 > _L1_MOST:
        raise UsageError(f"is a qcow2 of version {version} that cannot be read")
    if version == 3 and len(head) < _V2.size + _V3.size:
        raise UsageError("is truncated in its header")
    incompatible, length = 0, _V2.size
    if version == 3:
        incompatible, _, _, _, length = _V3.unpack_from(head, _V2.size)
    _features(incompatible)
    if crypt:
        raise UsageError("is encrypted: a node has no key for it")
    _backing(file, back_at, back_len, backing)
    _extensions(file, length, min(back_at or (1 << bits), 1 << bits))
    if l1_at + 8 * l1 > end or refs_at + (refs << bits) > end + (1 << bits):
        raise UsageError(f"is truncated: its tables end behind its {end} bytes")
    return int(size)


def _features(incompatible: int) -> None:
    if incompatible & _DATA_FILE:
        raise UsageError(
            "keeps its data in an external data file, which could be any file of the host",
            "make it one file: qemu-img convert -O qcow2 FILE NEW",
        )
    if incompatible & _CORRUPT:
        raise UsageError("is marked as corrupt", "qemu-img check -r all, on a machine of your own")
    if incompatible & ~_KNOWN:
        raise UsageError(f"has features that are not known here (0x{incompatible:x})")


def _backing(file: BinaryIO, at: int, length: int, expected: str) -> None:
    if at == 0:
        if expected:
            raise UsageError("has lost its backing file")
        return
    name = b""
    if 0 < length <= 1023 and at < os.fstat(file.fileno()).st_size:
        file.seek(at)
        name = file.read(length)
    if not expected or name != os.fsencode(expected):
        raise UsageError(
            f"has a backing file ({clean(name, 80)}), which could be any file of the host",
            "make it one file: qemu-img convert -O qcow2 FILE NEW",
        )


def _extensions(file: BinaryIO, at: int, end: int) -> None:
    """A data file's name is refused even where the bit that makes it count is not set."""
    while at + 8 <= end:
        file.seek(at)
        head = file.read(8)
        kind, length = struct.unpack(">II", head) if len(head) == 8 else (0, 0)
        if kind == 0:
            return
        if kind == _DATA_NAME:
            _features(_DATA_FILE)
        at += 8 + (length + 7) // 8 * 8


def peek(path: Path, form: str, at: int, length: int) -> Optional[bytes]:
    """Bytes that a guest sees at `at`, for an image that passed `virtual_size`; within 512 bytes
    or a cluster. None where they cannot be told here: compressed, or with subclusters.

    Raises UsageError for what is truncated, OSError.
    """
    with open(path, "rb") as file:
        if form == "qcow2":
            head = file.read(_V2.size + _V3.size)
            fields = _V2.unpack_from(head)
            bits, l1, l1_at = fields[4], fields[7], fields[8]
            if fields[1] == 3 and _V3.unpack_from(head, _V2.size)[0] & _EXTENDED_L2:
                return None
            number, inside = at >> bits, at & ((1 << bits) - 1)
            tables = _table(file, l1_at, min(l1, 1 + number // (1 << (bits - 3))))
            table = tables[-1] & _OFFSET if tables else 0
            where = number % (1 << (bits - 3))
            entry = _table(file, table + 8 * where, 1)[0] if table else 0
            if entry & _COMPRESSED:
                return None
            if not entry & _OFFSET or entry & 1:  # unallocated, or said to be zeros
                return bytes(length)
            at = (entry & _OFFSET) + inside
        file.seek(at)
        return file.read(length).ljust(length, b"\0")


def check_whole(path: Path) -> None:
    """Does a qcow2 (that passed `virtual_size`) hold every cluster that it speaks of?

    For an image whose digest nobody knows: a download that broke off looks whole from its header.
    Reads the tables alone, some 1 MiB for every 8 GiB. Raises UsageError, OSError.
    """
    with open(path, "rb") as file:
        end = os.fstat(file.fileno()).st_size
        head = file.read(_V2.size + _V3.size)
        fields = _V2.unpack_from(head)
        bits, l1, l1_at = fields[4], fields[7], fields[8]
        extended = fields[1] == 3 and _V3.unpack_from(head, _V2.size)[0] & _EXTENDED_L2
        for at in _table(file, l1_at, l1):
            table = at & _OFFSET
            if not table:
                continue
            entries = _table(file, table, (1 << bits) // 8)
            _clusters(entries[::2] if extended else entries, bits, end)


def _clusters(entries: array.array[int], bits: int, end: int) -> None:
    packed = (1 << (62 - (bits - 8))) - 1  # where a compressed cluster lies
    for entry in entries:
        at = entry & packed if entry & _COMPRESSED else entry & _OFFSET
        if at >= end:
            raise UsageError(f"is truncated: data at byte {at} of {end}")


def _table(file: BinaryIO, at: int, entries: int) -> array.array[int]:
    file.seek(at)
    raw = file.read(8 * entries)
    if len(raw) < 8 * entries:
        raise UsageError(f"is truncated: a table at byte {at} is cut off")
    table = array.array("Q", raw)
    if sys.byteorder == "little":
        table.byteswap()
    return table

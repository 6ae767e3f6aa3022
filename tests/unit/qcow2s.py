"""qcow2 files as no tool would write them: headers made by hand."""

from __future__ import annotations

import struct

BITS = 16


def header(
    version: int = 3,
    size: int = 1 << 20,
    backing: bytes = b"",
    incompatible: int = 0,
    crypt: int = 0,
    bits: int = BITS,
    l1: int = 1,
    l1_at: int = 1 << BITS,
    extension: tuple[int, bytes] = (0, b""),
    whole: bool = True,
) -> bytes:
    """The first clusters of an image: header, an empty L1 table, an empty refcount table."""
    kind, value = extension
    tail = struct.pack(">II", kind, len(value)) + value.ljust(-(-len(value) // 8) * 8, b"\0")
    tail += bytes(8)
    at = (104 + len(tail) if version == 3 else 72) if backing else 0
    head = struct.pack(
        ">4sIQIIQIIQQIIQ", b"QFI\xfb", version, at, len(backing), bits, size, crypt, l1, l1_at,
        2 << BITS, 1, 0, 0,
    )  # fmt: skip
    if version == 3:
        head += struct.pack(">QQQII", incompatible, 0, 0, 4, 104)
        head += tail + backing
    else:
        head += backing
    return head.ljust(3 << BITS if whole else len(head), b"\0")

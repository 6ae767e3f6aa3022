"""A qcow2 as a hostile hand would write it: what names another file, or is cut off, is refused."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from tests.unit.qcow2s import BITS, header
from wspilot.errors import UsageError
from wspilot.qcow2 import check_whole, guess, virtual_size

LOST = struct.pack(">4sIQI", b"QFI\xfb", 3, 1 << 63, 9) + header()[20:]
BAD = {
    "has a backing file (/etc/passwd)": header(backing=b"/etc/passwd"),
    "has a backing file (base.qcow2)": header(backing=b"base.qcow2"),
    'has a backing file (json:{"driver":"https"})': header(backing=b'json:{"driver":"https"}'),
    "has a backing file (old)": header(version=2, backing=b"old"),
    "has a backing file ()": LOST,
    "external data file": header(incompatible=1 << 2),
    "an external data file, which could": header(extension=(0x44415441, b"/etc/shadow")),
    "is marked as corrupt": header(incompatible=1 << 1),
    "features that are not known here (0x20)": header(incompatible=1 << 5),
    "is encrypted": header(crypt=2),
    "a qcow2 of version 7": header(version=7),
    "that cannot be read": header(bits=63),
    "is truncated: its tables end": header(l1=1 << 20),
    "its tables end behind its": header(whole=False),
    "is truncated in its header": header()[:80],
    "is not a qcow2": b"KDMV" + bytes(200),
}


@pytest.mark.parametrize("says", BAD)
def test_what_is_refused(tmp_path: Path, says: str) -> None:
    path = tmp_path / "disk"
    path.write_bytes(BAD[says])
    with pytest.raises(UsageError) as caught:
        virtual_size(path, "qcow2")
    assert says in caught.value.message


def test_what_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    for raw in (header(), header(version=2), header(incompatible=0b11000),
                header(extension=(0x6803F857, b"features"))):  # fmt: skip
        path.write_bytes(raw)
        assert virtual_size(path, "qcow2") == 1 << 20
    path.write_bytes(header(backing=b"/cache/base"))
    assert virtual_size(path, "qcow2", backing="/cache/base") == 1 << 20
    path.write_bytes(header())
    with pytest.raises(UsageError, match="lost its backing file"):
        virtual_size(path, "qcow2", backing="/cache/base")


def test_a_raw_disk_is_whole_sectors(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    for size in (0, 511, 513):
        path.write_bytes(bytes(size))
        with pytest.raises(UsageError, match="truncated"):
            virtual_size(path, "raw")
    path.write_bytes(bytes(1024))
    assert virtual_size(path, "raw") == 1024
    path.write_bytes(header(backing=b"/etc/passwd"))  # said to be raw: nobody opens what it names
    assert virtual_size(path, "raw") == 3 << BITS


def test_clusters_beyond_the_end_are_found(tmp_path: Path) -> None:
    path, cluster = tmp_path / "disk", 1 << BITS
    whole = bytearray(header().ljust(5 * cluster, b"\0"))
    struct.pack_into(">Q", whole, cluster, 3 * cluster | 1 << 63)  # L1 -> L2
    struct.pack_into(">Q", whole, 3 * cluster, 4 * cluster | 1 << 63)  # L2 -> data
    path.write_bytes(whole)
    check_whole(path)
    path.write_bytes(whole[: 4 * cluster])
    with pytest.raises(UsageError, match="truncated: data at byte 262144"):
        check_whole(path)
    path.write_bytes(whole[: 3 * cluster])
    with pytest.raises(UsageError, match="a table at byte 196608 is cut off"):
        check_whole(path)


def test_other_kinds_are_named(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    for raw, word in ((b"KDMV", "VMDK"), (b"conectix", "VHD"), (b"\x1f\x8b", "gzip")):
        path.write_bytes(raw + bytes(600))
        with pytest.raises(UsageError, match=word):
            guess(path)
    path.write_bytes(b"\xeb\x63")
    assert guess(path) == "raw"


def test_rubbish_raises_nothing_else(tmp_path: Path) -> None:
    path, rng = tmp_path / "disk", random.Random(7)
    good = header(extension=(0x6803F857, b"features" * 6))[:300]
    for _ in range(3000):
        raw = bytearray(good)
        for _ in range(rng.randint(1, 8)):
            raw[rng.randrange(112)] = rng.randrange(256)
        path.write_bytes(raw[: rng.choice((300, 300, 104, 72, 50, 0))])
        try:
            virtual_size(path, "qcow2")
        except UsageError:
            pass

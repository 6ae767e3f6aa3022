"""Context for a guest's own disk: which files, and what debugfs is told. Pure."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from tests.unit.node.test_context import DATA, PICTURE
from tests.unit.qcow2s import BITS, header
from wspilot import ext4
from wspilot.errors import UsageError
from wspilot.node import patch
from wspilot.node.patch import KEYS, Entry, Seen

FOLDERS = {f"{path}/.": "directory" for path, _ in patch.FOLDERS}


def by_path(**more: Any) -> dict[str, Entry]:
    return {one.path: one for one in patch.entries({**DATA, **more}, PICTURE)}


def known(**kinds: str) -> Seen:
    return Seen({**FOLDERS, **kinds}, {}, {})


def test_each_file_has_its_documented_place_and_mode() -> None:
    found = by_path(host_key="PRIVATE\n", user_data="#!/bin/sh\necho hi\n")
    assert {path: oct(one.mode) for path, one in found.items()} == {
        "/etc/hostname": "0o644",
        "/etc/hosts": "0o644",
        "/etc/ssh/ssh_host_ed25519_key": "0o600",
        "/etc/ssh/ssh_host_ed25519_key.pub": "0o644",
        "/etc/ssh/ssh_known_hosts": "0o644",
        "/etc/wspilot/context": "0o644",
        "/etc/wspilot/nodefile": "0o644",
        "/etc/wspilot/report": "0o755",
        "/etc/wspilot/roles": "0o644",
        "/etc/wspilot/script": "0o700",
        "/etc/wspilot/user-data": "0o600",
        "/root/.ssh/authorized_keys": "0o600",
    }
    assert found["/etc/hostname"].data == b"worker-1\n"
    assert b"10.77.0.2 ce-1" in found["/etc/hosts"].data
    assert found["/etc/wspilot/script"].data == b"#!/bin/sh\necho hi\n"
    assert found["/etc/ssh/ssh_host_ed25519_key"].data == b"PRIVATE\n"
    assert found[KEYS].data == b"ssh-ed25519 K me\n"


def test_without_a_host_key_the_images_own_stays() -> None:
    assert "/etc/ssh/ssh_host_ed25519_key" not in by_path()


def test_nothing_of_a_user_is_ever_in_a_line_of_the_script() -> None:
    evil = "\nrm /etc/passwd\nwrite /etc/shadow /etc/hosts\n"
    entries = patch.entries({**DATA, "user_data": evil, "host_key": evil}, PICTURE)
    script = patch.write(entries, known(), range(50, 99), range(100, 150))
    words = {"cd", "mkdir", "set_inode_field", "rm", "write", "stat", "dump"}
    assert {line.split()[0] for line in script.splitlines()} <= words
    assert "passwd" not in script and "shadow" not in script
    assert script.count("\n") == 4 * len(entries)


def test_a_folder_is_made_only_where_there_is_none() -> None:
    entries = [Entry("/etc/hosts", 0o644, b"")]
    assert patch.write(entries, known(), [7], [8]).splitlines() == [
        "cd /etc/.", "write /proc/self/fd/7 hosts", "stat /etc/hosts",
        "dump /etc/hosts /proc/self/fd/8"]  # fmt: skip
    there = known(**{"/etc/hosts": "symlink", "/root/.ssh/.": ""})
    assert patch.write(entries, there, [7], [8]).splitlines()[:4] == [
        "mkdir /root/.ssh", "set_inode_field /root/.ssh mode 040700", "cd /etc/.",
        "rm hosts"]  # fmt: skip


@pytest.mark.parametrize(
    ("kinds", "says"),
    [
        ({"/etc/.": ""}, "no folder /etc"),
        ({"/root/.": "regular"}, "a regular in the place of the folder /root"),
        ({"/etc/hosts": "directory"}, "a folder in the place of the file /etc/hosts"),
    ],
)
def test_what_is_no_root_filesystem_is_refused(kinds: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        patch.write([Entry("/etc/hosts", 0o644, b"")], known(**kinds), [7], [8])


def test_the_images_own_keys_stay_and_none_is_there_twice() -> None:
    (one,) = patch.with_keys([Entry(KEYS, 0o600, b"a\nb\n")], b"own\na\n")
    assert one.data == b"own\na\nb\n"
    huge = Seen({KEYS: "regular"}, {}, {KEYS: 1 << 40})
    with pytest.raises(UsageError, match="of more than"):
        patch.own_keys(huge, 3)
    assert patch.own_keys(Seen({KEYS: ""}, {}, {}), 3) == ""


SAID = """debugfs: stat /etc/.
Inode: 12   Type: directory    Mode:  0755   Flags: 0x80000
User:     0   Group:     0   Project:     0   Size: 1024
debugfs: stat /etc/hosts
debugfs: stat /etc/x
Inode: 17   Type: regular    Mode:  0600   Flags: 0x80000
User:     0   Group:     0   Project:     0   Size: 7
EXTENTS:
(0):4390
debugfs: dump /etc/x /proc/self/fd/4
"""


def test_what_debugfs_says_is_read_and_its_silence_is_a_fault() -> None:
    seen = patch.seen(SAID)
    assert seen.kinds == {"/etc/.": "directory", "/etc/hosts": "", "/etc/x": "regular"}
    assert seen.sizes["/etc/x"] == 7
    entries = [Entry("/etc/x", 0o600, b"1234567")]
    assert patch.wrong(entries, seen, [b"1234567"]) == ""
    assert patch.wrong(entries, seen, [b"123456"]) == "/etc/x"
    assert patch.wrong([Entry("/etc/x", 0o644, b"")], seen, [b""]) == "/etc/x"
    assert patch.wrong([Entry("/etc/hosts", 0o644, b"")], seen, [b""]) == "/etc/hosts"


def block(magic: int = 0xEF53, incompatible: int = 0, state: int = 1) -> bytes:
    head = bytearray(2048)
    struct.pack_into("<HH", head, 1024 + 56, magic, state)
    struct.pack_into("<I", head, 1024 + 96, incompatible)
    return bytes(head)


def test_a_raw_disk_is_known_by_its_superblock(tmp_path: Path) -> None:
    path = tmp_path / "d"
    path.write_bytes(block())
    ext4.check(path, "raw")
    assert ext4.is_clean(path, "raw")
    path.write_bytes(block(incompatible=0x4))
    assert not ext4.is_clean(path, "raw")
    for bad in (block(magic=0), block(incompatible=0x8), bytes(100)):
        path.write_bytes(bad)
        with pytest.raises(UsageError, match="no ext2, ext3 or ext4"):
            ext4.check(path, "raw")
    path.write_bytes(bytes(510) + b"\x55\xaa" + bytes(1536))
    with pytest.raises(UsageError, match="partition table"):
        ext4.check(path, "raw")


def qcow2(entry: int, l2: int = 3 << BITS, data: bytes = b"") -> bytes:
    """An image with one L2 table, whose first entry is `entry`, and one cluster of data."""
    head = bytearray(header())
    struct.pack_into(">Q", head, 1 << BITS, l2)
    return bytes(head) + struct.pack(">Q", entry).ljust(1 << BITS, b"\0") + data


@pytest.mark.parametrize(
    ("image", "good"),
    [
        (qcow2(4 << BITS, data=block()), True),
        (qcow2(4 << BITS, data=bytes(2048)), False),
        (qcow2(0, data=block()), False),  # not allocated: zeros
        (qcow2(4 << BITS | 1, data=block()), False),  # allocated, and said to be zeros
        (qcow2(4 << BITS, l2=0, data=block()), False),
        (qcow2(1 << 62 | 4 << BITS), True),  # compressed: nobody can tell here
    ],
)
def test_a_qcow2_is_looked_into_without_a_tool(image: bytes, good: bool, tmp_path: Path) -> None:
    path = tmp_path / "d"
    path.write_bytes(image)
    if good:
        ext4.check(path, "qcow2")
        return
    with pytest.raises(UsageError, match="no ext2, ext3 or ext4"):
        ext4.check(path, "qcow2")


def test_a_cut_off_qcow2_is_truncated_and_not_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(qcow2(4 << BITS)[: (3 << BITS) + 4])
    with pytest.raises(UsageError, match="truncated"):
        ext4.check(tmp_path / "d", "qcow2")

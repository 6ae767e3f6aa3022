"""Files written into a guest's disk without root: with debugfs, looked at with other tools."""

from __future__ import annotations

import hashlib
import os
import subprocess
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.node.test_context import DATA, PICTURE
from wspilot.errors import WspilotError
from wspilot.node import patch
from wspilot.node.vmm import patching
from wspilot.node.vmm.base import VmSpec, parse_spec
from wspilot.node.vmm.disks import disks_of
from wspilot.node.vmm.machine import Machine
from wspilot.node.vmm.qemu import Qemu

pytestmark = pytest.mark.real
OWN = "ssh-ed25519 OWN image\n"


def run(*argv: str, code: int = 0) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, (argv, done.stdout, done.stderr)
    return done.stdout


def root(place: Path, *folders: str, mib: int = 16, kind: str = "ext4") -> Path:
    """A guest's root filesystem, with keys of its own."""
    tree = place / "tree"
    for folder in ("etc", *folders):
        (tree / folder).mkdir(parents=True)
    if (tree / "root/.ssh").exists():
        (tree / "root/.ssh/authorized_keys").write_text(OWN)
    disk = place / "root.img"
    run("mke2fs", "-q", "-F", "-t", kind, "-d", str(tree), str(disk), f"{mib}M")
    return disk


def spec(disk: Path, form: str = "raw", **data: Any) -> VmSpec:
    base = {"id": "vm1", "name": "w/n/1", "uuid": str(uuid.uuid4()), "cpus": 1, "memory_mib": 64}
    made = parse_spec({**base, "image": {"disk": str(disk), "format": form}})
    return replace(made, patch=patch.entries({**DATA, **data}, PICTURE))


async def make(one: VmSpec, place: Path) -> Path:
    """The VM's disks; its own copy."""
    machine = Machine(one, {"files": [], "qmp": ""}, print, lambda: None)
    await machine.make_disks(disks_of(one, place))
    return place / "vm1.copy"


def cat(disk: Path, path: str) -> str:
    return run("debugfs", "-R", f"cat {path}", str(disk))


@pytest.mark.parametrize("kind", ["ext4", "ext3", "ext2"])
async def test_the_guest_finds_its_files_and_the_filesystem_is_sound(
    tmp_path: Path, kind: str
) -> None:
    disk = root(tmp_path, "root/.ssh", "etc/ssh", kind=kind)
    before = hashlib.sha256(disk.read_bytes()).digest()
    one = spec(disk, host_key="PRIVATE\n", user_data="#!/bin/sh\necho hi\n")
    copy = await make(one, tmp_path)
    run("e2fsck", "-fn", str(copy))
    for entry in one.patch:
        if entry.path != patch.KEYS:
            assert cat(copy, entry.path).encode() == entry.data
        shown = run("debugfs", "-R", f"stat {entry.path}", str(copy))
        assert f"Mode:  0{entry.mode:o}" in shown and "User:     0   Group:     0" in shown
    assert cat(copy, patch.KEYS) == OWN + "ssh-ed25519 K me\n"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert hashlib.sha256(disk.read_bytes()).digest() == before, "the cached image is not touched"
    # What the guest sees is the overlay above it.
    seen = tmp_path / "seen"
    run("qemu-img", "convert", "-O", "raw", str(tmp_path / "vm1.qcow2"), str(seen))
    assert cat(seen, "/etc/hostname") == "worker-1\n"
    assert set(map(str, (copy, tmp_path / "vm1.qcow2"))) <= set(
        Qemu().intent(one, tmp_path)["files"]
    ), "both go with the VM"


async def test_folders_are_made_where_there_are_none_and_links_are_followed(tmp_path: Path) -> None:
    disk = root(tmp_path, "var/ssh")
    run("debugfs", "-w", "-R", "symlink /etc/ssh /var/ssh", str(disk))
    run("debugfs", "-w", "-R", "symlink /etc/hosts /nowhere/else", str(disk))
    copy = await make(spec(disk), tmp_path)
    run("e2fsck", "-fn", str(copy))
    assert "worker-1" in cat(copy, "/var/ssh/ssh_known_hosts")
    assert "Mode:  0700" in run("debugfs", "-R", "stat /root/.ssh", str(copy))
    assert "Type: regular" in run("debugfs", "-R", "stat /etc/hosts", str(copy))
    # Twice is as once: a saved VM's disk is patched again.
    (tmp_path / "again").mkdir()
    again = await make(spec(copy), tmp_path / "again")
    run("e2fsck", "-fn", str(again))
    assert cat(again, patch.KEYS) == "ssh-ed25519 K me\n"


async def test_a_qcow2_with_ext4_in_it_too(tmp_path: Path) -> None:
    raw, disk = root(tmp_path), tmp_path / "root.qcow2"
    for options in ((), ("-c",), ("-o", "extended_l2=on")):
        disk.unlink(missing_ok=True)
        run("qemu-img", "convert", "-O", "qcow2", *options, str(raw), str(disk))
        copy = await make(spec(disk, "qcow2"), tmp_path)
        run("e2fsck", "-fn", str(copy))
        assert cat(copy, "/etc/hostname") == "worker-1\n"
        for path in (copy, tmp_path / "vm1.qcow2"):
            path.unlink()


async def refused(one: VmSpec, place: Path) -> str:
    with pytest.raises(WspilotError) as caught:
        await make(one, place)
    assert not (place / "vm1.qcow2").exists(), "no overlay of what cannot be used"
    return f"{caught.value.message} ({caught.value.hint})"


async def test_what_cannot_be_patched_is_refused_in_words(tmp_path: Path) -> None:
    def at(name: str) -> Path:
        (tmp_path / name).mkdir()
        return tmp_path / name

    place = at("empty")
    (place / "d").write_bytes(bytes(1 << 20))
    assert "root holds no ext2, ext3 or ext4" in await refused(spec(place / "d"), place)
    assert not (place / "vm1.copy").exists(), "early: nothing was copied"

    place = at("compressed")  # only the node can look into it, after it has unpacked it
    (place / "d").write_bytes(os.urandom(1 << 20))
    run("qemu-img", "convert", "-c", "-O", "qcow2", str(place / "d"), str(place / "q"))
    assert "holds no ext2" in await refused(spec(place / "q", "qcow2"), place)

    place = at("data")
    run("mke2fs", "-q", "-F", "-t", "ext4", str(place / "d"), "4M")
    assert "no folder /etc" in await refused(spec(place / "d"), place)

    place = at("full")
    disk = root(place, mib=4)
    big = "x" * (4 << 20)
    assert "could not be written into its disk" in await refused(spec(disk, user_data=big), place)

    place = at("broken")
    disk = root(place)
    for line in ("set_super_value state 2", "set_inode_field /etc mode 010644"):
        run("debugfs", "-w", "-R", line, str(disk))
    assert "was not unmounted cleanly" in await refused(spec(disk), place)


async def test_without_debugfs_it_is_said_which_package_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wspilot.node.vmm import tools

    disk = root(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "qemu-img").symlink_to("/usr/bin/qemu-img")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(tools, "PLACES", "/nowhere")
    words = await refused(spec(disk), tmp_path)
    assert "debugfs is not installed" in words and "e2fsprogs" in words
    assert patching.E2FSPROGS == ("e2fsprogs",)


async def test_a_guest_that_was_saved_while_it_ran_has_its_journal_replayed(tmp_path: Path) -> None:
    disk = root(tmp_path)
    script = "\n".join(["jo", "jw -b 333 /etc/hostname", "jc", "q"])  # a transaction, not applied
    (tmp_path / "script").write_text(script)
    run("debugfs", "-w", "-f", str(tmp_path / "script"), str(disk))
    assert "needs_recovery" in run("dumpe2fs", "-h", str(disk))
    copy = await make(spec(disk), tmp_path)
    assert "needs_recovery" not in run("dumpe2fs", "-h", str(copy))
    run("e2fsck", "-fn", str(copy))

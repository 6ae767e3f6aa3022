"""A VM's disks: what they are, the commands that make them, and how QEMU is told of them. Pure.

A disk of the image, and each cached partition, is an overlay that is thrown away with its VM above
a file that is never written to. A blank one is a sparse file with a filesystem made on it, without
root. Each is a virtio disk of its own, in this order; guests find them by their serials (`root`,
`part0`, `blank0`), or a blank one by its label.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wspilot import qcow2
from wspilot.errors import UsageError
from wspilot.node.values import dataclass, replace
from wspilot.node.vmm.base import VmSpec
from wspilot.text import clean

MOST = 16  # of each kind
MIB = 1 << 20
FILESYSTEMS = ("ext4", "swap", "none")
MAKE = {"ext4": ("mke2fs", "e2fsprogs"), "swap": ("mkswap", "util-linux")}  # program, package
LABELS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


@dataclass(frozen=True)
class Disk:
    """One disk. With a `base` it is an overlay of `mib` at least; without one it is blank."""

    serial: str
    path: str
    base: str = ""
    form: str = ""  # the base's
    mib: int = 0
    fs: str = "none"
    label: str = ""
    copy_of: str = ""
    """The image's file, of which `base` is this VM's own copy: `context = "patch"`."""
    copy_form: str = ""

    def files(self) -> list[str]:
        """What has to go with its VM."""
        return [self.path, self.base] if self.copy_of else [self.path]


def disks_of(spec: VmSpec, rundir: Path) -> tuple[Disk, ...]:
    """All disks of a VM, the root first. Raises UsageError for what is no disk."""
    image, found = spec.image, []
    if image.get("disk"):
        root, made = str(image["disk"]), str(rundir / f"{spec.id}.qcow2")
        found.append(Disk("root", made, root, str(image.get("format")), spec.disk_mib))
    for n, one in enumerate(_list(image, "partitions")):
        base, form = one.get("path"), one.get("format")
        good = isinstance(base, str) and base.startswith("/") and "\0" not in base
        if not good or form not in ("qcow2", "raw"):
            raise UsageError(f"VM {spec.name}: partition {n} is {clean(repr(dict(one)), 120)}")
        path = str(rundir / f"{spec.id}.part{n}.qcow2")
        found.append(Disk(f"part{n}", path, str(base), str(form)))
    if spec.patch:
        found = _with_copy(spec, found)
    for n, one in enumerate(_list(image, "blank")):
        found.append(_blank(spec, n, one, str(rundir / f"{spec.id}.blank{n}.raw")))
    return tuple(found)


def _with_copy(spec: VmSpec, disks: list[Disk]) -> list[Disk]:
    """The guest's root filesystem is copied, to be written to: the image's disk, else the partition
    whose role is `/`, else the first. Raises UsageError."""
    if not disks:
        raise UsageError(
            f"VM {spec.name}: its image has no disk to write its context into",
            'context = "patch" needs a disk or a partition with ext4 on it',
        )
    at = 0
    if disks[0].serial != "root":
        roles = [one.get("role") for one in _list(spec.image, "partitions")]
        at = roles.index("/") if "/" in roles else 0
    one = disks[at]
    copy = f"{one.path.rpartition('.')[0]}.copy"
    disks[at] = replace(one, base=copy, form="raw", copy_of=one.base, copy_form=one.form)
    return disks


def _blank(spec: VmSpec, n: int, one: Mapping[str, Any], path: str) -> Disk:
    size, fs, label = one.get("size_mib"), one.get("fs", "none"), one.get("label", "")
    good = isinstance(size, int) and not isinstance(size, bool) and 0 < size <= 1 << 24
    plain = isinstance(label, str) and len(label) <= 16 and set(label) <= LABELS
    if not good or fs not in FILESYSTEMS or not plain or str(label).startswith("-"):
        raise UsageError(f"VM {spec.name}: blank disk {n} is {clean(repr(dict(one)), 120)}")
    return Disk(f"blank{n}", path, mib=int(str(size)), fs=str(fs), label=str(label))


def _list(image: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    value = image.get(key) or []
    if not isinstance(value, list) or len(value) > MOST:
        raise UsageError(f"its image's {key} are {clean(repr(value), 80)}")
    for one in value:
        if not isinstance(one, Mapping):
            raise UsageError(f"its image's {key} hold {clean(repr(one), 80)}")
    return value


def overlay_argv(program: str, disk: Disk) -> list[str]:
    """qemu-img's command for a copy-on-write disk above an image that is never written to.

    Looks at the base first: QEMU would open whatever other file it names. At least as large as the
    base, or a guest would see the end of its own disk cut off. Raises UsageError, OSError.
    """
    try:
        size = max(qcow2.virtual_size(Path(disk.base), disk.form), disk.mib * MIB)
    except UsageError as error:
        raise UsageError(f"its image's {disk.serial} {error.message}", error.hint) from None
    made = ("create", "-q", "-f", "qcow2", "-b", disk.base, "-F", disk.form, "--", disk.path)
    return [program, *made, str(size)]


def format_argv(program: str, disk: Disk) -> list[str]:
    """The command that makes a filesystem on a blank disk."""
    named = ["-L", disk.label] if disk.label else []
    if disk.fs == "swap":
        return [program, *named, disk.path]
    lazy = "root_owner=0:0,lazy_itable_init=1,lazy_journal_init=1"
    return [program, "-q", "-F", "-t", "ext4", "-E", lazy, *named, disk.path]


def flat_argv(program: str, disk: Disk, target: str) -> list[str]:
    """qemu-img's command for one file that holds what the guest sees. `-U`: QEMU may have it open,
    with the guest standing still. Raises UsageError when the overlay is not as we made it."""
    qcow2.virtual_size(Path(disk.path), "qcow2", backing=disk.base)
    return [program, "convert", "-q", "-U", "-f", "qcow2", "-O", "qcow2", "--", disk.path, target]


def device_argv(disk: Disk, boot: bool) -> Sequence[str]:
    """QEMU's words for one disk. The root is the first; with `boot` firmware starts from it."""
    node = {
        "node-name": disk.serial,
        "driver": "qcow2" if disk.base else "raw",
        "discard": "unmap",
        "file": {"driver": "file", "filename": disk.path},
        # A lost overlay is a lost VM anyway: its lease ends with this process.
        "cache": {"no-flush": True},
    }
    return (
        *("-blockdev", json.dumps(node, separators=(",", ":"))),
        # -kernel takes bootindex 0 for itself
        "-device",
        f"virtio-blk-pci,drive={disk.serial},serial={disk.serial}" + ",bootindex=1" * boot,
    )

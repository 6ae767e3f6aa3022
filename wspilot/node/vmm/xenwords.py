"""What the VMM `xen` says to the root helper of a VM: words and disks, pure.

Every word is checked here so that people are told early and by VM; the helper checks them again,
for it believes nobody.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wspilot.errors import UsageError
from wspilot.node.values import replace
from wspilot.node.vmm.base import VmSpec
from wspilot.node.vmm.disks import Disk, disks_of
from wspilot.text import clean

KINDS = ("pv", "pvh")
SEED_DEV = "xvdz"
PLAIN = re.compile(r"[ !#-&(-\[\]-~]*")
APPEND_LIMIT = 1000


def words(
    spec: VmSpec, disks: Sequence[Disk], journal: str, slot: str, kind: str
) -> Mapping[str, Any]:
    """`xen-create`'s words for a VM. Raises UsageError, naming the VM."""
    image = spec.image
    if not image.get("kernel"):
        raise UsageError(
            f"VM {spec.name}: its image names no kernel",
            "VMM xen starts kernels from outside the disk: nothing in a guest's disk runs in "
            "domain 0 (wspilot images add --kernel)",
        )
    return {
        "journal": journal,
        "slot": slot,
        "vm": spec.id,
        "uuid": spec.uuid,
        "kind": kind_of(spec, kind),
        "cpus": spec.cpus,
        "mib": spec.memory_mib,
        "kernel": str(image["kernel"]),
        "initrd": str(image.get("initrd") or ""),
        "append": append(spec),
        "nics": [_vif(spec, nic) for nic in spec.nics],
        "disks": [
            *(_disk(n, disk) for n, disk in enumerate(disks)),
            *([{"path": spec.seed, "vdev": SEED_DEV, "access": "r"}] if spec.seed else []),
        ],
    }


def kind_of(spec: VmSpec, kind: str) -> str:
    """PV or PVH: the image's word, else the site's."""
    found = str(spec.image.get("xen") or kind)
    if found not in KINDS:
        raise UsageError(f"VM {spec.name}: Xen guests are pv or pvh, not {clean(found, 20)!r}")
    return found


def append(spec: VmSpec) -> str:
    """The kernel's command line; the console that the pilot reads is always there."""
    text = spec.image.get("append", "")
    if not isinstance(text, str) or not PLAIN.fullmatch(text) or len(text) > APPEND_LIMIT - 20:
        raise UsageError(
            f"VM {spec.name}: `append` is no plain line of at most {APPEND_LIMIT - 20} characters",
            "Xen's configuration takes neither quotes nor backslashes there",
        )
    return text if "console=hvc0" in text.split() else f"{text} console=hvc0".strip()


def raw_disks(spec: VmSpec, rundir: Path) -> tuple[Disk, ...]:
    """The VM's disks, each a raw file of its own: domain 0 opens nothing that could name another
    file. Raises UsageError."""
    if spec.patch:
        raise UsageError(
            f'VM {spec.name}: context = "patch" needs VMM qemu', "Xen's guests have a seed disk"
        )
    found = disks_of(spec, rundir)
    if len(found) > ord(SEED_DEV[-1]) - ord("a"):
        raise UsageError(f"VM {spec.name} has more disks than Xen gives letters to")
    return tuple(replace(one, path=one.path.replace(".qcow2", ".raw")) for one in found)


def copy_argv(program: str, disk: Disk) -> list[str]:
    """The command that makes a VM's own copy of an image's disk: cp of a raw one, else qemu-img."""
    if disk.form == "raw":
        return [program, "--reflink=auto", "--sparse=always", "--", disk.base, disk.path]
    return [program, "convert", "-q", "-f", disk.form, "-O", "raw", "--", disk.base, disk.path]


def _disk(number: int, disk: Disk) -> Mapping[str, str]:
    return {"path": disk.path, "vdev": f"xvd{chr(ord('a') + number)}", "access": "w"}


def _vif(spec: VmSpec, nic: Mapping[str, Any]) -> str:
    if not nic.get("tap"):
        network = clean(str(nic.get("network")), 40)
        raise UsageError(
            f"VM {spec.name}: network {network} goes the way {clean(str(nic.get('way')), 20)}, "
            "which needs QEMU",
            'Xen guests need way = "bridge"',
        )
    return str(nic["tap"])

"""QEMU's command line for a VM: pure, so that a test can hold every word of it.

Invariant: nothing from a spec can become an option. Names and paths are escaped where QEMU splits
at commas, block devices are given as JSON, and nothing ever passes through a shell. The uuid is an
argument of its own: the identity check looks for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wspilot.errors import UsageError, WspilotError
from wspilot.node.vmm.base import Ready, VmSpec
from wspilot.node.vmm.disks import Disk, device_argv
from wspilot.text import clean

TB_MIB = 32  # translated code; the default of 1 GiB counts in nobody's memory request
PORT = "org.wspilot.0"
_LISTENS = re.compile(r"stream,id=([^,]+),server=on,addr\.type=unix,")
SOCKET_PATH_LIMIT = 107  # sun_path, without the final NUL


@dataclass(frozen=True)
class Wiring:
    """What only this start of a VM knows: program, accelerator, and descriptors to pass on."""

    program: str
    kvm: bool
    qmp_fd: int  # listening
    console_fd: int
    agent_fd: int
    disks: tuple[Disk, ...] = ()  # the root first
    sandbox: bool = True
    memory_fd: int = -1  # open, with a suspended guest's state; -1: it boots


def qemu_argv(spec: VmSpec, wiring: Wiring) -> list[str]:
    """The whole argument list. Only what is named exists: -nodefaults, no user's configuration."""
    image = spec.image
    argv = [
        wiring.program,
        *("-name", f"guest={_comma(spec.name)}"),
        *("-uuid", spec.uuid),
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *("-machine", "q35,usb=off,vmport=off"),
        *_processor(spec, wiring.kvm),
        *("-m", f"{spec.memory_mib}M"),
        *("-rtc", "base=utc"),
        *("-chardev", f"socket,id=qmp,fd={wiring.qmp_fd},server=on,wait=off"),
        *("-mon", "chardev=qmp,mode=control"),
        *("-chardev", f"socket,id=console,fd={wiring.console_fd}"),
        *("-serial", "chardev:console"),
        *("-device", "virtio-serial-pci,id=ports,max_ports=2"),
        *("-chardev", f"socket,id=agent,fd={wiring.agent_fd}"),
        *("-device", f"virtserialport,bus=ports.0,chardev=agent,name={PORT}"),
    ]
    if wiring.sandbox:
        argv += ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny"]
    if image.get("kernel"):
        argv += ["-kernel", str(image["kernel"])]
        if image.get("initrd"):
            argv += ["-initrd", str(image["initrd"])]
        argv += ["-append", str(image.get("append", ""))]
    for disk in wiring.disks:
        argv += device_argv(disk, boot=disk.serial == "root" and not image.get("kernel"))
    if spec.seed:
        argv += _seed(spec.seed)
    for number, nic in enumerate(spec.nics):
        argv += _nic(number, nic)
    if wiring.memory_fd >= 0:
        argv += ["-incoming", f"fd:{wiring.memory_fd}"]
    elif streams(spec):
        argv.append("-S")  # until the switch has joined them (`Machine.greet`)
    return argv


def streams(spec: VmSpec) -> frozenset[str]:
    """The netdevs on which QEMU listens for the node's switch (`network/link.py`)."""
    options = [str(one) for nic in spec.nics for one in nic.get("netdev", ())]
    return frozenset(match[1] for match in map(_LISTENS.match, options) if match)


def check_image(spec: VmSpec) -> None:
    """Raises WspilotError when the image is not one that QEMU could boot from on this node."""
    image = spec.image
    if not image.get("kernel") and not image.get("disk"):
        raise UsageError(f"VM {spec.name}: its image names neither a kernel nor a disk")
    if image.get("disk") and image.get("format") not in ("qcow2", "raw"):
        # A probed format lets a guest that owns a raw disk write itself a backing file.
        got = clean(repr(image.get("format")), 40)
        raise UsageError(f"VM {spec.name}: the disk's format is {got}", "say qcow2 or raw")
    for key in ("kernel", "initrd", "disk"):
        path = image.get(key)
        if path is None or path == "":
            continue
        if not isinstance(path, str) or "\0" in path or not path.startswith("/"):
            raise UsageError(f"VM {spec.name}: {key} is {clean(repr(path), 120)}, no absolute path")
        _readable(spec, key, Path(path))
    append = image.get("append", "")
    if not isinstance(append, str) or clean(append, 2000) != append.strip():
        raise UsageError(f"VM {spec.name}: `append` is no plain line of at most 2000 characters")
    if spec.ready == Ready.ADDRESS.value and not any(nic.get("ip") for nic in spec.nics):
        raise UsageError(
            f"VM {spec.name}: ready = address needs a NIC with an address",
            "give its group one, or use agent, console or process",
        )


def socket_path(rundir: Path, vm: str) -> Path:
    """Where its QMP socket goes. Raises WspilotError beyond the 107 bytes that Linux allows."""
    path = rundir / f"{vm}.qmp"
    if len(bytes(path)) > SOCKET_PATH_LIMIT:
        raise WspilotError(
            f"{path} is longer than the {SOCKET_PATH_LIMIT} bytes of a socket's name",
            "give the node a shorter run-time directory",
        )
    return path


def _processor(spec: VmSpec, kvm: bool) -> Sequence[str]:
    accel = ("-accel", "kvm", "-cpu", "host")
    if not kvm:
        # `max`, since today's distributions want more than qemu64 has (x86-64-v2 and v3); without
        # five-level page tables, which make every miss of the emulated TLB dearer.
        accel = ("-accel", f"tcg,tb-size={TB_MIB}", "-cpu", "max,la57=off")
    return (*accel, "-smp", str(spec.cpus))


def _seed(path: str) -> Sequence[str]:
    """The disk that tells the guest who it is; found by its label, or by the serial `seed`."""
    node = {
        "node-name": "seed",
        "driver": "raw",
        "read-only": True,
        "file": {"driver": "file", "filename": path},
    }
    return (
        *("-blockdev", json.dumps(node, separators=(",", ":"))),
        *("-device", "virtio-blk-pci,drive=seed,serial=seed"),
    )


def _nic(number: int, nic: Mapping[str, Any]) -> Sequence[str]:
    """As its way of networking left it; one of an unknown way is closed to all sides."""
    if nic.get("tap"):
        tap = _comma(str(nic["tap"]))
        netdevs = [f"tap,id=net{number},ifname={tap},script=no,downscript=no"]
    else:
        netdevs = list(nic.get("netdev") or [f"user,id=net{number},restrict=on"])
    return (
        *(word for one in netdevs for word in ("-netdev", one)),
        *("-device", f"virtio-net-pci,netdev=net{number},mac={nic['mac']},romfile="),
    )


def _comma(text: str) -> str:
    return text.replace(",", ",,")


def _readable(spec: VmSpec, key: str, path: Path) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise WspilotError(
            f"VM {spec.name}: its {key} {path} cannot be read on this node: {error.strerror}",
            "is the image on a file system that this node mounts?",
        ) from error

"""The seam between the pilot and whatever runs VMs: one protocol, and the values that cross it.

Invariant: a VMM holds no state that a later undo needs. All of that is in `Vmm.identity` (or,
before there is a process, `Vmm.intent`), plain JSON for the undo journal; `kill_stale` works from
it alone, in any process, without an event loop. Standard library only; Python 3.9.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Callable, Optional, Protocol

from wspilot.errors import UsageError
from wspilot.node.patch import Entry
from wspilot.node.vmm.console import Console
from wspilot.text import clean

MAX_CPUS = 1024
MAX_MEMORY_MIB = 16 * 1024 * 1024
MAX_DISK_MIB = 1024 * 1024 * 1024
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


class Ready(str, Enum):
    """How it is known that a guest is up (DESIGN.md section 5)."""

    AGENT = "agent"  # it said `WSPILOT ready` on its channel
    ADDRESS = "address"  # it answers on its address
    CONSOLE = "console"  # a pattern was printed on its console
    PROCESS = "process"  # only the process: "unproven"


class EventKind(str, Enum):
    """What a VM, or the process that is it, has done."""

    STARTED = "started"  # the process runs and answers its VMM
    BOOTING = "booting"  # the guest's processors run
    READY = "ready"  # the guest is up, as `VmSpec.ready` understands it
    SAID = "said"  # the guest said `WSPILOT ok TEXT`
    ERROR = "error"  # the guest said `WSPILOT error TEXT`, or the VMM reports a fault
    EXITED = "exited"  # the process is gone and reaped; the last event of a VM


@dataclass(frozen=True)
class VmSpec:
    """What a `create` command asks for; see `parse_spec`.

    `image` holds `kernel`, `initrd`, `append` and/or `disk` with `format` (`qcow2` or `raw`), all
    of them absolute paths on this node, and `pattern` where `ready` is `console`.
    """

    id: str
    name: str
    uuid: str
    cpus: int
    memory_mib: int
    image: Mapping[str, Any]
    nics: tuple[Mapping[str, Any], ...] = ()
    ready: str = Ready.AGENT.value
    disk_mib: int = 0
    """At least so large is its disk; 0: as the image."""
    seed: str = ""
    """A small disk with its context, read-only; empty: none."""
    patch: tuple[Entry, ...] = ()
    """Files that are written into its root filesystem instead."""


@dataclass(frozen=True)
class VmEvent:
    """One thing that happened to a VM. `text` is clean; `code` is an exit status (-9: SIGKILL)."""

    vm: str
    kind: EventKind
    text: str = ""
    code: Optional[int] = None


@dataclass(frozen=True)
class VmHandle:
    """A VM that was created, and what the undo journal keeps of it."""

    id: str
    identity: Mapping[str, Any]


Emit = Callable[[VmEvent], None]


class Vmm(Protocol):
    """Runs VMs on this node. All but `kill_stale` is called from the pilot's event loop."""

    name: str

    def overhead_mib(self, spec: VmSpec) -> int:
        """MiB that a VM needs beside its guest's memory; asked of the LRM."""

    def check(self) -> None:
        """Are the programs there? Cheap. Raises WspilotError with a hint."""

    def intent(self, spec: VmSpec, rundir: Path) -> Mapping[str, Any]:
        """The identity as far as it is known before anything is started (`pid` is None)."""

    async def create(self, spec: VmSpec, rundir: Path, log: Path, emit: Emit) -> VmHandle:
        """Start a VM; returns when its process runs and answers.

        `emit` is called from the loop: `started`, `booting`, later `ready` or `error`, at last
        `exited`. Raises WspilotError when the VM did not start; then nothing of it is left and
        nothing but an `exited` may have been emitted.
        """

    async def destroy(self, vm_id: str, grace_s: float) -> None:
        """End a VM, returning when it is gone; with `grace_s` > 0 the guest is asked first.

        Never raises because the VM is gone already or was never here: destroy is idempotent.
        """

    async def act(self, vm_id: str, verb: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Carry out `start`, `stop` (data: grace_s), `pause`, `resume`, `reboot` or `suspend`; or
        `save` (data: left_s, rate_mib), which gives {flat: files by role, image}.

        Returns when it is done. Raises WspilotError; then the VM is as it was, or ended.
        A stopped or suspended VM has no process; its disk is kept until `destroy`.
        """

    def identity(self, vm_id: str) -> Optional[Mapping[str, Any]]:
        """What `kill_stale` needs, for the undo journal; None when there is no such VM."""

    def up(self, vm_id: str) -> None:
        """A guest whose `ready` is `address` has answered: emit `ready`, once a boot."""

    def console(self, vm_id: str) -> Optional[Console]:
        """A VM's console, also while it is stopped; None when there is no such VM."""

    async def dial(
        self, vm_id: str, port: int
    ) -> tuple[socket.socket, Callable[[], Awaitable[None]]]:
        """A connection to a TCP port of the guest, and what must be awaited after its end.

        Raises WspilotError in words: it does not run, no network reaches it, nobody answers.
        """

    def kill_stale(self, identity: Mapping[str, Any]) -> bool:
        """End the VM of an `intent` or `identity`, in any process; True when it is gone.

        Plain blocking code, at most about 3 s. Never touches a process that is not that VM. Also
        removes the VM's run-time files.
        """

    async def close(self) -> None:
        """Destroy all VMs without grace; nothing is left."""


def parse_spec(data: Mapping[str, Any]) -> VmSpec:
    """The spec in a `create` command's data. Raises UsageError naming the field."""
    vm = _match(data, "id", _ID)
    image = data.get("image")
    if not isinstance(image, Mapping):
        raise UsageError(f"create {vm}: image is {clean(repr(image), 80)}, not a table")
    ready = data.get("ready") or image.get("ready") or Ready.AGENT.value
    if ready not in [one.value for one in Ready]:
        raise UsageError(
            f"create {vm}: ready is {clean(repr(ready), 80)}", "agent, address, console or process"
        )
    nics = data.get("nics", ())
    if not isinstance(nics, (list, tuple)):
        raise UsageError(f"create {vm}: nics is not a list")
    return VmSpec(
        id=vm,
        name=_match(data, "name", _NAME),
        uuid=_uuid(vm, data.get("uuid")),
        cpus=_count(vm, data, "cpus", MAX_CPUS),
        memory_mib=_count(vm, data, "memory_mib", MAX_MEMORY_MIB),
        image=dict(image),
        nics=tuple(_nic(vm, nic) for nic in nics),
        ready=str(ready),
        disk_mib=_count(vm, data, "disk_mib", MAX_DISK_MIB) if data.get("disk_mib") else 0,
    )


def _match(data: Mapping[str, Any], field: str, pattern: re.Pattern[str]) -> str:
    value = data.get(field)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise UsageError(
            f"create: {field} is {clean(repr(value), 80)}, which is not a VM's {field}"
        )
    return value


def _uuid(vm: str, value: object) -> str:
    """The usual lower-case form; else the identity check could never find it in an argv."""
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise UsageError(
            f"create {vm}: uuid is {clean(repr(value), 80)}, which is not a plain uuid"
        )
    return value


def _count(vm: str, data: Mapping[str, Any], field: str, most: int) -> int:
    value = data.get(field)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise UsageError(f"create {vm}: {field} is {clean(repr(value), 80)}, not 1 to {most}")
    return value


def _nic(vm: str, nic: object) -> Mapping[str, Any]:
    mac = nic.get("mac") if isinstance(nic, Mapping) else None
    if not isinstance(nic, Mapping) or not isinstance(mac, str) or not _MAC.fullmatch(mac):
        raise UsageError(f"create {vm}: a NIC has mac {clean(repr(mac), 80)}, not six hex pairs")
    return dict(nic)

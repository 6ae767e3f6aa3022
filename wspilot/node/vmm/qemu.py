"""VMM `qemu`: one unprivileged QEMU process a VM, a child of the pilot, spoken to by QMP.

Not libvirt: a VM of a system libvirtd lives in that daemon's cgroup, outside the job's limits and
accounting.

Invariant: whatever `create` began is undone when it raises, or when it is cancelled.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, Optional

from wspilot.errors import WspilotError
from wspilot.node.vmm import stale
from wspilot.node.vmm.argv import TB_MIB, check_image, socket_path
from wspilot.node.vmm.base import Emit, VmHandle, VmSpec
from wspilot.node.vmm.console import Console
from wspilot.node.vmm.disks import Disk, disks_of
from wspilot.node.vmm.flatten import RATE_MIB, check_time, flatten, roles
from wspilot.node.vmm.machine import Machine
from wspilot.node.vmm.tools import program
from wspilot.text import clean

SUSPEND_S = 300.0  # for a guest's memory to be written; the command's own limit may be shorter
PROGRAMS = ("qemu-system-x86_64", "qemu-kvm")
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL + 1)  # tells of every lost connection


class Qemu:
    """Implements `Vmm`. `kvm`: has a probe of this boot proved that KVM works (`kvm.py`)?"""

    name = "qemu"

    def __init__(self, kvm: bool = False, sandbox: bool = True) -> None:
        self.kvm = kvm
        self._sandbox = sandbox
        self._vms: dict[str, Machine] = {}
        self._kept: dict[str, Kept] = {}  # what a VM is started from again

    def overhead_mib(self, spec: VmSpec) -> int:
        """MiB beside the guest's memory; see `overhead_mib` below."""
        return overhead_mib(spec, self.kvm)

    def check(self) -> None:
        """Raises WspilotError when QEMU is not installed here."""
        program("QEMU", PROGRAMS)
        program("qemu-img", ("qemu-img",))

    def intent(self, spec: VmSpec, rundir: Path) -> Mapping[str, Any]:
        """What the journal keeps before the start: found again by its uuid."""
        qmp = socket_path(rundir, spec.id)
        files = [path for disk in disks_of(spec, rundir) for path in disk.files()]
        files += [spec.seed] if spec.seed else []
        return {"uuid": spec.uuid, "pid": None, "start": None, "qmp": str(qmp), "files": files}

    async def create(self, spec: VmSpec, rundir: Path, log: Path, emit: Emit) -> VmHandle:
        """See `Vmm.create`. Usually 0.1 to 0.3 s; at most `OVERLAY_S` + `GREETING_S`."""
        if spec.id in self._vms:
            raise WspilotError(f"VM {spec.name} ({spec.id}) exists on this node already")
        check_image(spec)
        identity = dict(self.intent(spec, rundir))
        kept = Kept(spec, identity, emit, log, disks_of(spec, rundir), console=Console())
        vm = self._machine(kept)
        try:
            await vm.make_disks(kept.disks)
            await self._boot(vm, kept)
        except BaseException as error:
            # Shielded: a cancelled create must still leave nothing.
            await asyncio.shield(vm.give_up())
            raise _as_words(spec, error) from error
        self._kept[spec.id] = kept
        return VmHandle(spec.id, dict(vm.identity))

    async def act(self, vm_id: str, verb: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `Vmm.act`."""
        kept, vm = self._kept.get(vm_id), self._vms.get(vm_id)
        if kept is None:
            raise WspilotError(f"VM {vm_id} is not on this node")
        grace = data.get("grace_s")
        grace_s = float(grace) if isinstance(grace, (int, float)) else 0.0
        if verb == "save":
            return await self._flatten(vm, kept, data)
        if verb == "start" or (verb == "resume" and vm is None):
            await self._again(kept)
        elif vm is None:
            raise WspilotError(f"VM {kept.spec.name} does not run")
        elif verb == "pause":
            await vm.pause()
        elif verb == "resume":
            await vm.resume()
        elif verb == "suspend":
            await self._suspend(vm, kept)
        elif verb in ("stop", "reboot"):
            vm.rest()
            await vm.end(grace_s)
            if verb == "reboot":
                await self._again(kept)
        else:
            raise WspilotError(f"VMM qemu cannot {clean(verb, 40)} a VM")
        return {}

    async def _flatten(
        self, vm: Optional[Machine], kept: Kept, data: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Its disks of this moment as files that stand alone: {flat: by role, image}.

        data: left_s, rate_mib. Whoever asked takes the files away.
        """
        left_s, rate = float(data.get("left_s", 0.0)), float(data.get("rate_mib", RATE_MIB))
        if not roles(kept.disks):
            raise WspilotError(f"VM {kept.spec.name} has no disk: it runs from memory")
        check_time(f"VM {kept.spec.name}", kept.disks, left_s, rate)
        runs = vm is not None and not vm.paused
        if vm is not None and runs:
            await vm.pause()
        try:
            flat = await flatten(kept.disks, left_s)
        finally:
            if vm is not None and runs:
                await asyncio.shield(vm.resume())
        return {"flat": flat, "image": {**kept.spec.image, "ready": kept.spec.ready}}

    async def _suspend(self, vm: Machine, kept: Kept) -> None:
        memory = Path(f"{kept.identity['qmp']}.memory")
        kept = replace(kept, memory=str(memory))
        kept.identity["files"] = [*kept.files(), str(memory)]
        vm.identity["files"] = kept.identity["files"]
        await vm.write_memory(memory, SUSPEND_S)
        self._kept[kept.spec.id] = kept
        vm.rest()
        await vm.end(0.0)

    async def _again(self, kept: Kept) -> None:
        """Start a VM that rests, from its disk or its memory. Raises WspilotError: it rests on."""
        vm = self._machine(kept)
        try:
            await self._boot(vm, kept)
            if kept.memory:
                await vm.arrive()
        except BaseException as error:
            vm.rest()
            await asyncio.shield(vm.give_up())
            raise _as_words(kept.spec, error) from error
        if kept.memory:
            Path(kept.memory).unlink(missing_ok=True)
            self._kept[kept.spec.id] = replace(kept, memory="")

    def _machine(self, kept: Kept) -> Machine:
        identity = {**kept.identity, "pid": None, "start": None}
        gone = partial(self._forget, kept.spec.id)
        vm = Machine(kept.spec, identity, kept.emit, lambda: gone(vm), kept.console)
        self._vms[kept.spec.id] = vm
        return vm

    async def _boot(self, vm: Machine, kept: Kept) -> None:
        qemu = program("QEMU", PROGRAMS)
        vm.start(qemu, self.kvm, self._sandbox, kept.disks, kept.log, kept.memory)
        await vm.greet()

    async def destroy(self, vm_id: str, grace_s: float) -> None:
        """See `Vmm.destroy`. Raises TimedOut when the kernel does not let the process die."""
        vm = self._vms.get(vm_id)
        if vm is not None:
            await vm.end(grace_s)
        kept = self._kept.pop(vm_id, None)
        if kept is not None:
            kept.console.close()
        for name in kept.files() if kept is not None else ():
            Path(name).unlink(missing_ok=True)

    def identity(self, vm_id: str) -> Optional[Mapping[str, Any]]:
        """See `Vmm.identity`."""
        vm, kept = self._vms.get(vm_id), self._kept.get(vm_id)
        if vm is None:
            return None if kept is None else dict(kept.identity)
        return dict(vm.identity)

    def up(self, vm_id: str) -> None:
        """See `Vmm.up`."""
        vm = self._vms.get(vm_id)
        if vm is not None:
            vm.answered()

    def console(self, vm_id: str) -> Optional[Console]:
        """See `Vmm.console`."""
        kept = self._kept.get(vm_id)
        return None if kept is None else kept.console

    async def dial(
        self, vm_id: str, port: int
    ) -> tuple[socket.socket, Callable[[], Awaitable[None]]]:
        """See `Vmm.dial`."""
        vm = self._vms.get(vm_id)
        if vm is None:
            raise WspilotError("it does not run")
        return await vm.door.dial(port)

    def kill_stale(self, identity: Mapping[str, Any]) -> bool:
        """See `stale.kill_stale`."""
        return stale.kill_stale(identity)

    def _forget(self, vm_id: str, vm: Machine) -> None:
        if self._vms.get(vm_id) is vm:
            del self._vms[vm_id]

    async def close(self) -> None:
        """Destroy all VMs at once, without grace."""
        await asyncio.gather(*(self.destroy(id, 0.0) for id in {*self._vms, *self._kept}))


@dataclass(frozen=True)
class Kept:
    """What a VM is started from again: after a stop its disk, after a suspend its memory too."""

    spec: VmSpec
    identity: dict[str, Any]
    emit: Emit
    log: Path
    disks: tuple[Disk, ...] = ()
    memory: str = ""
    console: Console = field(default_factory=Console)

    def files(self) -> list[str]:
        """Everything of it that must go at the end."""
        return list(self.identity["files"])


def _as_words(spec: VmSpec, error: BaseException) -> BaseException:
    if isinstance(error, OSError):
        return WspilotError(f"VM {spec.name} cannot be started: {error}")
    return error


def overhead_mib(spec: VmSpec, kvm: bool) -> int:
    """MiB that QEMU needs beside the guest's own memory.

    Measured (7.2, TCG, tb-size=32, a disk and a NIC, all of the guest's memory touched): peak RSS
    was the guest's memory + 90, 91, 93 MiB with 1, 2, 4 processors and 128, 256, 512 MiB, 23 of it
    shared program text. Asked for: 104, 113, 130; and 4 a GiB for page tables and dirty bitmaps.
    Under KVM nothing was measured: the same without the translated code.
    """
    return 64 + 8 * spec.cpus + spec.memory_mib // 256 + (0 if kvm else TB_MIB)

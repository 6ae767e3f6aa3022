"""VMM `qemu`: one unprivileged QEMU process a VM, a child of the pilot, spoken to by QMP.

Not libvirt: a VM of a system libvirtd lives in that daemon's cgroup, outside the job's limits and
accounting.

Invariant: whatever `create` began is undone when it raises, or when it is cancelled.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from wspilot.errors import WspilotError
from wspilot.node.vmm import stale
from wspilot.node.vmm.argv import TB_MIB, check_image, socket_path
from wspilot.node.vmm.base import Emit, VmHandle, VmSpec
from wspilot.node.vmm.machine import Machine

PACKAGES = ("qemu-system-x86", "qemu-utils")  # Debian's names
PROGRAMS = ("qemu-system-x86_64", "qemu-kvm")
PLACES = "/usr/bin:/usr/local/bin:/usr/libexec:/opt/qemu/bin"  # a job's PATH may lack any of them
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL + 1)  # tells of every lost connection


class Qemu:
    """Implements `Vmm`. `kvm`: has a probe of this boot proved that KVM works (`kvm.py`)?"""

    name = "qemu"

    def __init__(self, kvm: bool = False, sandbox: bool = True) -> None:
        self.kvm = kvm
        self._sandbox = sandbox
        self._vms: dict[str, Machine] = {}

    def overhead_mib(self, spec: VmSpec) -> int:
        """MiB beside the guest's memory; see `overhead_mib` below."""
        return overhead_mib(spec, self.kvm)

    def check(self) -> None:
        """Raises WspilotError when QEMU is not installed here."""
        program("QEMU", PROGRAMS)
        program("qemu-img", ("qemu-img",))

    def intent(self, spec: VmSpec, rundir: Path) -> Mapping[str, Any]:
        """What the journal keeps before the start: found again by its uuid."""
        qmp, disk = socket_path(rundir, spec.id), rundir / f"{spec.id}.qcow2"
        files = [str(disk)] if spec.image.get("disk") else []
        return {"uuid": spec.uuid, "pid": None, "start": None, "qmp": str(qmp), "files": files}

    async def create(self, spec: VmSpec, rundir: Path, log: Path, emit: Emit) -> VmHandle:
        """See `Vmm.create`. Usually 0.1 to 0.3 s; at most `OVERLAY_S` + `GREETING_S`."""
        if spec.id in self._vms:
            raise WspilotError(f"VM {spec.name} ({spec.id}) exists on this node already")
        check_image(spec)
        identity = dict(self.intent(spec, rundir))
        vm = Machine(spec, identity, emit, lambda: self._forget(spec.id))
        self._vms[spec.id] = vm
        try:
            disk = await vm.make_disk(program("qemu-img", ("qemu-img",)))
            vm.start(program("QEMU", PROGRAMS), self.kvm, self._sandbox, disk, log)
            await vm.greet()
        except BaseException as error:
            # Shielded: a cancelled create must still leave nothing.
            await asyncio.shield(vm.give_up())
            if isinstance(error, OSError):
                raise WspilotError(f"VM {spec.name} cannot be started: {error}") from error
            raise
        return VmHandle(spec.id, dict(vm.identity))

    async def destroy(self, vm_id: str, grace_s: float) -> None:
        """See `Vmm.destroy`. Raises TimedOut when the kernel does not let the process die."""
        vm = self._vms.get(vm_id)
        if vm is not None:
            await vm.end(grace_s)

    def identity(self, vm_id: str) -> Optional[Mapping[str, Any]]:
        """See `Vmm.identity`."""
        vm = self._vms.get(vm_id)
        return None if vm is None else dict(vm.identity)

    def kill_stale(self, identity: Mapping[str, Any]) -> bool:
        """See `stale.kill_stale`."""
        return stale.kill_stale(identity)

    def _forget(self, vm_id: str) -> None:
        self._vms.pop(vm_id, None)

    async def close(self) -> None:
        """Destroy all VMs at once, without grace."""
        await asyncio.gather(*(vm.end(0.0) for vm in list(self._vms.values())))


def overhead_mib(spec: VmSpec, kvm: bool) -> int:
    """MiB that QEMU needs beside the guest's own memory.

    Measured (7.2, TCG, tb-size=32, a disk and a NIC, all of the guest's memory touched): peak RSS
    was the guest's memory + 90, 91, 93 MiB with 1, 2, 4 processors and 128, 256, 512 MiB, 23 of it
    shared program text. Asked for: 104, 113, 130; and 4 a GiB for page tables and dirty bitmaps.
    Under KVM nothing was measured: the same without the translated code.
    """
    return 64 + 8 * spec.cpus + spec.memory_mib // 256 + (0 if kvm else TB_MIB)


def program(what: str, names: tuple[str, ...]) -> str:
    """Where it is. Raises WspilotError naming the packages to install."""
    path = os.pathsep.join((os.environ.get("PATH", ""), PLACES))
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return found
    raise WspilotError(
        f"{what} is not installed on this node ({' or '.join(names)})",
        "on Debian: apt-get install --no-install-recommends " + " ".join(PACKAGES),
    )

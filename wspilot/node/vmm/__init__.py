"""Whatever runs VMs on a node: one module a VMM, entered through `open_vmm`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional

from wspilot.errors import UsageError
from wspilot.node.vmm import stale, xenstale

if TYPE_CHECKING:
    from wspilot.node.vmm.base import Vmm


def open_vmm(name: str, options: Mapping[str, Any]) -> Vmm:
    """The VMM of that name. Raises UsageError. Imports only what it needs (qemu.qmp is dear)."""
    if name == "sim":
        from wspilot.node.vmm.sim import Sim

        return Sim(options)
    if name == "qemu":
        from wspilot.node.vmm import accel as accel  # needed later: nothing is imported then
        from wspilot.node.vmm.qemu import Qemu

        return Qemu(sandbox=bool(options.get("sandbox", True)))
    if name == "xen":
        from wspilot.node.vmm.xen import Xen

        return Xen(options)
    raise UsageError(f"this node code has no VMM {name!r}", "qemu, xen or sim")


def end_all(entries: Sequence[Mapping[str, Any]]) -> list[bool]:
    """End VMs by their journal entries, whatever this process' own VMM is; which are gone.

    A simulated VM is its files, which `stale` removes: it has no process. An entry that makes no
    sense is not gone.
    """
    known = [_identity(entry) for entry in entries]
    xen = [entry.get("vmm") == "xen" for entry in entries]
    guests = [one for one, is_xen in zip(known, xen) if one is not None and is_xen]
    processes = [one for one, is_xen in zip(known, xen) if one is not None and not is_xen]
    gone = {True: iter(xenstale.end_all(guests)), False: iter(stale.end_all(processes))}
    return [one is not None and next(gone[is_xen]) for one, is_xen in zip(known, xen)]


def _identity(entry: Mapping[str, Any]) -> Optional[Mapping[str, Any]]:
    """As `stale` takes it; None for an entry that makes no sense: nobody is ended by it."""
    identity = entry.get("identity")
    if not isinstance(identity, Mapping) or not identity.get("uuid"):
        return None
    files, qmp = identity.get("files", ()), identity.get("qmp")
    if not isinstance(files, (list, tuple)) or not all(isinstance(one, str) for one in files):
        return None
    if not isinstance(qmp, (str, type(None))):
        return None
    return {**identity, "files": list(files), **({"uuid": ""} if entry.get("vmm") == "sim" else {})}


async def probe_kvm(
    vmm: Vmm, options: Mapping[str, Any], known: Any, boot_id: str
) -> Optional[bool]:
    """Does KVM work here, as the VMM `qemu` will use it? None: nobody asked."""
    if vmm.name != "qemu":
        return None
    from wspilot.node.vmm import accel

    return await accel.choose(vmm, str(options.get("accel", "auto")), known, boot_id)

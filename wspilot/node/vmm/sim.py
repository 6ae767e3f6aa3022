"""VMM `sim`: scripted VMs for tests and the demo. A VM is a file in the run-time directory.

A file, so that "nothing is left" means something here too: it is made by `create`, removed by
`destroy`, and found by an undo that has only the journal.

Options: `boot_s` (2.0), `stop_s` (0.1), `create_s` (0), and `fail`: by VM name, id or image name
(or `*`) a table of faults: `create` (a text: raises), `ready = "never"`, `dies_s` (ends by itself
so long after its start), `error` (the guest reports that text), `destroy` (a text: raises).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

from wspilot.errors import Refused, WspilotError
from wspilot.node.vmm.base import Emit, EventKind, Ready, VmEvent, VmHandle, VmSpec
from wspilot.node.vmm.console import Console

OVERHEAD_MIB = 8


@dataclass
class _Guest:
    spec: VmSpec
    identity: Mapping[str, Any]
    faults: Mapping[str, Any]
    emit: Emit
    life: Optional[asyncio.Task[None]] = None
    doomed: bool = False
    console: Console = field(default_factory=Console)


class Sim:
    """Implements `Vmm`."""

    name = "sim"

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._boot_s = float(options.get("boot_s", 2.0))
        self._stop_s = float(options.get("stop_s", 0.1))
        self._create_s = float(options.get("create_s", 0.0))
        faults = options.get("fail")
        self._faults: Mapping[str, Any] = faults if isinstance(faults, Mapping) else {}
        self._guests: dict[str, _Guest] = {}

    def overhead_mib(self, spec: VmSpec) -> int:
        """See `Vmm`."""
        return OVERHEAD_MIB

    def check(self) -> None:
        """Always there."""

    def intent(self, spec: VmSpec, rundir: Path) -> Mapping[str, Any]:
        """See `Vmm`."""
        return {"uuid": spec.uuid, "pid": None, "files": [str(rundir / f"{spec.id}.sim")]}

    async def create(self, spec: VmSpec, rundir: Path, log: Path, emit: Emit) -> VmHandle:
        """See `Vmm`."""
        if spec.id in self._guests:
            raise WspilotError(f"VM {spec.name} ({spec.id}) exists on this node already")
        identity = self.intent(spec, rundir)
        guest = _Guest(spec, identity, self._fault(spec), emit)
        self._guests[spec.id] = guest
        try:
            await asyncio.sleep(self._create_s)
            if guest.faults.get("create"):
                raise WspilotError(f"VM {spec.name}: {guest.faults['create']}")
            if guest.doomed:
                raise WspilotError(f"VM {spec.name}: destroyed while it was being started")
        except BaseException:
            self._guests.pop(spec.id, None)
            raise
        Path(identity["files"][0]).write_text(spec.uuid)
        log.write_text(f"{spec.name}: simulated console\n")
        guest.console.wire(lambda data: self._echo(guest.console, data))
        guest.console.write(f"{spec.name}: simulated console\r\n".encode())
        self._say(guest, EventKind.STARTED)
        self._say(guest, EventKind.BOOTING)
        guest.life = asyncio.ensure_future(self._live(guest))
        return VmHandle(spec.id, identity)

    async def _live(self, guest: _Guest) -> None:
        """Boot, say so, and perhaps die."""
        dies = guest.faults.get("dies_s")
        never = guest.faults.get("ready") == "never"
        if guest.spec.ready == Ready.PROCESS.value and not never:
            self._say(guest, EventKind.READY, "unproven")
        elif not never and (dies is None or float(dies) >= self._boot_s):
            await asyncio.sleep(self._boot_s)
            self._say(guest, EventKind.READY, "simulated")
        if not never and not guest.faults.get("error"):
            self._say(guest, EventKind.SAID, "simulated")
        if guest.faults.get("error"):
            self._say(guest, EventKind.ERROR, str(guest.faults["error"]))
        if dies is None:
            await asyncio.Event().wait()
        await asyncio.sleep(max(0.0, float(dies or 0) - self._boot_s))
        self._gone(guest, "simulated death")

    async def destroy(self, vm_id: str, grace_s: float) -> None:
        """See `Vmm`. Takes `stop_s`, at most the grace."""
        guest = self._guests.get(vm_id)
        if guest is None:
            return
        guest.doomed = True
        if guest.life is None:
            return  # `create` sees it and leaves nothing
        await asyncio.sleep(min(self._stop_s, grace_s))
        if guest.faults.get("destroy"):
            raise WspilotError(f"VM {guest.spec.name}: {guest.faults['destroy']}")
        guest.life.cancel()
        if vm_id in self._guests:
            self._gone(guest, "destroyed")

    async def act(self, vm_id: str, verb: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `Vmm`. What is started or rebooted boots again; `fail.NAME.VERB` (a text) raises."""
        guest = self._guests.get(vm_id)
        if guest is None or guest.life is None:
            raise WspilotError(f"VM {vm_id} is not on this node")
        await asyncio.sleep(self._stop_s)
        if guest.faults.get(verb):
            raise WspilotError(f"VM {guest.spec.name}: {guest.faults[verb]}")
        if verb == "save":
            raise Refused("a simulated VM has no disk", 'real guests have: [site] vmm = "qemu"')
        if verb in ("stop", "reboot"):
            guest.life.cancel()
        if verb in ("start", "reboot"):
            self._say(guest, EventKind.BOOTING)
            guest.life = asyncio.ensure_future(self._live(guest))
        return {}

    def identity(self, vm_id: str) -> Optional[Mapping[str, Any]]:
        """See `Vmm`."""
        guest = self._guests.get(vm_id)
        return None if guest is None else guest.identity

    def up(self, vm_id: str) -> None:
        """It has no address that could answer, and says itself when it is up."""

    def console(self, vm_id: str) -> Optional[Console]:
        """See `Vmm`. It says what it is told."""
        guest = self._guests.get(vm_id)
        return None if guest is None else guest.console

    async def dial(
        self, vm_id: str, port: int
    ) -> tuple[socket.socket, Callable[[], Awaitable[None]]]:
        """See `Vmm`."""
        raise WspilotError("a simulated VM has no network")

    def _echo(self, console: Console, data: bytes) -> bool:
        console.write(data)
        return True

    def kill_stale(self, identity: Mapping[str, Any]) -> bool:
        """See `Vmm`."""
        return kill_stale(identity)

    async def close(self) -> None:
        """See `Vmm`."""
        for guest in list(self._guests.values()):
            if guest.life is not None:
                guest.life.cancel()
            self._gone(guest, "closed")

    def _fault(self, spec: VmSpec) -> Mapping[str, Any]:
        for key in (spec.id, spec.name, str(spec.image.get("name", "")), "*"):
            found = self._faults.get(key)
            if isinstance(found, Mapping):
                return found
        return {}

    def _gone(self, guest: _Guest, text: str) -> None:
        if self._guests.pop(guest.spec.id, None) is not None:
            guest.console.close()
            kill_stale(guest.identity)
            self._say(guest, EventKind.EXITED, text)

    def _say(self, guest: _Guest, kind: EventKind, text: str = "") -> None:
        guest.emit(VmEvent(guest.spec.id, kind, text))


def kill_stale(identity: Mapping[str, Any]) -> bool:
    """Remove the VM's file."""
    for name in identity.get("files", ()):
        Path(name).unlink(missing_ok=True)
    return True

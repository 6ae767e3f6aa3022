"""VMM `xen`: guests of this node's Xen, each step by the root helper; their consoles are ours.

Every `xl` is root's: here is what a VM is made of, what it says (on hvc0), and what its end means.
A guest that ends by itself is destroyed by xl at once; one that wanted a reboot is started again
from here, with its disks as they are.

Invariant: whatever `create` began is undone when it raises, or when it is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Awaitable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Callable, Optional

from wspilot import qcow2
from wspilot.errors import TimedOut, WspilotError
from wspilot.node import root
from wspilot.node.vmm import xenstale
from wspilot.node.vmm.argv import check_image
from wspilot.node.vmm.base import Emit, VmHandle, VmSpec
from wspilot.node.vmm.child import spawn
from wspilot.node.vmm.console import Console
from wspilot.node.vmm.disks import MAKE, MIB, Disk, format_argv
from wspilot.node.vmm.door import Door
from wspilot.node.vmm.tools import program
from wspilot.node.vmm.xenguest import Guest
from wspilot.node.vmm.xenwords import copy_argv, raw_disks, words
from wspilot.text import clean

COPY_S, REAP_S = 300.0, 5.0
LOOK_S, LOOK_AGAIN_S = 10.0, 2.0  # how long what became of a guest is asked, and how often
OVERHEAD_MIB = 8


class Xen:
    """Implements `Vmm`. Options: `kind` (pv or pvh), and the pilot's `journal` and `slot`."""

    name = "xen"

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._journal = str(options.get("journal", ""))
        self._slot = str(options.get("slot", ""))
        self._kind = str(options.get("kind", "pv"))
        self._guests: dict[str, Guest] = {}

    def overhead_mib(self, spec: VmSpec) -> int:
        """As the helper counts it (`root_guest.overhead_mib`)."""
        return OVERHEAD_MIB + spec.memory_mib // 128

    def check(self) -> None:
        """Raises WspilotError when this node has no root helper."""
        if not Path(root.HELPER).is_file():
            raise WspilotError(
                f"{root.HELPER} is not on this node, and Xen's guests need it",
                "its administrator installs it: make install-node (docs/xen.md)",
            )

    def intent(self, spec: VmSpec, rundir: Path) -> Mapping[str, Any]:
        """What the journal keeps before the start: found again by its uuid."""
        files = [disk.path for disk in raw_disks(spec, rundir)]
        files += [spec.seed] if spec.seed else []
        return {"uuid": spec.uuid, "pid": None, "start": None, "qmp": None, "files": files}

    async def create(self, spec: VmSpec, rundir: Path, log: Path, emit: Emit) -> VmHandle:
        """See `Vmm.create`. Some 0.5 s on real hardware, ten and more under emulation."""
        if spec.id in self._guests:
            raise WspilotError(f"VM {spec.name} ({spec.id}) exists on this node already")
        check_image(spec)
        disks = raw_disks(spec, rundir)
        told = words(spec, disks, self._journal, self._slot, self._kind)
        guest = Guest(spec, dict(self.intent(spec, rundir)), told, emit, log)
        guest.on_end = partial(self._ended, guest)
        self._guests[spec.id] = guest
        try:
            for disk in disks:
                await _make(spec, disk)
            await self._start(guest)
        except BaseException as error:
            await asyncio.shield(self._give_up(guest))
            if isinstance(error, OSError):
                raise WspilotError(f"VM {spec.name} cannot be started: {error}") from error
            raise
        return VmHandle(spec.id, dict(guest.identity))

    async def _start(self, guest: Guest, restore: bool = False) -> None:
        """Ask for it, and take its console. Raises WspilotError, OSError; then it does not run."""
        guest.check_doom()
        made = await root.asked("xen-create", {**guest.words, "restore": restore}, root.XEN_S)
        guest.running = True
        guest.check_doom()
        guest.begin(int(made["domid"]), str(made["tty"]), restore)

    async def _give_up(self, guest: Guest) -> None:
        """After a failed create: leave nothing. One that does not go is known on, and `close` and
        the journal try again."""
        guest.close()
        with contextlib.suppress(WspilotError):
            await self._end(guest, 0.0)
            guest.remove_files()
            self._guests.pop(guest.spec.id, None)

    async def act(self, vm_id: str, verb: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `Vmm.act`."""
        guest = self._guests.get(vm_id)
        if guest is None:
            raise WspilotError(f"VM {vm_id} is not on this node")
        grace = data.get("grace_s")
        grace_s = float(grace) if isinstance(grace, (int, float)) else 0.0
        if verb == "start" or (verb == "resume" and guest.saved):
            await self._again(guest)
        elif verb == "suspend" and guest.saved:
            pass  # whoever asked for it has been told that it was not
        elif not guest.running:
            raise WspilotError(f"VM {guest.spec.name} does not run")
        elif verb in ("pause", "resume"):
            await self._do(guest, verb)
            guest.paused = verb == "pause"
        elif verb == "suspend":
            await self._suspend(guest)
        elif verb in ("stop", "reboot"):
            await self._end(guest, grace_s, keep=True)
            if verb == "reboot":
                await self._again(guest)
        else:
            raise WspilotError(f"VMM xen cannot {clean(verb, 40)} a VM")
        return {}

    async def _do(self, guest: Guest, what: str) -> None:
        await root.asked("xen-do", {"uuid": guest.spec.uuid, "do": what}, root.XEN_S)

    async def _suspend(self, guest: Guest) -> None:
        """Its memory goes into a file of root's; what goes wrong leaves it running.

        Whoever does not wait for it (its end is near) does not stop xl: the end of its console is
        then no end that `_look` may clear away, for its saved memory would go too. Where the answer
        was lost nobody knows whether xl is done: `_look` does, at its console's end.
        """
        guest.resting = True
        try:
            await self._do(guest, "suspend")
        except (WspilotError, OSError):
            guest.resting = False
            if not guest.running:  # that end has come already
                self._ended(guest)
            raise
        guest.rest()
        guest.saved = True

    async def _again(self, guest: Guest) -> None:
        """Start a VM that rests, from its disk or its memory. Raises WspilotError: it rests on."""
        if guest.running:
            return
        try:
            await self._start(guest, guest.saved)
        except BaseException:
            with contextlib.suppress(WspilotError):
                await asyncio.shield(self._end(guest, 0.0, keep=True))
            raise
        guest.saved = False

    async def _end(self, guest: Guest, grace_s: float, keep: bool = False) -> None:
        """It runs no more, asked first when it is up. Raises WspilotError when it does not go."""
        guest.resting = True
        asks = {"uuids": [guest.spec.uuid], "keep": keep}
        if grace_s >= 1 and guest.ready and guest.running:
            asks["grace_s"] = min(600, int(grace_s))
        await root.asked("xen-end", asks, root.XEN_S + grace_s)
        guest.rest()

    async def destroy(self, vm_id: str, grace_s: float) -> None:
        """See `Vmm.destroy`. Raises WspilotError when Xen does not let the domain go."""
        guest = self._guests.get(vm_id)
        if guest is None:
            return
        guest.doomed = True
        ran = guest.running
        await self._end(guest, grace_s)
        guest.remove_files()
        if self._guests.pop(vm_id, None) is not None:
            guest.close()
            if ran:
                guest.say_exited("ended")

    def identity(self, vm_id: str) -> Optional[Mapping[str, Any]]:
        """See `Vmm.identity`."""
        guest = self._guests.get(vm_id)
        return None if guest is None else dict(guest.identity)

    def up(self, vm_id: str) -> None:
        """See `Vmm.up`."""
        guest = self._guests.get(vm_id)
        if guest is not None:
            guest.answered()

    def console(self, vm_id: str) -> Optional[Console]:
        """See `Vmm.console`."""
        guest = self._guests.get(vm_id)
        return None if guest is None else guest.console

    async def dial(
        self, vm_id: str, port: int
    ) -> tuple[socket.socket, Callable[[], Awaitable[None]]]:
        """See `Vmm.dial`: over the bridge."""
        guest = self._guests.get(vm_id)
        if guest is None or not guest.running:
            raise WspilotError("it does not run")
        return await Door(_no_monitor, guest.spec.nics).dial(port)

    def kill_stale(self, identity: Mapping[str, Any]) -> bool:
        """See `xenstale.end_all`."""
        return xenstale.end_all([identity])[0]

    async def close(self) -> None:
        """Destroy all VMs at once, without grace, by one call of the helper."""
        guests = list(self._guests.values())
        if not guests:
            return
        for guest in guests:
            guest.doomed = guest.resting = True
        await root.asked("xen-end", {"uuids": [one.spec.uuid for one in guests]}, root.XEN_S)
        for guest in guests:
            guest.rest()
            guest.remove_files()
            guest.close()
            self._guests.pop(guest.spec.id, None)

    # -- its end, noticed by its console's

    def _ended(self, guest: Guest) -> None:
        """Its console is gone: what was it?"""
        if not guest.resting:
            guest.task = asyncio.ensure_future(self._look(guest))

    async def _look(self, guest: Guest) -> None:
        """It powered itself off, crashed, or wants to start again; or it was saved, and whoever
        asked has been told that it was not: then it comes back from its memory, or rests with it
        until it is suspended, which it is already, and resumed."""
        found = await self._what_is_there(guest)
        if guest.resting or guest.doomed or guest.running:  # somebody was faster
            return
        there = [row for row in found.get("domains", ()) if row["uuid"] == guest.spec.uuid]
        why = str(found.get("ended", {}).get(guest.spec.uuid) or "")
        guest.rest()
        if why in ("reboot", "suspend") and not there:
            guest.saved = why == "suspend"
            if not guest.saved:
                guest.say_booting("the guest restarts itself")
            try:
                await self._again(guest)
                return
            except (WspilotError, OSError) as error:
                why = f"it could not be started again: {clean(str(error), 200)}"
            if guest.saved and not guest.doomed:  # as after a resume that fails
                guest.say_saved(why)
                return
        self._guests.pop(guest.spec.id, None)
        guest.close()
        guest.say_gone(why)
        with contextlib.suppress(WspilotError):
            await root.asked("xen-end", {"uuids": [guest.spec.uuid]}, root.XEN_S)
        guest.remove_files()

    async def _what_is_there(self, guest: Guest) -> Mapping[str, Any]:
        """The helper's `xen-list`, asked again when it fails: a guest that is taken for ended by
        mistake loses its memory."""
        why, end = "", time.monotonic() + LOOK_S
        while not (guest.resting or guest.doomed or guest.running):
            try:
                return await root.asked("xen-list", {}, root.XEN_S)
            except (WspilotError, OSError) as error:
                why = f"nobody knows why: {clean(str(error), 200)}"
            if time.monotonic() > end:
                break
            await asyncio.sleep(LOOK_AGAIN_S)
        return {"ended": {guest.spec.uuid: why}}


async def _make(spec: VmSpec, disk: Disk) -> None:
    """One disk of a VM's own. Raises WspilotError, OSError."""
    if disk.base:
        size = max(qcow2.virtual_size(Path(disk.base), disk.form), disk.mib * MIB)
        name = "cp" if disk.form == "raw" else "qemu-img"
        await _run(spec, copy_argv(program(name, (name,)), disk))
        os.truncate(disk.path, size)
    else:
        fd = os.open(disk.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        os.truncate(fd, disk.mib * MIB)
        os.close(fd)
        if disk.fs != "none":
            name, package = MAKE[disk.fs]
            await _run(spec, format_argv(program(name, (name,), (package,)), disk))
    Path(disk.path).chmod(0o600)


async def _run(spec: VmSpec, argv: list[str]) -> None:
    tool, name = spawn(argv), Path(argv[0]).name
    try:
        if not await tool.wait(COPY_S):
            raise TimedOut(f"VM {spec.name}: {name} took longer than {COPY_S:.0f} s")
    finally:
        tool.kill()
        await tool.wait(REAP_S)
    if tool.returncode:
        why = clean(tool.stderr, 400) or f"code {tool.returncode}"
        raise WspilotError(f"VM {spec.name}: no disk could be made: {name}: {why}")


async def _no_monitor(command: str, arguments: Mapping[str, Any]) -> Any:
    raise WspilotError("a Xen guest has no monitor")

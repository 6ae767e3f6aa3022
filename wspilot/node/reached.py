"""`ready = "address"`: a guest is up when one of its addresses answers.

Guests are asked by their network's way, every half second from each boot until they answer.
"""

from __future__ import annotations

import asyncio
import contextlib

from wspilot.errors import WspilotError
from wspilot.node.network import Ways
from wspilot.node.vmm.base import EventKind, Ready, VmEvent, Vmm, VmSpec

ASK_S = 0.5


class Reached:
    """Asks for all VMs of one pilot; tells their VMM who has answered."""

    def __init__(self, networks: Ways, vmm: Vmm) -> None:
        self._networks, self._vmm = networks, vmm
        self._expected: set[str] = set()
        self._asking: dict[str, asyncio.Task[None]] = {}

    def expect(self, spec: VmSpec) -> None:
        """A VM that is about to be started."""
        if spec.ready == Ready.ADDRESS.value:
            self._expected.add(spec.id)

    def heard(self, event: VmEvent) -> None:
        """What a VM has done: it boots (again), it is up, or it is gone."""
        if event.kind is EventKind.BOOTING and event.vm in self._expected:
            self._stop(event.vm)
            self._asking[event.vm] = asyncio.ensure_future(self._ask(event.vm))
        elif event.kind in (EventKind.READY, EventKind.EXITED):
            self._stop(event.vm)

    def forget(self, vm: str) -> None:
        """It is being ended."""
        self._expected.discard(vm)
        self._stop(vm)

    def close(self) -> None:
        """Nobody is asked any more."""
        for vm in list(self._asking):
            self._stop(vm)

    def _stop(self, vm: str) -> None:
        task = self._asking.pop(vm, None)
        if task is not None:
            task.cancel()

    async def _ask(self, vm: str) -> None:
        """The first question's answer is of an earlier boot."""
        fresh = False
        while True:
            with contextlib.suppress(WspilotError, OSError):  # a switch that is just replaced
                if await self._networks.answers(vm) and fresh:
                    break
                fresh = True
            await asyncio.sleep(ASK_S)
        self._asking.pop(vm, None)  # `up` is heard here again, and must not cancel this
        self._vmm.up(vm)

"""VMs of one node, from a `create` command to the proof that nothing of them is left.

A failed VM keeps the state `failed` (and its phase and cause with the daemon) but its remains are
destroyed at once; `terminated` is said when it was asked to end and is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wspilot.model import VmState
from wspilot.node.core.events import Create, Destroy
from wspilot.node.core.state import Vm
from wspilot.node.core.turn import Turn
from wspilot.text import clean

BOOT_S = 120.0  # where a `create` says nothing
CREATE_S = 60.0  # a VMM that has not started a process by then never will


def create(turn: Turn, data: Mapping[str, Any], seen: float) -> None:
    """Begin a VM; its `create` was checked (`orders.py`)."""
    boot_s = data.get("boot_s")
    limit = float(boot_s) if isinstance(boot_s, (int, float)) and boot_s > 0 else BOOT_S
    vm = Vm(str(data["id"]), VmState.PENDING, limit, creating=True, open=("propagate", seen))
    vm = turn.move(vm, VmState.STARTING, "create")
    turn.do(Create(vm.id, data, CREATE_S))


def created(turn: Turn, vm: Vm) -> None:
    """Its process runs and answers."""
    vm = turn.put(vm, creating=False)
    if vm.wanted == "gone" and not vm.destroying:
        _end(turn, vm)
    elif vm.state is VmState.STARTING:
        booting(turn, vm)


def booting(turn: Turn, vm: Vm) -> None:
    """The guest's processors run; from now on it has `boot_s` to show that it is up."""
    if vm.state is VmState.STARTING:
        turn.move(vm, VmState.BOOTING, "boot", boot_by=turn.now + vm.boot_s)


def said(turn: Turn, vm: Vm, kind: str, text: str) -> None:
    """A VMM's event."""
    if kind == "booting":
        booting(turn, vm)
    elif kind == "ready" and vm.state in (VmState.STARTING, VmState.BOOTING):
        booting(turn, vm)
        vm = turn.state.vms[vm.id]
        turn.move(vm, VmState.RUNNING, unproven=text == "unproven")
        turn.set(last_running=turn.now)
    elif kind == "error":
        turn.log("warning", f"VM {vm.id}: the guest reports an error: {text}")
    elif kind == "exited" and vm.wanted == "running" and not vm.creating:
        fail(turn, vm, f"the guest ended by itself: {text}" if text else "the guest ended")


def fail(turn: Turn, vm: Vm, cause: str, exists: bool = True) -> None:
    """It failed; what is left of it goes."""
    if vm.state in (VmState.FAILED, VmState.TERMINATED):
        return
    vm = turn.move(vm, VmState.FAILED, cause=clean(cause, 500), creating=False, exists=exists)
    if exists and not vm.destroying:
        turn.put(vm, destroying=True)
        turn.do(Destroy(vm.id, 0.0))


def create_failed(turn: Turn, vm: Vm, cause: str) -> None:
    """It did not start, and nothing of it is left."""
    if vm.wanted == "gone":
        turn.put(vm, creating=False)
        destroyed(turn, turn.state.vms[vm.id])
    else:
        fail(turn, vm, cause, exists=False)


def destroy(turn: Turn, vm: Vm, grace_s: float) -> None:
    """It shall end, whatever it is doing."""
    vm = turn.put(vm, wanted="gone", grace_s=grace_s)
    if vm.state is VmState.TERMINATED:
        return
    if not vm.exists:
        turn.move(vm, VmState.TERMINATED)
        return
    if not vm.destroying:
        _end(turn, vm)


def _end(turn: Turn, vm: Vm) -> None:
    vm = turn.move(vm, VmState.STOPPING, "stop", destroying=True)
    turn.do(Destroy(vm.id, vm.grace_s))


def hurry(turn: Turn, vm: Vm) -> None:
    """No grace any more: asked again, and whoever has the least grace decides."""
    if vm.exists:
        turn.put(vm, wanted="gone", grace_s=0.0)
        turn.do(Destroy(vm.id, 0.0))


def destroyed(turn: Turn, vm: Vm) -> None:
    """Gone. A VM that is still being created answers for itself."""
    vm = turn.put(vm, destroying=False, exists=vm.creating)
    if vm.creating:
        return
    if vm.wanted == "gone":
        turn.move(vm, VmState.TERMINATED)


def destroy_failed(turn: Turn, vm: Vm, cause: str) -> None:
    """It does not die: the end of the slot tries again, by its journal."""
    turn.put(vm, destroying=False, cause=vm.cause or clean(cause, 500))
    turn.log("error", f"VM {vm.id} cannot be ended: {cause}")


def overdue(turn: Turn) -> None:
    """Guests that did not come up in time."""
    for vm in list(turn.state.vms.values()):
        if vm.state is VmState.BOOTING and vm.boot_by is not None and turn.now >= vm.boot_by:
            fail(turn, vm, f"the guest did not say that it is up within {vm.boot_s:g} s")

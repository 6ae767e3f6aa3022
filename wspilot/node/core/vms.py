"""VMs of one node, from a `create` command to the proof that nothing of them is left.

A failed VM keeps the state `failed` (and its phase and cause with the daemon) but its remains are
destroyed at once; `terminated` is said when it was asked to end and is gone. What users ask of a
living VM is `verbs.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wspilot.messages import Kind
from wspilot.model import VmState
from wspilot.node.core.events import Create, Destroy, Propagate
from wspilot.node.core.state import Phase, Vm
from wspilot.node.core.turn import Turn
from wspilot.text import clean

BOOT_S = 120.0  # where a `create` says nothing
CREATE_S = 60.0  # at least; a VMM that has not started a process by then never will
PROPAGATE_S = 600.0  # at least; the budget may give more
STEP = 0.05  # of an image: no message for less


def create(turn: Turn, data: Mapping[str, Any], seen: float) -> None:
    """Begin a VM; its `create` was checked (`orders.py`)."""
    boot_s = data.get("boot_s")
    limit = float(boot_s) if isinstance(boot_s, (int, float)) and boot_s > 0 else BOOT_S
    vm = turn.put(Vm(str(data["id"]), VmState.PENDING, limit, creating=True, data=data))
    image = data.get("image")
    if isinstance(image, Mapping) and image.get("files"):
        turn.move(vm, VmState.PROPAGATING, "propagate")
        budget = turn.state.settings.budget.get("propagate", 0.0)
        turn.do(Propagate(vm.id, data, max(PROPAGATE_S, budget)))
    else:
        _begin(turn, turn.put(vm, open=("propagate", seen)), data)


def _begin(turn: Turn, vm: Vm, data: Mapping[str, Any]) -> None:
    vm = turn.move(vm, VmState.STARTING, "create", data={})
    # A node that boots slowly creates slowly, too (an emulated Xen: a minute and more).
    limit_s = max(CREATE_S, turn.state.settings.budget.get("boot", 0.0))
    turn.do(Create(vm.id, data, limit_s))


def progress(turn: Turn, vm: Vm, fraction: float) -> None:
    """More of its image is here; told in steps."""
    if vm.state is VmState.PROPAGATING and fraction >= (vm.progress or 0.0) + STEP:
        vm = turn.put(vm, progress=round(min(1.0, fraction), 3))
        turn.say(Kind.PROGRESS, **vm.report().to_data())


def propagated(turn: Turn, vm: Vm, image: Mapping[str, Any]) -> None:
    """Its image is here: the VMM may begin."""
    if vm.wanted == "gone" or vm.state is not VmState.PROPAGATING:
        create_failed(turn, vm, "it was destroyed before it was begun")
    else:
        _begin(turn, vm, {**vm.data, "image": image})


def created(turn: Turn, vm: Vm) -> None:
    """Its process runs and answers."""
    vm = turn.put(vm, creating=False)
    if vm.wanted == "gone" and not vm.destroying:
        _end(turn, vm)
    elif vm.state is VmState.STARTING:
        booting(turn, vm)


def booting(turn: Turn, vm: Vm) -> None:
    """The guest's processors run; from now on it has `boot_s` to show that it is up."""
    if vm.state in (VmState.STARTING, VmState.REBOOTING):
        turn.move(vm, VmState.BOOTING, "boot", boot_by=turn.now + vm.boot_s)


def said(turn: Turn, vm: Vm, kind: str, text: str) -> None:
    """A VMM's event."""
    if kind == "booting":
        booting(turn, vm)
    elif kind == "ready" and vm.state in (VmState.STARTING, VmState.REBOOTING, VmState.BOOTING):
        booting(turn, vm)
        vm = turn.state.vms[vm.id]
        turn.move(vm, VmState.RUNNING, unproven=text == "unproven", been_up=True)
        turn.set(last_running=turn.now)
    elif kind == "said":
        _context(turn, vm, True, text)
    elif kind == "error":
        turn.log("warning", f"VM {vm.id}: the guest reports an error: {text}")
        _context(turn, vm, False, text)
    elif kind == "exited" and vm.wanted == "running" and not vm.creating:
        fail(turn, vm, f"the guest ended by itself: {text}" if text else "the guest ended")


def _context(turn: Turn, vm: Vm, ok: bool, text: str) -> None:
    """A guest speaks of its context once; what it says later changes nothing."""
    if vm.context is None:
        turn.put(vm, context=ok)
        turn.say(Kind.CONTEXT, vm=vm.id, ok=ok, text=clean(text, 400))


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
    """Guests that did not come up in time. One that was up before is only spoken of: a long check
    of its disk is no reason to take its lease away."""
    for vm in list(turn.state.vms.values()):
        if vm.state is not VmState.BOOTING or vm.boot_by is None or turn.now < vm.boot_by:
            continue
        late = f"the guest did not say that it is up within {vm.boot_s:g} s"
        if vm.been_up and turn.state.phase is Phase.READY:
            turn.put(vm, boot_by=None)
            turn.log("warning", f"VM {vm.id}: {late} after it was started again")
        else:
            fail(turn, vm, late)

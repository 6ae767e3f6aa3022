"""VMs: given to nodes that are ready, moved by what their pilots report, freed only on proof."""

from __future__ import annotations

from dataclasses import replace

from wspilot.daemon.core import picture
from wspilot.daemon.core.orders import send
from wspilot.daemon.core.turn import Turn
from wspilot.messages import Verb
from wspilot.model import (
    PilotRecord,
    Slot,
    SlotState,
    Span,
    Vm,
    VmReport,
    VmState,
    Workspace,
)


def assign(turn: Turn, slot: Slot) -> None:
    """Give the slot's waiting VMs to its ready pilots, and ask for their creation.

    Where a workspace has one slot this begins as soon as a node is ready: its sisters were started
    together with it. Where it has several, when all of them are (all or nothing).
    """
    ws = turn.books.workspace(slot.workspace)
    if ws is None or ws.wanted != "active" or slot.wanted != "held":
        return
    slots = [other for other in turn.books.slots_of(ws) if other.wanted == "held"]
    if len(slots) > 1 and any(other.state is not SlotState.READY for other in slots):
        return
    for other in slots:
        _fill(turn, ws, other)


def _fill(turn: Turn, ws: Workspace, slot: Slot) -> None:
    each = -(-len(slot.vms) // slot.nodes)
    waiting = [
        vm for vm in map(turn.books.vm, slot.vms) if vm and not vm.pilot and vm.wanted == "running"
    ]
    for pilot in turn.books.pilots_of(slot):
        if pilot.state != "ready":
            continue
        here = sum(1 for id in slot.vms if (vm := turn.books.vm(id)) and vm.pilot == pilot.id)
        if waiting and not here:
            picture.send_all(turn, ws, pilot)
        for vm in waiting[: max(0, each - here)]:
            _create(turn, ws, pilot, vm)
            waiting.remove(vm)


def _create(turn: Turn, ws: Workspace, pilot: PilotRecord, vm: Vm) -> None:
    group = next(group for group in ws.groups if group.name == vm.group)
    waits = "waits" if group.provides or group.requires else ""
    turn.vm(
        vm,
        vm.state,
        "daemon",
        pilot=pilot.id,
        node=pilot.node,
        created=True,
        waits_for=f"{pilot.node} to begin",
        context=waits,
        spans=(Span("invoke", turn.now, None, "receipt"),),
    )
    data = {
        "id": vm.id,
        "name": vm.name,
        "uuid": vm.uuid,
        "cpus": vm.cpus,
        "memory_mib": vm.memory_mib,
        "image": {"name": vm.image},
        "ready": group.ready,
        "nics": [{"network": nic.network, "mac": nic.mac, "ip": nic.ip} for nic in vm.nics],
        "boot_s": turn.rules.boot_s,
        "disk_mib": group.disk_mib,
        "host": picture.host_name(vm),
        "user_data": group.user_data,
    }
    send(turn, pilot, Verb.CREATE, data, vm.id)


def apply_report(turn: Turn, slot: Slot, pilot: PilotRecord, report: VmReport) -> None:
    """A VM's whole state, as its pilot sees it."""
    vm = turn.books.vm(report.id)
    if vm is None or vm.pilot != pilot.id or vm.state is VmState.TERMINATED:
        return
    spans = _merge(vm.spans, report.spans, turn.now)
    cause = report.cause if report.state in (VmState.FAILED, VmState.TERMINATED) else ""
    if report.state is VmState.TERMINATED:
        turn.vm(
            vm,
            VmState.TERMINATED,
            pilot.id[:8],
            spans=spans,
            held=False,
            proof=vm.proof or turn.proof("node", f"{pilot.node} said terminated"),
            cause=vm.cause or (cause if vm.wanted == "running" else ""),
        )
        return
    turn.vm(
        vm,
        report.state,
        pilot.id[:8],
        spans=spans,
        cause=cause or _kept(vm, report),
        unproven=report.unproven,
        progress=report.progress,
    )


def _kept(vm: Vm, report: VmReport) -> str:
    return vm.cause if vm.state is report.state else ""


def _merge(known: tuple[Span, ...], told: tuple[Span, ...], now: float) -> tuple[Span, ...]:
    """The node's spans, and ours (`invoke`) closed by the first report."""
    ours = [span for span in known if span.name not in {other.name for other in told}]
    closed = [
        span
        if span.seconds is not None or span.clock != "receipt"
        else replace(span, seconds=max(0.0, now - span.start))
        for span in ours
    ]
    return (*closed, *told)


def late(turn: Turn, vm: Vm) -> None:
    """A guest that is up and has not said a word on its context in the time of a boot."""
    waits = vm.context == "waits" and vm.state is VmState.RUNNING
    if waits and turn.now - vm.since >= turn.rules.boot_s:
        text = f"{vm.name} has not said whether its context is right"
        turn.vm(vm, vm.state, vm.seen_by, context="late")
        turn.note("warning", "vm", text, workspace=vm.workspace, vm=vm.id, node=vm.node)


def destroy(turn: Turn, vm: Vm) -> None:
    """One VM shall end; confirmed when its node says so."""
    if vm.state is VmState.TERMINATED or vm.wanted == "gone":
        return
    vm = replace(vm, wanted="gone")
    pilot = turn.books.pilot(vm.pilot) if vm.pilot else None
    if not vm.created or pilot is None:
        nothing_made(turn, vm)
        return
    turn.vm(vm, vm.state, vm.seen_by, waits_for=f"{vm.node} to end it")
    send(turn, pilot, Verb.DESTROY, {"vm": vm.id, "grace_s": turn.rules.stop_s}, vm.id)


def nothing_made(turn: Turn, vm: Vm, state: VmState = VmState.TERMINATED, cause: str = "") -> None:
    """A VM for which no create was sent needs no proof (DESIGN.md section 5)."""
    proof = vm.proof or turn.proof("daemon", "no create was ever sent for it")
    turn.vm(vm, state, "daemon", held=False, proof=proof, cause=vm.cause or cause)


def running(vm: Vm) -> bool:
    """Up, as its group's `ready` proves it, and in the user's hands."""
    return vm.state in _UP


_UP = frozenset(
    {
        VmState.RUNNING,
        VmState.PAUSING,
        VmState.PAUSED,
        VmState.RESUMING,
        VmState.SUSPENDING,
        VmState.SUSPENDED,
        VmState.REBOOTING,
        VmState.STOPPED,
    }
)

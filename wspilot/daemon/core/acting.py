"""What users ask of living VMs and leases: sent as commands, confirmed by their answers.

A VM does one thing at a time (`Vm.doing`); what its node refused stays on it (`Vm.refused`) until
the next verb, so that whoever waits can be told why.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from wspilot.daemon.core.events import Act, Extend
from wspilot.daemon.core.orders import send
from wspilot.daemon.core.turn import Rules, Turn
from wspilot.errors import Code
from wspilot.messages import Verb
from wspilot.model import FINAL_SLOT, PendingOrder, Slot, Vm, Workspace
from wspilot.text import format_duration

VERBS = frozenset({Verb.START, Verb.STOP, Verb.PAUSE, Verb.RESUME, Verb.REBOOT, Verb.SUSPEND,
                   Verb.SAVE})  # fmt: skip
TTL_S = 120.0  # a `pause` that comes an hour late is no longer what was asked for
SAFE_S = 5.0  # of the hard end: a node may have begun so much earlier than we heard of it


def act(turn: Turn, event: Act) -> None:
    """Ask each VM's pilot; a VM without one refuses at once."""
    for id in event.vms:
        vm = turn.books.vm(id)
        if vm is None:
            continue
        pilot = turn.books.pilot(vm.pilot) if vm.pilot else None
        if pilot is None or pilot.state != "ready" or vm.wanted == "gone":
            _said(turn, vm, f"{event.verb.value}: it is {vm.state.value}", Code.REFUSED)
            continue
        turn.books.put(replace(vm, doing=event.verb.value, refused="", refused_code=0))
        data = {"vm": vm.id, "grace_s": turn.rules.stop_s, **event.data}
        send(turn, pilot, event.verb, data, vm.id, TTL_S)
        turn.note(
            "info", "vm", f"{vm.name}: {event.verb.value} was asked for",
            workspace=vm.workspace, slot=vm.slot, vm=vm.id, node=vm.node,
        )  # fmt: skip


def answered(turn: Turn, order: PendingOrder, refused: str, code: Any, data: Any) -> None:
    """A node's answer to a verb or to a lease; `refused` is empty where it was done."""
    vm = turn.books.vm(order.vm)
    if vm is not None and order.kind == vm.doing:
        known = Code(code) if code in list(Code) else Code.FAILED
        _said(turn, vm, f"{order.kind}: {refused}" if refused else "", known)
    slot = turn.books.slot(order.slot)
    ws = turn.books.workspace(slot.workspace) if slot else None
    if order.kind == Verb.LEASE.value and refused and ws is not None and ws.ends is not None:
        left = data.get("seconds") if isinstance(data, dict) else None
        if isinstance(left, (int, float)) and not isinstance(left, bool) and 0 <= left < 1e9:
            turn.books.put(replace(ws, ends=min(ws.ends, turn.now + left)))


def _said(turn: Turn, vm: Vm, refused: str, code: int) -> None:
    turn.books.put(replace(vm, doing="", refused=refused, refused_code=code if refused else 0))
    turn.touched[vm.workspace] = None


def possible_s(turn: Turn, ws: Workspace) -> float:
    """How long, from now, the lease may last at most, by its slots' walltimes. Seconds."""
    left = [
        left_s(turn.rules, slot, turn.now)
        for slot in turn.books.current_slots(ws)
        if slot.launched is not None and slot.state not in FINAL_SLOT
    ]
    return min(left) if left else 0.0


def left_s(rules: Rules, slot: Slot, now: float) -> float:
    """How long VMs may still run in a slot that was launched, by its walltime. Seconds."""
    spare = rules.launch_s + rules.stop_s + rules.restore_s + rules.slack_s + SAFE_S
    return max(0.0, (slot.launched or now) + slot.walltime_s - spare - now)


def extend(turn: Turn, event: Extend) -> None:
    """Every pilot is told how many seconds remain."""
    ws = turn.books.workspace(event.workspace)
    if ws is None or ws.ends is None or ws.wanted != "active":
        return
    by = int(event.by_s)
    ws = replace(ws, ends=ws.ends + by, lease_s=ws.lease_s + by)
    turn.books.put(ws)
    for slot in turn.books.slots_of(ws):
        for pilot in turn.books.pilots_of(slot):
            if pilot.state == "ready":
                send(turn, pilot, Verb.LEASE, {"seconds": (ws.ends or turn.now) - turn.now})
    turn.note(
        "info", "workspace", f"{ws.name} was extended by {format_duration(by)}", workspace=ws.id
    )

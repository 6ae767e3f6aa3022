"""Workspaces: deployed together, active together, ended completely.

A workspace's state is derived from its VMs and slots in `review`, which runs once a turn for every
workspace that was touched. All or nothing: a part that cannot be had rolls the whole back, unless
`min` of its group is still met (DESIGN.md section 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from wspilot.daemon.core import endings, nodes, rounds, slots, spares, vms
from wspilot.daemon.core.events import Deploy, Destroy, Forget, Wipe
from wspilot.daemon.core.orders import send
from wspilot.daemon.core.turn import Turn, derive_id, derive_uuid
from wspilot.daemon.policy import SlotPlan
from wspilot.messages import Verb
from wspilot.model import (
    FINAL_SLOT,
    Outcome,
    PilotRecord,
    Slot,
    SlotState,
    TokenRecord,
    Vm,
    VmState,
    Workspace,
    WorkspaceState,
)
from wspilot.text import format_duration

W, S, V = WorkspaceState, SlotState, VmState
GONE = frozenset({V.TERMINATED, V.FAILED})


def deploy(turn: Turn, event: Deploy) -> None:
    """Put a workspace, its VMs and its slots on the books, and ask for the slots."""
    groups = event.request.groups
    members = [(group, n) for group in groups for n in range(1, group.count + 1)]
    ids = {(group.name, n): derive_id(event.id, "vm", group.name, n) for group, n in members}
    slot_ids = [
        plan.held
        if plan.held and spares.take(turn, plan.held, event.id, _ids(ids, plan))
        else derive_id(event.id, "slot", n)
        for n, plan in enumerate(event.plan)
    ]
    ws = Workspace(
        event.id,
        event.name,
        event.owner,
        turn.now,
        event.request.duration_s,
        groups,
        jobs=event.jobs,
        state=W.PENDING,
        since=turn.now,
        vms=tuple(ids.values()),
        slots=tuple(slot_ids),
        serial=len(slot_ids),
        keys=event.request.keys or event.keys,
        waits_for="the batch system",
    )
    turn.books.put(ws)
    turn.note(
        "info",
        "workspace",
        f"{ws.name} asked for: {len(ids)} VMs in {len(slot_ids)} "
        f"{'slot' if len(slot_ids) == 1 else 'slots'} for {format_duration(ws.lease_s)}",
        workspace=ws.id,
    )
    slot_of = {member: slot_ids[n] for n, plan in enumerate(event.plan) for member in plan.members}
    for (group, n), nics in zip(members, event.nics, strict=True):
        turn.books.put(
            Vm(
                ids[group.name, n],
                derive_uuid(event.id, group.name, n),
                f"{ws.name}/{group.name}/{n}",
                ws.id,
                group.name,
                n,
                group.type,
                group.image,
                group.cpus,
                group.memory_mib,
                since=turn.now,
                slot=slot_of[group.name, n],
                nics=nics,
                waits_for="its node",
            )
        )
    for id, plan in zip(slot_ids, event.plan, strict=True):
        if id == plan.held:
            continue
        slots.submit(
            turn,
            Slot(
                id,
                ws.id,
                plan.nodes,
                plan.ppn,
                plan.memory_mib,
                event.walltime_s,
                turn.now,
                vms=_ids(ids, plan),
                since=turn.now,
                whole_node=plan.whole_node,
            ),
        )
    for slot in turn.books.slots_of(ws):
        vms.assign(turn, slot)  # where nothing had to be asked for
    turn.touched[ws.id] = None


def _ids(ids: Mapping[tuple[str, int], str], plan: SlotPlan) -> tuple[str, ...]:
    return tuple(ids[member] for member in plan.members)


def destroy(turn: Turn, event: Destroy) -> None:
    """End what is named; idempotent, and on the books until it is confirmed."""
    for id in event.workspaces:
        ws = turn.books.workspace(id)
        if ws is None or ws.state is W.ENDED:
            continue
        if ws.wanted == "active":
            turn.note("info", "workspace", f"{ws.name}: destroy was asked for", workspace=id)
            end(turn, ws, Outcome.DESTROYED, "", keep=not event.abandon)
        if event.abandon:
            _abandon(turn, turn.books.workspace(id) or ws)
    for id in event.vms:
        vm = turn.books.vm(id)
        if vm is not None:
            vms.destroy(turn, vm)
            turn.touched[vm.workspace] = None


def end(turn: Turn, ws: Workspace, outcome: Outcome, cause: str, *, keep: bool = False) -> None:
    """From here on the workspace only ends: every VM is let go, and every slot that is not kept
    for another (`keep`: the site's policy may do so)."""
    ws = replace(ws, wanted="ended", ending=ws.ending or outcome, cause=ws.cause or cause)
    turn.workspace(ws, W.ENDING)
    turn.books.put(replace(turn.books.workspace(ws.id) or ws, wanted="ended"))
    kept = [slot for slot in turn.books.slots_of(ws) if keep and spares.worth_keeping(turn, slot)]
    for slot in kept:
        spares.keep(turn, slot)
    for vm in turn.books.vms_of(ws):
        if vm.wanted == "running" and vm.state is not V.TERMINATED:
            vm = replace(vm, wanted="gone")
            if vm.created:
                turn.books.put(vm)
            else:
                vms.nothing_made(turn, vm)
    for slot in turn.books.slots_of(ws):
        if slot.id not in {one.id for one in kept}:
            endings.let_go(turn, slot)
    turn.touched[ws.id] = None


def _abandon(turn: Turn, ws: Workspace) -> None:
    """Close the books without proof: nodes dirty, addresses withheld."""
    for slot in turn.books.slots_of(ws):
        if slot.wanted == "held":  # it was being kept for another lease
            endings.let_go(turn, slot)
        endings.abandon(turn, turn.books.slot(slot.id) or slot)
    for vm in turn.books.vms_of(ws):
        if vm.state not in GONE:
            turn.vm(vm, V.FAILED, "daemon", cause="abandoned")
    ws = turn.books.workspace(ws.id) or ws
    turn.workspace(replace(ws, ending=Outcome.ABANDONED), W.ENDED, outcome=Outcome.ABANDONED)


def forget(turn: Turn, event: Forget) -> None:
    """A person vouches for a node: it is clean, and addresses withheld because of it are free."""
    for slot in nodes.vouched(turn, event.node):
        endings.let_go(turn, slot)
        endings.settle_slot(turn, turn.books.slot(slot.id) or slot)


# -- what a workspace's parts make of it


def review(turn: Turn, id: str) -> None:
    """Derive the workspace's state from its VMs and slots."""
    ws = turn.books.workspace(id)
    if ws is None or ws.state is W.ENDED:
        return
    if ws.wanted == "ended":
        _review_end(turn, ws)
        return
    lost = [
        slot
        for slot in turn.books.current_slots(ws)
        if (slot.state in FINAL_SLOT or slot.state is S.RELEASING) and not _given_up(turn, slot)
    ]
    members = turn.books.vms_of(ws)
    if all(vm.wanted == "gone" for vm in members):
        end(turn, ws, Outcome.DESTROYED, "all its VMs were destroyed", keep=True)
    elif any(not slot.cause for slot in lost):
        end(turn, ws, Outcome.OK, "")  # a node gave its slot back in order: the lease was served
    elif cause := _broken(turn, ws, members):
        _roll_back(turn, ws, cause, lost)
    else:
        _review_going(turn, _early(turn, ws), members)


def _early(turn: Turn, ws: Workspace) -> Workspace:
    """The nodes of a slot whose VMs were all destroyed go back before the others' do."""
    gone = False
    for slot in turn.books.current_slots(ws):
        if slot.wanted != "held" or not _given_up(turn, slot):
            continue
        if spares.worth_keeping(turn, slot):
            spares.keep(turn, slot)
        else:
            turn.note("info", "slot", "its VMs were destroyed: it goes back before the lease ends",
                      workspace=ws.id, slot=slot.id)  # fmt: skip
            endings.let_go(turn, slot)
        gone = True
    if not gone:
        return ws
    ws = spares.leave(turn, turn.books.workspace(ws.id) or ws)
    for slot in turn.books.current_slots(ws):
        if slot.wanted == "held":  # the others need not wait for it any longer
            vms.assign(turn, slot)
            break
    return ws


def _given_up(turn: Turn, slot: Slot) -> bool:
    """Were all its VMs destroyed one by one, and are gone?"""
    found = [vm for vm in map(turn.books.vm, slot.vms) if vm is not None]
    return bool(found) and all(
        vm.wanted == "gone" and vm.state is V.TERMINATED and not vm.held for vm in found
    )


def _broken(turn: Turn, ws: Workspace, members: list[Vm]) -> str:
    """Why the workspace cannot go on: a group below its minimum, with the first cause."""
    for group in ws.groups:
        mine = [vm for vm in members if vm.group == group.name]
        given_up = sum(1 for vm in mine if vm.wanted == "gone")
        good = [vm for vm in mine if vm.wanted == "running" and _has_hope(turn, vm)]
        if len(good) < min(group.min, group.count - given_up):
            bad = next(vm for vm in mine if vm not in good and vm.wanted == "running")
            slot = turn.books.slot(bad.slot)
            return f"{bad.name}: {bad.cause or (slot.cause if slot else '') or bad.state.value}"
    return ""


def _has_hope(turn: Turn, vm: Vm) -> bool:
    if vm.state in GONE:
        return False
    slot = turn.books.slot(vm.slot)
    return slot is not None and slot.state not in FINAL_SLOT and slot.state is not S.RELEASING


def _roll_back(turn: Turn, ws: Workspace, cause: str, lost: list[Slot]) -> None:
    preempted = any(slot.cause.startswith("preempted") for slot in lost)
    causes = tuple(
        dict.fromkeys(
            [slot.cause for slot in lost if slot.cause]
            + [line for slot in lost for line in slot.causes]
        )
    )
    ws = turn.workspace(ws, W.FAILED, cause=cause, causes=causes)
    end(turn, ws, Outcome.PREEMPTED if preempted else Outcome.FAILED, cause)


def _review_going(turn: Turn, ws: Workspace, members: list[Vm]) -> None:
    wanted = [vm for vm in members if vm.wanted == "running"]
    hopeful = [vm for vm in wanted if _has_hope(turn, vm)]
    up = [vm for vm in hopeful if vms.running(vm)]
    if hopeful and len(up) == len(hopeful):
        whole = len(hopeful) == len(wanted)
        if ws.active_at is None:
            ws = _activate(turn, ws)
        turn.workspace(ws, W.ACTIVE if whole else W.DEGRADED, waits_for="")
        return
    if ws.active_at is not None:  # a VM that restarts does not end an active lease
        turn.workspace(ws, ws.state, waits_for=f"{len(wanted) - len(up)} of {len(wanted)} VMs")
        return
    begun = [slot for slot in turn.books.current_slots(ws) if slot.pilots]
    state = W.PROVISIONING if begun else W.PENDING
    turn.workspace(ws, state, waits_for=_waiting(turn, ws, up, wanted))


def _waiting(turn: Turn, ws: Workspace, up: list[Vm], wanted: list[Vm]) -> str:
    current = [slot for slot in turn.books.current_slots(ws) if slot.wanted == "held"]
    unready = [slot for slot in current if slot.state is not S.READY]
    if unready:
        why = unready[0].waits_for or unready[0].state.value
        return f"{len(unready)} of {len(current)} slots: {why}" if len(current) > 1 else why
    return f"{len(wanted) - len(up)} of {len(wanted)} VMs to be up"


def _activate(turn: Turn, ws: Workspace) -> Workspace:
    """The lease runs from now; every pilot is told how many seconds remain."""
    ws = turn.workspace(ws, W.ACTIVE, active_at=turn.now, ends=turn.now + ws.lease_s, cause="")
    for slot in turn.books.slots_of(ws):
        for pilot in turn.books.pilots_of(slot):
            if pilot.state == "ready":
                send(turn, pilot, Verb.LEASE, {"seconds": ws.lease_s})
    return ws


def _review_end(turn: Turn, ws: Workspace) -> None:
    ws = spares.leave(turn, ws)
    open_slots = [slot for slot in turn.books.slots_of(ws) if slot.state not in FINAL_SLOT]
    if open_slots:
        why = open_slots[0].waits_for or open_slots[0].cause
        turn.workspace(ws, W.ENDING, waits_for=f"slot {open_slots[0].id}: {why}")
        return
    for vm in turn.books.vms_of(ws):
        if vm.state is not V.TERMINATED and not vm.held:
            turn.vm(vm, V.TERMINATED, vm.seen_by)
    turn.workspace(ws, W.ENDED, outcome=ws.ending or Outcome.OK)


# -- time


def tick(turn: Turn) -> None:
    """What time alone decides about workspaces."""
    for id in sorted(turn.books.open_workspaces):
        ws = turn.books.workspace(id)
        if ws is None or ws.wanted != "active":
            continue
        for vm in turn.books.vms_of(ws):
            vms.late(turn, vm)
        if ws.ends is not None and turn.now >= ws.ends:
            end(turn, ws, Outcome.OK, "")
        elif cause := rounds.gather(turn, ws):
            _roll_back(turn, ws, cause, [])


def prune(turn: Turn) -> None:
    """Drop what ended longer ago than `keep`, unless an address or a node still hangs on it."""
    limit = turn.now - turn.rules.keep_s
    owed = {id for node in turn.books.nodes() for id in node.owes}
    for ws in turn.books.workspaces():
        if ws.state is W.ENDED and ws.since < limit and not owed & set(ws.slots):
            _drop(turn, ws)
    for slot in list(turn.books.slots()):
        over = slot.state in FINAL_SLOT and slot.since < limit and slot.id not in owed
        if not slot.workspace and over:
            _drop_slot(turn, slot)
    for token in turn.books.tokens():
        if token.at < limit:
            turn.books.drop(TokenRecord, token.id)


def _drop(turn: Turn, ws: Workspace) -> None:
    if any(vm.held for vm in turn.books.vms_of(ws)):
        return
    for slot in turn.books.slots_of(ws):
        _drop_slot(turn, slot)
    for vm in ws.vms:
        turn.books.drop(Vm, vm)
    turn.books.drop(Workspace, ws.id)


def _drop_slot(turn: Turn, slot: Slot) -> None:
    for pilot in slot.pilots:
        turn.books.drop(PilotRecord, pilot)
    turn.books.drop(Slot, slot.id)
    turn.do(Wipe(slot.id))

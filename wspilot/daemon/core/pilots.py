"""What pilots and guardians say, and what follows from it.

Applied once, in (pilot, seq) order; a gap is waited for, last words never wait; what comes late is
acknowledged and ignored (PROTOCOLS.md section 1). `hear` answers False when the file must stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from wspilot.daemon.core import endings
from wspilot.daemon.core.orders import send_release, withdraw
from wspilot.daemon.core.turn import Turn
from wspilot.daemon.core.vms import apply_report, assign, gone_with
from wspilot.messages import URGENT, Kind, Notification, parse_rfc3339
from wspilot.model import (
    FINAL_SLOT,
    NodeState,
    PilotRecord,
    Slot,
    SlotState,
    Span,
    VmReport,
    VmState,
    from_doc,
)
from wspilot.text import clean

S = SlotState
Handler = Callable[[Turn, Slot, PilotRecord, Notification], None]


def hear(turn: Turn, note: Notification) -> bool:
    """Apply one notification or heartbeat; False: keep the file, something before it is missing."""
    slot = turn.books.slot(note.slot)
    if slot is None:
        return True
    pilot = turn.books.pilot(note.pilot)
    if note.kind is Kind.HEARTBEAT:
        if pilot is not None and note.epoch == 1:
            _alive(turn, pilot)
            _heartbeat(turn, slot, pilot, note)
        return True
    if pilot is None:
        pilot = PilotRecord(note.pilot, note.slot, note.node, note.epoch, of=note.of or "")
    if note.seq <= pilot.seq:
        return True
    if note.seq > pilot.seq + 1 and note.kind not in URGENT and not _gap_over(turn, pilot, note):
        return False
    turn.books.put(replace(pilot, seq=note.seq, gap_since=0.0, gap_scans=0))
    pilot = _alive(turn, turn.books.pilot(pilot.id) or pilot)
    _better_skew(turn, pilot, note)
    if note.epoch != 1:
        _other_epoch(turn, slot, pilot, note)
    elif note.of:
        _guardian(turn, slot, note)
    else:
        _HANDLERS[note.kind](turn, turn.books.slot(slot.id) or slot, pilot, note)
    return True


def _gap_over(turn: Turn, pilot: PilotRecord, note: Notification) -> bool:
    since = pilot.gap_since or turn.now
    scans = pilot.gap_scans + 1
    if turn.now - since >= turn.rules.gap_s and scans >= turn.rules.gap_scans:
        turn.note(
            "warning",
            "spool",
            f"messages {pilot.seq + 1} to {note.seq - 1} of pilot {pilot.id[:8]} never came",
            slot=pilot.slot,
            node=pilot.node,
        )
        return True
    turn.books.put(replace(pilot, gap_since=since, gap_scans=scans))
    return False


def _alive(turn: Turn, pilot: PilotRecord) -> PilotRecord:
    """It has spoken: silence begins anew, and what was unknown because of it is known again."""
    turn.books.heard_at[pilot.id] = turn.books.listened
    was_lost, pilot = pilot.lost, replace(pilot, heard=turn.now, lost=False)
    turn.books.put(pilot)
    slot = turn.books.slot(pilot.slot)
    if was_lost and slot is not None:
        _back(turn, slot, pilot)
    return pilot


def _back(turn: Turn, slot: Slot, pilot: PilotRecord) -> None:
    """A silent pilot speaks again: the slot is what its pilots are; VMs follow by heartbeat."""
    turn.node(pilot.node, NodeState.IN_USE, cause="")
    pilots = turn.books.pilots_of(slot)
    if slot.state is not S.UNKNOWN or any(other.lost for other in pilots):
        return
    ready = len(pilots) >= slot.nodes and all(other.state == "ready" for other in pilots)
    state = S.RELEASING if slot.wanted == "released" else S.READY if ready else S.RESERVING
    turn.slot(slot, state, cause="")


def _other_epoch(turn: Turn, slot: Slot, pilot: PilotRecord, note: Notification) -> None:
    """A second start of the slot's job: it moves nothing; it is shown."""
    cause = clean(str(note.data.get("cause", "")), 300)
    turn.note(
        "warning",
        "slot",
        f"the batch system started this slot's job again (epoch "
        f"{note.epoch}): {note.kind.value} {cause}",
        workspace=slot.workspace,
        slot=slot.id,
        node=note.node,
    )


def _guardian(turn: Turn, slot: Slot, note: Notification) -> None:
    """The pilot is gone and its guardian speaks for the node."""
    pilot = turn.books.pilot(note.of or "")
    if pilot is None or pilot.slot != slot.id:
        return
    pilot = _alive(turn, pilot)
    if note.kind in (Kind.FAILED, Kind.RELEASED):
        _last_word(turn, slot, pilot, note)
    elif note.kind in (Kind.KILLED, Kind.PREEMPTED, Kind.LOG):
        _HANDLERS[note.kind](turn, slot, pilot, note)


# -- one function a kind


def _started(turn: Turn, slot: Slot, pilot: PilotRecord, note: Notification) -> None:
    facts = dict(note.data)
    age = _number(facts, "age_s")
    pilot = replace(
        pilot,
        state="reserving",
        boot_id=clean(str(facts.get("boot_id", "")), 64),
        facts=facts,
        spans=(Span("pilot", turn.now - age, age, "node"),),
    )
    turn.books.put(pilot)
    _arrive(turn, slot, pilot, note)
    first = not slot.pilots
    slot = turn.slot(slot, slot.state, pilots=(*slot.pilots, pilot.id))
    if first:
        launched = turn.now - age
        spans = tuple(
            _closed(span, launched) if span.name == "lrm" else span for span in slot.spans
        )
        slot = turn.slot(
            slot,
            S.RESERVING,
            spans=spans,
            launched=launched,
            cause="",
            waits_for="the nodes to be made ready",
        )
    if slot.wanted == "released" or slot.state in FINAL_SLOT:
        send_release(turn, slot, pilot)


def _closed(span: Span, end: float) -> Span:
    return span if span.seconds is not None else replace(span, seconds=max(0.0, end - span.start))


def _arrive(turn: Turn, slot: Slot, pilot: PilotRecord, note: Notification) -> None:
    """Node facts; another boot id proves that what ran there before is gone."""
    known = turn.books.node(pilot.node)
    if known and known.boot_id and pilot.boot_id and known.boot_id != pilot.boot_id:
        gone_with(turn, pilot.node, before=slot.id, cause="the node was rebooted")
        known = turn.node(pilot.node, NodeState.CLEAN, cause="")
    busy = known.state if known and known.state is NodeState.DIRTY else NodeState.IN_USE
    slots_here = tuple(dict.fromkeys((*(known.slots if known else ()), slot.id)))
    turn.node(
        pilot.node,
        busy,
        slots=slots_here,
        boot_id=pilot.boot_id,
        cpus=int(_number(note.data, "cpus")),
        memory_mib=int(_number(note.data, "memory_mib")),
        skew_s=_skew(turn, note),
    )


def _skew(turn: Turn, note: Notification) -> float | None:
    """How far the node's clock is off, delivery included: shown, and nothing is decided by it."""
    try:
        return round(parse_rfc3339(note.time) - turn.now, 3)
    except ValueError:
        return None


def _better_skew(turn: Turn, pilot: PilotRecord, note: Notification) -> None:
    """A message can only be late, so the one that seems latest-written tells the skew best."""
    node, skew = turn.books.node(pilot.node), _skew(turn, note)
    if node is None or skew is None or node.boot_id != pilot.boot_id:
        return
    if node.skew_s is None or skew > node.skew_s + 0.05:
        turn.node(node.id, skew_s=skew)


def _reserved(turn: Turn, slot: Slot, pilot: PilotRecord, note: Notification) -> None:
    taken = int(_number(note.data, "taken_mib"))
    spans = (*pilot.spans, *_spans(note.data))
    turn.books.put(replace(pilot, state="ready", taken_mib=taken, spans=spans))
    kvm = note.data.get("kvm")
    turn.node(pilot.node, taken_mib=taken, kvm=kvm if isinstance(kvm, bool) else None)
    slot = turn.books.slot(slot.id) or slot
    ready = [other for other in turn.books.pilots_of(slot) if other.state == "ready"]
    if len(ready) >= slot.nodes and slot.state in (S.RESERVING, S.STARTING, S.UNKNOWN):
        slot = turn.slot(slot, S.READY)
    turn.touched[slot.workspace] = None
    assign(turn, slot)


def _vm(turn: Turn, slot: Slot, pilot: PilotRecord, note: Notification) -> None:
    report = _report(note.data)
    if report is not None:
        apply_report(turn, slot, pilot, report)


def _report(data: Any) -> VmReport | None:
    try:
        report = from_doc(VmReport, data)
        return replace(report, cause=clean(str(report.cause), 500), spans=report.spans[:32])
    except (TypeError, ValueError, KeyError, AttributeError):
        return None


def _answer(turn: Turn, slot: Slot, pilot: PilotRecord, note: Notification) -> None:
    order = turn.books.order(str(note.data.get("re", "")))
    if order is None or order.pilot != pilot.id:
        return
    withdraw(turn, order)
    if note.data.get("ok"):
        return
    text = clean(str(note.data.get("message", "")), 500)
    turn.note(
        "warning",
        "vm",
        f"{order.kind} was refused by the node: {text}",
        vm=order.vm,
        workspace=slot.workspace,
        slot=slot.id,
        node=pilot.node,
    )
    vm = turn.books.vm(order.vm)
    if vm is not None and order.kind == "create" and vm.state is VmState.PENDING:
        turn.vm(vm, VmState.FAILED, pilot.id[:8], cause=text, created=False)


def _preempted(turn: Turn, slot: Slot, pilot: PilotRecord, note: Notification) -> None:
    cause = clean(str(note.data.get("cause", "")), 300) or "the batch system took the node"
    turn.books.put(
        replace(pilot, state="preempted", cause=cause, facts={**pilot.facts, "preempted": True})
    )
    if slot.wanted == "held":
        turn.note(
            "warning",
            "slot",
            f"preempted: {cause}",
            workspace=slot.workspace,
            slot=slot.id,
            node=pilot.node,
        )
        turn.slot(
            slot,
            S.RELEASING,
            cause=slot.cause or f"preempted: {cause}",
            waits_for="the nodes to be restored",
        )


def _killed(turn: Turn, slot: Slot, pilot: PilotRecord, note: Notification) -> None:
    ids = note.data.get("vms")
    cause = clean(str(note.data.get("cause", "")), 300)
    for id in ids if isinstance(ids, list) else ():
        vm = turn.books.vm(str(id))
        if vm is not None and vm.pilot == pilot.id:
            turn.vm(vm, VmState.TERMINATED, pilot.id[:8], cause=vm.cause or cause, held=False)


def _releasing(turn: Turn, slot: Slot, pilot: PilotRecord, note: Notification) -> None:
    cause = clean(str(note.data.get("cause", "")), 300)
    turn.books.put(replace(pilot, state="releasing"))
    early = slot.wanted == "held" and not note.data.get("over")
    turn.slot(
        slot,
        S.RELEASING,
        waits_for="the nodes to be restored",
        cause=slot.cause or (f"{pilot.node}: {cause}" if early else ""),
    )
    if slot.wanted == "held":
        turn.note(
            "info",
            "slot",
            f"the node is being given back: {cause}",
            workspace=slot.workspace,
            slot=slot.id,
            node=pilot.node,
        )


def _last_word(turn: Turn, slot: Slot, pilot: PilotRecord, note: Notification) -> None:
    """`released` or `failed`: what the node says about itself is the proof."""
    released = note.kind is Kind.RELEASED
    clean_node = released or bool(note.data.get("clean"))
    cause = clean(str(note.data.get("cause", "")), 500)
    causes = note.data.get("causes")
    pilot = replace(
        pilot,
        state=note.kind.value,
        clean=clean_node,
        taken_mib=0 if clean_node else pilot.taken_mib,
        cause=pilot.cause or ("" if released and not note.of else cause),
        spans=(*pilot.spans, *_spans(note.data)),
    )
    turn.books.put(pilot)
    if clean_node:
        turn.node(pilot.node, taken_mib=0)
        gone_with(turn, pilot.node, of=pilot.id, cause=cause)
    else:
        turn.node(pilot.node, NodeState.DIRTY, cause=cause)
    slot = turn.books.slot(slot.id) or slot
    if pilot.id not in slot.pilots:
        slot = turn.slot(slot, slot.state, pilots=(*slot.pilots, pilot.id))
    if not released and slot.wanted == "held":
        chain = tuple(clean(str(item), 300) for item in causes) if isinstance(causes, list) else ()
        slot = turn.slot(
            slot,
            slot.state,
            cause=slot.cause or f"{pilot.node}: {cause}",
            causes=slot.causes or chain[:8],
        )
        endings.let_go(turn, slot)
        slot = turn.books.slot(slot.id) or slot
    endings.settle_slot(turn, slot)


def _log(turn: Turn, slot: Slot, pilot: PilotRecord, note: Notification) -> None:
    level = note.data.get("level")
    turn.note(
        level if level in ("info", "warning", "error") else "info",
        "node",
        clean(str(note.data.get("text", "")), 1000),
        workspace=slot.workspace,
        slot=slot.id,
        node=pilot.node,
    )


def _heartbeat(turn: Turn, slot: Slot, pilot: PilotRecord, note: Notification) -> None:
    """The pilot's whole state: it heals whatever was lost, once nothing older is under way."""
    last = note.data.get("last_seq")
    if not isinstance(last, int) or (last > pilot.seq and not _old_enough(turn, pilot)):
        return
    reports = note.data.get("vms")
    for data in reports if isinstance(reports, list) else ():
        report = _report(data)
        if report is not None:
            apply_report(turn, slot, pilot, report)


def _old_enough(turn: Turn, pilot: PilotRecord) -> bool:
    return bool(pilot.gap_since) and turn.now - pilot.gap_since > turn.rules.gap_s


def _spans(data: Mapping[str, Any]) -> tuple[Span, ...]:
    spans = data.get("spans")
    try:
        return tuple(from_doc(Span, item) for item in spans[:16]) if isinstance(spans, list) else ()
    except (TypeError, ValueError, KeyError):
        return ()


def _number(data: Mapping[str, Any], key: str) -> float:
    value = data.get(key)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e12:
        return float(value)
    return 0.0


def _nothing(turn: Turn, slot: Slot, pilot: PilotRecord, note: Notification) -> None:
    """Words for a later capability (`context`)."""


_HANDLERS: Mapping[Kind, Handler] = {
    Kind.STARTED: _started,
    Kind.RESERVED: _reserved,
    Kind.VM: _vm,
    Kind.PROGRESS: _vm,
    Kind.ANSWER: _answer,
    Kind.PREEMPTED: _preempted,
    Kind.KILLED: _killed,
    Kind.RELEASING: _releasing,
    Kind.RELEASED: _last_word,
    Kind.FAILED: _last_word,
    Kind.LOG: _log,
    Kind.CONTEXT: _nothing,
}


def listened(turn: Turn, seconds: float) -> None:
    """A good listing: the clock by which silence is measured goes on."""
    turn.books.listened += min(max(seconds, 0.0), 30.0)
    for id in sorted(turn.books.open_slots):
        slot = turn.books.slot(id)
        for pilot in turn.books.pilots_of(slot) if slot else ():
            if pilot.lost or pilot.state in endings.SPOKEN:
                continue
            heard = turn.books.heard_at.setdefault(pilot.id, turn.books.listened)
            if turn.books.listened - heard > turn.rules.silence_s:
                _silent(turn, pilot)


def _silent(turn: Turn, pilot: PilotRecord) -> None:
    turn.books.put(replace(pilot, lost=True))
    slot = turn.books.slot(pilot.slot)
    if slot is None:
        return
    cause = f"{pilot.node} has been silent for {turn.rules.silence_s:g} s"
    turn.node(pilot.node, NodeState.UNKNOWN, cause=cause)
    if slot.state is not S.UNKNOWN:
        turn.slot(slot, S.UNKNOWN, cause=slot.cause or cause)
    for id in slot.vms:
        vm = turn.books.vm(id)
        if vm is not None and vm.pilot == pilot.id and vm.state is not VmState.TERMINATED:
            turn.vm(vm, VmState.UNKNOWN, "daemon", cause=cause)

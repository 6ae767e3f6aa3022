"""What pilots and guardians say, and what follows from it.

Applied once, in (pilot, seq) order; a gap is waited for, last words never wait; what comes late is
acknowledged and ignored (PROTOCOLS.md section 1). `hear` answers False when the file must stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from wspilot import hostfigures
from wspilot.daemon.core import acting, endings, nodes, picture, rounds
from wspilot.daemon.core.nodes import SPOKEN, better_skew, number
from wspilot.daemon.core.orders import send_release, withdraw
from wspilot.daemon.core.silence import alive
from wspilot.daemon.core.turn import Turn
from wspilot.daemon.core.vms import apply_report, assign
from wspilot.messages import URGENT, Kind, Notification
from wspilot.model import (
    FINAL_SLOT,
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
        ward = turn.books.pilot(note.of) if note.of else pilot
        if ward is not None and note.epoch == 1 and ward.state not in SPOKEN:
            alive(turn, ward)
            if not note.of:  # a guardian only says that its stopped pilot is there
                _heartbeat(turn, slot, ward, note)
        return True
    if pilot is None:
        pilot = PilotRecord(note.pilot, note.slot, note.node, note.epoch, of=note.of or "")
    if note.seq <= pilot.seq:
        return True
    if note.seq > pilot.seq + 1 and note.kind not in URGENT and not _gap_over(turn, pilot, note):
        return False
    turn.books.put(replace(pilot, seq=note.seq, gap_since=0.0, gap_scans=0))
    if pilot.state in SPOKEN:
        return True  # its last word has overtaken this one
    pilot = alive(turn, turn.books.pilot(pilot.id) or pilot)
    better_skew(turn, pilot, note)
    if note.epoch != 1:
        _other_epoch(turn, slot, note)
    elif note.of:
        _guardian(turn, slot, note)
    else:
        slot = _present(turn, turn.books.slot(slot.id) or slot, pilot, note)
        _HANDLERS[note.kind](turn, slot, turn.books.pilot(pilot.id) or pilot, note)
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


def _other_epoch(turn: Turn, slot: Slot, note: Notification) -> None:
    """A second start of the slot's job moves nothing; what it found on its node is proof."""
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
    if note.kind in (Kind.FAILED, Kind.RELEASED):
        proved = nodes.found_clean(turn, slot, note.node, "repair", note.data, epoch=note.epoch)
        _settle(turn, proved)


def _guardian(turn: Turn, slot: Slot, note: Notification) -> None:
    """The pilot is gone and its guardian speaks for the node."""
    pilot = turn.books.pilot(note.of or "")
    if pilot is None:  # its own first word is still under way: the last one came first
        pilot = PilotRecord(note.of or "", slot.id, note.node, note.epoch)
    if pilot.slot != slot.id or pilot.clean:
        return
    if note.kind in (Kind.FAILED, Kind.RELEASED):
        _overlap(turn, slot, note)
        _last_word(turn, slot, alive(turn, pilot), note)
    elif note.kind in (Kind.KILLED, Kind.PREEMPTED, Kind.LOG) and pilot.state not in SPOKEN:
        _HANDLERS[note.kind](turn, slot, alive(turn, pilot), note)


def _overlap(turn: Turn, slot: Slot, note: Notification) -> None:
    """How long a job that came next may have shared the node with what we had there."""
    seconds = number(note.data, "undone_after_s")
    if seconds and note.data.get("clean") is not False:
        turn.note(
            "warning",
            "node",
            f"{note.node} was whole again {seconds:.2f} s after its pilot had gone",
            workspace=slot.workspace,
            slot=slot.id,
            node=note.node,
            data={"undone_after_s": seconds},
        )


def _settle(turn: Turn, slots: Iterable[Slot]) -> None:
    """Somebody else has spoken for pilots of these slots: what was waited for may be complete."""
    for slot in slots:
        slot = turn.books.slot(slot.id) or slot
        if slot.wanted == "held":
            pilots = turn.books.pilots_of(slot)
            cause = next((one.cause for one in pilots if one.cause), "its node was given up")
            endings.let_go(turn, turn.slot(slot, slot.state, cause=slot.cause or cause))
        endings.settle_slot(turn, turn.books.slot(slot.id) or slot)


# -- one function a kind


def _present(turn: Turn, slot: Slot, pilot: PilotRecord, note: Notification) -> Slot:
    """A pilot's first word, whichever reached us: it belongs to the slot, its node holds it."""
    if pilot.id in slot.pilots:
        return slot
    launched = turn.now - number(note.data, "age_s")
    over = slot.state in FINAL_SLOT or slot.lrm.state == "gone"
    first = not slot.pilots and not over and note.kind not in (Kind.RELEASED, Kind.FAILED)
    slot = turn.slot(slot, slot.state, pilots=(*slot.pilots, pilot.id))
    if not slot.job and not slot.unclear and slot.state not in FINAL_SLOT:
        # The lost qsub had been given up: there was a job after all, which is looked for again.
        slot = turn.slot(slot, slot.state, unclear=True, looked=0, looked_at=turn.now)
    if first:
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
    nodes.present(turn, slot, pilot)
    if note.kind in (Kind.RELEASED, Kind.FAILED):
        return slot
    if slot.state in FINAL_SLOT:  # a pilot of which nobody knew: its node owes its last word
        nodes.owe(turn, slot, pilot.node, f"a pilot of slot {slot.id} speaks after the slot's end")
    if slot.wanted == "released" or slot.state in FINAL_SLOT:
        send_release(turn, slot, pilot)
    else:
        rounds.doubled(turn, slot, pilot)
    return turn.books.slot(slot.id) or slot


def _started(turn: Turn, slot: Slot, pilot: PilotRecord, note: Notification) -> None:
    facts = dict(note.data)
    age = number(facts, "age_s")
    pilot = replace(
        turn.books.pilot(pilot.id) or pilot,  # a release may have been sent
        state="reserving",
        boot_id=clean(str(facts.get("boot_id", "")), 64),
        facts=facts,
        spans=(Span("pilot", turn.now - age, age, "node"),),
    )
    turn.books.put(pilot)
    _settle(turn, nodes.rebooted(turn, slot, pilot.node, pilot.boot_id))
    nodes.facts(turn, pilot, note)
    ws = turn.books.workspace(slot.workspace)
    if ws is not None and slot.wanted == "held":
        picture.tell_sisters(turn, ws, pilot)


def _closed(span: Span, end: float) -> Span:
    return span if span.seconds is not None else replace(span, seconds=max(0.0, end - span.start))


def _reserved(turn: Turn, slot: Slot, pilot: PilotRecord, note: Notification) -> None:
    taken = int(number(note.data, "taken_mib"))
    spans = (*pilot.spans, *_spans(note.data))
    turn.books.put(replace(pilot, state="ready", taken_mib=taken, spans=spans))
    kvm = note.data.get("kvm")
    turn.node(pilot.node, taken_mib=taken, kvm=kvm if isinstance(kvm, bool) else None)
    _settle(turn, nodes.found_clean(turn, slot, pilot.node, "repair", note.data))
    slot = turn.books.slot(slot.id) or slot
    ready = [other for other in turn.books.pilots_of(slot) if other.state == "ready"]
    waited = slot.state in (S.RESERVING, S.STARTING, S.UNKNOWN) and slot.lrm.state != "gone"
    if len(ready) >= slot.nodes and waited:
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
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
        return None
    if not isinstance(report.id, str) or not all(map(_possible, report.spans[:32])):
        return None
    return replace(report, cause=clean(str(report.cause), 500), spans=report.spans[:32])


def _possible(span: Span) -> bool:
    """What can be shown: words as words, and a time that a calendar has."""
    words = isinstance(span.name, str) and isinstance(span.clock, str)
    return words and 0 <= span.start < 1e11 and -1e11 < (span.seconds or 0) < 1e11


def _answer(turn: Turn, slot: Slot, pilot: PilotRecord, note: Notification) -> None:
    order = turn.books.order(str(note.data.get("re", "")))
    if order is None or order.pilot != pilot.id:
        return
    withdraw(turn, order)
    ok = bool(note.data.get("ok"))
    text = clean(str(note.data.get("message", "")), 500)
    why = "" if ok else text or "refused"
    acting.answered(turn, order, why, note.data.get("code"), note.data.get("data"))
    if ok:
        return
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
            proof = turn.proof("guardian" if note.of else "node", f"{pilot.node} said killed")
            turn.vm(vm, VmState.TERMINATED, pilot.id[:8], cause=vm.cause or cause, held=False,
                    proof=proof)  # fmt: skip


def _releasing(turn: Turn, slot: Slot, pilot: PilotRecord, note: Notification) -> None:
    cause = clean(str(note.data.get("cause", "")), 300)
    turn.books.put(replace(pilot, state="releasing"))
    early = slot.wanted == "held" and not note.data.get("over") and not slot.repair_of
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
    came_back = released or bool(note.data.get("clean"))
    cause = clean(str(note.data.get("cause", "")), 500)
    pilot = replace(
        pilot,
        state=note.kind.value,
        clean=came_back,
        cause=pilot.cause or ("" if released and not note.of else cause),
        spans=(*pilot.spans, *_spans(note.data)),
    )
    if slot.bench and (told := hostfigures.checked(note.data.get("bench"))) is not None:
        pilot = replace(pilot, facts={**pilot.facts, "bench": told})
    turn.books.put(pilot)
    if pilot.id not in slot.pilots:  # a guardian's ward, of which nothing was heard
        slot = turn.slot(slot, slot.state, pilots=(*slot.pilots, pilot.id))
    if came_back:
        by = "guardian" if note.of else "node"
        nodes.prove(turn, pilot, by, f"{pilot.node} said {note.kind.value}", cause=cause)
        _settle(turn, nodes.found_clean(turn, slot, pilot.node, "repair", note.data))
    else:
        nodes.owe(turn, slot, pilot.node, cause)
    slot = turn.books.slot(slot.id) or slot
    if note.data.get("nothing_started"):  # a launcher's word for all its nodes
        slot = turn.slot(slot, slot.state, claimed=True)
    if not released and slot.wanted == "held":
        _failed(turn, slot, pilot, cause, note.data.get("causes"))
    endings.settle_slot(turn, turn.books.slot(slot.id) or slot)
    nodes.settle(turn, pilot.node)


def _failed(turn: Turn, slot: Slot, pilot: PilotRecord, cause: str, causes: object) -> None:
    """A slot that lost a node is let go; one that found its node dirty may be asked for again."""
    chain = tuple(clean(str(item), 300) for item in causes) if isinstance(causes, list) else ()
    slot = turn.slot(
        slot,
        slot.state,
        cause=slot.cause or f"{pilot.node}: {cause}",
        causes=slot.causes or chain[:8],
    )
    if not (cause.startswith("dirty") and rounds.again(turn, [slot], slot.cause)):
        endings.let_go(turn, slot)


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
    """The pilot's whole state: it heals whatever was lost, once nothing older is under way.

    One that was overtaken by messages tells the past: hb/ is read every few seconds only, and a VM
    that was suspended and resumed meanwhile would be shown as `suspending` until the next one.
    """
    last = note.data.get("last_seq")
    if not isinstance(last, int) or last < pilot.seq:
        return
    if last > pilot.seq and not _old_enough(turn, pilot):
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
        found = [from_doc(Span, item) for item in spans[:16]] if isinstance(spans, list) else []
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
        return ()
    return tuple(filter(_possible, found))


def _context(turn: Turn, slot: Slot, pilot: PilotRecord, note: Notification) -> None:
    """A guest's one word on its context."""
    vm = turn.books.vm(str(note.data.get("vm", "")))
    if vm is None or vm.pilot != pilot.id or vm.context in ("ok", "error"):
        return
    ok, said = note.data.get("ok") is True, clean(str(note.data.get("text", "")), 400)
    turn.vm(vm, vm.state, pilot.id[:8], context="ok" if ok else "error", said=said)
    turn.note(
        "info" if ok else "warning",
        "vm",
        f"{vm.name} says {'ok' if ok else 'error'}: {said}",
        workspace=vm.workspace,
        slot=slot.id,
        vm=vm.id,
        node=pilot.node,
    )


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
    Kind.CONTEXT: _context,
}

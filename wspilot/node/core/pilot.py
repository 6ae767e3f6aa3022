"""The pilot's step: `(state, event) -> (state, effects)`, no I/O, no clock.

Invariant: every way through it ends in one `Finish`, after the node's last word, whatever else was
lost; it needs no daemon for that (DESIGN.md section 9).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wspilot.messages import Kind
from wspilot.model import Span
from wspilot.node.core import events as e
from wspilot.node.core import lease, orders, verbs, vms
from wspilot.node.core.state import Phase, State
from wspilot.node.core.turn import Turn
from wspilot.node.values import replace

MOST_TOLD = 50  # leftovers, one by one


def step(state: State, event: e.Event) -> tuple[State, tuple[e.Effect, ...]]:
    """One event. Letters come first among the effects: notify, then act."""
    turn = Turn(state, event.now)
    _HANDLERS[type(event)](turn, event)
    if not turn.state.over or not isinstance(event, e.Tick):
        orders.pump(turn)
    vms.overdue(turn)
    lease.check(turn)
    lease.proceed(turn)
    _beat(turn)
    mail, letters = turn.state.mail.hand()
    return replace(turn.state, mail=mail), (*letters, *turn.effects)


def _begin(turn: Turn, event: e.Begin) -> None:
    facts, state = event.facts, turn.state
    turn.set(
        started=turn.now,
        since=turn.now,
        wall0=event.wall - turn.now,
        boot_id=str(facts.get("boot_id", "")),
        next_beat=turn.now + _beat_gap(state),
        phase=Phase.RESERVING,
    )
    turn.say(Kind.STARTED, **{**facts, "age_s": round(turn.now - state.began, 6)})
    if facts.get("uid") == 0 and not state.settings.allow_root:
        lease.fail(turn, "a pilot does not run as root here ([site] allow_root = false)", True)
        return
    turn.set(reserving=True)
    turn.do(e.Reserve(max(1.0, state.settings.budget.get("reserve", 5.0))))


def _reserved(turn: Turn, event: e.Reserved) -> None:
    state = turn.state
    span = Span("reserve", state.wall(state.since), round(turn.now - state.since, 6), "node")
    turn.set(reserving=False, taken_mib=event.taken_mib, undone=event.undone, here=event.here)
    _tell_undone(turn, event.undone)
    if state.phase is not Phase.RESERVING:
        return
    turn.set(spans=(*state.spans, span))
    if state.settings.repair:
        lease.repaired(turn)
        return
    turn.phase(Phase.READY)
    turn.say(
        Kind.RESERVED,
        taken_mib=event.taken_mib,
        kvm=event.kvm,
        spans=turn.span_docs("reserve"),
        undone=list(event.undone),
        **event.here,
    )


def _tell_undone(turn: Turn, texts: tuple[str, ...]) -> None:
    for text in texts[:MOST_TOLD]:
        turn.log("warning", f"undone, left by an earlier pilot: {text}")


def _reserve_failed(turn: Turn, event: e.ReserveFailed) -> None:
    turn.set(reserving=False, undone=event.undone, causes=event.causes)
    _tell_undone(turn, event.undone)
    if turn.state.phase is Phase.RESERVING:
        lease.fail(turn, event.cause, event.clean)
    elif not event.clean:
        turn.set(left=event.cause)


def _vm(handler: Callable[..., None], *fields: str) -> Callable[[Turn, Any], None]:
    """An event about a VM that this pilot knows."""

    def handle(turn: Turn, event: Any) -> None:
        vm = turn.state.vms.get(event.vm)
        if vm is not None:
            handler(turn, vm, *(getattr(event, field) for field in fields))

    return handle


def _stored(turn: Turn, event: e.Stored) -> None:
    turn.set(mail=turn.state.mail.stored(event.seq))


# -- heartbeat


def _beat(turn: Turn) -> None:
    state = turn.state
    if state.over or state.phase is Phase.STARTING or turn.now < state.next_beat:
        return
    turn.set(next_beat=turn.now + _beat_gap(state))
    data = {
        "last_seq": state.mail.last_seq,
        "state": state.phase.value,
        "vms": [vm.report().to_data() for vm in state.vms.values()],
        "taken_mib": state.taken_mib,
        "undelivered": len(state.mail),
    }
    turn.do(e.Beat(state.mail.last_seq, state.wall(turn.now), turn.now - state.started, data))


def _beat_gap(state: State) -> float:
    """With jitter, so that a thousand pilots started together do not write together."""
    return state.settings.heartbeat_s * (0.8 + 0.2 * state.jitter)


_HANDLERS: dict[type, Callable[[Turn, Any], None]] = {
    e.Begin: _begin,
    e.Reserved: _reserved,
    e.ReserveFailed: _reserve_failed,
    e.Ordered: orders.ordered,
    e.Progress: _vm(vms.progress, "fraction"),
    e.Propagated: _vm(vms.propagated, "image"),
    e.PropagateFailed: _vm(vms.create_failed, "cause"),
    e.Created: _vm(vms.created),
    e.CreateFailed: _vm(vms.create_failed, "cause"),
    e.VmSaid: _vm(vms.said, "kind", "text"),
    e.Acted: _vm(verbs.acted, "verb", "data"),
    e.ActFailed: _vm(verbs.failed, "verb", "cause", "code"),
    e.Destroyed: _vm(vms.destroyed),
    e.DestroyFailed: _vm(vms.destroy_failed, "cause"),
    e.Restored: lambda turn, event: lease.restored(turn, event.undone, event.here),
    e.RestoreFailed: lambda turn, event: lease.restore_failed(turn, event.cause, event.here),
    e.Term: lambda turn, event: lease.term(turn),
    e.Stored: _stored,
    e.Noted: lambda turn, event: turn.log(event.level, event.text),
    e.Tick: lambda turn, event: None,
}

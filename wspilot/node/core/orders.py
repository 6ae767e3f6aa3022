"""Commands: in `seq` order, each id once, one answer each, and `expired` when their time is over.

`release` waits for nothing: whatever is missing before it no longer matters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from wspilot.errors import Code, UsageError
from wspilot.messages import Kind, Order, Verb
from wspilot.model import VmState
from wspilot.node.core import lease, vms
from wspilot.node.core.events import Ordered
from wspilot.node.core.state import Held, Phase
from wspilot.node.core.turn import Turn
from wspilot.node.vmm.base import parse_spec
from wspilot.text import clean, format_duration

GAP_S = 5.0  # a command that is missing before another is waited for this long
MOST_HELD = 1000
MOST_S = 1e9  # seconds that a command may name; a larger integer may be no float at all


def ordered(turn: Turn, event: Ordered) -> None:
    """A command was seen; `pump` carries it out when its turn has come."""
    order = event.order
    known = {one.order.id for one in turn.state.held}
    if order.id in turn.state.answered or order.id in known:
        return
    if len(turn.state.held) >= MOST_HELD:
        return  # it lies in cmd/ and is seen again by the next courier; the daemon has a bug
    held = (*turn.state.held, Held(order, turn.now))
    turn.set(held=tuple(sorted(held, key=lambda one: one.order.seq)))


def pump(turn: Turn) -> None:
    """Carry out every command whose turn has come."""
    for one in turn.state.held:
        if _now(turn, one):
            turn.set(held=tuple(other for other in turn.state.held if other is not one))
            turn.set(applied=max(turn.state.applied, one.order.seq))
            _apply(turn, one)


def _now(turn: Turn, one: Held) -> bool:
    if one.order.kind is Verb.RELEASE or _expired(turn, one):
        return True
    if turn.state.phase in (Phase.STARTING, Phase.RESERVING) and one.order.kind is Verb.CREATE:
        return False
    if any(other.order.seq < one.order.seq for other in turn.state.held):
        return False
    return one.order.seq <= turn.state.applied + 1 or turn.now - one.seen >= GAP_S


def _expired(turn: Turn, one: Held) -> bool:
    return turn.now - one.seen >= one.order.ttl_s


def _apply(turn: Turn, one: Held) -> None:
    order = one.order
    if _expired(turn, one):
        _answer(turn, order, Code.TIMED_OUT, "expired before its turn came")
        return
    handler = _HANDLERS.get(order.kind)
    if handler is None:
        _answer(turn, order, Code.REFUSED, f"this pilot cannot {order.kind.value} a VM yet")
        return
    handler(turn, order, one.seen)


def _answer(
    turn: Turn, order: Order, code: int = 0, message: str = "", data: Mapping[str, Any] = {}
) -> None:
    turn.set(answered=turn.state.answered | {order.id})
    turn.say(
        Kind.ANSWER,
        re=order.id,
        ok=code == 0,
        code=int(code),
        message=clean(message, 500),
        data=dict(data),
    )


# -- one function a verb


def _create(turn: Turn, order: Order, seen: float) -> None:
    if turn.state.phase is not Phase.READY:
        _answer(turn, order, Code.REFUSED, "this node is being given back")
        return
    try:
        spec = parse_spec(order.data)
    except UsageError as error:
        _answer(turn, order, Code.USAGE, error.message)
        return
    if spec.id in turn.state.vms:
        _answer(turn, order, Code.REFUSED, f"VM {spec.id} was created here before")
        return
    if spec.id in turn.state.never:
        _answer(turn, order, Code.REFUSED, f"VM {spec.id} was destroyed before this came")
        return
    _answer(turn, order)
    vms.create(turn, order.data, seen)


def _destroy(turn: Turn, order: Order, seen: float) -> None:
    id = str(order.data.get("vm"))
    vm = turn.state.vms.get(id)
    if vm is None:
        _answer(turn, order, Code.NOT_FOUND, "no such VM here")
        # That it is not here is the proof of its end; a create that comes later is refused.
        turn.set(never=turn.state.never | {id})
        turn.say(Kind.KILLED, vms=[id], cause="it was never created here")
        return
    _answer(turn, order)
    vms.destroy(turn, vm, _seconds(order, "grace_s") or 0.0)


def _release(turn: Turn, order: Order, seen: float) -> None:
    _answer(turn, order)
    lease.release(turn, clean(str(order.data.get("cause") or "released by the daemon"), 300))


def _lease(turn: Turn, order: Order, seen: float) -> None:
    seconds = _seconds(order, "seconds")
    if seconds is None:
        _answer(turn, order, Code.USAGE, "lease: seconds is not a number")
        return
    state = turn.state
    possible = max(0.0, state.hard_end() - seen)
    if state.leased and seconds > possible:
        _answer(
            turn,
            order,
            Code.REFUSED,
            f"the batch system's limit allows {format_duration(possible)} more",
            {"seconds": round(possible, 3)},
        )
        return
    # The first one only says that the lease runs: it may not fit to the second.
    turn.set(leased=True, lease_end=seen + min(float(seconds), possible))
    _answer(turn, order, data={"seconds": round(min(float(seconds), possible), 3)})


def _seconds(order: Order, key: str) -> Optional[float]:
    """A time that a command names; None for anything that is none."""
    value = order.data.get(key)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < MOST_S:
        return None
    return float(value)


def _ping(turn: Turn, order: Order, seen: float) -> None:
    running = sum(1 for vm in turn.state.vms.values() if vm.state is VmState.RUNNING)
    _answer(turn, order, data={"state": turn.state.phase.value, "running": running})


_HANDLERS = {
    Verb.CREATE: _create,
    Verb.DESTROY: _destroy,
    Verb.RELEASE: _release,
    Verb.LEASE: _lease,
    Verb.PING: _ping,
}

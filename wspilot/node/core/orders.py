"""Commands: in `seq` order, each id once, one answer each, and `expired` when their time is over.

`release` waits for nothing: whatever is missing before it no longer matters.
"""

from __future__ import annotations

from wspilot.errors import Code, UsageError
from wspilot.messages import Kind, Order, Verb
from wspilot.model import VmState
from wspilot.node.core import lease, verbs, vms
from wspilot.node.core.answers import answer, seconds
from wspilot.node.core.events import Context, Ordered
from wspilot.node.core.state import Held, Phase
from wspilot.node.core.turn import Turn
from wspilot.node.vmm.base import parse_spec
from wspilot.text import clean, format_duration

GAP_S = 5.0  # a command that is missing before another is waited for this long
MOST_HELD = 1000


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
        answer(turn, order.id, Code.TIMED_OUT, "expired before its turn came")
        return
    _HANDLERS[order.kind](turn, order, one.seen)


# -- one function a verb


def _create(turn: Turn, order: Order, seen: float) -> None:
    if turn.state.phase is not Phase.READY:
        answer(turn, order.id, Code.REFUSED, "this node is being given back")
        return
    try:
        spec = parse_spec(order.data)
    except UsageError as error:
        answer(turn, order.id, Code.USAGE, error.message)
        return
    if spec.id in turn.state.vms:
        answer(turn, order.id, Code.REFUSED, f"VM {spec.id} was created here before")
        return
    if spec.id in turn.state.never:
        answer(turn, order.id, Code.REFUSED, f"VM {spec.id} was destroyed before this came")
        return
    answer(turn, order.id)
    vms.create(turn, order.data, seen)


def _destroy(turn: Turn, order: Order, seen: float) -> None:
    id = str(order.data.get("vm"))
    vm = turn.state.vms.get(id)
    if vm is None:
        answer(turn, order.id, Code.NOT_FOUND, "no such VM here")
        # That it is not here is the proof of its end; a create that comes later is refused.
        turn.set(never=turn.state.never | {id})
        turn.say(Kind.KILLED, vms=[id], cause="it was never created here")
        return
    answer(turn, order.id)
    vms.destroy(turn, vm, seconds(order, "grace_s") or 0.0)


def _release(turn: Turn, order: Order, seen: float) -> None:
    answer(turn, order.id)
    lease.release(turn, clean(str(order.data.get("cause") or "released by the daemon"), 300))


def _lease(turn: Turn, order: Order, seen: float) -> None:
    wanted = seconds(order, "seconds")
    if wanted is None:
        answer(turn, order.id, Code.USAGE, "lease: seconds is not a number")
        return
    state = turn.state
    possible = max(0.0, state.hard_end() - seen)
    if state.leased and wanted > possible:
        answer(
            turn,
            order.id,
            Code.REFUSED,
            f"the batch system's limit allows {format_duration(possible)} more",
            {"seconds": round(possible, 3)},
        )
        return
    # The first one only says that the lease runs: it may not fit to the second.
    turn.set(leased=True, lease_end=seen + min(wanted, possible))
    answer(turn, order.id, data={"seconds": round(min(wanted, possible), 3)})


def _context(turn: Turn, order: Order, seen: float) -> None:
    answer(turn, order.id)
    turn.do(Context(order.data))


def _ping(turn: Turn, order: Order, seen: float) -> None:
    running = sum(1 for vm in turn.state.vms.values() if vm.state is VmState.RUNNING)
    answer(turn, order.id, data={"state": turn.state.phase.value, "running": running})


_HANDLERS = {
    Verb.CREATE: _create,
    Verb.DESTROY: _destroy,
    Verb.RELEASE: _release,
    Verb.LEASE: _lease,
    Verb.PING: _ping,
    Verb.CONTEXT: _context,
    **dict.fromkeys(verbs.RULES, verbs.ordered),
}

"""The pure core: `step(books, event, now, rules)` changes the books and returns effects.

No I/O and no clock: the shell (`service.py`) feeds events in, commits, and carries effects out.
One file a lifecycle: `slots` with the batch system, `pilots` with the nodes, `vms`, `leases`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from wspilot.daemon.core import acting, benches, endings, leases, pilots, repairs, silence, slots
from wspilot.daemon.core.books import Books
from wspilot.daemon.core.events import (
    Act,
    Bench,
    Cancel,
    Cancelled,
    Claim,
    Claimed,
    Deploy,
    Destroy,
    Effect,
    EndBench,
    Event,
    Extend,
    Forget,
    Heard,
    Listened,
    Poll,
    Polled,
    Ran,
    Recovered,
    Repair,
    Send,
    Submitted,
    Tick,
)
from wspilot.daemon.core.turn import Rules, Turn
from wspilot.model import FINAL_SLOT

__all__ = ["Books", "Rules", "Step", "step"]


class Step(NamedTuple):
    """What came of an event: `done` is False only for a notification that must wait."""

    done: bool
    effects: tuple[Effect, ...]


def step(books: Books, event: Event, now: float, rules: Rules) -> Step:
    """Apply one event. Raises nothing for foreign input; a bug rolls back in the shell."""
    turn = Turn(books, now, rules)
    done = _apply(turn, event)
    reviewed = 0
    while turn.touched and reviewed < 1000:  # a review may touch its own workspace again
        id = next(iter(turn.touched))
        del turn.touched[id]
        leases.review(turn, id)
        reviewed += 1
    return Step(done, tuple(dict.fromkeys(turn.effects)))


def _apply(turn: Turn, event: Event) -> bool:
    if isinstance(event, Heard):
        return pilots.hear(turn, event.note)
    if isinstance(event, Polled):
        slots.polled(turn, event)
    elif isinstance(event, Listened):
        silence.listened(turn, event.seconds)
    elif isinstance(event, Tick):
        slots.tick(turn)
        leases.tick(turn)
    elif isinstance(event, Submitted):
        slots.submitted(turn, event)
    elif isinstance(event, Claimed):
        endings.claimed(turn, event)
    elif isinstance(event, Cancelled):
        endings.cancelled(turn, event)
    elif isinstance(event, Ran):
        slots.ran(turn, event)
    elif isinstance(event, Deploy):
        leases.deploy(turn, event)
    elif isinstance(event, Destroy):
        leases.destroy(turn, event)
    elif isinstance(event, Act):
        acting.act(turn, event)
    elif isinstance(event, Extend):
        acting.extend(turn, event)
    elif isinstance(event, Forget):
        leases.forget(turn, event)
    elif isinstance(event, Repair):
        repairs.soon(turn, event.node)
    elif isinstance(event, Bench):
        slots.submit(turn, benches.ask(turn, event))
    elif isinstance(event, EndBench):
        benches.end(turn, event.id)
    elif isinstance(event, Recovered):
        _recover(turn)
    return True


def _recover(turn: Turn) -> None:
    """Whatever was asked for before the crash is asked for again; all of it is harmless twice."""
    leases.prune(turn)
    for order in turn.books.orders():
        turn.do(Send(order.id))
    for id in sorted(turn.books.open_slots):
        slot = turn.books.slot(id)
        if slot is None or slot.state in FINAL_SLOT:
            continue
        if slot.unclear:
            turn.books.put(replace(slot, looked=0, looked_at=turn.now))
        ends = slot.wanted == "released" or slot.lrm.state == "gone"
        if ends and not slot.pilots and slot.claimed is None:
            turn.do(Claim(slot.id))
        if slot.wanted == "released" and slot.job and slot.claimed:
            turn.do(Cancel(slot.id, slot.job))
    turn.do(Poll())

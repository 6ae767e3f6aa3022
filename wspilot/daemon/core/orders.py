"""Commands to pilots: each is on the books until its answer is, and may be written again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from wspilot.daemon.core.events import Send, Unsend
from wspilot.daemon.core.turn import Turn, derive_id
from wspilot.messages import Verb
from wspilot.model import PendingOrder, PilotRecord, Slot


def send(
    turn: Turn,
    pilot: PilotRecord,
    verb: Verb,
    data: Mapping[str, Any],
    vm: str = "",
    ttl_s: float | None = None,
) -> PendingOrder:
    """Put a command on the books and ask for its file."""
    pilot = turn.books.pilot(pilot.id) or pilot
    seq = pilot.orders + 1
    turn.books.put(replace(pilot, orders=seq))
    order = PendingOrder(
        id=derive_id(pilot.id, "order", seq),
        pilot=pilot.id,
        slot=pilot.slot,
        node=pilot.node,
        epoch=pilot.epoch,
        seq=seq,
        ns=int(turn.now * 1e9),
        kind=verb.value,
        ttl_s=turn.rules.order_ttl_s if ttl_s is None else ttl_s,
        issued=turn.now,
        vm=vm,
        data=data,
    )
    turn.books.put(order)
    turn.do(Send(order.id))
    return order


def send_release(turn: Turn, slot: Slot, pilot: PilotRecord) -> None:
    """The normal end of a slot; asked once, answered by `released`."""
    if pilot.state in ("released", "failed"):
        return
    if any(_kind(turn, id) == Verb.RELEASE.value for id in turn.books.orders_of.get(pilot.id, ())):
        return
    send(turn, pilot, Verb.RELEASE, {"cause": slot.cause or "the lease has ended"})


def withdraw(turn: Turn, order: PendingOrder) -> None:
    """The answer is on the books with this commit: the file has served."""
    turn.books.drop(PendingOrder, order.id)
    turn.do(Unsend(order.slot, order.node, order.pilot, order.ns, order.seq))


def withdraw_all(turn: Turn, pilot: str) -> None:
    """The pilot is over: nobody will read its commands any more."""
    for id in sorted(turn.books.orders_of.get(pilot, ())):
        order = turn.books.order(id)
        if order is not None:
            withdraw(turn, order)


def _kind(turn: Turn, id: str) -> str:
    order = turn.books.order(id)
    return order.kind if order else ""

"""What bare `xl` takes for the same, for the root helper: `wspilot-node.pyz bench` measures by it.

Within the limits of the verbs that it stands beside: a caller's own memory and guests, on records
that are written before each step, so that one which is killed in its middle is undone as theirs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from wspilot.node import root_balloon as balloon
from wspilot.node.root_balloon import GUEST, SETTLE_S, domains, must
from wspilot.node.root_helper import Caller, Limits, Record, Refused, Words, journal_of, load


def memory(caller: Caller, limits: Limits, words: Words) -> Record:
    """A slot's memory away from domain 0 and back: `xl mem-set`, and a look until it is true; and
    what `xl list` takes, by which whoever ends guests sees that none is left.

    words: as of `balloon-take`. -> {reduce, restore, list}, seconds
    """
    name, has, kb = balloon.book(caller, limits, words)
    limit_s = balloon.seconds(limits, "settle_s", SETTLE_S)
    try:
        away = _timed(lambda: balloon.settle(has - kb, limit_s))
    finally:
        back = _timed(lambda: balloon.settle(has, limit_s))
        balloon.unbook(name)
    return {"reduce": away, "restore": back, "list": _timed(domains)}


def end(caller: Caller, limits: Limits, words: Words) -> Record:
    """What a script does at the end of a slot: `xl destroy` each of its guests, give the memory
    back, and look that none is left.

    words: journal. -> {seconds}
    """
    journal = journal_of(caller, words)
    balloon.sweep(limits)  # a record of another boot names nothing that is here
    name = balloon.take_name(caller.uid, journal)
    if balloon.taken(caller.uid, journal) is None:
        raise Refused("this pilot has taken no memory")
    mine = {n: one for n, one in load(GUEST).items() if one["journal"] == journal}
    uuids = {one["uuid"] for one in mine.values()}
    ids = [one.id for one in domains() if one.uuid in uuids]  # see `balloon.destroy`

    def bare() -> None:
        for domid in ids:
            must("destroy", str(domid), limit_s=balloon.DESTROY_S)
        balloon.settle(balloon.without(name), balloon.seconds(limits, "settle_s", SETTLE_S))
        domains()

    seconds = _timed(bare)
    balloon.end_guests(mine)
    balloon.unbook(name)
    return {"seconds": seconds}


def _timed(work: Callable[[], Any]) -> float:
    began = time.monotonic()
    work()
    return round(time.monotonic() - began, 4)


VERBS: dict[str, Callable[[Caller, Limits, Words], Record]] = {
    "bench-memory": memory,
    "bench-end": end,
}

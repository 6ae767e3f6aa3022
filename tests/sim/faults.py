"""What can go wrong, how often, and what did: every fault of a story has a name and a number.

A seed gives each kind of fault its own stream of chances, so that leaving one out (`without`) does
not change when the others strike; the story goes on from there by itself. That is how a failing
history is made shorter.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b

from tests.sim.clock import Clock


class Fault(str, Enum):
    """One kind of fault each; the columns of the table."""

    DAEMON_KILLED = "daemon killed"
    HEAD_CRASH = "headnode crashed"
    DISK_FULL = "disk full"
    PILOT_KILLED = "pilot killed"
    BOTH_KILLED = "guardian killed too"
    NODE_CRASH = "node crashed"
    LAUNCHER_KILLED = "launcher killed"
    PILOT_HUNG = "pilot hung"
    COURIER_STUCK = "courier stuck"
    SUSPENDED = "job suspended"
    HELD = "job held"
    PREEMPTED = "preempted"
    NO_GRACE = "killed without grace"
    RERUN = "job rerun"
    PACKED = "too few nodes given"
    QSUB_LOST = "qsub answer lost"
    QSUB_VANISHED = "qsub never arrived"
    QSUB_DOWN = "qsub: server down"
    QSUB_REFUSED = "qsub refused"
    POLL_FAILED = "poll failed"
    POLL_EMPTY = "poll empty"
    POLL_INVENTS = "poll invents"
    QDEL_FAILED = "qdel failed"
    QDEL_UNHEARD = "qdel unheard"
    FILE_LATE = "file late"
    FILE_TWICE = "file twice"
    FILE_TORN = "file torn"
    SHARE_HANGS = "filesystem hangs"
    CREATE_FAILS = "create fails"
    GUEST_DIES = "guest dies"
    RESERVE_FAILS = "reserve fails"
    UNDO_FAILS = "undo fails"
    CLOCK_SKEW = "clock skewed"
    DESTROY = "destroy"
    DESTROY_VM = "one VM destroyed"
    ABANDON = "abandon"
    VERB = "verb"
    VERB_FAILS = "verb fails"


# What strikes in the same place: the columns that are judged. Which message was late, or which of
# its tools the batch system failed in, makes no other damage to a transition.
FAMILIES: dict[str, tuple[Fault, ...]] = {
    "headnode": (Fault.DAEMON_KILLED, Fault.HEAD_CRASH, Fault.DISK_FULL),
    "node": (Fault.PILOT_KILLED, Fault.BOTH_KILLED, Fault.NODE_CRASH, Fault.LAUNCHER_KILLED,
             Fault.PILOT_HUNG),
    "job": (Fault.SUSPENDED, Fault.HELD, Fault.PREEMPTED, Fault.NO_GRACE, Fault.RERUN,
            Fault.PACKED),
    "qsub, qdel": (Fault.QSUB_LOST, Fault.QSUB_VANISHED, Fault.QSUB_DOWN, Fault.QSUB_REFUSED,
                   Fault.QDEL_FAILED, Fault.QDEL_UNHEARD),
    "qstat": (Fault.POLL_FAILED, Fault.POLL_EMPTY, Fault.POLL_INVENTS),
    "files": (Fault.FILE_LATE, Fault.FILE_TWICE, Fault.FILE_TORN, Fault.SHARE_HANGS,
              Fault.COURIER_STUCK),
    "VMM": (Fault.CREATE_FAILS, Fault.GUEST_DIES, Fault.RESERVE_FAILS, Fault.UNDO_FAILS,
            Fault.VERB_FAILS),
    "clocks": (Fault.CLOCK_SKEW,),
    "users": (Fault.DESTROY, Fault.DESTROY_VM, Fault.ABANDON, Fault.VERB),
}  # fmt: skip

RATES: dict[Fault, float] = {
    Fault.DAEMON_KILLED: 0.006, Fault.HEAD_CRASH: 0.002, Fault.DISK_FULL: 0.004,
    Fault.PILOT_KILLED: 0.03, Fault.BOTH_KILLED: 0.02, Fault.NODE_CRASH: 0.015,
    Fault.LAUNCHER_KILLED: 0.2, Fault.PILOT_HUNG: 0.015, Fault.COURIER_STUCK: 0.02,
    Fault.SUSPENDED: 0.4, Fault.HELD: 0.3, Fault.PREEMPTED: 0.4, Fault.NO_GRACE: 0.4,
    Fault.RERUN: 0.35, Fault.PACKED: 0.2, Fault.QSUB_LOST: 0.3, Fault.QSUB_VANISHED: 0.25,
    Fault.QSUB_DOWN: 0.3, Fault.QSUB_REFUSED: 0.2, Fault.POLL_FAILED: 0.3,
    Fault.POLL_EMPTY: 0.15, Fault.POLL_INVENTS: 0.2, Fault.QDEL_FAILED: 0.6,
    Fault.QDEL_UNHEARD: 0.5, Fault.FILE_LATE: 0.15, Fault.FILE_TWICE: 0.25,
    Fault.FILE_TORN: 0.1, Fault.SHARE_HANGS: 0.5, Fault.CREATE_FAILS: 0.15,
    Fault.GUEST_DIES: 0.15, Fault.RESERVE_FAILS: 0.15, Fault.UNDO_FAILS: 0.15,
    Fault.CLOCK_SKEW: 0.6, Fault.DESTROY: 0.7, Fault.DESTROY_VM: 0.5, Fault.ABANDON: 0.5,
    Fault.VERB: 0.8, Fault.VERB_FAILS: 0.3,
}  # fmt: skip


# Present in many stories: what makes the rare transitions meet every other fault.
CATALYSTS = (Fault.VERB, Fault.DESTROY, Fault.DESTROY_VM, Fault.ABANDON, Fault.COURIER_STUCK,
             Fault.FILE_LATE, Fault.FILE_TORN, Fault.SUSPENDED, Fault.QDEL_FAILED,
             Fault.QDEL_UNHEARD, Fault.NO_GRACE, Fault.PILOT_KILLED)  # fmt: skip


@dataclass(frozen=True)
class Injection:
    """One fault that struck: `key` names it for `without`."""

    key: str
    fault: Fault
    at: float
    what: str


class Chance:
    """One seed's luck. `random` gives times and sizes; `hits` decides about faults."""

    def __init__(
        self,
        seed: int,
        clock: Clock,
        *,
        kinds: Collection[Fault] | None = None,
        without: Collection[str] = (),
    ) -> None:
        self.seed, self._clock, self._without = seed, clock, frozenset(without)
        self.random = random.Random(seed)
        swarm = self.random.sample(list(Fault), self.random.randrange(1, 11))
        swarm += [one for one in CATALYSTS if self.random.random() < 0.25]
        self.kinds = frozenset(swarm if kinds is None else kinds)
        self.injected: list[Injection] = []
        self.struck: dict[Fault, float] = {}
        self._asked: Counter[Fault] = Counter()
        self.calm = False

    def hits(self, fault: Fault, what: str = "", scale: float = 1.0) -> bool:
        """Does this fault strike here and now?"""
        if self.calm or fault not in self.kinds:
            return False
        self._asked[fault] += 1
        key = f"{fault.value}:{self._asked[fault]}"
        digest = blake2b(f"{self.seed}/{key}".encode(), digest_size=4).digest()
        if int.from_bytes(digest, "big") / 2**32 >= RATES[fault] * scale:
            return False
        if key in self._without or fault.value in self._without:
            return False
        self.injected.append(Injection(key, fault, self._clock.now, what))
        self.struck.setdefault(fault, self._clock.now)
        return True

    def between(self, low: float, high: float) -> float:
        """A time."""
        return self.random.uniform(low, high)

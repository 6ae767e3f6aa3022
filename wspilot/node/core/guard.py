"""The guardian's decisions: is its pilot there, stopped, hung, or gone?

Silence is counted in the guardian's own ticks: a late tick means that the guardian itself was
stopped (with the whole job, or the machine), and says nothing about the pilot.
"""

from __future__ import annotations

from enum import Enum

from wspilot.node.values import dataclass, replace

TICK_S = 0.5
LATE_S = 0.75  # beyond its time, a tick proves nothing
LOOK_S = 1.5  # of silence: look at the pilot's state
HUNG_S = 10.0


class Verdict(Enum):
    """What to do now."""

    WAIT = "wait"
    KILL = "kill"  # the pilot hangs
    PREEMPT = "preempt"  # the pilot is suspended, and what it took may not stay taken


@dataclass(frozen=True)
class Watch:
    """`suspendable`: a suspended pilot may keep what it took (adapter `none`).

    `stopped`: it is suspended now, as far as one has looked; that is shown.
    """

    suspendable: bool
    ticked: float
    silent: float = 0.0
    stopped: bool = False


def heard(watch: Watch, now: float) -> Watch:
    """A byte came."""
    return replace(watch, silent=0.0, ticked=now, stopped=False)


def looks(watch: Watch) -> bool:
    """Has the pilot been silent for so long that its state is worth a look?"""
    return watch.silent >= LOOK_S


def tick(watch: Watch, now: float, state: str) -> tuple[Watch, Verdict]:
    """A tick without a byte; `state` is the pilot's letter in /proc, empty when not looked at."""
    passed = now - watch.ticked
    if passed > TICK_S + LATE_S:
        return replace(watch, silent=0.0, ticked=now), Verdict.WAIT
    stopped = state in ("T", "t")
    watch = replace(watch, silent=watch.silent + passed, ticked=now, stopped=stopped)
    if stopped and watch.silent >= LOOK_S:
        if watch.suspendable:
            return replace(watch, silent=LOOK_S), Verdict.WAIT
        return watch, Verdict.PREEMPT
    return watch, Verdict.KILL if watch.silent >= HUNG_S else Verdict.WAIT

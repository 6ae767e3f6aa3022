"""Policy `warm`: n slots stand ready, within a budget of node hours a day; off by default.

Pure. Slots that nobody took, and the failures of those that never came to stand, decide: a site
that takes them away again is left alone for longer each time.
"""

from __future__ import annotations

from dataclasses import dataclass

from wspilot.settings import Policy

PAUSE_S = 60.0  # after a first failure; twice as long after each further one
LONGEST_S = 3600.0


@dataclass(frozen=True)
class Pool:
    """What there is: slots that stand ready or are asked for, what standing has cost in the last
    day (node seconds), and how many of the last ones were lost, one after the other."""

    there: int
    spent_s: float
    lost: int = 0
    lost_at: float = 0.0


def pause_s(lost: int) -> float:
    """How long to wait after so many losses in a row."""
    return min(LONGEST_S, PAUSE_S * 2.0 ** min(lost - 1, 10)) if lost else 0.0


def refill(policy: Policy, pool: Pool, now: float) -> int:
    """How many slots to ask for; negative: how many to give back."""
    if pool.spent_s >= policy.hours * 3600:
        return -pool.there
    if pool.lost and now < pool.lost_at + pause_s(pool.lost):
        return 0
    return max(0, policy.slots - pool.there)

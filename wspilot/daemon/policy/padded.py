"""Policy `padded`, and the walltime's sum: a slot is asked for longer than the lease.

The pad is bought in advance, so that `extend` is granted at once; the lease itself is as asked.
A slot that shall serve a second lease (`reuse`) needs one too: the first has used some of its time.
"""

from __future__ import annotations

from dataclasses import dataclass

from wspilot.settings import Site


@dataclass(frozen=True)
class Walltime:
    """The sum of PROTOCOLS.md section 2, term by term, in seconds; the total is whole minutes."""

    terms: tuple[tuple[str, int], ...]
    total_s: int


def pad_s(site: Site) -> int:
    """Seconds that a slot is longer than its lease needs."""
    return max(site.budget.pad_s, site.policy.pad_s)


def walltime(site: Site, lease_s: int, slots: int, save: bool = False) -> Walltime:
    """What the job has to ask for so that the lease, and its end in order, fit inside."""
    b = site.budget
    terms = (
        ("launch", b.launch_s),
        ("gather", b.gather_s if slots > 1 else 0),
        ("propagate", b.propagate_s),
        ("reserve", b.reserve_s),
        ("boot", b.boot_s),
        ("lease", lease_s),
        ("pad", pad_s(site)),
        ("save", b.save_s if save else 0),
        ("stop", b.stop_s),
        ("restore", b.restore_s),
        ("slack", b.slack_s),
    )
    total = sum(seconds for _, seconds in terms)
    return Walltime(terms, -(-total // 60) * 60)

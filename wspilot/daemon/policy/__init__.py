"""Which slots a request becomes: one small pure function a policy, chosen by `[policy] name`.

`exact` plans, `reuse` puts spare slots in place of what it planned, `padded` asks for more time,
`warm` says how many spare slots there should be. Nothing here knows the books or the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wspilot.config import Site
from wspilot.daemon.policy.exact import jobs_of, overhead_mib, plan
from wspilot.daemon.policy.padded import Walltime, pad_s, walltime
from wspilot.daemon.policy.plans import Member, SlotPlan, Spare
from wspilot.daemon.policy.reuse import reuse
from wspilot.daemon.policy.warm import Pool, refill
from wspilot.ensemble import Request
from wspilot.model import Group


def choose(
    request: Request,
    site: Site,
    overhead_mib: Callable[[Group], int],
    grace_s: Callable[[int], float],
    spares: Sequence[Spare] = (),
) -> tuple[SlotPlan, ...]:
    """The slots of a request by the site's policy. Raises UsageError like `plan`."""
    plans = plan(request, site, overhead_mib, grace_s)
    if not site.policy.keeps:
        return plans
    return reuse(plans, spares, standing_s(site, request.duration_s), site.budget.gather_s)


def warm_plan(site: Site) -> SlotPlan:
    """What a warm slot is like: one node, with room for one VM of the policy's lease type."""
    kind = site.types.get(site.policy.type) or max(
        site.types.values(), key=lambda one: (one.memory_mib, one.cpus)
    )
    group = Group("warm", kind.name, 1, 1, "", kind.cpus, kind.memory_mib, kind.disk_mib)
    request = Request("", site.policy.lease_s, (group,))
    return plan(request, site, lambda g: overhead_mib(site.vmm, g.memory_mib), lambda _: 0.0)[0]


def warm_walltime_s(site: Site) -> int:
    """A warm slot's walltime: a lease fits in also at the end of `hold`."""
    return walltime(site, site.policy.lease_s + site.policy.hold_s, 2).total_s


def standing_s(site: Site, lease_s: int) -> int:
    """How long a slot that stands ready must still stand for a lease of so many seconds."""
    return site.budget.propagate_s + site.budget.boot_s + lease_s


__all__ = [
    "Member",
    "Pool",
    "SlotPlan",
    "Spare",
    "Walltime",
    "choose",
    "jobs_of",
    "overhead_mib",
    "pad_s",
    "plan",
    "refill",
    "reuse",
    "standing_s",
    "walltime",
    "warm_plan",
    "warm_walltime_s",
]

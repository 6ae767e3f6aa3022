"""Policies on a day of requests: how long users wait, what the nodes were used for, what it cost.

`python -m tests.bench.policies [--days N] [--load L] [--trace FILE.swf]`. The policies are the real
functions of `wspilot.daemon.policy`; the batch system and the users are modelled (`queueing.py`).
A model: it ranks policies under the same load, and predicts no site's minutes.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from tests.bench.queueing import (
    DAY_S,
    Alien,
    Cluster,
    Day,
    Job,
    Wish,
    first_day,
    generated,
    read_swf,
)
from wspilot.daemon.policy import (
    Pool,
    SlotPlan,
    Spare,
    choose,
    refill,
    walltime,
    warm_plan,
    warm_walltime_s,
)
from wspilot.ensemble import Request
from wspilot.model import Group, LeaseType
from wspilot.settings import Policy, Site

NODES, CORES = 32, 8
LAUNCH_S, BOOT_S = 10.0, 30.0  # from a job's start to its node being ready, and a guest's boot
STOP_S = 10.0
AGAIN_S = 180.0  # until somebody who ended a lease early asks for the same again
POLICIES = {
    "exact": Policy(),
    "reuse": Policy("reuse", hold_s=600, pad_s=3600),
    "reuse, no pad": Policy("reuse", hold_s=600),
    "padded": Policy("padded", pad_s=1800),
    "warm": Policy("warm", hold_s=7200, pad_s=3600, slots=4, hours=48),
}


@dataclass
class Slot:
    """One of our slots."""

    job: Job
    plan: SlotPlan
    id: str = ""
    ready: bool = False
    warm: bool = False
    idle_at: float | None = None
    idle_s: float = 0.0


@dataclass
class Lease:
    """A request under way."""

    wish: Wish
    slots: list[Slot]
    active_at: float | None = None


@dataclass
class Figures:
    """One day under one policy."""

    waits: list[float] = field(default_factory=list)
    used_s: float = 0.0  # node seconds in which VMs were in users' hands
    held_s: float = 0.0  # node seconds of our jobs
    wanted_more: int = 0
    granted: int = 0
    asked: int = 0


class Agent:
    """A daemon with one policy and its users."""

    def __init__(self, site: Site, cluster: Cluster) -> None:
        self.site, self.cluster, self.figures = site, cluster, Figures()
        self.spares: list[Slot] = []
        self.slots: list[Slot] = []
        if site.policy.name == "warm":
            cluster.at(0.0, self._refill)

    # -- a request

    def ask(self, wish: Wish) -> None:
        """Deploy it."""
        self.figures.asked += 1
        kind = next(iter(self.site.types.values()))
        group = Group("vm", kind.name, wish.nodes, wish.nodes, "", kind.cpus, kind.memory_mib, 0)
        request = Request("", wish.lease_s, (group,))
        plans = choose(request, self.site, lambda _: 0, lambda _: 5.0, self._offers())
        total = walltime(self.site, wish.lease_s, len(plans)).total_s
        lease = Lease(wish, [])
        for plan in plans:
            if plan.held:
                lease.slots.append(self._take(plan.held))
        for plan in plans:
            if not plan.held:
                lease.slots.append(self._submit(plan, total, partial(self._gathered, lease)))
        self._gathered(lease)

    def _submit(self, plan: SlotPlan, total: float, ready: Callable[[], None]) -> Slot:
        slot = Slot(Job(plan.nodes, total), plan, id=f"s{len(self.slots)}")

        def begun() -> None:
            def up() -> None:
                slot.ready = True
                ready()

            self.cluster.at(self.cluster.now + LAUNCH_S, up)

        slot.job.begun = begun
        self.slots.append(slot)
        self.cluster.submit(slot.job)
        return slot

    def _gathered(self, lease: Lease) -> None:
        if lease.active_at is None and all(slot.ready for slot in lease.slots):
            lease.active_at = self.cluster.now + BOOT_S
            self.figures.waits.append(lease.active_at - lease.wish.at)
            use = lease.wish.lease_s * lease.wish.used
            self.cluster.at(lease.active_at + use, lambda: self._over(lease, use))

    def _over(self, lease: Lease, used_s: float) -> None:
        wish = lease.wish
        early = wish.used < 1.0
        more = 0 if early else wish.more_s
        self.figures.used_s += used_s * wish.nodes
        if more:
            self.figures.wanted_more += 1
            if min(self._left_s(slot) for slot in lease.slots) >= more:
                self.figures.granted += 1
                again = replace(wish, more_s=0)
                lease.wish = again
                self.cluster.at(self.cluster.now + more, lambda: self._over(lease, more))
                return
            self.cluster.at(self.cluster.now, lambda: self.ask(
                Wish(self.cluster.now, wish.nodes, more, 1.0, 0)))  # fmt: skip
        for slot in lease.slots:
            self.cluster.at(self.cluster.now + STOP_S, partial(self._let_go, slot, early))
        if early and wish.tries:
            at = self.cluster.now + AGAIN_S
            self.cluster.at(at, lambda: self.ask(replace(wish, at=at, tries=wish.tries - 1)))

    # -- slots that stand for nobody

    def _let_go(self, slot: Slot, early: bool) -> None:
        keep = self.site.policy.keeps and early and self._left_s(slot) > 0
        if not keep:
            self._release(slot)
            return
        slot.idle_at = self.cluster.now
        self.spares.append(slot)
        self._expire(slot)

    def _expire(self, slot: Slot) -> None:
        since, wait = slot.idle_at, min(self.site.policy.hold_s, self._left_s(slot))

        def over() -> None:
            if slot.idle_at == since and slot in self.spares:
                self._release(slot)

        self.cluster.at(self.cluster.now + wait, over)

    def _release(self, slot: Slot) -> None:
        if slot in self.spares:
            slot.idle_s += self.cluster.now - (slot.idle_at or self.cluster.now)
            slot.idle_at = None
            self.spares.remove(slot)
        started = slot.job.started
        if started is not None and not slot.job.ended:
            self.figures.held_s += slot.job.nodes * (self.cluster.now - started)
        self.cluster.end(slot.job)

    def _take(self, id: str) -> Slot:
        slot = next(one for one in self.spares if one.id == id)
        slot.idle_s += self.cluster.now - (slot.idle_at or 0)
        slot.idle_at = None
        self.spares.remove(slot)
        return slot

    def _left_s(self, slot: Slot) -> float:
        b = self.site.budget
        spare = b.launch_s + b.stop_s + b.restore_s + b.slack_s
        return (slot.job.started or 0) + slot.job.walltime_s - spare - self.cluster.now

    def _offers(self) -> list[Spare]:
        return [
            Spare(slot.id, slot.plan.nodes, slot.plan.ppn, slot.plan.memory_mib, True,
                  self._left_s(slot), tuple(f"{slot.id}{n}" for n in range(slot.plan.nodes)))
            for slot in self.spares
        ]  # fmt: skip

    def _refill(self) -> None:
        self.cluster.at(self.cluster.now + 60, self._refill)
        there = len(self.spares) + sum(one.warm and not one.ready for one in self.slots)
        idle = sum(self.cluster.now - (one.idle_at or 0) for one in self.spares)
        spent = idle + sum(one.idle_s for one in self.slots)  # one day only: all of it counts
        number = refill(self.site.policy, Pool(there, spent), self.cluster.now)
        for slot in list(self.spares) if number < 0 else []:
            self._release(slot)
        for _ in range(number):
            self._warm()

    def _warm(self) -> None:
        def ready() -> None:
            slot.idle_at = self.cluster.now
            self.spares.append(slot)
            self._expire(slot)

        slot = self._submit(warm_plan(self.site), warm_walltime_s(self.site), ready)
        slot.warm = True


def site_of(policy: Policy) -> Site:
    """A site of equal nodes, a VM to a node."""
    kinds = {"vm": LeaseType("vm", CORES, 4096, 0, int(DAY_S))}
    return Site(Path("/s"), Path("/b"), Path("/i"), lrm="slurm", vmm="qemu", adapter="none",
                nodes=NODES, node_cpus=CORES, node_memory_mib=8192, policy=policy,
                types=kinds)  # fmt: skip


def play(policy: Policy, day: Day) -> Figures:
    """One day, to the end of its last lease."""
    cluster = Cluster(NODES)
    agent = Agent(site_of(policy), cluster)
    for job in day.aliens:
        cluster.at(job.at, partial(_alien, cluster, job))
    for wish in day.wishes:
        cluster.at(wish.at, partial(agent.ask, wish))
    cluster.run(DAY_S)
    for slot in agent.slots:  # the day is over: what is still held is counted until now
        if slot.job.started is not None and not slot.job.ended:
            agent.figures.held_s += slot.job.nodes * (cluster.now - slot.job.started)
    return agent.figures


def _alien(cluster: Cluster, job: Alien) -> None:
    cluster.submit(Job(min(job.nodes, NODES), job.walltime_s, job.run_s))


# -- the table


def rows(days: Iterable[Day]) -> dict[str, list[Figures]]:
    """Every policy on every day."""
    every = list(days)
    return {name: [play(policy, day) for day in every] for name, policy in POLICIES.items()}


def show(title: str, found: dict[str, list[Figures]]) -> str:
    """The table, as docs/policies.md has it: medians over the days, and their spread."""
    lines = [
        f"{title}; n = {len(found['exact'])} days, median (min..max)",
        "| policy | median wait, s | 90 % waited less than, s | used of what was held, % "
        "| node hours held | extensions granted at once, % | not served that day |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, days in found.items():
        cells = [
            _cell([statistics.median(day.waits) for day in days]),
            _cell([statistics.quantiles(day.waits, n=10)[-1] for day in days]),
            _cell([100 * day.used_s / day.held_s for day in days]),
            _cell([day.held_s / 3600 for day in days]),
            _cell([100 * day.granted / max(1, day.wanted_more) for day in days]),
            _cell([day.asked - len(day.waits) for day in days]),
        ]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f}..{max(values):.0f})"


def run(
    days: int = 9, loads: tuple[float, ...] = (0.2, 0.5, 0.8), trace: Path | None = None
) -> None:
    """Print the tables."""
    for load in loads:
        made = [generated(seed, NODES, load) for seed in range(days)]
        title = f"{NODES} nodes, 40 requests a day, other people's jobs {load:.0%} of the nodes"
        if trace is not None:
            recorded = first_day(read_swf(trace, CORES))
            made = [replace(day, aliens=recorded) for day in made]
            title = f"{NODES} nodes, 40 requests a day, other people's jobs from {trace.name}"
        print("\n" + show(title, rows(made)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.policies", description=__doc__)
    parser.add_argument("--days", type=int, default=9)
    parser.add_argument("--load", type=float, action="append")
    parser.add_argument("--trace", type=Path, metavar="FILE.swf")
    args = parser.parse_args()
    loads = tuple(args.load or (0.2, 0.5, 0.8))
    run(args.days, loads[:1] if args.trace else loads, args.trace)

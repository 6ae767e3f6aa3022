"""Which slots a request becomes, and what walltime they ask for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.sites import site
from wspilot.daemon.policy import SlotPlan, jobs_of, plan, walltime
from wspilot.ensemble import Request
from wspilot.errors import UsageError
from wspilot.model import Group
from wspilot.settings import Budget, Site

SITE = replace(site(), nodes=64)  # 8 cores and 8 GiB each
BLIND = replace(SITE, nodes=None, node_cpus=None, node_memory_mib=None)


def group(name: str, count: int, cpus: int = 1, memory: int = 1024, how: str = "spread") -> Group:
    return Group(name, "t", count, count, "default", cpus, memory, 0, ("private",), placement=how)


def slots(*groups: Group, on: Site = SITE, overhead: int = 0, grace: float = 5.0) -> list[SlotPlan]:
    return list(plan(Request("", 60, groups), on, lambda _: overhead, lambda _: grace))


def shape(plans: list[SlotPlan]) -> list[tuple[int, int, int, int, bool]]:
    return [(len(p.members), p.nodes, p.ppn, p.memory_mib, p.whole_node) for p in plans]


def test_one_slot_for_all_nodes_with_equal_needs() -> None:
    found = slots(group("ce", 1, 2), group("worker", 3), group("se", 1, 2))
    assert shape(found) == [(2, 2, 2, 1024, True), (3, 3, 1, 1024, True)]
    assert found[0].members == (("ce", 1), ("se", 1))
    assert found[1].members == (("worker", 1), ("worker", 2), ("worker", 3))


def test_one_slot_for_each_node() -> None:
    found = slots(group("vm", 3, 2), on=replace(SITE, jobs="per-node"))
    assert shape(found) == [(1, 1, 2, 1024, True)] * 3
    assert [plan.members for plan in found] == [(("vm", 1),), (("vm", 2),), (("vm", 3),)]


@pytest.mark.parametrize(
    ("adapter", "grace", "jobs", "expected"),
    [
        ("balloon", 0.0, None, "per-node"),  # Torque 6
        ("balloon", 30.0, None, "per-workspace"),
        ("none", 0.0, None, "per-workspace"),
        ("balloon", 0.0, "per-workspace", "per-workspace"),
        ("none", 30.0, "per-node", "per-node"),
    ],
)
def test_the_default_follows_adapter_and_grace(
    adapter: str, grace: float, jobs: str | None, expected: str
) -> None:
    assert jobs_of(replace(SITE, adapter=adapter, jobs=jobs), lambda nodes: grace) == expected


@pytest.mark.parametrize(
    ("count", "cpus", "memory", "nodes", "ppn", "mib"),
    [
        (8, 1, 1024, 1, 8, 8192),
        (9, 1, 1024, 2, 5, 5120),  # evenly: not eight here and one there
        (5, 2, 1024, 2, 6, 3072),
        (4, 1, 4096, 2, 2, 8192),  # memory is what limits
        (3, 8, 1024, 3, 8, 1024),
        (1, 1, 128, 1, 1, 128),
    ],
)
def test_packed_vms_share_nodes_as_cores_and_memory_allow(
    count: int, cpus: int, memory: int, nodes: int, ppn: int, mib: int
) -> None:
    assert shape(slots(group("vm", count, cpus, memory, "pack"))) == [
        (count, nodes, ppn, mib, False)
    ]


def test_packed_vms_with_a_slot_for_each_node() -> None:
    found = slots(group("vm", 10, 2, 1024, "pack"), on=replace(SITE, jobs="per-node"))
    assert shape(found) == [
        (4, 1, 8, 4096, False), (4, 1, 8, 4096, False), (2, 1, 4, 2048, False),
    ]  # fmt: skip


def test_where_the_size_of_nodes_is_unknown_nothing_is_packed_and_nothing_refused() -> None:
    assert shape(slots(group("vm", 3, 99, 1 << 30, "pack"), on=BLIND)) == [
        (3, 3, 99, 1 << 30, False)
    ]


def test_overhead_is_added_for_each_vm() -> None:
    assert shape(slots(group("vm", 2, 1, 1024), overhead=100))[0][3] == 1124
    assert shape(slots(group("vm", 8, 1, 1024, "pack"), overhead=100)) == [(8, 2, 4, 4496, False)]


@pytest.mark.parametrize(
    ("groups", "nodes", "words"),
    [
        ((group("big", 1, 9),), 64, "group big: 9 cpus are more than the 8 of any node"),
        ((group("big", 1, 1, 8192),), 64, "group big: 8292MiB with the VMM's overhead are more"),
        ((group("vm", 3),), 2, "this needs 3 nodes at once; the site has 2"),
        ((group("vm", 9, 8, 128, "pack"),), 8, "this needs 9 nodes at once"),
        ((group("a", 1), group("vm", 16, 1, 64, "pack")), 2, "this needs 3 nodes at once"),
        ((group("a", 8, 1, 64, "pack"), group("b", 4, 2, 64, "pack")), 1, "needs 2 nodes"),
    ],
)
def test_what_can_never_run_is_refused_in_words(
    groups: tuple[Group, ...], nodes: int, words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        slots(*groups, on=replace(SITE, nodes=nodes), overhead=100)
    assert words in caught.value.message and caught.value.hint


def test_packed_slots_may_share_a_node_with_each_other() -> None:
    found = slots(group("a", 4, 1, 64, "pack"), group("b", 2, 2, 64, "pack"),
                  on=replace(SITE, nodes=1))  # fmt: skip
    assert shape(found) == [(4, 1, 4, 256, False), (2, 1, 4, 128, False)]


def test_torque_is_asked_for_a_whole_node_by_all_of_its_cores() -> None:
    torque = replace(SITE, lrm="torque")
    assert shape(slots(group("vm", 2), on=torque)) == [(2, 2, 8, 1024, True)]
    assert shape(slots(group("vm", 2), on=replace(torque, node_cpus=None)))[0][2] == 1
    assert shape(slots(group("vm", 2, 1, 1024, "pack"), on=torque))[0][2] == 2


def test_every_vm_is_in_one_slot_and_the_same_request_gives_the_same_plan() -> None:
    groups = (group("a", 7, 2, 300, "pack"), group("b", 5), group("c", 6, 2, 300, "pack"))
    for jobs in ("per-node", "per-workspace"):
        found = slots(*groups, on=replace(SITE, jobs=jobs))
        members = [member for one in found for member in one.members]
        wanted = [(g.name, n) for g in groups for n in range(1, g.count + 1)]
        assert sorted(members) == sorted(wanted)
        assert found == slots(*groups, on=replace(SITE, jobs=jobs))
        for one in found:  # what the core fills a node with fits into what was asked for it
            each = -(-len(one.members) // one.nodes)
            assert one.ppn >= each and one.ppn <= 8 and one.memory_mib <= 8192


# -- walltime

BUDGET = Budget(1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


def test_walltime_is_the_sum_in_whole_minutes() -> None:
    found = walltime(replace(SITE, budget=BUDGET), 3600, 1)
    assert found.terms == (
        ("launch", 1), ("gather", 0), ("propagate", 4), ("reserve", 8), ("boot", 16),
        ("lease", 3600), ("pad", 32), ("save", 0), ("stop", 128), ("restore", 256), ("slack", 512),
    )  # fmt: skip
    assert sum(seconds for _, seconds in found.terms) == 4557 and found.total_s == 4560


def test_gather_and_save_only_where_they_are_needed() -> None:
    one = replace(SITE, budget=BUDGET)
    assert dict(walltime(one, 60, 2).terms)["gather"] == 2
    assert dict(walltime(one, 60, 1, save=True).terms)["save"] == 64


@pytest.mark.parametrize(("lease", "total"), [(59, 60), (60, 60), (61, 120)])
def test_walltime_rounds_up(lease: int, total: int) -> None:
    none = replace(SITE, budget=Budget(*[0] * 10))
    assert walltime(none, lease, 1).total_s == total

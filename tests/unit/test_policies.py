"""`reuse`, `padded` and `warm`: pure decisions, tried one by one and with arbitrary spares."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.unit.sites import site
from wspilot.daemon.policy import (
    Pool,
    SlotPlan,
    Spare,
    choose,
    refill,
    reuse,
    walltime,
    warm_plan,
    warm_walltime_s,
)
from wspilot.daemon.policy.warm import pause_s
from wspilot.daemon.service import rules_of
from wspilot.ensemble import Request
from wspilot.errors import UsageError
from wspilot.model import Group
from wspilot.settings import Policy

HOUR = 3600.0


def wanted(
    vms: int, nodes: int = 1, memory: int = 1024, ppn: int = 1, group: str = "vm"
) -> SlotPlan:
    return SlotPlan(tuple((group, n) for n in range(1, vms + 1)), nodes, ppn, memory, True)


def spare(id: str, nodes: int = 1, memory: int = 1024, ppn: int = 1, left: float = HOUR) -> Spare:
    return Spare(id, nodes, ppn, memory, True, left, tuple(f"{id}{n}" for n in range(nodes)))


def held(plans: tuple[SlotPlan, ...]) -> list[tuple[str, int, int]]:
    return [(plan.held, plan.nodes, len(plan.members)) for plan in plans]


def test_the_smallest_spare_that_fits_is_taken() -> None:
    spares = [spare("big", memory=4096), spare("fit", memory=2048), spare("low", memory=512)]
    assert held(reuse([wanted(1)], spares, 60, 600)) == [("fit", 1, 1)]


@pytest.mark.parametrize(
    "one",
    [
        spare("a", memory=1023),
        replace(spare("a"), ppn=0),
        spare("a", left=59),
        replace(spare("a"), whole_node=False),
    ],
)
def test_what_does_not_fit_is_not_taken(one: Spare) -> None:
    assert held(reuse([wanted(1)], [one], 60, 600)) == [("", 1, 1)]


def test_of_equal_spares_the_one_that_ends_first_goes_first() -> None:
    spares = [spare("late", left=9000), spare("soon", left=4000)]
    assert held(reuse([wanted(1)], spares, 60, 600)) == [("soon", 1, 1)]


def test_a_spare_of_several_nodes_serves_a_plan_of_as_many_and_no_other() -> None:
    assert held(reuse([wanted(3, 3)], [spare("a", 3)], 60, 600)) == [("a", 3, 3)]
    assert held(reuse([wanted(2, 2)], [spare("a", 3)], 60, 600)) == [("", 2, 2)]


def test_single_nodes_serve_what_they_can_and_the_rest_is_asked_for() -> None:
    found = reuse([wanted(3, 3)], [spare("a"), spare("b")], 60, 600)
    assert held(found) == [("a", 1, 1), ("b", 1, 1), ("", 1, 1)]
    assert [plan.members for plan in found] == [(("vm", 1),), (("vm", 2),), (("vm", 3),)]


def test_packed_vms_are_spread_over_single_nodes_as_over_one_slot() -> None:
    found = reuse([wanted(5, 2, 3072)], [spare("a", memory=3072), spare("b", memory=3072)], 60, 600)
    assert held(found) == [("a", 1, 3), ("b", 1, 2)]


def test_where_something_must_be_asked_for_the_others_must_stand_that_much_longer() -> None:
    plans = [wanted(1), wanted(1, memory=9999, group="big")]
    assert held(reuse(plans, [spare("a", left=500)], 60, 600)) == [("", 1, 1), ("", 1, 1)]
    assert held(reuse(plans, [spare("a", left=700)], 60, 600)) == [("a", 1, 1), ("", 1, 1)]


def test_no_node_serves_a_request_twice_where_each_vm_wants_its_own() -> None:
    twins = [replace(spare("a"), hosts=("n1",)), replace(spare("b"), hosts=("n1",))]
    assert held(reuse([wanted(2, 2)], twins, 60, 600)) == [("a", 1, 1), ("", 1, 1)]


def test_large_members_choose_before_small_ones() -> None:
    plans = [wanted(1, memory=256, group="small"), wanted(1, memory=2048, group="large")]
    found = reuse(plans, [spare("big", memory=2048)], 60, 600)
    assert held(found) == [("", 1, 1), ("big", 1, 1)]


def test_whatever_the_spares_are_every_vm_has_one_place_and_every_spare_one_use() -> None:
    rng = random.Random(5)
    for _ in range(500):
        plans = [
            wanted(nodes * rng.choice([1, 2]), nodes, rng.choice([512, 1024]), group=f"g{n}")
            for n in range(rng.randrange(1, 4))
            for nodes in [rng.randrange(1, 4)]
        ]
        spares = [
            spare(f"s{n}", rng.randrange(1, 4), rng.choice([512, 1024, 2048]), 1,
                  rng.choice([30, 300, 3000]))
            for n in range(rng.randrange(6))
        ]  # fmt: skip
        found = reuse(plans, spares, 60, 600)
        members = [member for plan in found for member in plan.members]
        assert sorted(members) == sorted(m for plan in plans for m in plan.members)
        assert sum(p.nodes for p in found) == sum(p.nodes for p in plans)
        taken = [plan.held for plan in found if plan.held]
        assert len(taken) == len(set(taken))
        by_id = {one.id: one for one in spares}
        for plan in found:
            if plan.held:
                one = by_id[plan.held]
                assert one.memory_mib >= plan.memory_mib and one.nodes == plan.nodes
                assert one.left_s >= (60 if all(p.held for p in found) else 660)


@pytest.mark.parametrize(("name", "uses"), [("exact", ""), ("padded", ""), ("reuse", "a"),
                                            ("warm", "a")])  # fmt: skip
def test_only_policies_that_keep_slots_use_them(name: str, uses: str) -> None:
    one = replace(site(), policy=Policy(name))
    request = Request("", 60, (Group("vm", "small", 1, 1, "small", 1, 128, 0),))
    (plan,) = choose(request, one, lambda _: 0, lambda _: 5.0, [spare("a")])
    assert plan.held == uses


# -- padded


def test_padded_buys_time_in_advance_and_nothing_else_does() -> None:
    s = site()
    plain = walltime(s, 600, 1).total_s
    padded = site("[policy]\nname = 'padded'")
    assert walltime(padded, 600, 1).total_s == plain + 1800
    assert walltime(site("[policy]\nname = 'reuse'"), 600, 1).total_s == plain + 3600
    assert walltime(site("[policy]\nname = 'reuse'\npad = '0s'"), 600, 1).total_s == plain
    both = replace(padded, budget=replace(s.budget, pad_s=3600))
    assert dict(walltime(both, 600, 1).terms)["pad"] == 3600


# -- warm


@pytest.mark.parametrize(
    ("pool", "number"),
    [
        (Pool(0, 0), 3),
        (Pool(2, 0), 1),
        (Pool(5, 0), 0),
        (Pool(3, 2 * HOUR), -3),  # the day's budget is spent: nothing stands any more
        (Pool(0, 2 * HOUR), 0),
        (Pool(1, 2 * HOUR - 1), 2),
        (Pool(0, 0, 1, 1000.0 - 59), 0),  # a minute after a loss
        (Pool(0, 0, 1, 1000.0 - 60), 3),
        (Pool(0, 0, 3, 1000.0 - 239), 0),
        (Pool(0, 0, 3, 1000.0 - 240), 3),
    ],
)
def test_warm_fills_up_within_its_budget_and_pauses_after_losses(pool: Pool, number: int) -> None:
    assert refill(Policy("warm", slots=3, hours=2), pool, 1000.0) == number


def test_the_pause_grows_and_has_an_end() -> None:
    pauses = [pause_s(n) for n in range(60)]
    assert pauses == sorted(pauses) and pauses[0] == 0 and pauses[-1] == 3600


def test_nothing_stands_warm_unless_it_is_asked_for() -> None:
    assert rules_of(site()).warm is None and site().policy == Policy()
    assert rules_of(site("[policy]\nname = 'reuse'")).warm is None


def test_a_warm_slot_has_room_for_its_type_and_time_for_its_lease() -> None:
    s = site("[policy]\nname = 'warm'\ntype = 'medium'\nhold = '1h'\nlease = '30m'\n")
    assert (warm_plan(s).nodes, warm_plan(s).ppn, warm_plan(s).memory_mib) == (1, 2, 256)
    assert warm_walltime_s(s) >= 3600 + 1800
    assert warm_plan(site("[policy]\nname = 'warm'")).memory_mib == 512  # the largest
    assert rules_of(s).warm == warm_plan(s)


# -- [policy]

BAD = {
    "[policy]\nname = 'best'": "policy.name: 'best' is not one of exact, reuse, padded, warm",
    "[policy]\nnmae = 'warm'": "policy.nmae: unknown key; did you mean 'name'?",
    "[policy]\npad = '1h'": 'policy.pad: needs name = "padded" or "reuse"',
    "[policy]\nname = 'padded'\npad = 30": "policy.pad: 30 is not a duration",
    "[policy]\nname = 'padded'\nhold = '1h'": 'policy.hold: needs name = "reuse" or "warm"',
    "[policy]\nname = 'reuse'\nslots = 2": 'policy.slots: needs name = "warm"',
    "[policy]\nname = 'warm'\nslots = 0": "policy.slots: 0 is not between 1 and 1000",
    "[policy]\nname = 'warm'\nhours = 0": "policy.hours: 0 is not between",
    "[policy]\nname = 'warm'\ntype = 'tiny'": "policy.type: no lease type 'tiny'",
    "policy = 'warm'": "policy: must be a table",
}


@pytest.mark.parametrize("toml", BAD)
def test_a_mistake_is_told_with_its_key(toml: str) -> None:
    with pytest.raises(UsageError) as caught:
        site(toml)
    assert BAD[toml] in caught.value.message


def test_what_is_given_holds_and_hold_depends_on_the_policy() -> None:
    found = site("[policy]\nname = 'warm'\nslots = 2\nhours = 3\nhold = '4h'").policy
    assert found == Policy("warm", slots=2, hours=3, hold_s=14400, pad_s=3600)
    assert site("[policy]\nname = 'warm'").policy.hold_s == 7200
    assert site("[policy]\nname = 'reuse'").policy.hold_s == 600

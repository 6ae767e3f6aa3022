"""The model that policies are compared in: its batch system, its days, and what a policy may do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.policies import NODES, POLICIES, play, show
from tests.bench.queueing import Alien, Cluster, Day, Job, Wish, first_day, generated, read_swf
from wspilot.settings import Policy

SWF = """\
; Version: 2
; MaxNodes: 32
1 100 5 3600 8 -1 -1 8 7200 -1 1 1 1 1 1 1 -1 -1
2 200 0 60 4 -1 -1 20 -1 -1 1 1 1 1 1 1 -1 -1

3 90100 0 0 4 -1 -1 4 60 -1 0 1 1 1 1 1 -1 -1
4 90200 0 10 1 -1 -1 1 60 -1 1 1 1 1 1 1 -1 -1
"""


def test_a_trace_is_read_and_its_first_day_begins_at_nought(tmp_path: Path) -> None:
    (tmp_path / "a.swf").write_text(SWF)
    found = read_swf(tmp_path / "a.swf", 8)
    assert found[:2] == (Alien(100, 1, 3600, 7200), Alien(200, 3, 60, 60))
    assert len(found) == 3  # one that never ran is none
    assert [job.at for job in first_day(found)] == [0, 100]


def test_a_line_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.swf").write_text(SWF + "5 x\n")
    with pytest.raises(ValueError, match=r"a\.swf:8: not a line of 18 numbers"):
        read_swf(tmp_path / "a.swf", 8)


def test_first_in_first_out_and_backfill_that_puts_nobody_off() -> None:
    cluster, order = Cluster(4), []

    def job(name: str, nodes: int, wall: float, run: float) -> None:
        cluster.submit(Job(nodes, wall, run, begun=lambda: order.append((name, cluster.now))))

    job("long", 3, 1000, 1000)
    job("wide", 4, 500, 100)
    job("short", 1, 900, 900)  # fits beside the first, and ends before it does
    job("late", 1, 2000, 50)  # would hold up the wide one
    cluster.run(5000)
    assert [name for name, _ in order] == ["long", "short", "wide", "late"]
    assert order[1][1] == order[0][1] and order[2][1] == 1020


def test_a_day_is_the_same_twice_and_as_full_as_asked_for() -> None:
    assert generated(3, 32, 0.5) == generated(3, 32, 0.5) != generated(4, 32, 0.5)
    work = sum(job.nodes * job.run_s for job in generated(3, 32, 0.5).aliens)
    assert 0.5 <= work / (32 * 86400) < 0.6


def day(*wishes: Wish) -> Day:
    return Day(wishes)


def test_an_extension_is_granted_where_time_was_bought_for_it() -> None:
    one = day(Wish(100, 1, 600, 1.0, 900))
    assert (play(Policy(), one).granted, play(POLICIES["padded"], one).granted) == (0, 1)
    assert len(play(Policy(), one).waits) == 2  # who is refused asks anew


def test_who_comes_back_is_served_at_once_by_a_kept_slot() -> None:
    one = day(Wish(100, 2, 3600, 0.2, 0, tries=1))
    fresh, kept = play(Policy(), one).waits, play(POLICIES["reuse"], one).waits
    assert fresh[1] > 30 and kept[1] == 30  # a boot, and no more
    without = play(POLICIES["reuse, no pad"], one).waits
    assert without[1] > 30  # its slot was too short by then


def test_warm_slots_stand_within_their_budget() -> None:
    found = play(Policy("warm", slots=4, hours=3, hold_s=7200), day())
    assert found.waits == [] and 2.5 < found.held_s / 3600 < 3.6
    served = play(Policy("warm", slots=4, hours=48, hold_s=7200), day(Wish(5000, 3, 600, 1.0, 0)))
    assert served.waits == [30.0]


@pytest.mark.parametrize("name", POLICIES)
def test_nothing_is_given_out_twice_and_nothing_is_used_that_was_not_held(name: str) -> None:
    for seed in range(3):
        found = play(POLICIES[name], generated(seed, NODES, 0.5))
        assert 0 < found.used_s <= found.held_s
        assert len(found.waits) <= found.asked and min(found.waits) >= 30


def test_the_table_has_a_row_for_every_policy() -> None:
    made = {name: [play(one, generated(0, NODES, 0.2))] for name, one in POLICIES.items()}
    text = show("a day", made)
    assert all(f"| `{name}` |" in text for name in POLICIES) and "n = 1 days" in text

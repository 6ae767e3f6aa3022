"""200 leases in simulated VMs come and go, eight side by side: nothing of them is left."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.real.builtin import Builtin, builtin
from wspilot.model import Outcome, WorkspaceState

pytestmark = pytest.mark.real
SIDES, EACH = 8, 25


def _rounds(one: Builtin, side: int) -> int:
    """One user's leases, ended at any moment of theirs; how many became active."""
    rng, up = random.Random(side), 0
    for n in range(EACH):
        count = rng.choice([1, 1, 1, 2])
        ws = one.deploy(type="small", count=count, duration="10m", name=f"r{side}-{n}")
        if rng.random() < 0.75:
            up += one.wait(ws["id"])["state"] == "active"
        else:
            time.sleep(rng.uniform(0, 1.5))
        ended = one.end(ws["id"])
        assert (ended["state"], ended["outcome"]) == ("ended", "destroyed"), ended
    return up


def test_200_rounds_leave_nothing_behind() -> None:
    with builtin(nodes=SIDES * 2) as one:
        before = one.left()
        with ThreadPoolExecutor(SIDES) as pool:
            up = sum(pool.map(lambda side: _rounds(one, side), range(SIDES)))
        assert up > SIDES * EACH // 2  # most of them lived
        end = time.monotonic() + 60  # a guardian's farewell, a killed courier's draft
        while (after := one.left()) != before and time.monotonic() < end:
            time.sleep(0.2)
        assert after == before
        proofs = one.call("fsck", prove=True)["proofs"]
        assert [row for row in proofs if not row["proved"]] == []
        books = one.stop()
    assert not books.held and not books.open_slots and not books.dirty_nodes
    assert len(list(books.workspaces())) == SIDES * EACH
    assert all(ws.state is WorkspaceState.ENDED for ws in books.workspaces())
    assert {ws.outcome for ws in books.workspaces()} == {Outcome.DESTROYED}
    assert not list(books.orders())


def test_a_living_lease_is_seen_by_what_looks_for_leftovers() -> None:
    with builtin() as one:
        before = one.left()
        ws = one.deploy(type="small", count=1, duration="10m")
        one.wait(ws["id"])
        during = one.left()
        one.end(ws["id"])
    for kind in ("files", "keys", "slots", "processes"):
        assert during[kind] and not before[kind], kind

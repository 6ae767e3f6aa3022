"""Ten leases of real guests come and go, two side by side: nothing of them is left."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.real.builtin import Builtin, builtin
from wspilot.guest import build_guest, default_cache

pytestmark = pytest.mark.real
SIDES, EACH = 2, 5
MORE = '[budget]\nboot = "5m"\n'


def _rounds(one: Builtin, side: int) -> None:
    """Guests that are up, and every other round ones that were just about to be."""
    for n in range(EACH):
        name = f"r{side}-{n}"
        ws = one.deploy(type="small", count=1 + n % 2, duration="10m", name=name)
        if (n + side) % 2 == 0:
            active = one.wait(ws["id"], seconds=300)
            assert {vm["state"] for vm in active["vms"]} == {"running"}
        else:
            one.until(ws["id"], lambda now: any(vm["state"] == "booting" for vm in now["vms"]), 120)
        ended = one.end(ws["id"])
        assert (ended["state"], ended["outcome"]) == ("ended", "destroyed"), ended


def test_10_rounds_with_real_guests_leave_nothing_behind() -> None:
    guest = build_guest(default_cache() / "guest", default_cache() / "deb")
    with builtin("qemu", images={"default": Path(guest.out)}, more=MORE) as one:
        before = one.left()
        with ThreadPoolExecutor(SIDES) as pool:
            list(pool.map(lambda side: _rounds(one, side), range(SIDES)))
        end = time.monotonic() + 10
        while (after := one.left()) != before and time.monotonic() < end:
            time.sleep(0.2)
        assert after == before
        assert not [row for row in one.call("fsck", prove=True)["proofs"] if not row["proved"]]
        books = one.stop()
    assert not books.held and not books.open_slots and not books.dirty_nodes
    assert len(list(books.workspaces())) == SIDES * EACH

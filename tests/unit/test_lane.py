"""Work that blocks: in order down one lane; aside, where it may hang and holds up nothing."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from wspilot.daemon.lane import Aside, Lane
from wspilot.errors import TimedOut

HANG_S = 20.0


async def test_a_lane_runs_in_order_and_hands_back_errors() -> None:
    lane, seen = Lane("test"), list[int]()
    try:
        await asyncio.gather(*(lane.run(seen.append, n) for n in range(20)))
        assert seen == list(range(20))
        with pytest.raises(ZeroDivisionError):
            await lane.run(lambda: 1 / 0)
    finally:
        lane.close()


async def test_what_hangs_aside_is_left_alone_and_the_next_is_served() -> None:
    aside, gate, before = Aside("things", 0.1), threading.Event(), threading.active_count()
    try:
        assert await aside.run(lambda: 7) == 7
        for _ in range(aside.MOST):
            with pytest.raises(TimedOut, match="things could not be read"):
                await asyncio.wait_for(aside.run(gate.wait), HANG_S)
        with pytest.raises(TimedOut, match="have not come back"):
            await aside.run(lambda: 7)
    finally:
        gate.set()
    deadline = time.monotonic() + HANG_S
    while threading.active_count() > before and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert threading.active_count() <= before, "threads are left"
    assert await aside.run(lambda: 8) == 8
    with pytest.raises(ZeroDivisionError):
        await aside.run(lambda: 1 / 0)

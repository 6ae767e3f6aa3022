"""Work in a child process, the courier's replacement, and the outbox's age."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from wspilot.errors import TimedOut, WspilotError
from wspilot.messages import HB, NEW
from wspilot.node import post as posts
from wspilot.node import proc
from wspilot.node.aside import aside
from wspilot.node.courier import Courier, Round
from wspilot.node.places import OUTBOX_KEEP_S, Places
from wspilot.node.post import Post


async def test_the_loop_goes_on_while_the_child_works() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    def work() -> Mapping[str, Any]:
        time.sleep(0.3)
        return {"pid": os.getpid(), "much": "x" * 300_000}

    ticking = asyncio.ensure_future(tick())
    told = await aside(work, 5.0, "a test's work")
    ticking.cancel()
    assert told["pid"] != os.getpid() and len(told["much"]) == 300_000
    assert ticks > 10


async def test_a_child_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    def work() -> Mapping[str, Any]:
        (tmp_path / "pid").write_text(str(os.getpid()))
        time.sleep(60)
        return {}

    with pytest.raises(TimedOut):
        await aside(work, 0.3, "a test's work")
    assert proc.state(int((tmp_path / "pid").read_text())) == ""


def test_a_child_ends_with_its_pilot(tmp_path: Path) -> None:
    def work() -> Mapping[str, Any]:
        (tmp_path / "pid").write_text(str(os.getpid()))
        time.sleep(600)
        return {}

    pilot = os.fork()
    if pilot == 0:
        asyncio.run(aside(work, 600.0, "a test's work"))
        os._exit(1)
    end = time.monotonic() + 60
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < end
        time.sleep(0.01)
    child = int((tmp_path / "pid").read_text())
    assert proc.state(child) not in ("", "Z")
    os.kill(pilot, signal.SIGKILL)
    os.waitpid(pilot, 0)
    while proc.state(child) not in ("", "Z"):
        assert time.monotonic() < end, "it works beside the guardian"
        time.sleep(0.01)


async def test_a_child_that_dies_says_nothing() -> None:
    def work() -> Mapping[str, Any]:
        os._exit(3)

    with pytest.raises(WspilotError, match="without a word"):
        await aside(work, 5.0, "a test's work")


class Desk:
    """A pilot's end of couriers that hang (they sleep) and, like one in state D, do not die."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(posts, "SILENT_S", 0.2)
        monkeypatch.setattr(posts, "AGAIN_S", 0.0)
        monkeypatch.setattr(Courier, "run", lambda self: time.sleep(60))
        self.kill, self.really = posts._kill, monkeypatch
        monkeypatch.setattr(posts, "_kill", lambda pids: None)
        self.born: list[int] = []
        self.errors: list[str] = []
        self.post = Post(
            Round(tmp_path), "t", lambda n: None, lambda n, raw: None, self.errors.append
        )

    async def ticks(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.post.tick()
            if self.post._pid and self.post._pid not in self.born:
                self.born.append(self.post._pid)
            await asyncio.sleep(0.05)

    async def until(self, so: Callable[[], bool]) -> None:
        end = time.monotonic() + 20
        while not so():
            assert time.monotonic() < end, (self.born, self.errors)
            await self.ticks(0.05)

    async def close(self) -> None:
        self.born += [self.post._pid] if self.post._pid else []
        self.kill(set(self.born))
        self.really.setattr(posts, "_kill", self.kill)
        await self.post.close(0.1)
        for pid in self.born:
            while proc.state(pid) not in ("", "Z"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            self.post._reap()


async def test_three_stuck_couriers_and_then_none_until_one_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path, monkeypatch)
    desk.post.start()
    desk.post.put(NEW, "n", b"raw")
    desk.post.put(HB, "h", b"raw")
    await desk.until(lambda: len(desk.errors) == 3)
    await desk.ticks(0.3)
    assert len(desk.born) == 3 and len(desk.errors) == 3
    assert desk.post.unstored() == {"n": b"raw"}, "kept for whoever comes"
    desk.kill({desk.born[0]})
    await desk.until(lambda: len(desk.born) == 4)
    await desk.close()


async def test_a_late_tick_is_no_silence_of_the_couriers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path, monkeypatch)
    now = 1000.0
    monkeypatch.setattr(posts, "clock", lambda: now)
    monkeypatch.setattr(posts, "SILENT_S", 30.0)
    desk.post.start()
    await desk.ticks(0.1)
    now += 3600.0  # the whole job was suspended
    await desk.ticks(0.1)
    assert desk.errors == [] and len(desk.born) == 1
    for _ in range(32):
        now += 1.0
        desk.post.tick()
    assert len(desk.errors) == 1
    await desk.close()


def test_messages_that_nobody_came_for_are_removed_after_a_week(tmp_path: Path) -> None:
    for name in ("run", "keep"):
        (tmp_path / name).mkdir()
    places = Places("n1", os.getuid(), tmp_path / "run", tmp_path / "keep")
    places.make(places.outbox)
    for name, age in (("old.json", 10.0), ("young.json", -3600.0), ("torn.json.part", 10.0)):
        path = places.outbox / name
        path.write_text("")
        then = time.time() - OUTBOX_KEEP_S - age
        os.utime(path, (then, then))
    places.tidy()
    assert [path.name for path in places.outbox.iterdir()] == ["young.json"]

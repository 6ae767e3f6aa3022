"""One thread that does blocking work in order, and may hang without taking the daemon with it.

A shared filesystem can stop answering for hours. All file work of the spool goes down one lane; the
event loop only waits for it, with a time limit, and a process exit does not wait at all (the thread
is a daemon thread, unlike concurrent.futures' workers, which are joined at exit).
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from wspilot.errors import TimedOut

T = TypeVar("T")


class Lane:
    """Runs calls one after the other in a thread of its own."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, call: Callable[..., T], *args: Any) -> T:
        """The result of `call(*args)`, or its exception. Cancelled: it still runs, unwaited."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            try:
                result, error = call(*args), None
            except BaseException as raised:
                result, error = None, raised
            try:
                loop.call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:
                pass  # the loop is closed: nobody waits any more

        self._calls.put(work)
        return await future

    def close(self) -> None:
        """Let the thread end once its present call returns."""
        self._calls.put(None)

    def _work(self) -> None:
        while (work := self._calls.get()) is not None:
            work()


class Aside:
    """Blocking reads that hold up nothing: each in a thread of its own, for a limited time.

    A read of a hung filesystem cannot be ended, only left alone; at most MOST are left so.
    """

    MOST = 8

    def __init__(self, name: str, limit_s: float) -> None:
        self._name, self._limit_s = name, limit_s
        self._under_way = 0
        self._lock = threading.Lock()

    async def run(self, call: Callable[..., T], *args: Any) -> T:
        """The result of `call(*args)`, or its exception. Raises TimedOut."""
        if self._under_way >= self.MOST:
            text = f"{self.MOST} reads of {self._name} have not come back"
            raise TimedOut(text, "does its filesystem answer?")
        self._count(1)

        def work() -> T:
            try:
                return call(*args)
            finally:
                self._count(-1)

        lane = Lane(self._name)
        try:
            return await asyncio.wait_for(lane.run(work), self._limit_s)
        except TimeoutError:
            raise TimedOut(f"{self._name} could not be read within {self._limit_s:g} s",
                           "does its filesystem answer?") from None  # fmt: skip
        finally:
            lane.close()

    def _count(self, change: int) -> None:
        with self._lock:
            self._under_way += change


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)

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


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)

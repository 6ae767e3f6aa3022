"""A daemon without leases: the real control server on a real socket, before a scripted Api."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from wspilot.daemon import documents
from wspilot.daemon.control import ControlServer
from wspilot.daemon.core.books import Books
from wspilot.errors import NotFound, WspilotError
from wspilot.home import LockRecord, write_record
from wspilot.model import (
    Group,
    LrmView,
    Nic,
    Node,
    NodeState,
    PilotRecord,
    Slot,
    SlotState,
    Span,
    Vm,
    VmState,
    Workspace,
    WorkspaceState,
)

T0 = 1_700_000_000.25
HOSTILE = "a\x1b[31m\u202eb\nc"
WORKER = Group("worker", "small", 2, 2, "default", 1, 128, 1024, ("private",), ("worker",), ("ce",))
WS = Workspace("aaaa1111", "osg", 0, T0, 7200, (WORKER,), state=WorkspaceState.ACTIVE, since=T0,
               vms=("vvvv0001", "vvvv0002"), slots=("ssss0001",), active_at=T0,
               ends=T0 + 7200)  # fmt: skip
SLOT = Slot("ssss0001", "aaaa1111", 1, 2, 256, 7800, T0, WS.vms, state=SlotState.READY, since=T0,
            calls=1, job="17.head", lrm=LrmView("running", "R", "", T0), pilots=("p1",),
            spans=(Span("lrm", T0, 1.5),))  # fmt: skip
PILOT = PilotRecord("p1", "ssss0001", "node_1", 1, state="ready", spans=(Span("reserve", T0, 0.1),))
NODE = Node("node_1", NodeState.IN_USE, T0, slots=("ssss0001",), cpus=8, memory_mib=8192,
            kvm=False, skew_s=-0.02, seen=T0)  # fmt: skip
VM = Vm("vvvv0001", "u-1", "osg/worker/1", "aaaa1111", "worker", 1, "small", "default", 1, 128,
        state=VmState.RUNNING, since=T0, slot="ssss0001", pilot="p1", node="node_1", seen=T0,
        seen_by="p1", nics=(Nic("private", "52:54:00:00:00:02", "10.77.0.2"),),
        spans=(Span("create", T0, 0.25, "node"), Span("boot", T0, None, "node")))  # fmt: skip
VM2 = replace(VM, id="vvvv0002", uuid="u-2", name="osg/worker/2", index=2, nics=(), spans=(),
              state=VmState.BOOTING, waits_for="the guest's first word")  # fmt: skip


def books(*more: Any) -> Books:
    """A small site: one workspace of two VMs on one node."""
    made = Books()
    for record in (WS, SLOT, PILOT, NODE, VM, VM2, *more):
        made.put(record)
    return made


Answer = Callable[[Mapping[str, Any]], Any]


class FakeApi:
    """Answers from `answers[method]` (a value, an error to raise, or a function of the params)."""

    def __init__(self, answers: Mapping[str, Any] | None = None) -> None:
        self.answers = dict(answers or {})
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.cancelled = 0
        self.revision = 0
        self.items: list[dict[str, Any]] = []
        self.loop: asyncio.AbstractEventLoop | None = None  # where it is served in a thread
        self.listeners: list[Callable[[int, list[dict[str, Any]], list[str]], None]] = []

    async def call(self, method: str, params: Mapping[str, Any], uid: int) -> dict[str, Any]:
        self.calls.append((method, dict(params)))
        if method == "hang":
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if method not in self.answers:
            raise NotFound(f"no method {method!r}", "did you mean 'list'?")
        answer = self.answers[method]
        if callable(answer):
            answer = answer(params)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    def snapshot(self) -> tuple[int, list[dict[str, Any]]]:
        return self.revision, list(self.items)

    def listen(
        self, callback: Callable[[int, list[dict[str, Any]], list[str]], None]
    ) -> Callable[[], None]:
        self.listeners.append(callback)
        return lambda: self.listeners.remove(callback)

    def tell(self, *items: dict[str, Any], gone: tuple[str, ...] = ()) -> None:
        """One commit's deltas; from any thread."""
        if self.loop is None:
            self._tell(list(items), list(gone))
        else:
            self.loop.call_soon_threadsafe(self._tell, list(items), list(gone))

    def _tell(self, items: list[dict[str, Any]], gone: list[str]) -> None:
        self.revision += 1
        self.items = items
        for callback in tuple(self.listeners):
            callback(self.revision, items, gone)


def site_answers(made: Books | None = None) -> dict[str, Any]:
    """What a daemon with the small site says."""
    made = made or books()
    ws = made.workspace("aaaa1111")
    assert ws is not None

    def show(params: Mapping[str, Any]) -> Any:
        if params["id"] not in ("osg", "aaaa1111", "osg/worker"):
            return NotFound(f"no workspace {params['id']!r}", "did you mean 'osg'?")
        return documents.workspace(made, ws)

    return {
        "ping": {"schema": 1, "version": "0"},
        "config": {"schema": 1, "config": {"lrm": "local"}},
        "list": lambda _: documents.listing("workspaces", made, made.workspaces()),
        "slots": lambda _: documents.listing("slots", made, made.slots()),
        "nodes": lambda _: documents.listing("nodes", made, made.nodes()),
        "forget": lambda _: documents.listing("nodes", made, made.nodes()),
        "events": lambda _: documents.listing("events", made, made.events()),
        "show": show,
        "wait": show,
        "deploy": lambda _: documents.workspace(made, ws),
        "destroy": lambda _: documents.listing("workspaces", made, [replace(ws, wanted="ended")]),
    }


def record_for(home: Path, path: Path) -> None:
    """Write the lock record that leads clients to a socket."""
    home.mkdir(mode=0o700, exist_ok=True)
    write_record(home, LockRecord(socket.gethostname(), "b", 1, 1, str(path)))


@contextmanager
def served(home: Path, api: FakeApi) -> Iterator[FakeApi]:
    """The fake daemon of a home, in a thread of its own; ended with everything in it."""
    api.loop = loop = asyncio.new_event_loop()
    path = home / "s.sock"
    record_for(home, path)
    server = ControlServer(path, api)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    try:
        yield api
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def failing(error: WspilotError) -> Answer:
    """An answer that is an error."""
    return lambda _: error

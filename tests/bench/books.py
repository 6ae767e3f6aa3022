"""Commit rate and its growth, and how fast a daemon's books load (DESIGN.md section 10)."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tests.bench.measure import Sample, sample, show
from wspilot.daemon.core import Books
from wspilot.daemon.store import Store
from wspilot.model import Nic, Span, Vm, VmState

BATCH = 32


def vm(n: int) -> Vm:
    """One with everything that a running VM has."""
    names = ("invoke", "propagate", "create", "boot")
    ip = f"10.{n // 65536}.{n // 256 % 256}.{n % 256}"
    return Vm(
        id=f"v{n:07d}",
        uuid=f"uuid-{n}",
        name=f"ws/vm/{n}",
        workspace="workspace",
        group="vm",
        index=n,
        type="small",
        image="small",
        cpus=1,
        memory_mib=128,
        slot="slot0000",
        node=f"node{n % 64}",
        spans=tuple(Span(name, 1.0, 0.5, "node") for name in names),
        nics=(Nic("private", "02:57:00:00:00:01", ip),),
    )


def run() -> None:
    """Print both tables."""
    rates = [_commits(count) for count in (100, 10_000)]
    show(f"one durable commit of {BATCH} events", rates)
    for one in rates:
        print(f"  {one.name}: {BATCH / one.median:,.0f} events/s")
    with tempfile.TemporaryDirectory() as place:
        store = Store(Path(place) / "store")
        _fill(store, 10_000)
        store.close()

        def load() -> None:
            again = Store(Path(place) / "store")
            Books.load(again.load())
            again.close()

        show("books of 10,000 VMs loaded", [sample("store and books", 5, load)])


def _fill(store: Store, count: int) -> Books:
    store.load()
    books = Books()
    for n in range(count):
        books.put(vm(n))
    store.commit(books.changes())
    books.settle()
    return books


def _commits(count: int) -> Sample:
    with tempfile.TemporaryDirectory() as place:
        store = Store(Path(place) / "store")
        books = _fill(store, count)
        taken = []
        for turn in range(300):
            begin = time.perf_counter()
            for n in range(BATCH):
                old = books.vm(f"v{(turn * BATCH + n) % count:07d}")
                assert old is not None
                books.put(replace(old, state=VmState.RUNNING, seen=float(turn), since=float(n)))
            store.commit(books.changes())
            books.settle()
            taken.append(time.perf_counter() - begin)
        store.close()
        return Sample(f"{count} VMs on the books", tuple(taken))

"""`wspilot bench`: what an installed site takes for a lease, phase by phase.

Leases are deployed, waited for and destroyed, one after the other or `--parallel` at a time. The
phases are those of DESIGN.md section 5, as the paper's figures 2 to 5 show them; each is timed
where it happens, and `receipt` marks those that begin and end on different hosts.
"""

from __future__ import annotations

import signal
import statistics
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wspilot.asks import token
from wspilot.cli import render
from wspilot.cli.parse import Args
from wspilot.cli.verbs import emit, home_of
from wspilot.client import call
from wspilot.errors import TimedOut, UsageError, WspilotError
from wspilot.text import clean, parse_duration

WAIT_S = 900.0
END_S = 300.0
FIGURES: Mapping[str, tuple[str, ...]] = {
    "2 request to active": ("active",),
    "3 slot": ("lrm", "pilot", "reserve"),
    "4 VM": ("invoke", "propagate", "create", "boot"),
    "5 end": ("destroy", "stop", "restore"),
}


@dataclass
class Lease:
    """One lease of the run. `spans`: (phase, seconds, whose clock)."""

    name: str
    spans: list[tuple[str, float, str]] = field(default_factory=list)
    error: str = ""
    ended: bool = False


def bench(args: Args) -> int:
    """0 when every lease was served to its end; 1 when one was not."""
    if args.what == "host":
        from wspilot.cli.benchhost import bench_host

        return emit(args, *bench_host(args, home_of(args)))
    for option, value, most in (("--leases", args.leases, 1000), ("--parallel", args.parallel, 64),
                                ("--count", args.count, 10_000)):  # fmt: skip
        if not 1 <= value <= most:
            raise UsageError(f"bench {option}: {value} is not 1 to {most}")
    parse_duration(args.duration, "--duration")
    home, kind = home_of(args), args.type or _first_type(home_of(args))
    stamp = f"{int(time.time()) % 1_000_000:06d}"
    leases = [Lease(f"bench-{stamp}-{n}") for n in range(1, args.leases + 1)]
    _Run(args, home, kind, leases).run()
    doc = document(leases)
    emit(args, doc, table(doc, args.parallel, args.count))
    return 0 if all(one.ended and not one.error for one in leases) else 1


def _first_type(home: Path) -> str:
    types = call(home, "types", {})["types"]
    return str(min(types, key=lambda one: (one["memory_mib"], one["name"]))["name"])


class _Run:
    """Threads that take leases from one list; whatever happens, each lease is destroyed."""

    def __init__(self, args: Args, home: Path, kind: str, leases: list[Lease]) -> None:
        self._args, self._home, self._leases = args, home, leases
        self._request = {"type": kind, "image": args.image or "", "count": args.count,
                         "duration": args.duration}  # fmt: skip
        self._todo = list(reversed(leases))
        self._lock, self._stop = threading.Lock(), threading.Event()

    def run(self) -> None:
        threads = [threading.Thread(target=self._work, daemon=True)
                   for _ in range(min(self._args.parallel, len(self._leases)))]  # fmt: skip
        before = signal.signal(signal.SIGINT, lambda *_: self._stop.set())
        try:
            for thread in threads:
                thread.start()
            told = False
            while any(thread.is_alive() for thread in threads):
                time.sleep(0.05)
                if self._stop.is_set() and not told:
                    told = True
                    print("interrupted: the leases under way are destroyed", file=sys.stderr)
        finally:
            signal.signal(signal.SIGINT, before)
        if self._stop.is_set():
            raise KeyboardInterrupt

    def _work(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                if not self._todo:
                    return
                lease = self._todo.pop()
            try:
                self._one(lease)
            except WspilotError as error:
                lease.error = clean(error.message, 300)
            with self._lock:
                done = sum(1 for one in self._leases if one.ended or one.error)
                if not self._args.json:
                    said = lease.error or "served"
                    print(f"{lease.name}: {said} ({done} of {len(self._leases)})", file=sys.stderr)

    def _one(self, lease: Lease) -> None:
        begin = time.monotonic()
        ws = call(self._home, "deploy", {**self._request, "name": lease.name, "token": token()})
        id = ws["workspace"]["id"]
        try:
            self._until(id, "active", self._args.timeout or WAIT_S)
            lease.spans.append(("active", time.monotonic() - begin, "client"))
        except WspilotError as error:
            lease.error = clean(error.message, 300)
        begin = time.monotonic()
        call(self._home, "destroy", {"ids": [id], "token": token()})
        self._until(id, "ended", END_S)
        if not lease.error:
            lease.spans.append(("destroy", time.monotonic() - begin, "client"))
            lease.spans += spans(call(self._home, "show", {"id": id})["workspace"])
        lease.ended = True

    def _until(self, id: str, goal: str, limit: float) -> None:
        """Short waits, so that an interrupt is heard. Raises TimedOut."""
        end = time.monotonic() + limit
        while True:
            left = end - time.monotonic()
            try:
                slice_ = max(0.0, min(2.0, left))
                call(self._home, "wait", {"id": id, "for": goal, "timeout_s": slice_})
                return
            except TimedOut:
                if left <= 0 or (self._stop.is_set() and goal == "active"):
                    raise


# -- pure


def spans(ws: Mapping[str, Any]) -> list[tuple[str, float, str]]:
    """Every finished span of a workspace's VMs, slots and pilots."""
    return [
        (span["name"], float(span["seconds"]), span["clock"])
        for part in (*ws["vms"], *ws["slots"])
        for span in part["spans"]
        if span["seconds"] is not None
    ]


def document(leases: Iterable[Lease]) -> dict[str, Any]:
    """What the run came to, in seconds."""
    found: dict[str, list[tuple[float, str]]] = {}
    told = list(leases)
    for lease in told:
        for name, seconds, clock in lease.spans:
            found.setdefault(name, []).append((seconds, clock))
    phases = [
        _phase(name, figure, found[name])
        for figure, names in FIGURES.items()
        for name in names
        if name in found
    ]
    return {"schema": 1, "phases": phases,
            "leases": [{"name": one.name, "ended": one.ended, "error": one.error}
                       for one in told]}  # fmt: skip


def _phase(name: str, figure: str, taken: list[tuple[float, str]]) -> dict[str, Any]:
    seconds = [one for one, _ in taken]
    return {
        "name": name,
        "figure": figure,
        "n": len(seconds),
        "mean": round(statistics.fmean(seconds), 4),
        "sd": round(statistics.stdev(seconds), 4) if len(seconds) > 1 else None,
        "median": round(statistics.median(seconds), 4),
        "min": round(min(seconds), 4),
        "max": round(max(seconds), 4),
        "clock": "/".join(sorted({clock for _, clock in taken})),
    }


def table(doc: Mapping[str, Any], parallel: int, count: int) -> str:
    """The figures, in milliseconds."""
    rows = [
        (one["figure"], one["name"], str(one["n"]), _ms(one["mean"]), _ms(one["sd"]),
         _ms(one["median"]), _ms(one["min"]), _ms(one["max"]), one["clock"])
        for one in doc["phases"]
    ]  # fmt: skip
    head = ("FIGURE", "PHASE", "N", "MEAN", "SD", "MEDIAN", "MIN", "MAX", "CLOCK")
    failed = [one for one in doc["leases"] if one["error"] or not one["ended"]]
    lines = [render.table(head, rows, "nothing was measured"),
             f"milliseconds; {len(doc['leases'])} leases of {count} VMs, {parallel} at a time, "
             f"{len(failed)} failed"]  # fmt: skip
    return "\n".join(
        lines + [f"  {one['name']}: {one['error'] or 'never ended'}" for one in failed]
    )


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.1f}"

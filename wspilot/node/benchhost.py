"""`wspilot-node.pyz bench`: the paper's trials on this node: domain 0 reduced, restored, kill-all.

Each round does the same with bare `xl` (settled and seen, too) and with the root helper, so that
what wspilot adds is a ratio within one run. The helper's start is measured alone. By root, for
bare xl needs root; nothing else may have memory of domain 0 meanwhile.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from wspilot.errors import Refused, WspilotError
from wspilot.node import journal as journals
from wspilot.node import proc, root
from wspilot.node.core.killall import Scope
from wspilot.node.killall import run as kill_all
from wspilot.node.places import Places

CURRENT = Path("/sys/devices/system/xen_memory/xen_memory0/info/current_kb")
SETTLE_S, XL_S, POLL_S, SLACK_KB = 120.0, 60.0, 0.02, 64
SLOT, NODE = "bench000", "bench"
MOST_ROUNDS = 1000


def bench(rounds: int, mib: int, as_json: bool) -> int:
    """Measure, print. Raises WspilotError; domain 0 has its memory again either way."""
    if os.geteuid() != 0:
        raise Refused("bench measures bare xl too, which needs root", "run it as root")
    if not 1 <= rounds <= MOST_ROUNDS or not 1 <= mib <= 1 << 20:
        raise Refused(f"--rounds {rounds} --mib {mib} makes no sense")
    if root.ask("xen-list", {}, root.XEN_S)["taken_mib"]:
        raise Refused("a slot has memory of domain 0 now", "try again when the node is free")
    trial = Trial(mib)
    try:
        for _ in range(rounds):
            trial.round()
    finally:
        trial.close()
    document = {"schema": 1, "mib": mib, "figures": figures(trial.seconds)}
    print(json.dumps(document) if as_json else table(document))
    return 0


class Trial:
    """`seconds`: what each step took, in every round."""

    def __init__(self, mib: int) -> None:
        self.seconds: dict[str, list[float]] = {}
        self._mib, self._full_kb = mib, _current_kb()
        self._places = Places(NODE, 0)
        self._path = self._places.make(self._places.keep) / f"{SLOT}_{os.getpid():08x}.journal"
        self._entry = {"adapter": "balloon", "journal": str(self._path), "slot": SLOT}
        self._words = {"journal": str(self._path), "slot": SLOT, "mib": mib, "policy": "exact"}

    def round(self) -> None:
        """Every step once. What is bare goes first: it finds no ballooned page to reuse either."""
        low = self._full_kb - self._mib * 1024
        self._time("helper", lambda: root.ask("about", {}))
        self._time("bare reduce", lambda: _settle(low))
        self._time("bare restore", lambda: _settle(self._full_kb))
        for restore in ("restore", "kill-all"):
            opened = journals.create(self._path, {"slot": SLOT, "boot": proc.boot_id()})
            opened.intend("reserve", self._entry)
            self._time("reduce", lambda: root.ask("balloon-take", self._words, SETTLE_S))
            if restore == "restore":
                give = {"journal": str(self._path)}
                self._time(restore, lambda: root.ask("balloon-give", give, SETTLE_S))  # noqa: B023
                opened.remove()
            opened.close()
            if restore == "kill-all":
                self._time(restore, self._kill_all)

    def _kill_all(self) -> None:
        report = kill_all(Scope(slot=SLOT, uid=0, node=NODE))
        if report["left"]:
            raise WspilotError(f"kill-all left {'; '.join(report['left'])}")

    def _time(self, name: str, work: Callable[[], Any]) -> None:
        began = time.monotonic()
        work()
        self.seconds.setdefault(name, []).append(time.monotonic() - began)

    def close(self) -> None:
        """Whatever happened, domain 0 is as it was."""
        self._path.unlink(missing_ok=True)
        root.ask("xen-list", {}, SETTLE_S)  # a take without a journal is a stray
        _settle(self._full_kb)
        self._places.tidy()


def _settle(kb: int) -> None:
    """`xl mem-set`, and a look until it is true: the least that a careful script does."""
    subprocess.run(["xl", "mem-set", "0", f"{kb}k"], check=True, timeout=XL_S)
    end = time.monotonic() + SETTLE_S
    while abs(_current_kb() - kb) > SLACK_KB:
        if time.monotonic() > end:
            raise WspilotError(f"domain 0 has {_current_kb()} KiB, not {kb}")
        time.sleep(POLL_S)


def _current_kb() -> int:
    return int(CURRENT.read_text())


def figures(seconds: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """n, mean, SD, median of each; and what wspilot takes over bare xl and the helper's start."""
    start = statistics.median(seconds["helper"])
    found = []
    for name, values in seconds.items():
        row: dict[str, Any] = {"what": name, "n": len(values)}
        row["mean"] = round(statistics.mean(values), 3)
        row["sd"] = round(statistics.stdev(values), 3) if len(values) > 1 else 0.0
        row["median"] = round(statistics.median(values), 3)
        bare = {"reduce": "bare reduce", "restore": "bare restore", "kill-all": "bare restore"}
        if name in bare:
            base = statistics.median(seconds[bare[name]])
            row["over_bare"] = round(row["median"] / base, 2)
            starts = 2 if name == "kill-all" else 1  # it asks what is left, too
            row["over_bare_and_start"] = round(row["median"] / (base + starts * start), 2)
        found.append(row)
    return found


def table(document: Mapping[str, Any]) -> str:
    """As people read it."""
    lines = [f"{document['mib']} MiB of domain 0; seconds"]
    lines.append(f"{'':14}{'n':>4}{'mean':>8}{'SD':>8}{'median':>8}  over bare xl (+ helper)")
    for row in document["figures"]:
        line = f"{row['what']:14}{row['n']:>4}"
        line += "".join(f"{row[key]:>8.2f}" for key in ("mean", "sd", "median"))
        if "over_bare" in row:
            line += f"  {row['over_bare']:.2f} ({row['over_bare_and_start']:.2f})"
        lines.append(line)
    return "\n".join(lines)

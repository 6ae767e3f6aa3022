"""`wspilot-node.pyz bench`: the paper's trials on this node: domain 0 reduced, restored, kill-all.

Each round does the same with bare `xl` (settled and seen, too) and with the root helper, so that
what wspilot adds is a ratio within one run. The helper's start is measured alone. With a kernel,
kill-all is tried with guests too, beside `xl destroy` of as many. By root, for bare xl needs root;
nothing else may have memory of domain 0 meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wspilot.errors import Refused, WspilotError
from wspilot.node import journal as journals
from wspilot.node import proc, root
from wspilot.node.core.killall import Scope
from wspilot.node.killall import run as kill_all
from wspilot.node.places import Places
from wspilot.node.values import dataclass
from wspilot.text import clean

CURRENT = Path("/sys/devices/system/xen_memory/xen_memory0/info/current_kb")
SETTLE_S, XL_S, POLL_S, SLACK_KB = 120.0, 300.0, 0.02, 64
SLOT, NODE = "bench000", "bench"
MOST_ROUNDS, MOST_GUESTS = 1000, 64
GUEST_MIB = 96
BARE = "ws-bench-{}"
APPEND = "quiet console=hvc0"


def bench(rounds: int, mib: int, guests: Guests, as_json: bool) -> int:
    """Measure, print. Raises WspilotError; domain 0 has its memory again either way."""
    if os.geteuid() != 0:
        raise Refused("bench measures bare xl too, which needs root", "run it as root")
    if not 1 <= rounds <= MOST_ROUNDS or not 1 <= mib <= 1 << 20:
        raise Refused(f"--rounds {rounds} --mib {mib} makes no sense")
    if guests.n and (not 0 < guests.n <= MOST_GUESTS or not guests.kernel):
        raise Refused(f"--guests {guests.n} needs --kernel, and 1 to {MOST_GUESTS} of them")
    if root.ask("xen-list", {}, root.XEN_S)["taken_mib"]:
        raise Refused("a slot has memory of domain 0 now", "try again when the node is free")
    trial = Trial(mib, guests)
    try:
        for _ in range(rounds):
            trial.round()
    finally:
        trial.close()
    document = {"schema": 1, "mib": mib, "figures": figures(trial.seconds)}
    print(json.dumps(document) if as_json else table(document))
    return 0


@dataclass(frozen=True)
class Guests:
    """How many, and what they boot from."""

    n: int = 0
    kernel: str = ""
    initrd: str = ""

    def config(self, name: str) -> str:
        """xl.cfg(5) of one that bare xl starts."""
        lines = {"name": name, "kernel": self.kernel, "ramdisk": self.initrd, "extra": APPEND}
        text = "".join(f'{key} = "{value}"\n' for key, value in lines.items() if value)
        return f"{text}memory = {GUEST_MIB}\n"

    def words(self, n: int) -> dict[str, Any]:
        """The same for the root helper."""
        return {"vm": f"b{n}", "uuid": str(uuid.uuid4()), "kind": "pv", "cpus": 1,
                "mib": GUEST_MIB, "kernel": self.kernel, "initrd": self.initrd,
                "append": APPEND, "nics": [], "disks": []}  # fmt: skip


class Trial:
    """`seconds`: what each step took, in every round."""

    def __init__(self, mib: int, guests: Guests) -> None:
        self.seconds: dict[str, list[float]] = {}
        self._guests, self._bare = guests, list[str]()
        self._mib, self._full_kb = mib, _current_kb()
        self._places = Places(NODE, 0)
        self._path = self._places.keep / f"{SLOT}_{os.getpid():08x}.journal"
        self._entry = {"adapter": "balloon", "journal": str(self._path), "slot": SLOT}
        self._words = {"journal": str(self._path), "slot": SLOT, "mib": mib, "policy": "exact"}

    def round(self) -> None:
        """Every step once. What is bare goes first: it finds no ballooned page to reuse either."""
        low = self._full_kb - self._mib * 1024
        self._time("helper", lambda: root.ask("about", {}))
        self._time("bare reduce", lambda: _settle(low))
        self._time("bare restore", lambda: _settle(self._full_kb))
        with self._taken() as journal:
            give = {"journal": str(self._path)}
            self._time("restore", lambda: root.ask("balloon-give", give, root.XEN_S))
            journal.remove()
        with self._taken():
            pass
        self._time("kill-all", self._kill_all)
        if self._guests.n:
            self._round_with_guests(low)

    def _round_with_guests(self, low: int) -> None:
        _settle(low)
        with tempfile.NamedTemporaryFile("w", suffix=".cfg") as file:
            for n in range(self._guests.n):
                name = BARE.format(n)
                file.seek(0)
                file.truncate()
                file.write(self._guests.config(name))
                file.flush()
                _xl("create", "-q", file.name)
                self._bare.append(name)
        self._time("bare end", self._bare_end)
        with self._taken() as journal:
            for n in range(self._guests.n):
                words = {**self._guests.words(n), "journal": str(self._path), "slot": SLOT}
                identity = {"uuid": words["uuid"], "files": []}
                journal.intend(f"vm:b{n}", {"vmm": "xen", "identity": identity})
                root.ask("xen-create", words, root.XEN_S)
        self._time("kill-all, VMs", self._kill_all)

    @contextlib.contextmanager
    def _taken(self) -> Iterator[journals.Journal]:
        """A slot's journal, with domain 0's memory taken; nobody holds it afterwards."""
        self._places.make(self._path.parent)  # kill-all removes what is empty
        opened = journals.create(self._path, {"slot": SLOT, "boot": proc.boot_id()})
        try:
            opened.intend("reserve", self._entry)
            self._time("reduce", lambda: root.ask("balloon-take", self._words, root.XEN_S))
            yield opened
        finally:
            opened.close()

    def _bare_end(self) -> None:
        """What a script does: destroy each, then the memory."""
        while self._bare:
            _xl("destroy", self._bare[-1])
            self._bare.pop()
        _settle(self._full_kb)

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
        try:
            root.ask("xen-list", {}, root.XEN_S)  # what has no journal is a stray, and is undone
        finally:
            for name in self._bare:
                with contextlib.suppress(WspilotError):
                    _xl("destroy", name)
            _settle(self._full_kb)
            self._places.tidy()


def _settle(kb: int) -> None:
    """`xl mem-set`, and a look until it is true: the least that a careful script does."""
    _xl("mem-set", "0", f"{kb}k")
    end = time.monotonic() + SETTLE_S
    while abs(_current_kb() - kb) > SLACK_KB:
        if time.monotonic() > end:
            raise WspilotError(f"domain 0 has {_current_kb()} KiB, not {kb}")
        time.sleep(POLL_S)


def _xl(*words: str) -> None:
    """Raises WspilotError."""
    try:
        subprocess.run(["xl", *words], check=True, timeout=XL_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise WspilotError(f"bare xl: {clean(str(error), 200)}") from error


def _current_kb() -> int:
    return int(CURRENT.read_text())


# Which bare step does the same, and how many starts of the helper it takes: kill-all asks what is
# left, too.
BARES = {
    "reduce": ("bare reduce", 1),
    "restore": ("bare restore", 1),
    "kill-all": ("bare restore", 2),
    "kill-all, VMs": ("bare end", 3),
}


def figures(seconds: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """n, mean, SD, median of each; and what wspilot takes over bare xl and the helper's start."""
    start = statistics.median(seconds["helper"])
    found = []
    for name, values in seconds.items():
        row: dict[str, Any] = {"what": name, "n": len(values)}
        row["mean"] = round(statistics.mean(values), 3)
        row["sd"] = round(statistics.stdev(values), 3) if len(values) > 1 else 0.0
        row["median"] = round(statistics.median(values), 3)
        if name in BARES and BARES[name][0] in seconds:
            bare, starts = BARES[name]
            base = statistics.median(seconds[bare])
            row["over_bare"] = round(row["median"] / base, 2)
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

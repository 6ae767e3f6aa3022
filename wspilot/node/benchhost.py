"""`wspilot-node.pyz bench`: the paper's trials on this node: domain 0 reduced, restored, kill-all.

Each round does the same with bare `xl` (settled and seen, too; a verb of the root helper, timed in
there) and as a pilot does it, so that what wspilot adds is a ratio within one run. The helper's
start is measured alone. With a kernel, kill-all is tried with guests too, beside `xl destroy` of as
many, and the helper's start once more beside them. Nothing else may have memory of domain 0
meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from wspilot.errors import Refused, WspilotError
from wspilot.hostfigures import MOST_GUESTS, MOST_MIB, MOST_ROUNDS, figures, table
from wspilot.node import journal as journals
from wspilot.node import proc, root
from wspilot.node.core.killall import Scope
from wspilot.node.killall import run as kill_all
from wspilot.node.places import Places
from wspilot.node.values import dataclass, field

SLOT, NODE = "bench000", "bench"
GUEST_MIB = 96
APPEND = "quiet console=hvc0"


@dataclass(frozen=True)
class Guests:
    """How many, and what they boot from."""

    n: int = 0
    kernel: str = ""
    initrd: str = ""

    def words(self, n: int) -> dict[str, Any]:
        """One of them, for the root helper."""
        return {"vm": f"b{n}", "uuid": str(uuid.uuid4()), "kind": "pv", "cpus": 1,
                "mib": GUEST_MIB, "kernel": self.kernel, "initrd": self.initrd,
                "append": APPEND, "nics": [], "disks": []}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What is to be measured. Raises Refused when it makes no sense."""

    rounds: int
    mib: int
    guests: Guests = field(default_factory=Guests)

    def __post_init__(self) -> None:
        if not 1 <= self.rounds <= MOST_ROUNDS or not 1 <= self.mib <= MOST_MIB:
            raise Refused(f"--rounds {self.rounds} --mib {self.mib} makes no sense")
        n = self.guests.n
        if n and (not 0 < n <= MOST_GUESTS or not self.guests.kernel):
            raise Refused(f"--guests {n} needs --kernel, and 1 to {MOST_GUESTS} of them")


def bench(plan: Plan, as_json: bool) -> int:
    """Measure, print. Raises WspilotError; domain 0 has its memory again, or it says why not."""
    trial = Trial(plan, Places(NODE, os.getuid()), SLOT)
    try:
        document = measured(trial)
    finally:
        trial.undo()
    print(json.dumps(document) if as_json else table(document))
    return 0


def measured(trial: Trial, left_s: Callable[[], float] = lambda: float("inf")) -> dict[str, Any]:
    """The document of a bench; no round begins that might take longer than `left_s`. Raises
    WspilotError; then what is still taken is in its journal."""
    if root.ask("xen-list", {}, root.XEN_S)["taken_mib"]:
        raise Refused("a slot has memory of domain 0 now", "try again when the node is free")
    done, longest, plan = 0, 0.0, trial.plan
    while done < plan.rounds and left_s() > 1.5 * longest:
        began = time.monotonic()
        trial.round()
        done, longest = done + 1, max(longest, time.monotonic() - began)
    note = "" if done == plan.rounds else f"{done} of {plan.rounds} rounds: its time was over"
    if not done:
        raise WspilotError("there was no time for one round")
    return {"schema": 1, "mib": plan.mib, "note": note, "figures": figures(trial.seconds)}


class Trial:
    """`seconds`: what each step took, in every round; `step` is called after each."""

    def __init__(
        self, plan: Plan, places: Places, slot: str, step: Callable[[], None] = lambda: None
    ) -> None:
        self.plan, self.seconds = plan, dict[str, list[float]]()
        self._guests, self._places, self._slot, self._step = plan.guests, places, slot, step
        self._path = places.keep / f"{slot}_{os.getpid():08x}.journal"
        self._own = {"journal": str(self._path), "slot": slot}
        self._words = {**self._own, "mib": plan.mib, "policy": "exact"}

    def round(self) -> None:
        """Every step once. What is bare goes first: it finds no ballooned page to reuse either."""
        self._time("helper", lambda: root.ask("about", {}))
        with self._journal() as journal:
            bare = root.ask("bench-memory", self._words, root.XEN_S)
            self._note("bare reduce", bare["reduce"])
            self._note("bare restore", bare["restore"])
            self._note("bare list", bare["list"])
            journal.remove()
        with self._taken() as journal:
            give = {"journal": str(self._path)}
            self._time("restore", lambda: root.ask("balloon-give", give, root.XEN_S))
            journal.remove()
        with self._taken():
            pass
        self._time("kill-all", self._kill_all)
        if self._guests.n:
            self._round_with_guests()

    def _round_with_guests(self) -> None:
        with self._taken() as journal:
            self._start(journal)
            self._time("helper, VMs", lambda: root.ask("about", {}))
            give = {"journal": str(self._path)}
            self._note("bare end", root.ask("bench-end", give, root.XEN_S)["seconds"])
            journal.remove()
        with self._taken() as journal:
            self._start(journal)
        self._time("kill-all, VMs", self._kill_all)

    def _start(self, journal: journals.Journal) -> None:
        for n in range(self._guests.n):
            words = {**self._guests.words(n), **self._own}
            identity = {"uuid": words["uuid"], "files": []}
            journal.intend(f"vm:b{n}", {"vmm": "xen", "identity": identity})
            root.ask("xen-create", words, root.XEN_S)

    @contextlib.contextmanager
    def _journal(self) -> Iterator[journals.Journal]:
        """A slot's, from which anybody gives back what is taken; nobody holds it afterwards."""
        self._places.make(self._path.parent)  # kill-all removes what is empty
        opened = journals.create(self._path, {"slot": self._slot, "boot": proc.boot_id()})
        try:
            opened.intend("reserve", {"adapter": "balloon", **self._own})
            yield opened
        finally:
            opened.close()

    @contextlib.contextmanager
    def _taken(self) -> Iterator[journals.Journal]:
        """The same, with domain 0's memory taken."""
        with self._journal() as opened:
            self._time("reduce", lambda: root.ask("balloon-take", self._words, root.XEN_S))
            yield opened

    def _kill_all(self) -> None:
        report = kill_all(Scope(slot=self._slot, uid=os.getuid(), node=self._places.node))
        if report["left"]:
            raise WspilotError(f"kill-all left {'; '.join(report['left'])}")

    def _time(self, name: str, work: Callable[[], Any]) -> None:
        began = time.monotonic()
        work()
        self._note(name, time.monotonic() - began)

    def _note(self, name: str, seconds: float) -> None:
        self.seconds.setdefault(name, []).append(seconds)
        self._step()

    def undo(self) -> None:
        """Whatever happened, domain 0 is as it was. Raises WspilotError; then the journal stays,
        for whoever undoes it next."""
        if self._path.exists():
            self._kill_all()
        self._places.tidy()

"""Other pilots' journals on this node: whose pilot lives, what the dead ones left, and its undoing.

A journal whose pilot lives is a neighbour's. One whose lock is held although its pilot is dead has
a guardian at work: it is waited for, at most the restore budget (DESIGN.md section 6). Whoever gets
a lock undoes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from wspilot.errors import WspilotError
from wspilot.node import journal as journals
from wspilot.node.places import Places
from wspilot.node.proc import alive
from wspilot.node.undo import Outcome, sweep, undo
from wspilot.node.values import dataclass
from wspilot.node.vmm.stale import end_process, processes, start_time, state

POLL_S = 0.05
FREED_S = 1.0  # after its holder was killed, a lock is free
GUARDIAN = b"wspilot-guardian"  # how its command line begins
COURIER = "wspilot-courier"


@dataclass(frozen=True)
class Census:
    """Slot ids of journals: of living neighbours (or guardians at work), and of the dead."""

    neighbours: tuple[str, ...] = ()
    dead: tuple[str, ...] = ()

    def data(self) -> Mapping[str, Any]:
        """As `reserved`, `released` and `failed` carry it."""
        return {"neighbours": list(self.neighbours), "node_clean": not self.dead}


def census(places: Places, mine: Path) -> Census:
    """Who else has a journal here now. Never raises."""
    neighbours, dead = [], []
    for path in _others(places, mine):
        slot = path.name.partition("_")[0]
        if _neighbour(path) or journals.is_held(path):
            neighbours.append(slot)
        elif path.exists():
            dead.append(slot)
    return Census(tuple(dict.fromkeys(neighbours)), tuple(dict.fromkeys(dead)))


def undo_others(places: Places, mine: Path, boot_id: str) -> Outcome:
    """Undo what can be undone now; `waits` when a guardian is still at work."""
    total = Outcome()
    for path in _others(places, mine):
        total += _undo_other(path, places, boot_id)
    return total


def wait_others(
    places: Places, mine: Path, boot_id: str, limit_s: float, force: bool = False
) -> Outcome:
    """The same, waiting for guardians at most `limit_s`. Blocks.

    `force` (a repair job): a guardian that has outstayed its budget is killed.
    """
    end, total = time.monotonic() + limit_s, Outcome()
    while True:
        one = undo_others(places, mine, boot_id)
        if not one.waits:
            break
        if time.monotonic() >= end:
            if not force:
                break
            for path in _others(places, mine):
                if not _neighbour(path):
                    end_holders(path, only=GUARDIAN)
            force, end = False, time.monotonic() + FREED_S
        total += Outcome(one.undone, (), one.vms)
        time.sleep(POLL_S)
    return total + one


def holders(path: Path, only: bytes = b"") -> list[tuple[int, int]]:
    """(pid, start) of this user's other processes that have this file open.

    Exact, and true without a header. `only`: how their command lines begin.
    """
    wanted = os.path.realpath(path)
    found = []
    for pid in processes(os.geteuid()):
        if pid != os.getpid() and _has_open(pid, wanted):
            start = start_time(pid)
            if start is not None and _line(pid).startswith(only):
                found.append((pid, start))
    return found


def end_holders(path: Path, only: bytes = b"") -> int:
    """SIGKILL them; how many there were."""
    return sum(end_process(pid, start) for pid, start in holders(path, only))


def end_stopped(slots: Collection[str]) -> int:
    """SIGKILL to couriers of these slots that are stopped; how many there were.

    They end when they see that their pilot is gone, and a stopped one never does. One whose pilot
    lives is replaced by it.
    """
    ended = 0
    for pid in processes(os.geteuid()):
        if state(pid) not in ("T", "t"):
            continue
        words = _line(pid).replace(b"\0", b" ").decode("utf-8", "replace").split()
        start = start_time(pid)
        ours = words[:1] and words[0] == COURIER and any(f"slot={slot}" in words for slot in slots)
        if ours and start is not None:
            ended += end_process(pid, start)
    return ended


def _has_open(pid: int, wanted: str) -> bool:
    """By the link's text: a look at what it leads to could hang with a file system."""
    try:
        return any(str(one.readlink()) == wanted for one in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False  # another user's, or gone


def _line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _others(places: Places, mine: Path) -> list[Path]:
    return [path for path in places.journals() if path != mine]


def _undo_other(path: Path, places: Places, boot_id: str) -> Outcome:
    try:
        journal = journals.take(path, places.uid)
    except (OSError, WspilotError) as error:
        return Outcome(left=(f"{path.name}: {error}",))
    if journal is not None:
        try:
            outcome = undo(journal, places, boot_id)
            sweep(journal)
            return outcome
        finally:
            journal.close()
    if not path.exists() or _neighbour(path):
        return Outcome()
    return Outcome(left=(f"{path.name}: its guardian is still at work",), waits=True)


def _neighbour(path: Path) -> bool:
    header = journals.peek(path).header
    pid, start = header.get("pid"), header.get("start")
    return isinstance(pid, int) and alive(pid, start if isinstance(start, int) else None)

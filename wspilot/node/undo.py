"""Undoing a journal: last step first, blocking, in any process that holds the journal's lock.

Used by the pilot, its guardian, and the next pilot on the node (DESIGN.md section 6). What has been
undone is settled at once, so that an undo which is itself killed goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wspilot.errors import WspilotError
from wspilot.node import journal as journals
from wspilot.node.host import open_adapter
from wspilot.node.journal import Journal
from wspilot.node.places import Places, remove_tree
from wspilot.node.proc import alive
from wspilot.node.values import dataclass
from wspilot.node.vmm import kill_stale

POLL_S = 0.05
RUNDIR = "rundir"  # the key of the run-time directory


@dataclass(frozen=True)
class Outcome:
    """What was undone and what is left, in words; `vms` are the ids of VMs that are gone."""

    undone: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    vms: tuple[str, ...] = ()
    waits: bool = False  # a guardian is still at work: ask again

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            self.undone + other.undone,
            self.left + other.left,
            self.vms + other.vms,
            self.waits or other.waits,
        )


def undo(
    journal: Journal, places: Places, boot_id: str, options: Mapping[str, Any] = {}
) -> Outcome:
    """Undo every entry but the run-time directory, whose logs are still wanted (see `sweep`)."""
    here = journal.header.get("boot") == boot_id
    undone, left, vms = [], [], []
    for key, entry in reversed(list(journal.entries.items())):
        if key == RUNDIR:
            continue
        try:
            text = _undo_one(key, entry, places, here, options)
        except (WspilotError, OSError, ValueError, KeyError, TypeError) as error:
            left.append(f"{key}: {error}")
            continue
        journal.settle(key)
        undone += [text] if text else []
        vms += [key[3:]] if key.startswith("vm:") else []
    return Outcome(tuple(undone), tuple(left), tuple(vms))


def _undo_one(
    key: str, entry: Mapping[str, Any], places: Places, here: bool, options: Mapping[str, Any]
) -> str:
    """One entry; after a reboot only files are left of it."""
    if key.startswith("vm:"):
        identity = entry["identity"]
        if here and not kill_stale(str(entry["vmm"]), identity):
            raise WspilotError(f"VM {key[3:]} cannot be ended")
        if not here:
            for name in (identity.get("qmp"), *identity.get("files", ())):
                Path(name).unlink(missing_ok=True) if name else None
        return f"VM {key[3:]} ended"
    if key == "reserve" and here:
        return open_adapter(str(entry["adapter"]), places, options).release(entry)
    return ""


def sweep(journal: Journal) -> None:
    """Last of all: the run-time directory, and the journal itself when nothing else is left."""
    entry = journal.entries.get(RUNDIR)
    if entry is not None:
        remove_tree(Path(entry["path"]))
        journal.settle(RUNDIR)
    if not journal.entries:
        journal.remove()


def undo_others(places: Places, mine: Path, boot_id: str) -> Outcome:
    """Undo what earlier pilots left on this node.

    A journal whose lock is held while its pilot is dead has a guardian at work (`waits`). One whose
    pilot lives is a neighbour's.
    """
    total = Outcome()
    for path in sorted(places.keep.glob("*.journal")):
        if path != mine:
            total += _undo_other(path, places, boot_id)
    return total


def wait_others(places: Places, boot_id: str, limit_s: float) -> Outcome:
    """The same, waiting for guardians at most `limit_s`. Blocks: for those who guard nothing."""
    end, total = time.monotonic() + limit_s, Outcome()
    while True:
        one = undo_others(places, Path(), boot_id)
        if not one.waits or time.monotonic() >= end:
            return Outcome(total.undone, (), total.vms) + one
        total += one
        time.sleep(POLL_S)


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

"""Undoing journals: last step first, blocking, in any process that holds their locks.

Used by the pilot, its guardian, the next pilot on the node and kill-all (DESIGN.md section 6). What
has been undone is settled at once, so that an undo which is itself killed goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wspilot.errors import WspilotError
from wspilot.node import images, network
from wspilot.node.host import open_adapter
from wspilot.node.journal import Journal
from wspilot.node.places import Places, remove_tree
from wspilot.node.values import dataclass
from wspilot.node.vmm import end_all
from wspilot.text import clean

RUNDIR = "rundir"  # the key of the run-time directory
VM = "vm:"  # and what a VM's key begins with
_FAULTS = (WspilotError, OSError, ValueError, KeyError, TypeError)


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
    return undo_all([(journal, places)], boot_id, options)[0]


def undo_all(
    journals: Sequence[tuple[Journal, Places]], boot_id: str, options: Mapping[str, Any] = {}
) -> list[Outcome]:
    """The same for several: their VMs die together, so that one that is stuck delays no other."""
    vms = [
        (journal, key, entry)
        for journal, _ in journals
        for key, entry in journal.entries.items()
        if key.startswith(VM)
    ]
    gone = end_all([_as_of_now(journal, entry, boot_id) for journal, _, entry in vms])
    outcomes = []
    for journal, places in journals:
        mine = {key: ok for (one, key, _), ok in zip(vms, gone) if one is journal}
        outcomes.append(_undo_rest(journal, places, boot_id, options, mine))
    return outcomes


def _as_of_now(journal: Journal, entry: Mapping[str, Any], boot_id: str) -> Mapping[str, Any]:
    """After a reboot only files are left of a VM: no process of this boot is ours to kill."""
    return entry if _is_here(journal, boot_id) else {**entry, "vmm": "sim"}


def _is_here(journal: Journal, boot_id: str) -> bool:
    """Of this boot? A journal whose header is lost may be: its VMs are looked for."""
    return bool(journal.header.get("boot", boot_id) == boot_id)


def _undo_rest(
    journal: Journal,
    places: Places,
    boot_id: str,
    options: Mapping[str, Any],
    vms: Mapping[str, bool],
) -> Outcome:
    undone, left, ended = [], [], []
    if not _counts(journal, boot_id):
        journal.damaged = 0
    for key, entry in reversed(list(journal.entries.items())):
        if key == RUNDIR:
            continue
        try:
            if key in vms:
                text = _vm(key, vms[key])
            else:
                text = _step(key, entry, places, _is_here(journal, boot_id), options)
            journal.settle(key)
        except _FAULTS as error:
            left.append(f"{key}: {clean(str(error), 300)}")
            continue
        undone += [text] if text else []
        ended += [key[len(VM) :]] if key in vms else []
    if journal.damaged:
        left.append(f"{journal.path.name}: {journal.damaged} damaged lines, which say no more what")
    return Outcome(tuple(undone), tuple(left), tuple(ended))


def _counts(journal: Journal, boot_id: str) -> bool:
    """Can a damaged line have been a step that is still there? Not after a reboot (that is what
    damages them: the disk lost what was written last), nor where it was the header alone."""
    return _is_here(journal, boot_id) and bool(journal.header or journal.entries)


def _vm(key: str, gone: bool) -> str:
    if not gone:
        raise WspilotError(f"VM {key[len(VM) :]} cannot be ended")
    return f"VM {key[len(VM) :]} ended"


def _step(
    key: str, entry: Mapping[str, Any], places: Places, here: bool, options: Mapping[str, Any]
) -> str:
    """One step that is no VM; after a reboot nothing is left of it."""
    if not here:
        return ""
    if key.startswith(network.NIC):
        return network.undo(entry)
    if key.startswith(images.IMAGE):
        return images.undo(entry)
    if key == "reserve":
        return open_adapter(str(entry["adapter"]), places, options).release(entry)
    raise WspilotError("this node code does not know how to undo it")


def sweep(journal: Journal) -> None:
    """Last of all: the run-time directory, and the journal itself when nothing else is left."""
    entry = journal.entries.get(RUNDIR)
    if entry is not None:
        remove_tree(Path(str(entry.get("path"))))
        journal.settle(RUNDIR)
    if not journal.entries and not journal.damaged:
        journal.remove()

"""One user's part of kill-all, in a process of that user: pilots, guardians, journals, lost VMs.

All pilots in scope are killed first, so that the node's VMs die together (PDEATHSIG) and the
guardians work side by side; then every journal is looked at until it is undone, by its guardian or
by us.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wspilot.errors import WspilotError
from wspilot.node import journal as journals
from wspilot.node.core import killall as core
from wspilot.node.core.killall import Scope
from wspilot.node.guests import Guest, end_guests, guests
from wspilot.node.journal import Journal
from wspilot.node.others import end_holders, end_stopped, holders
from wspilot.node.places import Places, inside
from wspilot.node.undo import VM, Outcome, sweep, undo_all
from wspilot.node.vmm.stale import end_process, state
from wspilot.text import clean

POLL_S = 0.01
LOOK_S = 0.25  # between two looks at who holds a lock
FREED_S = 2.0  # after its holders were killed


class Found:
    """A journal in scope, and how far it is."""

    def __init__(
        self, path: Path, places: Places, content: journals.Content, wait_s: float
    ) -> None:
        self.path, self.places, self.header = path, places, content.header
        self.vms = [key[len(VM) :] for key in content.entries if key.startswith(VM)]
        self.end = time.monotonic() + wait_s
        self.forced = False
        self.by = ""
        self.outcome = Outcome()
        self.seconds = 0.0

    def done(self, by: str, outcome: Outcome, began: float) -> None:
        """Its end."""
        self.by, self.outcome = by, outcome
        self.seconds = round(time.monotonic() - began, 3)

    def doc(self) -> dict[str, Any]:
        """As it is reported."""
        return {
            "slot": self.path.name.partition("_")[0],
            "job": clean(str(self.header.get("job", "")), 80),
            "node": self.places.node,
            "uid": self.places.uid,
            "by": self.by,
            "vms": self.vms,
            "undone": [clean(text, 300) for text in self.outcome.undone],
            "left": [clean(text, 300) for text in self.outcome.left],
            "seconds": self.seconds,
        }


class Sweep:
    """`run` does it all; the report's part."""

    def __init__(self, scope: Scope, uid: int, boot_id: str, run: Path, keep: Path) -> None:
        self._scope, self._uid, self._boot = scope, uid, boot_id
        self._run, self._keep = run, keep
        self._began = time.monotonic()
        self._look_at = 0.0
        self._notes: list[str] = []

    def run(self) -> dict[str, Any]:
        """Blocks: at most the longest restore budget and a few seconds."""
        lost = self._lost()
        nodes = self._nodes()
        found = [one for places in nodes for one in self._journals(places)]
        for one in found:
            self._kill_pilot(one.header)
        left = list(found)
        while left:
            left = self._pass(left)
            if left:
                time.sleep(POLL_S)
        stuck = end_guests(lost, gently=False)
        found_slots = {one.path.name.partition("_")[0] for one in found}
        end_stopped({self._scope.slot, *found_slots})
        for places in nodes:
            places.tidy()
        journal_docs = [one.doc() for one in found]
        return {
            "journals": journal_docs,
            "guests": [{"pid": one.pid, "name": one.name, "ours": True} for one in lost],
            "left": [
                f"slot {doc['slot']} on {doc['node']}: {text}"
                for doc in journal_docs
                for text in doc["left"]
            ]
            + [f"guest {one.name} (pid {one.pid})" for one in stuck],
            "notes": self._notes,
        }

    # -- what there is

    def _nodes(self) -> list[Places]:
        """The directories of this user, of one node or of all on this host."""
        return [self._places(self._scope.node)] if self._scope.node else self._everywhere()

    def _everywhere(self) -> list[Places]:
        there = inside(self._keep / f"wspilot-{self._uid}")
        return [self._places(path.name) for path in there if _is_dir(path)]

    def _places(self, node: str) -> Places:
        return Places(node, self._uid, self._run, self._keep)

    def _journals(self, places: Places) -> list[Found]:
        found = []
        for path in places.journals():
            content = journals.peek(path)
            slot = path.name.partition("_")[0]
            if core.covers(self._scope, slot, str(content.header.get("job", ""))):
                wait_s = core.wait_s(self._scope, content.header)
                found.append(Found(path, places, content, wait_s))
            elif not content.header:
                self._notes.append(f"{path}: its header cannot be read, so its job is not known")
        return found

    def _lost(self) -> list[Guest]:
        """VMs that no journal names, on any node of this host: theirs was lost.

        Processes first: a VM's entry is written before its start.
        """
        seen = [one for one in guests(self._uid) if one.ours]
        named = set()
        paths = [path for places in self._everywhere() for path in places.journals()]
        for path in paths:
            for entry in journals.peek(path).entries.values():
                identity = entry.get("identity")
                named.add(identity.get("uuid") if isinstance(identity, dict) else None)
        return [one for one in seen if one.uuid not in named and self._is_meant(one)]

    def _is_meant(self, one: Guest) -> bool:
        here = not self._scope.node or one.node == self._scope.node
        return here and core.covers(self._scope, one.slot, one.job)

    # -- what is done

    def _kill_pilot(self, header: Mapping[str, Any]) -> None:
        pid, start = header.get("pid"), header.get("start")
        if header.get("boot") == self._boot and isinstance(pid, int) and isinstance(start, int):
            end_process(pid, start)

    def _pass(self, left: list[Found]) -> list[Found]:
        """Undo what can be locked now; those that must be looked at again."""
        look = time.monotonic() >= self._look_at
        if look:
            self._look_at = time.monotonic() + LOOK_S
        taken, waiting = [], []
        for one in left:
            try:
                journal = journals.take(one.path, self._uid)
            except (OSError, WspilotError) as error:
                one.done("nobody", Outcome(left=(str(error),)), self._began)
                continue
            if journal is not None:
                taken.append((one, journal))
            elif not self._is_over(one, look):
                waiting.append(one)
        self._undo(taken)
        return waiting

    def _is_over(self, one: Found, look: bool) -> bool:
        """Somebody holds its lock, or it is gone."""
        if not one.path.exists():
            one.done("its guardian", self._by_guardian(one), self._began)
            return True
        content = journals.peek(one.path)
        if content.header and not content.damaged and core.is_done(content.entries):
            one.done("its guardian", self._by_guardian(one), self._began)
            return True  # its report is under way, and it ends within its own budget
        late = time.monotonic() >= one.end
        if not one.forced and (late or (look and self._is_stopped(one.path))):
            end_holders(one.path)
            one.forced, one.end = True, time.monotonic() + FREED_S
        elif late:
            text = f"{one.path.name}: held by {holders(one.path) or 'a process that is not ours'}"
            one.done("nobody", Outcome(left=(text,)), self._began)
            return True
        return False

    def _is_stopped(self, path: Path) -> bool:
        """A guardian that is stopped undoes nothing: it is not waited for."""
        held = holders(path)
        return bool(held) and all(state(pid) in ("T", "t") for pid, _ in held)

    def _by_guardian(self, one: Found) -> Outcome:
        return Outcome(tuple(f"VM {vm} ended" for vm in one.vms), vms=tuple(one.vms))

    def _undo(self, taken: list[tuple[Found, Journal]]) -> None:
        if not taken:
            return
        outcomes = undo_all([(journal, one.places) for one, journal in taken], self._boot)
        for (one, journal), outcome in zip(taken, outcomes):
            sweep(journal)
            if journal.damaged and not journal.entries:
                self._notes.append(f"{journal.set_aside()}: set aside, for you to look at")
            journal.close()
            one.done("kill-all", outcome, self._began)


def _is_dir(path: Path) -> bool:
    """No, too, where its user has closed the way to it: no Epilog may fail of that."""
    try:
        return path.is_dir()
    except PermissionError:
        return False

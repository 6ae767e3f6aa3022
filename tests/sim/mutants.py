"""Bugs planted from outside, one at a time: the simulation must find each of them.

Every one is a mistake that somebody could make in good faith. `kinds` are the faults it is looked
for under; without a word there, any.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from tests.sim.faults import Fault
from tests.sim.lrm import Epochs
from wspilot.daemon import core, store
from wspilot.daemon.core import books as books_
from wspilot.daemon.core import endings, leases, nodes, pilots, repairs, rounds, slots, spares, vms
from wspilot.daemon.core.turn import Turn
from wspilot.model import Slot, VmState, Workspace
from wspilot.node.core import lease as node_lease

F = Fault
Patch = tuple[Any, str, Any]


@dataclass(frozen=True)
class Mutant:
    """One planted bug: what is replaced by what."""

    name: str
    patches: tuple[Patch, ...]
    kinds: Collection[Fault] | None = None

    @contextmanager
    def planted(self) -> Iterator[None]:
        """While it lasts."""
        running = [mock.patch.object(*patch) for patch in self.patches]
        for one in running:
            one.start()
        try:
            yield
        finally:
            for one in running:
                one.stop()


def _skip_fsync() -> Patch:
    real = store.JournalStorage.__init__

    def init(self: Any, path: Any, *, sync: bool = True) -> None:
        real(self, path, sync=False)

    return store.JournalStorage, "__init__", init


def _apply_repeats() -> Patch:
    real = pilots.hear

    def hear(turn: Turn, note: Any) -> bool:
        pilot = turn.books.pilot(note.pilot)
        if pilot is not None and note.seq <= pilot.seq:
            turn.books.put(replace(pilot, seq=note.seq - 1))
            done = real(turn, note)
            now = turn.books.pilot(note.pilot)
            if now is not None:
                turn.books.put(replace(now, seq=max(now.seq, pilot.seq)))
            return done
        return real(turn, note)

    return pilots, "hear", hear


def _revive() -> Patch:
    return pilots, "SPOKEN", frozenset()


def _forget_undo() -> Patch:
    def restore(turn: Any) -> None:
        turn.set(restoring=True, force_at=None, since=turn.now)
        node_lease.restored(turn, (), {"neighbours": [], "node_clean": True})

    return node_lease, "_restore", restore


def _trust_empty_poll() -> Patch:
    def absent(turn: Turn, slot: Slot, sent: float) -> None:
        slots.job_gone(turn, slot, "the job is gone")

    return slots, "_absent", absent


def _second_epoch() -> Patch:
    return Epochs, "launch", lambda self, slot: self.taken.setdefault(slot, 1)


def _free_on_destroy() -> Patch:
    real = leases.end

    def end(turn: Turn, ws: Workspace, outcome: Any, cause: str) -> None:
        real(turn, ws, outcome, cause)
        for vm in turn.books.vms_of(ws):
            proof = turn.proof("daemon", "it was destroyed")
            turn.books.put(replace(vm, held=False, proof=proof))

    return leases, "end", end


def _free_on_write_off() -> Patch:
    real = endings._settle_vm

    def settle(turn: Turn, slot: Slot, id: str) -> None:
        real(turn, slot, id)
        vm = turn.books.vm(id)
        if vm is not None and vm.held:
            turn.books.put(replace(vm, held=False, proof=turn.proof("daemon", "its slot ended")))

    return endings, "_settle_vm", settle


def _no_intent_on_disk() -> Patch:
    real = slots.submit

    def submit(turn: Turn, slot: Slot) -> Slot:
        slot = real(turn, slot)
        turn.books.put(replace(slot, unclear=False))
        return slot

    return slots, "submit", submit


def _resubmit_without_looking() -> Patch:
    def look(turn: Turn, slot: Slot, event: Any, jobs: Any) -> None:
        turn.slot(slot, slot.state, unclear=False, retry_at=turn.now)

    return slots, "_look", look


def _no_rollback() -> Patch:
    real = books_.Books.rollback

    def rollback(self: Any, mark: int = 0) -> None:
        if mark:
            real(self, mark)
        else:
            self._undo.clear()

    return books_.Books, "rollback", rollback


def _never_press() -> Patch:
    return endings, "press", lambda turn, slot: None


def _never_press_here() -> Patch:
    return slots, "press", lambda turn, slot: None


def _no_repairs() -> Patch:
    return repairs, "tick", lambda turn: []


def _guardian_speaks_for_all() -> Patch:
    real = nodes.found_clean

    def found(turn: Turn, slot: Slot, node: str, by: str, data: Any, **more: Any) -> Any:
        return real(turn, slot, node, by, {**data, "node_clean": True, "neighbours": []}, **more)

    return nodes, "found_clean", found


def _order_of_words_ignored() -> Patch:
    return nodes, "_ended_before", lambda other, slot: True


def _create_twice() -> Patch:
    real = vms._fill

    def fill(turn: Turn, ws: Workspace, slot: Slot) -> None:
        real(turn, ws, slot)
        for id in slot.vms:
            vm = turn.books.vm(id)
            if vm is not None and vm.pilot and vm.state is VmState.PENDING:
                turn.books.put(replace(vm, pilot=""))

    return vms, "_fill", fill


def _end_before_slots() -> Patch:
    def review_end(turn: Turn, ws: Workspace) -> None:
        turn.workspace(ws, leases.W.ENDED, outcome=leases.Outcome.DESTROYED)

    return leases, "_review_end", review_end


def _again_with_the_same_slot() -> Patch:
    real = rounds._renew

    def renew(turn: Turn, ws: Workspace, slot: Slot, wait: float, why: str) -> Workspace:
        ws = real(turn, ws, slot, wait, why)
        old = turn.books.slot(slot.id)
        if old is not None:
            turn.books.put(replace(old, vms=slot.vms))
        return ws

    return rounds, "_renew", renew


def _no_deadline() -> Patch:
    return node_lease, "deadline", lambda state: float("inf")


def _deaf_to_term() -> Patch:
    return node_lease, "term", lambda turn: None


def _forget_on_recovery() -> Patch:
    return core, "_recover", lambda turn: None


def _empty_too_early() -> Patch:
    return spares, "_empty", lambda turn, slot: True


def _never_stale() -> Patch:
    return spares, "_stale", lambda turn, slot: False


MUTANTS: tuple[Mutant, ...] = (
    Mutant("an fsync is skipped", (_skip_fsync(),), [F.HEAD_CRASH]),
    Mutant("a repeat is applied", (_apply_repeats(), _revive()), [F.FILE_TWICE, F.FILE_LATE]),
    Mutant("an undo step is forgotten", (_forget_undo(),)),
    Mutant("an empty qstat is trusted", (_trust_empty_poll(),), [F.POLL_EMPTY]),
    Mutant("a second epoch is used", (_second_epoch(),), [F.RERUN]),
    Mutant("addresses are free when destroy is asked for", (_free_on_destroy(),)),
    Mutant("addresses are free when a node is given up", (_free_on_write_off(),),
           [F.UNDO_FAILS, F.PILOT_KILLED, F.BOTH_KILLED]),
    Mutant("qsub runs before it is on the books", (_no_intent_on_disk(),), [F.DAEMON_KILLED]),
    Mutant("qsub is repeated without a look", (_resubmit_without_looking(),), [F.QSUB_LOST]),
    Mutant("a full disk does not undo the step", (_no_rollback(),), [F.DISK_FULL, F.HEAD_CRASH]),
    Mutant("qdel is never repeated", (_never_press(), _never_press_here()),
           [F.QDEL_FAILED, F.QDEL_UNHEARD, F.HELD, F.DESTROY]),
    Mutant("dirty nodes are never repaired", (_no_repairs(),), [F.BOTH_KILLED]),
    Mutant("one pilot's word is taken for all", (_guardian_speaks_for_all(),),
           [F.UNDO_FAILS, F.PILOT_KILLED]),
    Mutant("a VM is created again", (_create_twice(),), [F.FILE_TWICE]),
    Mutant("a workspace ends before its slots", (_end_before_slots(),), [F.DESTROY]),
    Mutant("a slot given back keeps its VMs", (_again_with_the_same_slot(),), [F.HELD]),
    Mutant("a pilot knows no deadline", (_no_deadline(),), [F.DAEMON_KILLED, F.SHARE_HANGS]),
    Mutant("TERM is not heard", (_deaf_to_term(),), [F.PREEMPTED]),
    Mutant("a slot changes hands while its VMs live", (_empty_too_early(),)),
    Mutant("a spare slot is never given back", (_never_stale(),)),
    Mutant("nothing is resumed after a restart", (_forget_on_recovery(),), [F.DAEMON_KILLED]),
)  # fmt: skip

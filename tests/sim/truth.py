"""What must hold, compared with the world as it really is, which no part of wspilot can see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.sim.node import RESTORE_S, SimPilot
from wspilot.daemon.core import Books
from wspilot.daemon.lrm.base import JobState
from wspilot.model import FINAL_SLOT, Outcome, Slot, Vm, Workspace, WorkspaceState

if TYPE_CHECKING:
    from tests.sim.play import Play

LOOK_S = 4.0
SLOW_S = 150.0  # the latest file is not later
ALIVE = (JobState.QUEUED, JobState.HELD, JobState.RUNNING, JobState.SUSPENDED)


class Violation(AssertionError):
    """An invariant does not hold."""


def check(good: bool, text: str) -> None:
    """Raise Violation unless it is so."""
    if not good:
        raise Violation(text)


class Truth:
    """The invariants of one play."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self._begun: set[str] = set()
        play.clock.after(LOOK_S, self._patrol)

    # -- at every commit and every birth

    def born(self, vm: str, host: str) -> None:
        """A VM's process starts somewhere."""
        play = self._play
        elsewhere = [one.name for one in play.hosts.values() if vm in one.vms and one.name != host]
        check(not elsewhere, f"VM {vm} lives on {host} and on {elsewhere}")
        record = play.head.books.vm(vm)
        check(record is not None, f"VM {vm} is started and on no books")
        assert record is not None
        check(record.held, f"VM {vm} is started, and its addresses are free")
        for id, pilot in play.hosts[host].vms.items():
            other = play.head.books.vm(id)
            alien = other is not None and other.workspace != record.workspace
            shared = pilot == play.hosts[host].vms[vm]
            check(not (alien and shared), f"VMs {vm} and {id} of two leases share a slot")
        living = {id for one in play.hosts.values() for id in one.vms} - {vm}
        for id in living:
            other = play.head.books.vm(id)
            same = {nic.ip for nic in record.nics} & {nic.ip for nic in other.nics if other}
            check(not same, f"VMs {vm} and {id} both have {same}")

    def launched(self, slot: str) -> None:
        """A launcher starts pilots: once a slot, and never for one that the daemon has closed."""
        check(slot not in self._begun, f"a second set of pilots for slot {slot}")
        check(slot not in self._play.head.epochs.closed, f"pilots for the closed slot {slot}")
        self._begun.add(slot)

    def look(self, books: Books) -> None:
        """The records that are about to be committed."""
        for table, id in books.changed():
            record = books.get(table, id)
            if isinstance(record, Vm):
                self._vm(books, record)
            elif isinstance(record, Slot):
                self._slot(record)
            elif isinstance(record, Workspace):
                self._workspace(record)

    def _vm(self, books: Books, vm: Vm) -> None:
        for nic in vm.nics if vm.held else ():
            check(books.held.get(nic.ip) == vm.id, f"{nic.ip} of {vm.id} is held twice")
        if not vm.held:
            where = [host.name for host in self._play.hosts.values() if vm.id in host.vms]
            check(not where, f"VM {vm.id} lives on {where}, its addresses are free")
            check(vm.proof is not None, f"the addresses of VM {vm.id} are free without a proof")

    def _slot(self, slot: Slot) -> None:
        if slot.state not in FINAL_SLOT or "abandoned" in slot.cause:
            return
        for job in self._play.lrm.jobs.values():
            if job.slot == slot.id:
                text = f"slot {slot.id} is {slot.state.value}, job {job.id} {job.state.value}"
                check(job.state not in ALIVE, text)

    def _workspace(self, ws: Workspace) -> None:
        if ws.state is WorkspaceState.ENDED and ws.outcome is not Outcome.ABANDONED:
            open_ = [one.id for one in self._slots(ws) if one.state not in FINAL_SLOT]
            check(not open_, f"{ws.name} has ended, its slots {open_} have not")
            for host in self._play.hosts.values():
                left = [vm for vm in ws.vms if vm in host.vms and self._guarded(vm)]
                check(not left, f"{ws.name} has ended, and {left} live on {host.name}")

    def _slots(self, ws: Workspace) -> list[Slot]:
        return self._play.head.books.slots_of(ws)

    def _guarded(self, vm: str) -> bool:
        """Does anybody know that it has to go? What nobody does is a dirty node's business."""
        record = self._play.head.books.vm(vm)
        return record is None or not record.held

    # -- every few seconds

    def _patrol(self) -> None:
        play, now = self._play, self._play.clock.now
        play.clock.after(LOOK_S, self._patrol)
        for host in play.hosts.values():
            for vm, id in host.vms.items():
                pilot = play.pilots[id]
                journal = host.journals.get(id)
                stuck = journal is not None and journal.stuck_until > 0
                late = not pilot.alive and now - pilot.died > RESTORE_S + 1 and not stuck
                check(not late, f"VM {vm} outlives its pilot on {host.name}")
        for pilot in play.pilots.values():
            if pilot.alive:
                self._commanded(pilot, now)
            self._overtime(pilot.alive and not pilot.ever_stopped, pilot.hard_end(), now, pilot.id)

    def _commanded(self, pilot: SimPilot, now: float) -> None:
        """A command reaches a pilot that could read it."""
        head, share = self._play.head, self._play.share
        calm = min(now - head.up_since, now - share.back_at, now - pilot.resumed_at)
        if not head.up or calm < SLOW_S or pilot.stopped or share.wait_s(pilot.host.name) > 0:
            return
        for id in head.books.orders_of.get(pilot.id, ()):
            order = head.books.order(id)
            if order is not None and order.kind == "create" and not pilot.knows(order.vm):
                late = now - max(order.issued, share.freed(pilot.host.name))
                check(late < SLOW_S, f"create {id} has not reached pilot {pilot.id[:8]}")

    def _overtime(self, applies: bool, end: float, now: float, id: str) -> None:
        late = applies and now > end + 15 + RESTORE_S + 12
        check(not late, f"pilot {id[:8]} is still there {now - end:.0f} s after its hard end")

    # -- at the end

    def settled(self) -> bool:
        """Is there nothing left to wait for?"""
        play, books = self._play, self._play.head.books
        return (
            play.head.up
            and len(play.asked) == play.users
            and not books.open_workspaces
            and not books.open_slots
            and not books.dirty_nodes
            and not books.loose_jobs
            and not any(host.vms or host.taken for host in play.hosts.values())
            and all(job.state is JobState.DONE for job in play.lrm.jobs.values())
        )

    def finally_(self) -> None:
        """Calm has lasted long enough."""
        play, books = self._play, self._play.head.books
        check(play.head.up, "the daemon is down")
        for id in play.asked:
            ws = books.workspace(id)
            check(ws is not None, f"workspace {id} is lost")
            assert ws is not None
            ended = ws.state is WorkspaceState.ENDED
            check(ended, f"{ws.name} is {ws.state.value}, waits for {ws.waits_for}")
            told = ws.cause or ws.outcome in (Outcome.OK, Outcome.DESTROYED, Outcome.ABANDONED)
            check(bool(told), f"{ws.name} ended as {ws.outcome} without a cause")
        for slot in books.slots():
            check(slot.state in FINAL_SLOT, f"slot {slot.id} is {slot.state.value}")
            check(slot.proof is not None, f"slot {slot.id} ended without a proof")
        left = [job.id for job in play.lrm.jobs.values() if job.state is not JobState.DONE]
        check(not left, f"jobs are left: {left}")
        for host in play.hosts.values():
            check(not host.vms, f"VMs are left on {host.name}: {host.vms}")
            check(not host.taken, f"memory is not back on {host.name}: {host.taken}")
            node = books.node(host.name)
            good = node is None or node.state.value == "clean"
            check(good, f"{host.name} is {node and (node.state.value, node.cause, node.owes)}")
        check(not books.held, f"addresses are withheld: {books.held}")
        check(not list(books.orders()), "commands are left on the books")
        self._stored(books)

    def _stored(self, books: Books) -> None:
        """What a restart would find is what is in memory."""
        disk = Books.load(self._play.head.store.load())
        for table in ("workspaces", "vms", "slots", "pilots", "nodes", "orders"):
            same = {one.id: one for one in books.all(table)} == {
                one.id: one for one in disk.all(table)
            }
            check(same, f"{table} on disk are not those in memory")

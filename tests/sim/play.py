"""One seed: users, a daemon that may die at any turn, and what must hold after every step."""

from __future__ import annotations

import random
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.sim.nodes import Node, SimPilot
from tests.sim.world import OWNER, Clock, Faults, Files, Lrm, SimJob
from wspilot.daemon.addresses import mac_of
from wspilot.daemon.core import Books, Rules, step
from wspilot.daemon.core import events as d
from wspilot.daemon.core.slots import job_name
from wspilot.daemon.core.turn import derive_id
from wspilot.daemon.lrm.base import JobState
from wspilot.daemon.policy import SlotPlan
from wspilot.daemon.store import Store
from wspilot.ensemble import Request
from wspilot.messages import Notification, Order, Verb, rfc3339
from wspilot.model import Group, Nic, NodeState, Outcome, VmState, WorkspaceState

NODES = 4
ROUGH = Faults(
    lost_answer=0.2, retry=0.1, bad_poll=0.2, forgetful_poll=0.05, slow_file=3.0, repeat=0.1,
    daemon_crash=0.001, pilot_kill=0.1, node_death=0.05, create_fails=0.05, reserve_fails=0.05,
    preempt=0.1, rerun=0.1, qdel_fails=0.3,
)  # fmt: skip


class Violation(AssertionError):
    """An invariant does not hold; the history tells how it came."""


class Play:
    """The whole system under one seed."""

    def __init__(self, seed: int, faults: Faults = ROUGH) -> None:
        self.seed, self.faults = seed, faults
        self.chance = random.Random(seed)
        self.clock = Clock()
        self.history: list[str] = []
        self.nodes = {f"n{n}": Node(f"n{n}") for n in range(1, NODES + 1)}
        self.pilots: dict[str, SimPilot] = {}
        self.epochs: set[str] = set()
        self.calm = False
        self.lrm = Lrm(self.clock, self.chance, faults, NODES, self._launch, self._signal)
        self.files = Files(self.clock, self.chance, faults)
        self.rules = Rules(owner=OWNER)
        self._temp = tempfile.TemporaryDirectory(prefix="wspilot-sim-")
        self._store = Store(Path(self._temp.name) / "store", sync=False)
        self.books = Books.load(self._store.load())
        self.up = True
        self._listened_at = self.clock.now
        self._asked: list[str] = []

    def close(self) -> None:
        self._store.close()
        self._temp.cleanup()

    # -- the story

    def run(self) -> None:
        """Users come, things go wrong; then calm, and everything must have come to its end."""
        for _ in range(self.chance.randrange(1, 4)):
            self.clock.after(self.chance.uniform(0, 200), self._user)
        self._daemon_loops()
        self.clock.run(self.clock.now + 1500)
        self.calm = True
        self.lrm._faults = self.files.faults = replace(Faults(), slow_file=0.5)
        if not self.up:
            self._restart()
        self.clock.run(self.clock.now + 1500)
        self._finally()

    def _user(self) -> None:
        count, lease = self.chance.randrange(1, 5), self.chance.choice([30, 200, 600])
        id = derive_id(self.seed, len(self._asked))
        self._asked.append(id)
        group = Group(
            "vm",
            "small",
            count,
            self.chance.randrange(1, count + 1),
            "small",
            1,
            128,
            0,
            nics=("private",),
        )
        members = [("vm", n) for n in range(1, count + 1)]
        plan: tuple[SlotPlan, ...] = (SlotPlan(tuple(members), count, 1, 200, True),)
        if self.chance.random() < 0.4:
            plan = tuple(SlotPlan((one,), 1, 1, 200, True) for one in members)
        free = (f"10.0.0.{n}" for n in range(2, 250) if f"10.0.0.{n}" not in self.books.held)
        nics = tuple(
            (Nic("private", mac_of(ip), ip),) for _, ip in zip(members, free, strict=False)
        )
        event = d.Deploy(
            id,
            0,
            f"ws{len(self._asked)}",
            Request("", lease, (group,)),
            plan,
            3600,
            "per-workspace",
            nics,
        )
        if not self.up:
            self.clock.after(5, lambda: self._deploy(event))
        else:
            self._deploy(event)
        if self.chance.random() < 0.5:
            self.clock.after(self.chance.uniform(0, 400), lambda: self._destroy(id))
        self.clock.after(1100, lambda: self._destroy(id))

    def _deploy(self, event: d.Deploy) -> None:
        if not self.up:
            self.clock.after(5, lambda: self._deploy(event))
            return
        ips = [nic.ip for nics in event.nics for nic in nics]
        if any(ip in self.books.held for ip in ips):  # the world moved on while the daemon was down
            self._asked.remove(event.id)
            return
        self.turn([event])

    def _destroy(self, id: str) -> None:
        if self.up:
            self.turn([d.Destroy((id,))])
        else:
            self.clock.after(3, lambda: self._destroy(id))

    # -- the daemon

    def turn(self, events: list[d.Event]) -> list[bool]:
        """What `service.turn` does, with crashes at its two bad moments."""
        done, effects = [], []
        for event in events:
            result = step(self.books, event, self.clock.now, self.rules)
            done.append(result.done)
            effects += result.effects
            self.history.append(f"{self.clock.now:.2f} {event!r:.300}")
        if self._crashes():
            return [False] * len(events)
        changes = self.books.changes()
        if changes:
            self._store.commit(changes)
        self.books.settle()
        self._invariants()
        if self._crashes():
            return [False] * len(events)  # committed, and nothing carried out
        for effect in effects:
            self.clock.after(self.chance.uniform(0.0, 0.2), lambda one=effect: self._do(one))
        return done

    def _crashes(self) -> bool:
        if self.calm or self.chance.random() >= self.faults.daemon_crash:
            return False
        self.history.append(f"{self.clock.now:.2f} the daemon is killed")
        self.up = False
        self._store.close()
        self._store = Store(Path(self._temp.name) / "store", sync=False)
        self.clock.after(self.chance.uniform(1, 60), self._restart)
        return True

    def _restart(self) -> None:
        if not self.up:
            self.history.append(f"{self.clock.now:.2f} the daemon is back")
            self.books = Books.load(self._store.load())
            self.up, self._listened_at = True, self.clock.now
            self.turn([d.Recovered()])

    def _daemon_loops(self) -> None:
        def spool() -> None:
            if self.up:
                self._scan()
            self.clock.after(self.chance.uniform(0.2, 1.5), spool)

        def poll() -> None:
            if self.up:
                sent = self.clock.now
                listing = self.lrm.poll()
                self.turn([d.Polled(listing, sent)])
            self.clock.after(self.chance.uniform(10, 20), poll)

        def tick() -> None:
            if self.up:
                self.turn([d.Tick()])
            self.clock.after(1.0, tick)

        for loop in (spool, poll, tick):
            self.clock.after(0.1, loop)

    def _scan(self) -> None:
        files = self.files.visible()
        if files:
            done = self.turn([d.Heard(file.note) for file in files])
            for file, ok in zip(files, done, strict=True):
                if ok:
                    self.files.files.remove(file)
        if not self.up:
            return
        beats = [file for file in self.files.beats.values() if file.visible_at <= self.clock.now]
        self.files.beats = {
            pilot: file for pilot, file in self.files.beats.items() if file not in beats
        }
        events: list[d.Event] = [d.Heard(file.note) for file in beats]
        self.turn([*events, d.Listened(self.clock.now - self._listened_at)])
        self._listened_at = self.clock.now

    def _do(self, effect: d.Effect) -> None:
        """Effects that were under way when the daemon died are lost."""
        if not self.up:
            return
        if isinstance(effect, d.Submit):
            self._submit(effect)
        elif isinstance(effect, d.Cancel):
            answer = self.lrm.cancel(effect.job)
            self.turn([d.Cancelled(effect.slot, effect.job, answer)])
        elif isinstance(effect, d.Claim):
            won = effect.slot not in self.epochs
            self.epochs.add(effect.slot)
            self.turn([d.Claimed(effect.slot, won or effect.slot in self._closed)])
            if won:
                self._closed.add(effect.slot)
        elif isinstance(effect, d.Send):
            self._send(effect.order)
        elif isinstance(effect, d.Poll):
            sent = self.clock.now
            self.turn([d.Polled(self.lrm.poll(), sent)])

    @property
    def _closed(self) -> set[str]:
        return self.__dict__.setdefault("_closed_slots", set())

    def _submit(self, effect: d.Submit) -> None:
        slot = self.books.slot(effect.slot)
        if slot is None or slot.job or slot.calls != effect.calls or slot.claimed:
            self.books.asking.discard(effect.slot)
            return
        name = job_name(slot.id, effect.calls)
        answer = self.lrm.submit(slot.id, name, slot.nodes, slot.walltime_s)
        self.clock.after(self.chance.uniform(0.0, 2.0), lambda: self._submitted(effect, answer))

    def _submitted(self, effect: d.Submit, answer: object) -> None:
        if self.up:
            self.turn([d.Submitted(effect.slot, effect.calls, answer)])  # type: ignore[arg-type]

    def _send(self, id: str) -> None:
        record = self.books.order(id)
        pilot = self.pilots.get(record.pilot) if record else None
        if record is None or pilot is None:
            return
        order = Order(
            record.slot,
            record.node,
            record.pilot,
            record.epoch,
            record.seq,
            Verb(record.kind),
            record.id,
            record.ttl_s,
            rfc3339(record.issued),
            0.0,
            record.data,
        )
        delay = self.chance.uniform(0.05, 1.0 + self.files.faults.slow_file)
        self.clock.after(delay, lambda: pilot.order(order))

    # -- jobs and nodes

    def _launch(self, job: SimJob) -> None:
        self.clock.after(self.chance.uniform(0.2, 3.0), lambda: self._launcher(job, job.starts))

    def _launcher(self, job: SimJob, start: int) -> None:
        if job.state is not JobState.RUNNING or job.starts != start:
            return
        if job.slot in self.epochs:
            self.history.append(f"{self.clock.now:.2f} job {job.id}: a later epoch, no VM")
            self.clock.after(1, lambda: self.lrm.ended(job))
            return
        self.epochs.add(job.slot)
        left = dict.fromkeys(job.hosts, True)

        def gone(host: str) -> None:
            left.pop(host, None)
            if not left:
                self.clock.after(0.1, lambda: self.lrm.ended(job))

        slot = self.books.slot(job.slot)
        ws = self.books.workspace(slot.workspace) if slot else None
        for host in job.hosts:
            pilot = SimPilot(
                self.clock,
                self.chance,
                self.lrm._faults,
                self.nodes[host],
                job.slot,
                ws.lease_s if ws else 60,
                job.walltime_s,
                self._write,
                lambda name=host: gone(name),
            )
            self.pilots[pilot.id] = pilot
            self._doom(pilot)

    def _doom(self, pilot: SimPilot) -> None:
        if self.chance.random() < self.lrm._faults.pilot_kill:
            guardian = self.chance.random() >= self.faults.node_death / max(
                self.faults.pilot_kill, 1e-9
            )
            when = self.chance.uniform(0.1, 300)
            self.clock.after(when, lambda: self._kill(pilot, guardian))

    def _kill(self, pilot: SimPilot, guardian: bool) -> None:
        if pilot.alive:
            self.history.append(
                f"{self.clock.now:.2f} kill -9 of {pilot.id[:8]} guardian={guardian}"
            )
            pilot.kill(guardian)
            if not guardian:  # the host died: its VMs with it, silently
                for vm in [vm for vm, owner in pilot.node.vms.items() if owner == pilot.id]:
                    del pilot.node.vms[vm]
                pilot.node.boot += 1

    def _signal(self, job: SimJob, kill: bool) -> None:
        for pilot in list(self.pilots.values()):
            if pilot.slot == job.slot and pilot.alive:
                pilot.kill() if kill else pilot.term()

    def _write(self, note: Notification) -> None:
        if note.kind.value == "heartbeat":
            self.files.beat(note)
        else:
            self.files.put(note)

    # -- what must hold

    def _invariants(self) -> None:
        living: dict[str, str] = {}
        for node in self.nodes.values():
            for vm, owner in node.vms.items():
                self._check(vm not in living, f"VM {vm} lives on {node.name} and {living.get(vm)}")
                living[vm] = node.name
                record = self.books.vm(vm)
                self._check(
                    record is not None and record.held, f"VM {vm} lives, its address is free"
                )
                pilot = self.pilots[owner]
                self._check(pilot.alive or self._mourning(pilot), f"VM {vm} outlives its pilot")
        held: dict[str, str] = {}
        for record in self.books.vms():
            for nic in record.nics if record.held else ():
                self._check(nic.ip not in held, f"{nic.ip} is held twice")
                held[nic.ip] = record.id
        self._check(held == self.books.held, "the index of addresses is not the truth")

    def _mourning(self, pilot: SimPilot) -> bool:
        """The guardian has up to the restore budget; `_undo` comes within 3 s."""
        pilot.died = getattr(pilot, "died", self.clock.now)  # type: ignore[attr-defined]
        return self.clock.now - pilot.died <= 5.0  # type: ignore[attr-defined]

    def _finally(self) -> None:
        for id in self._asked:
            ws = self.books.workspace(id)
            self._check(ws is not None, f"workspace {id} is lost")
            assert ws is not None
            self._check(
                ws.state is WorkspaceState.ENDED, f"{ws.name} is {ws.state.value}: {ws.waits_for}"
            )
            told = ws.cause or ws.outcome in (Outcome.OK, Outcome.DESTROYED)
            self._check(bool(told), f"{ws.name} ended as {ws.outcome} without a cause")
        left = [job.id for job in self.lrm.jobs.values() if job.state is not JobState.DONE]
        self._check(not left, f"jobs are left: {left}")
        self._check(not any(node.vms for node in self.nodes.values()), "VMs are left")
        for ip, vm in self.books.held.items():
            record = self.books.vm(vm)
            node = self.books.node(record.node) if record else None
            dirty = node is not None and node.state in (NodeState.DIRTY, NodeState.UNKNOWN)
            self._check(dirty, f"{ip} is withheld and {node} is not dirty")
        for record in self.books.vms():
            final = record.state in (VmState.TERMINATED, VmState.FAILED)
            self._check(final, f"{record.name} is {record.state.value} at the end")

    def _check(self, holds: bool, what: str) -> None:
        if not holds:
            raise Violation(what)


def play(seed: int, faults: Faults = ROUGH) -> Play:
    """Run one seed. Raises Violation."""
    one = Play(seed, faults)
    try:
        one.run()
    except Violation as error:
        tail = "\n".join(one.history[-60:])
        raise Violation(
            f"seed {seed}: {error}\n{tail}\nreplay: python -m tests.sim --seeds {seed}:{seed + 1}"
        ) from None
    finally:
        one.close()
    return one

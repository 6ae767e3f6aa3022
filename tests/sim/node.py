"""Compute hosts, with the real pilot and guardian cores in modelled processes.

What is modelled is what a kernel and a VMM do: journals with a lock, VMs, memory that was taken,
processes that die, stop and hang. What a pilot or guardian decides is `wspilot.node.core`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.sim.clock import Clock
from tests.sim.faults import Chance, Fault
from tests.sim.share import Share
from wspilot.messages import Kind, Notification, Order, Verb, rfc3339
from wspilot.node.core import Settings, State, guard, step
from wspilot.node.core import events as e
from wspilot.node.core.lease import wake_at

RESTORE_S = 5.0
TICK_S = 30.0  # a pilot whose core waits for nothing still looks around
BUDGET = {"launch": 60.0, "gather": 100.0, "propagate": 10.0, "reserve": 10.0, "boot": 60.0,
          "pad": 0.0, "save": 0.0, "stop": 15.0, "restore": RESTORE_S, "slack": 60.0}  # fmt: skip


@dataclass
class Journal:
    """What a pilot has done to its host and not yet undone; `guarded`: somebody holds its lock."""

    pilot: str
    slot: str
    boot: int
    entries: dict[str, int] = field(default_factory=dict)  # step -> MiB, or 0 for a VM
    guarded: bool = True
    stuck_until: float = 0.0  # an undo fails until then


@dataclass
class Host:
    """A compute node."""

    name: str
    clock: Clock
    chance: Chance
    share: Share
    boot: int = 1
    up: bool = True
    skew_s: float = 0.0
    journals: dict[str, Journal] = field(default_factory=dict)
    vms: dict[str, str] = field(default_factory=dict)  # VM -> pilot
    taken: dict[str, int] = field(default_factory=dict)  # pilot -> MiB
    outbox: list[Notification] = field(default_factory=list)
    born: Callable[[str, str], None] = lambda vm, host: None  # the play looks at every new VM

    # -- VMs and memory

    def begin(self, vm: str, pilot: str) -> None:
        """A VM's process starts."""
        assert vm not in self.vms, f"VM {vm} was started twice on {self.name}"
        self.vms[vm] = pilot
        self.born(vm, self.name)

    def undo(self, journal: Journal) -> list[str]:
        """Undo every entry; the texts of what cannot be."""
        if journal.boot != self.boot:
            journal.entries.clear()  # VMs and memory did not survive it
        if self.clock.now < journal.stuck_until:
            return [f"{key}: it cannot be undone" for key in journal.entries]
        if journal.entries and self.chance.hits(Fault.UNDO_FAILS, self.name):
            journal.stuck_until = self.clock.now + self.chance.between(1, 200)
            return [f"{key}: it cannot be undone" for key in journal.entries]
        for key in reversed(list(journal.entries)):
            if key == "reserve":
                self.taken.pop(journal.pilot, None)
            elif self.vms.get(key) == journal.pilot:
                del self.vms[key]
            del journal.entries[key]
        return []

    # -- what a later pilot finds

    def here(self, mine: str = "") -> dict[str, Any]:
        """Who else has a journal: the words of `reserved` and of last words."""
        others = [one for one in self.journals.values() if one.pilot != mine and one.entries]
        return {
            "neighbours": sorted({one.slot for one in others if one.guarded}),
            "node_clean": not any(not one.guarded for one in others),
        }

    def mend(self, mine: str = "") -> tuple[list[str], list[str]]:
        """Undo what the dead have left: (done, left) in words."""
        done, left = [], []
        for one in list(self.journals.values()):
            if one.guarded or one.pilot == mine:
                continue
            had = [f"{key} of slot {one.slot}" for key in one.entries]
            bad = self.undo(one)
            left += bad
            if not bad:
                done += had
                del self.journals[one.pilot]
        return done, left

    def deliver(self) -> None:
        """What lies in the outbox, if the spool can be reached."""
        if self.share.wait_s(self.name) == 0:
            notes, self.outbox = self.outbox, []
            for note in notes:
                self.share.put(note)

    def crash(self) -> None:
        """Power is lost: everything but files is gone."""
        self.boot += 1
        self.up = False
        self.vms.clear()
        self.taken.clear()
        for journal in self.journals.values():
            journal.guarded = False

    def wall(self) -> str:
        """This host's own clock."""
        return rfc3339(self.clock.now + self.skew_s)


@dataclass(frozen=True)
class Facts:
    """What a launcher knows when it starts a pilot."""

    slot: str
    settings: Settings
    began: float  # when the launcher did
    suspendable: bool


class SimPilot:
    """A pilot process with its courier and guardian."""

    def __init__(self, host: Host, facts: Facts, gone: Callable[[], None]) -> None:
        self.host, self.facts, self._gone = host, facts, gone
        self._clock, self._chance, self._share = host.clock, host.chance, host.share
        self.id, self._guardian_id = uuid(self._chance), uuid(self._chance)
        self.slot = facts.slot
        self.alive, self.stopped, self.died = True, False, 0.0
        self.ever_stopped = self.asked_to_go = False
        self.resumed_at = 0.0
        self._later_events: list[Callable[[], None]] = []  # while it is stopped
        self._wakes = 0.0
        self._delivering = False
        self._finish: float | None = None
        self.boot = host.boot
        host.journals[self.id] = Journal(self.id, self.slot, host.boot)
        self._share.readers[self.id] = self.order
        jitter = self._chance.random.random()
        self._state = State(facts.settings, began=facts.began, jitter=jitter)
        facts_ = {"boot_id": f"{host.name}-{host.boot}", "uid": 7, "cpus": 4, "memory_mib": 4096}
        self._clock.after(0.1, host.deliver)
        self.step(e.Begin(self._clock.now, self._clock.now + host.skew_s, facts_))

    @property
    def journal(self) -> Journal:
        """Its own."""
        return self.host.journals[self.id]

    def hard_end(self) -> float:
        """When its undoing begins at the latest."""
        return self.facts.settings.hard_end(self.facts.began)

    # -- what happens to it

    def order(self, order: Order) -> None:
        """A command was seen by its courier; the image of every other VM is not here yet."""
        if order.kind is Verb.CREATE and int(self.id[0], 16) % 2:
            order = replace(order, data={**order.data, "image": {"files": {"disk": {}}}})
        self._when_running(lambda: self.step(e.Ordered(self._clock.now, order)))

    def term(self) -> None:
        """SIGTERM."""
        self.asked_to_go = True
        self._when_running(lambda: self.step(e.Term(self._clock.now)))

    def overdue(self) -> None:
        """It was asked to go a grace period ago; one that could have gone is wrong to be there."""
        able = self.asked_to_go and not self.ever_stopped
        assert not (self.alive and able), f"pilot {self.id[:8]} used up all of its grace"

    def knows(self, vm: str) -> bool:
        """Did a command to create this VM reach it (perhaps to be refused)?"""
        return vm in self._state.vms or vm in self._state.never

    def stop(self, hung: bool = False) -> None:
        """SIGSTOP (or a hang): nothing moves any more; the guardian watches."""
        if self.alive and not self.stopped:
            self.stopped = self.ever_stopped = True
            letter = "S" if hung else "T"
            watch = guard.Watch(self.facts.suspendable, self._clock.now)
            self._clock.after(guard.TICK_S, lambda: self._guard(watch, letter))

    def resume(self) -> None:
        """SIGCONT: what came meanwhile is done now."""
        if self.alive and self.stopped:
            self.stopped, self.resumed_at = False, self._clock.now
            waiting, self._later_events = self._later_events, []
            for act in waiting:
                self._when_running(act)
            self.step(e.Tick(self._clock.now))

    def kill(self, *, guardian: bool = True, cause: str = "the pilot was killed") -> None:
        """SIGKILL. A guardian undoes the host; without one nobody does, but VMs die with it."""
        if not self.alive:
            return
        self._die()
        if guardian and not self._chance.hits(Fault.BOTH_KILLED, self.slot, scale=10):
            began = self._clock.now
            wait = self._chance.between(0.02, RESTORE_S - 1)
            self._clock.after(wait, lambda: self._undo(began, cause, Kind.FAILED))
        else:
            self._orphan()

    def lose_host(self) -> None:
        """Its host has crashed."""
        if self.alive:
            self._die()

    def _die(self) -> None:
        self.alive, self.died = False, self._clock.now
        self._share.readers.pop(self.id, None)
        self._gone()

    def _orphan(self) -> None:
        """No guardian: the kernel kills the VMs (PDEATHSIG), memory stays taken."""
        self.journal.guarded = False
        for vm in [vm for vm, pilot in self.host.vms.items() if pilot == self.id]:
            del self.host.vms[vm]

    # -- the guardian

    def _guard(self, watch: guard.Watch, letter: str) -> None:
        if not self.alive or not self.stopped:
            return
        watch, verdict = guard.tick(watch, self._clock.now, letter if guard.looks(watch) else "")
        if verdict is guard.Verdict.WAIT:
            self._clock.after(guard.TICK_S, lambda: self._guard(watch, letter))
            return
        began = self._clock.now
        self._die()
        last = Kind.RELEASED if verdict is guard.Verdict.PREEMPT else Kind.FAILED
        self._clock.after(0.5, lambda: self._undo(began, "its pilot was stopped", last))

    def _undo(self, began: float, cause: str, last: Kind) -> None:
        if self.host.boot != self.boot or self.id not in self.host.journals:
            return  # the host has crashed meanwhile
        left = self.host.undo(self.journal)
        data = {"cause": cause, "causes": left, "boot_id": f"{self.host.name}-{self.boot}",
                "undone_after_s": self._clock.now - began, "undone": []}  # fmt: skip
        if last is Kind.FAILED or left:
            last, data["clean"] = Kind.FAILED, not left
        if left:
            self.journal.guarded = False
        else:
            del self.host.journals[self.id]
        data.update(self.host.here(self.id))
        note = Notification(self.slot, self.host.name, self._guardian_id, 1, 1, last,
                            self.host.wall(), 1.0, data, self.id)  # fmt: skip
        self.host.outbox.append(note)
        self.host.deliver()

    # -- the core and its effects

    def _when_running(self, act: Callable[[], None]) -> None:
        if self.alive and self.stopped:
            self._later_events.append(act)
        elif self.alive:
            act()

    def step(self, event: e.Event) -> None:
        """One event through the real core."""
        if not self.alive:
            return
        self._state, effects = step(self._state, event)
        for effect in effects:
            if self._chance.hits(Fault.PILOT_KILLED, f"before {type(effect).__name__}"):
                self.kill()
            if self._chance.hits(Fault.BOTH_KILLED, f"before {type(effect).__name__}"):
                self.kill(guardian=False)
            if self._chance.hits(Fault.PILOT_HUNG):
                self.stop(hung=True)
            if not self.alive:
                return
            self._do(effect)
        self._wake()

    def _wake(self) -> None:
        at = wake_at(self._state)
        due = min(self._clock.now + TICK_S, at if at is not None else float("inf"))
        if self._wakes <= self._clock.now or due < self._wakes - 0.01:
            self._wakes = due
            self._clock.after(due - self._clock.now, self._tick)

    def _tick(self) -> None:
        if self.alive and not self._state.over:
            self._when_running(lambda: self.step(e.Tick(self._clock.now)))

    def _soon(self, low: float, high: float, act: Callable[[], None]) -> None:
        self._clock.after(self._chance.between(low, high), lambda: self._when_running(act))

    def _do(self, effect: e.Effect) -> None:
        if isinstance(effect, e.Letter):
            self._deliver()
        elif isinstance(effect, e.Beat):
            if self._share.wait_s(self.host.name) == 0:
                self._share.put(self._note(effect.seq, Kind.HEARTBEAT, effect.data))
        elif isinstance(effect, e.Reserve):
            self._soon(0.05, 1.0, lambda: self._reserve(self._clock.now + RESTORE_S))
        elif isinstance(effect, e.GiveUpReserve):
            self._given_up = True
            self._soon(0.01, 0.1, self._give_up)
        elif isinstance(effect, e.Create):
            self.journal.entries[effect.vm] = 0
            self._soon(0.1, 2.0, lambda: self._create(effect.vm))
        elif isinstance(effect, e.Propagate):
            self._soon(0.1, 8.0, lambda: self._propagate(effect))
        elif isinstance(effect, e.Act):
            self._soon(0.05, 5.0, lambda: self._act(effect.vm, effect.verb))
        elif isinstance(effect, e.Destroy):
            self._soon(0.05, 1.5, lambda: self._destroy(effect.vm))
        elif isinstance(effect, e.Restore):
            self._soon(0.05, 1.0, self._restore)
        elif isinstance(effect, e.Finish):
            self._finish = min(self._finish or 1e12, self._clock.now + effect.flush_s)
            self._soon(0.01, 0.05, self._leave)

    _given_up = False
    _reserving_done = False

    def _reserve(self, until: float) -> None:
        if self._given_up or self._reserving_done:
            return
        done, left = self.host.mend(self.id)
        guarded = [one for one in self.host.journals.values() if one.pilot != self.id]
        dead = [one for one in guarded if one.guarded and not self._lives(one.pilot)]
        if dead and self._clock.now < until:
            self._soon(0.1, 0.5, lambda: self._reserve(until))
            return
        self._reserving_done = True
        now, here = self._clock.now, self.host.here(self.id)
        if left:
            self.step(e.ReserveFailed(now, "dirty: " + "; ".join(left), False, tuple(done),
                                      tuple(left)))  # fmt: skip
            return
        if self.facts.settings.repair:
            self.host.deliver()
            self.step(e.Reserved(now, 0, None, tuple(done), here))
            return
        if self._chance.hits(Fault.RESERVE_FAILS, self.host.name):
            self.step(e.ReserveFailed(now, "no room"))
            return
        self.journal.entries["reserve"] = self.facts.settings.take_mib
        self.host.taken[self.id] = self.facts.settings.take_mib
        if self._chance.hits(Fault.PILOT_KILLED, "in mid-reserve"):
            self.kill()
            return
        self._soon(0.1, 2.0, lambda: self._reserved(done, here))

    lives: Mapping[str, SimPilot] = {}

    def _lives(self, pilot: str) -> bool:
        other = self.lives.get(pilot)
        return other is not None and other.alive

    def _reserved(self, done: list[str], here: dict[str, Any]) -> None:
        if not self._given_up:
            mib = self.facts.settings.take_mib
            self.step(e.Reserved(self._clock.now, mib, None, tuple(done), here))

    def _give_up(self) -> None:
        self._reserving_done = True
        self.step(e.ReserveFailed(self._clock.now, "given up"))

    def _create(self, vm: str) -> None:
        if vm not in self.journal.entries:
            return  # it was destroyed before it began
        if self._chance.hits(Fault.CREATE_FAILS, vm):
            del self.journal.entries[vm]
            self.step(e.CreateFailed(self._clock.now, vm, "no such image"))
            return
        self.host.begin(vm, self.id)
        self.step(e.Created(self._clock.now, vm))
        if self._chance.hits(Fault.GUEST_DIES, vm):
            self._soon(0.5, 60, lambda: self._guest_dies(vm))
        self._soon(1, 12, lambda: self.step(e.VmSaid(self._clock.now, vm, "ready")))

    def _propagate(self, effect: e.Propagate) -> None:
        now, vm = self._clock.now, effect.vm
        if self._chance.hits(Fault.CREATE_FAILS, vm):
            self.step(e.PropagateFailed(now, vm, "its digest is wrong"))
        else:
            self.step(e.Propagated(now, vm, {"name": "small"}))

    def _act(self, vm: str, verb: str) -> None:
        """A verb on a living VM; one that is gone cannot obey. A stopped one keeps its disk, so it
        stays among the host's VMs."""
        now = self._clock.now
        if self.host.vms.get(vm) != self.id or self._chance.hits(Fault.VERB_FAILS, f"{verb} {vm}"):
            self.step(e.ActFailed(now, vm, verb, "the VMM says no"))
            return
        self.step(e.Acted(now, vm, verb))
        if verb in ("start", "reboot"):
            self._soon(1, 30, lambda: self.step(e.VmSaid(self._clock.now, vm, "ready")))

    def _guest_dies(self, vm: str) -> None:
        if self.host.vms.get(vm) == self.id:
            del self.host.vms[vm]
            self.step(e.VmSaid(self._clock.now, vm, "exited", "killed by signal 9"))

    def _destroy(self, vm: str) -> None:
        if self.host.vms.get(vm) == self.id:
            del self.host.vms[vm]
        self.journal.entries.pop(vm, None)
        self.step(e.Destroyed(self._clock.now, vm))

    def _restore(self) -> None:
        left = self.host.undo(self.journal)
        here = self.host.here(self.id)
        if left:
            self.step(e.RestoreFailed(self._clock.now, "; ".join(left), here))
        else:
            self.step(e.Restored(self._clock.now, (), here))

    # -- the courier

    def _note(self, seq: int, kind: Kind, data: Mapping[str, Any]) -> Notification:
        return Notification(self.slot, self.host.name, self.id, 1, seq, kind, self.host.wall(),
                            1.0, data)  # fmt: skip

    def _deliver(self) -> None:
        """One letter after the other, each stored before the next is tried."""
        if not self._delivering and self._state.mail.handed:
            self._delivering = True
            wait = self._share.wait_s(self.host.name) + self._chance.between(0.005, 0.1)
            if self._chance.hits(Fault.COURIER_STUCK, self.host.name):
                self._share.stick(self.host.name, self._chance.between(5, 300))
            self._soon(wait, wait, self._stored)

    def _stored(self) -> None:
        self._delivering = False
        if self._state.mail.handed and self._share.wait_s(self.host.name) == 0:
            letter = self._state.mail.handed[0]
            self._share.put(self._note(letter.seq, Kind(letter.kind), letter.data))
            self.step(e.Stored(self._clock.now, letter.seq))
        if self.alive:
            self._deliver()

    def _leave(self) -> None:
        """Exit once all is stored, or when the time for that is over: then by the outbox."""
        mail = self._state.mail
        assert self._finish is not None
        if (mail.handed or mail.waiting) and self._clock.now < self._finish:
            self._soon(0.1, 0.3, self._leave)
            return
        number = mail.last_seq
        for letter in (*mail.handed, *mail.waiting):
            number += 0 if letter.seq else 1
            self.host.outbox.append(
                self._note(letter.seq or number, Kind(letter.kind), letter.data)
            )
        if self.id in self.host.journals:
            if self.journal.entries:
                self.journal.guarded = False
            else:
                del self.host.journals[self.id]
        self._die()


def uuid(chance: Chance) -> str:
    """A random one, of this seed."""
    digits = f"{chance.random.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

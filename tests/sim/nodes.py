"""Nodes: the real pilot core, with its shell, VMM and guardian modelled in virtual time."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.sim.world import Clock, Faults
from wspilot.messages import Kind, Notification, Order, rfc3339
from wspilot.node.core import Settings, State, step
from wspilot.node.core import events as e

BUDGET = {"launch": 60.0, "gather": 0.0, "propagate": 10.0, "reserve": 10.0, "boot": 60.0,
          "pad": 0.0, "save": 0.0, "stop": 15.0, "restore": 5.0, "slack": 60.0}  # fmt: skip


@dataclass
class Node:
    """A host: which VMs live there, and its boot."""

    name: str
    boot: int = 1
    vms: dict[str, str] = field(default_factory=dict)  # VM id -> pilot id


class SimPilot:
    """One pilot of one node. `kill` leaves the rest to its guardian, if that lives."""

    def __init__(
        self,
        clock: Clock,
        chance: random.Random,
        faults: Faults,
        node: Node,
        slot: str,
        lease_s: float,
        walltime_s: float,
        write: Callable[[Notification], None],
        done: Callable[[], None],
    ) -> None:
        self._clock, self._chance, self._faults = clock, chance, faults
        self.node, self.slot, self._write, self._done = node, slot, write, done
        self.id = _uuid(chance)
        self._guardian_id = _uuid(chance)
        self.alive, self._finishing = True, False
        settings = Settings(
            slot=slot,
            lease_s=lease_s,
            walltime_s=walltime_s,
            budget=BUDGET,
            allow_root=True,
            stop_share=0.6,
            grace_s=5.0,
        )
        self._state = State(settings, began=clock.now - 0.5)
        self.seen: set[str] = set()
        self._step(e.Begin(clock.now, clock.now, {"boot_id": f"{node.name}-{node.boot}", "uid": 7}))
        clock.after(1.0, self._tick)

    # -- what happens to it

    def order(self, order: Order) -> None:
        if self.alive and order.id not in self.seen:
            self.seen.add(order.id)
            self._step(e.Ordered(self._clock.now, order))

    def term(self) -> None:
        if self.alive:
            self._step(e.Term(self._clock.now))

    def kill(self, guardian: bool = True) -> None:
        """kill -9. The guardian notices within 1.5 s and undoes; without it nobody does."""
        if self.alive:
            self.alive = False
            if guardian:
                self._clock.after(self._chance.uniform(0.2, 3.0), self._undo)
            self._done()

    def _undo(self) -> None:
        gone = self._own_vms()
        for vm in gone:
            del self.node.vms[vm]
        data = {"cause": "the pilot was killed", "clean": True, "causes": []}
        self._write(
            Notification(
                self.slot,
                self.node.name,
                self._guardian_id,
                1,
                1,
                Kind.FAILED,
                rfc3339(self._clock.now),
                1.0,
                data,
                self.id,
            )
        )

    def _own_vms(self) -> list[str]:
        return [vm for vm, pilot in self.node.vms.items() if pilot == self.id]

    # -- the core and its effects

    def _tick(self) -> None:
        if self.alive:
            self._step(e.Tick(self._clock.now))
            self._clock.after(1.0, self._tick)

    def _step(self, event: e.Event) -> None:
        if not self.alive:
            return
        self._state, effects = step(self._state, event)
        for effect in effects:
            self._do(effect)

    def _later(self, low: float, high: float, make: Callable[[float], e.Event]) -> None:
        self._clock.after(
            self._chance.uniform(low, high), lambda: self._step(make(self._clock.now))
        )

    def _do(self, effect: e.Effect) -> None:
        if isinstance(effect, e.Letter):
            self._send(effect.seq, Kind(effect.kind), effect.data)
            self._later(0.0, 0.3, lambda now: e.Stored(now, effect.seq))
        elif isinstance(effect, e.Beat):
            self._send(effect.seq, Kind.HEARTBEAT, effect.data)
        elif isinstance(effect, e.Reserve):
            if self._chance.random() < self._faults.reserve_fails:
                self._later(0.1, 2, lambda now: e.ReserveFailed(now, "no room"))
            else:
                self._later(0.1, 2, e.Reserved)
        elif isinstance(effect, e.Create):
            self._create(effect.vm)
        elif isinstance(effect, e.Destroy):
            self._clock.after(self._chance.uniform(0.05, 1.0), lambda: self._destroy(effect.vm))
        elif isinstance(effect, e.Restore):
            self._clock.after(self._chance.uniform(0.05, 1.0), self._restore)
        elif isinstance(effect, e.Finish):
            self._clock.after(0.5, self._finish)

    def _send(self, seq: int, kind: Kind, data: object) -> None:
        self._write(
            Notification(
                self.slot,
                self.node.name,
                self.id,
                1,
                seq,
                kind,
                rfc3339(self._clock.now),
                1.0,
                data,
            )
        )  # type: ignore[arg-type]

    def _create(self, vm: str) -> None:
        if self._chance.random() < self._faults.create_fails:
            self._later(0.1, 1, lambda now: e.CreateFailed(now, vm, "no such image"))
            return
        self._clock.after(self._chance.uniform(0.1, 1.0), lambda: self._started(vm))

    def _started(self, vm: str) -> None:
        if self.alive and not self._finishing:
            assert vm not in self.node.vms, "the same VM was started twice on one node"
            self.node.vms[vm] = self.id
            self._step(e.Created(self._clock.now, vm))
            self._later(1, 10, lambda now: e.VmSaid(now, vm, "ready"))

    def _destroy(self, vm: str) -> None:
        if self.alive:
            self.node.vms.pop(vm, None)
            self._step(e.Destroyed(self._clock.now, vm))

    def _restore(self) -> None:
        if self.alive:
            self._finishing = True
            for vm in self._own_vms():
                del self.node.vms[vm]
            self._step(e.Restored(self._clock.now))

    def _finish(self) -> None:
        if self.alive:
            self.alive = False
            self._done()


def _uuid(chance: random.Random) -> str:
    digits = f"{chance.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

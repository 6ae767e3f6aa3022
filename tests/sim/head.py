"""The headnode: the real core and the real store, with the daemon's shell around them modelled.

`turn` and `post` are `service.py`'s; what is added are the moments at which the process, or the
whole host with everything that was not yet forced to its disk, can be lost.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.sim.clock import Clock
from tests.sim.faults import Chance, Fault
from tests.sim.lrm import Epochs, Lrm
from tests.sim.share import Share
from wspilot.daemon.core import Books, Rules, step
from wspilot.daemon.core import events as d
from wspilot.daemon.core.slots import job_name
from wspilot.daemon.lrm.base import Answer, Verdict
from wspilot.daemon.store import Store, StoreError, StoreFull
from wspilot.messages import Order, Verb, rfc3339

SCAN_S = 5.0  # a rescan, when nothing wakes the daemon
TICK_S = 3.0
GATHER_S = 0.1  # files that come together are read together
POLL_S = 15.0


class Disk:
    """The headnode's disk, in place of what `store.py` uses of `os`: it remembers what was forced
    to it, loses the rest with its power, and may be full."""

    def __init__(self, path: Path) -> None:
        self.path, self.full_until = path, 0.0
        self._forced: dict[int, int] = {}  # inode -> size

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fsync(self, descriptor: int) -> None:
        """Remembered; the real one would only cost time."""
        stat = os.fstat(descriptor)
        self._forced[stat.st_ino] = stat.st_size

    fdatasync = fsync

    def lose_power(self) -> None:
        """What was not forced is gone."""
        for file in self.path.glob("*.json*"):
            stat = file.stat()
            os.truncate(file, min(self._forced.get(stat.st_ino, 0), stat.st_size))


class Head:
    """The daemon, up or down."""

    def __init__(self, clock: Clock, chance: Chance, lrm: Lrm, disk: Disk, rules: Rules,
                 look: Callable[[Books], None]) -> None:  # fmt: skip
        self.clock, self.chance, self.lrm, self.rules = clock, chance, lrm, rules
        self.share: Share
        self.epochs = Epochs()
        self.disk = disk
        self.history: list[tuple[float, object]] = []
        self._look = look
        self._unposted: list[d.Event] = []
        self.life, self.up, self.up_since = 0, False, 0.0
        self._files_free = self._lrm_free = self._listened_at = 0.0
        self._polling, self._next_scan = False, 0.0
        self.store: Store
        self.books = Books()
        self.start()

    # -- a process's life

    def start(self) -> None:
        """Load the books and resume."""
        self.store = Store(self.disk.path)
        self.books = Books.load(self.store.load())
        self.life, self.up, self.up_since = self.life + 1, True, self.clock.now
        self._unposted = []
        self._files_free = self._lrm_free = self._listened_at = self.clock.now
        self._polling, self._next_scan = False, 0.0
        self.post(d.Recovered())
        self.later(0.5, self._tick)
        self.later(self.chance.between(0, POLL_S), self._poll_loop)
        self.later(0.2, self._scan_loop)

    def die(self, power: bool = False) -> None:
        """kill -9, or the whole host."""
        self.history.append((self.clock.now, "the headnode loses power" if power else "kill -9"))
        self.up = False
        self.store.close()
        if power:
            self.disk.lose_power()
        self.clock.after(self.chance.between(1, 90), self._again)

    def _again(self) -> None:
        if not self.up:
            self.history.append((self.clock.now, "the daemon is back"))
            self.start()

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Something this process will do, if it still lives then."""
        life = self.life
        self.clock.after(seconds, lambda: act() if self.up and self.life == life else None)

    def _struck(self, scale: float = 1.0) -> bool:
        if self.chance.hits(Fault.DAEMON_KILLED, scale=scale):
            self.die()
        elif self.chance.hits(Fault.HEAD_CRASH):
            self.die(power=True)
        return not self.up

    # -- one turn, as in service.py

    def turn(self, events: Sequence[d.Event]) -> list[bool]:
        """Apply, commit once, carry out. Raises StoreError; answers [] when it was killed."""
        done: list[bool] = []
        effects: list[d.Effect] = []
        for event in events:
            result = step(self.books, event, self.clock.now, self.rules)
            done.append(result.done)
            effects += result.effects
            self.history.append((self.clock.now, event))
        if self._struck():
            return []
        changes = self.books.changes()
        self._look(self.books)
        try:
            if self.chance.hits(Fault.DISK_FULL):
                self.disk.full_until = self.clock.now + self.chance.between(1, 60)
            if changes and self.clock.now < self.disk.full_until:
                raise StoreFull("no space left on device")
            if changes:
                self.store.commit(changes)
        except StoreError:
            self.books.rollback()
            self.books.asking.clear()
            raise
        self.books.settle()
        if self._struck(4.0 if effects else 0.5):  # the worst moment: promised, nothing done
            return []
        for effect in effects:
            self._ask(effect)
        return done

    def post(self, event: d.Event) -> None:
        """An event that must not be lost while this process lives."""
        self._unposted.append(event)
        events, self._unposted = self._unposted, []
        try:
            self.turn(events)
        except StoreError:
            self._unposted = events + self._unposted

    def quietly(self, events: Sequence[d.Event]) -> list[bool]:
        """Events that come again by themselves."""
        try:
            return self.turn(events) if events else []
        except StoreError:
            return [False] * len(events)

    def command(self, event: d.Event) -> bool:
        """A user's request: False when it was refused or nobody answered."""
        if not self.up:
            return False
        try:
            return bool(self.turn([event]))
        except StoreError:
            return False

    # -- loops

    def _tick(self) -> None:
        self.later(TICK_S, self._tick)
        self.quietly([d.Tick()])
        if self.up and self._unposted:
            self.post(d.Tick())

    def _poll_loop(self) -> None:
        self.later(self.chance.between(POLL_S - 4, POLL_S + 4), self._poll_loop)
        self._poll()

    def _poll(self) -> None:
        if self._polling or not (self.books.open_slots or self.books.loose_jobs):
            return
        self._polling, sent = True, self.clock.now
        listing = self.lrm.poll()

        def answered() -> None:
            self._polling = False
            self.post(d.Polled(listing, sent))

        self.later(self.chance.between(0.05, 3.0), answered)

    def _scan_loop(self) -> None:
        self.later(SCAN_S, self._scan_loop)
        self.scan()

    def wake(self, at: float) -> None:
        """inotify: somebody wrote something that is visible from `at` on."""
        if self.up and not self._next_scan - GATHER_S <= at <= self._next_scan:
            self._next_scan = at + GATHER_S
            self.later(self._next_scan - self.clock.now, self.scan)

    def scan(self) -> None:
        """List new/ and hb/; unlink what is done."""
        if self.share.wait_s() > 0:
            self._listened_at = self.clock.now
            return
        files = self.share.visible()
        if files:
            done = self.quietly([d.Heard(file.note) for file in files])
            if not self.up:
                return
            gone = {id(file) for file, ok in zip(files, done, strict=False) if ok}
            self.share.new = [file for file in self.share.new if id(file) not in gone]
        beats = [one for one in self.share.beats.values() if one.visible_at <= self.clock.now]
        for one in beats:
            del self.share.beats[one.note.pilot]
        listened = d.Listened(self.clock.now - self._listened_at)
        self._listened_at = self.clock.now
        self.quietly([*(d.Heard(one.note) for one in beats), listened])

    # -- effects, in two lanes, in order

    def _ask(self, effect: d.Effect) -> None:
        now = self.clock.now
        if isinstance(effect, d.Poll):
            self.later(self.chance.between(0.5, 10), self._poll)
        elif isinstance(effect, (d.Submit, d.Cancel)):
            self._lrm_free = max(self._lrm_free, now) + self.chance.between(0.05, 2.0)
            self.later(self._lrm_free - now, lambda: self._lrm(effect))
        else:
            self._files_free = max(self._files_free, now) + self.chance.between(0.0, 0.05)
            self.later(self._files_free - now, lambda: self._file(effect))

    def _file(self, effect: d.Effect) -> None:
        wait = self.share.wait_s()
        if wait > 0:  # tried again until the filesystem is back
            self.later(wait + 0.1, lambda: self._file(effect))
        elif isinstance(effect, d.Claim):
            self.post(d.Claimed(effect.slot, self.epochs.close(effect.slot)))
        elif isinstance(effect, d.Send):
            self._send(effect.order)

    def _send(self, id: str) -> None:
        record = self.books.order(id)
        if record is not None:
            issued = rfc3339(record.issued)
            self.share.order(
                Order(record.slot, record.node, record.pilot, record.epoch, record.seq,
                      Verb(record.kind), record.id, record.ttl_s, issued, 0.0, record.data)
            )  # fmt: skip

    def _lrm(self, effect: d.Submit | d.Cancel) -> None:
        if isinstance(effect, d.Cancel):
            answer = self.lrm.cancel(effect.job)
            self.later(
                self.chance.between(0.05, 1.0),
                lambda: self.post(d.Cancelled(effect.slot, effect.job, answer)),
            )
            return
        slot = self.books.slot(effect.slot)
        if slot is None or slot.job or slot.calls != effect.calls:
            self.books.asking.discard(effect.slot)
            return
        answer = Answer(Verdict.RETRY, text="the slot was closed before")
        if not slot.claimed:
            name = job_name(slot.id, effect.calls)
            pinned = (slot.repair_of,) if slot.repair_of else ()
            exclude = () if slot.repair_of else tuple(sorted(self.books.dirty_nodes))
            if len(self.lrm.up) - len(exclude) < slot.nodes:
                exclude = ()
            answer = self.lrm.submit(slot.id, name, slot.nodes, slot.walltime_s, pinned, exclude)
        took = self.chance.between(0.05, 2.0)
        self.later(took, lambda: self.post(d.Submitted(effect.slot, effect.calls, answer)))
        if self.chance.hits(Fault.DAEMON_KILLED, "in the middle of a qsub", scale=10):
            self.die()

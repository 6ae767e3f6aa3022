"""The shared filesystem: late, repeated, torn, hanging. Forged files are the spool's own tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.sim.clock import Clock
from tests.sim.faults import Chance, Fault
from wspilot.messages import Notification, Order

Reader = Callable[[Order], None]


@dataclass
class File:
    """A notification in new/, and when the headnode can see it."""

    note: Notification
    visible_at: float


class Share:
    """new/, hb/ and cmd/. Where it hangs, nothing is read or written until it is back."""

    def __init__(self, clock: Clock, chance: Chance, wake: Callable[[float], None]) -> None:
        self._clock, self._chance, self._wake = clock, chance, wake
        self.new: list[File] = []
        self.beats: dict[str, File] = {}
        self.readers: dict[str, Reader] = {}  # pilot -> its courier
        self.back_at = 0.0  # of a hang
        self._tearing = chance.random.choice([0.5, 4.0])
        self._stuck: dict[str, float] = {}  # node -> when its courier is free again

    def hang(self, seconds: float) -> None:
        """Everywhere."""
        self.back_at = max(self.back_at, self._clock.now + seconds)

    def stick(self, node: str, seconds: float) -> None:
        """One node's courier is in state D; its successor fares no better."""
        self._stuck[node] = self._clock.now + seconds

    def wait_s(self, node: str = "") -> float:
        """How long an access from there would block now."""
        until = max(self.back_at, self._stuck.get(node, 0.0))
        return max(0.0, until - self._clock.now)

    def freed(self, node: str) -> float:
        """When that node's courier was last free again."""
        return max(self.back_at, self._stuck.get(node, 0.0))

    def put(self, note: Notification) -> None:
        """A file is renamed into new/ (or replaced in hb/)."""
        if note.kind.value == "heartbeat":
            self.beats[note.pilot] = File(note, self._visible())
            self._wake(self.beats[note.pilot].visible_at)
            return
        if self._chance.hits(Fault.FILE_TORN, note.kind.value, self._tearing):
            return  # what is there fails its mac and goes to bad/
        self._add(note, self._visible())
        if self._chance.hits(Fault.FILE_TWICE, note.kind.value):
            self._add(note, self._visible() + self._chance.between(0, 100))

    def _add(self, note: Notification, at: float) -> None:
        self.new.append(File(note, at))
        self._wake(at)

    def _visible(self) -> float:
        late = self._chance.between(0.02, 0.5)
        if self._chance.hits(Fault.FILE_LATE):
            late += self._chance.random.choice([2.0, 20.0, 60.0, 300.0]) * self._chance.between(
                0, 1
            )
        return self._clock.now + late

    def visible(self) -> list[File]:
        """What a listing shows now."""
        now = self._clock.now
        found = [file for file in self.new if file.visible_at <= now]
        found.sort(key=lambda file: (file.note.time, file.note.pilot, file.note.seq))
        return found

    def order(self, order: Order) -> None:
        """A command's file is written; its pilot's courier lists cmd/ once a second."""
        wait = self.wait_s(order.node) + self._chance.between(0.1, 1.2)
        if self._chance.hits(Fault.FILE_LATE):
            wait += self._chance.between(0, 40)
        self._clock.after(wait, lambda: self._read(order))
        if self._chance.hits(Fault.FILE_TWICE, order.kind.value):
            self._clock.after(wait + self._chance.between(0, 30), lambda: self._read(order))

    def _read(self, order: Order) -> None:
        reader = self.readers.get(order.pilot)
        if reader is not None:
            reader(order)

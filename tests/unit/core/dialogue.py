"""A conversation with the core in virtual time: speak, then look at the books and effects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wspilot.daemon.core import Books, Rules, step
from wspilot.daemon.core.events import (
    Claimed,
    Deploy,
    Destroy,
    Effect,
    Event,
    Heard,
    Polled,
    Submitted,
    Tick,
)
from wspilot.daemon.lrm.base import Answer, Job, JobState, Listing, Verdict
from wspilot.daemon.policy import SlotPlan
from wspilot.ensemble import Request
from wspilot.messages import Kind, Notification, rfc3339
from wspilot.model import (
    TABLES,
    Group,
    Nic,
    PendingOrder,
    Slot,
    SlotState,
    Vm,
    VmReport,
    VmState,
    Workspace,
    to_doc,
)

OWNER = "ann"


class Dialogue:
    """One workspace `one` with a group `vm`, on `slots` slots of `nodes` nodes each."""

    def __init__(
        self,
        count: int = 1,
        *,
        nodes: int | None = None,
        slots: int = 1,
        minimum: int | None = None,
        lease_s: int = 3600,
        submit_gap_s: float = 0.0,
    ) -> None:
        self.books, self.now = Books(), 1000.0
        self.rules = Rules(owner=OWNER, submit_gap_s=submit_gap_s)
        self.effects: list[Effect] = []
        self.seq: dict[str, int] = {}
        group = Group("vm", "small", count, count if minimum is None else minimum, "small", 1, 512,
                      0, nics=("private",))  # fmt: skip
        members = [("vm", n) for n in range(1, count + 1)]
        each = count // slots
        plan = tuple(
            SlotPlan(tuple(members[n * each : (n + 1) * each]), nodes or each, 1, 600, True)
            for n in range(slots)
        )
        nics = tuple((Nic("private", f"mac{n}", f"10.0.0.{n}"),) for _, n in members)
        request = Request("one", lease_s, (group,))
        self.say(Deploy("w" * 8, 0, "one", request, plan, 4000, "per-workspace", nics))

    # -- saying

    def say(self, event: Event) -> bool:
        """One event, committed."""
        result = step(self.books, event, self.now, self.rules)
        self.books.settle()
        self.effects += result.effects
        return result.done

    def later(self, seconds: float) -> Dialogue:
        """Time passes, with a tick at its end."""
        self.now += seconds
        self.say(Tick())
        return self

    def accept(self, slot: Slot | None = None, job: str = "7.srv") -> None:
        slot = slot or self.slot
        self.say(Submitted(slot.id, slot.calls, Answer(Verdict.ACCEPTED, job)))

    def answer(self, verdict: Verdict, text: str = "") -> None:
        self.say(Submitted(self.slot.id, self.slot.calls, Answer(verdict, text=text)))

    def poll(self, *jobs: Job, ok: bool = True) -> None:
        self.say(Polled(Listing(ok, {job.id: job for job in jobs}), self.now))

    def job(self, state: JobState = JobState.RUNNING, id: str = "7.srv", **more: Any) -> Job:
        return Job(id, f"ws-{self.slot.id}-01", OWNER, state, state.value, **more)

    def job_of(self, slot: Slot, state: JobState) -> Job:
        """The job of any slot."""
        return Job(slot.job, f"ws-{slot.id}-01", OWNER, state, state.value)

    def claim(self, won: bool) -> None:
        self.say(Claimed(self.slot.id, won))

    def destroy(self, abandon: bool = False) -> None:
        self.say(Destroy(("w" * 8,), abandon=abandon))

    def hear(self, pilot: str, kind: Kind, data: Mapping[str, Any] | None = None, *,
             seq: int | None = None, slot: Slot | None = None, epoch: int = 1,
             of: str | None = None) -> bool:  # fmt: skip
        """The pilot of node `pilot` (or, with `of`, its guardian) says something."""
        who = uuid(pilot + (":guardian" if of else ""))
        number = seq or self.seq.get(who, 0) + 1
        self.seq[who] = max(number, self.seq.get(who, 0))
        note = Notification(
            slot=(slot or self.slot).id,
            node=pilot,
            pilot=who,
            epoch=epoch,
            seq=number,
            kind=kind,
            time=rfc3339(self.now),
            mono=1.0,
            data=data or {},
            of=uuid(of) if of else None,
        )
        return self.say(Heard(note))

    def report(self, pilot: str, vm: Vm, state: VmState, cause: str = "") -> None:
        self.hear(pilot, Kind.VM, VmReport(vm.id, state, cause).to_data(), slot=self.slot_of(vm))

    # -- ways that many tests go

    def start(self, *pilots: str, slot: Slot | None = None) -> None:
        """The job runs, and its pilots reserve their nodes."""
        for pilot in pilots:
            self.hear(pilot, Kind.STARTED, {"boot_id": f"boot-{pilot}", "age_s": 0.5}, slot=slot)
            self.hear(pilot, Kind.RESERVED, {"taken_mib": 0}, slot=slot)

    def run(self, *pilots: str) -> None:
        """All the way to active."""
        self.accept()
        self.later(5)
        self.poll(self.job())
        self.start(*pilots)
        for vm in self.vms:
            self.report(vm.node, vm, VmState.RUNNING)

    def release(self, *pilots: str) -> None:
        for pilot in pilots:
            self.hear(pilot, Kind.RELEASED, {"boot_id": f"boot-{pilot}"})

    # -- looking

    @property
    def ws(self) -> Workspace:
        return next(self.books.workspaces())

    @property
    def slot(self) -> Slot:
        return self.slots[0]

    @property
    def slots(self) -> list[Slot]:
        return self.books.slots_of(self.ws)

    @property
    def vms(self) -> list[Vm]:
        return self.books.vms_of(self.ws)

    def slot_of(self, vm: Vm) -> Slot:
        slot = self.books.slot(vm.slot)
        assert slot is not None
        return slot

    def orders(self, kind: str) -> list[PendingOrder]:
        return [order for order in self.books.orders() if order.kind == kind]

    def asked(self, kind: type) -> list[Any]:
        """Effects of a kind since the last look."""
        found = [effect for effect in self.effects if isinstance(effect, kind)]
        self.effects = [effect for effect in self.effects if not isinstance(effect, kind)]
        return found

    def texts(self) -> list[str]:
        return [event.text for event in self.books.events()]

    def restart(self) -> None:
        """The daemon dies and comes back with what was on disk."""
        tables = {
            table: {record.id: to_doc(record) for record in self.books.all(table)}
            for table in TABLES
        }
        self.books = Books.load(tables)


def uuid(word: str) -> str:
    """A pilot's id made from its node's name."""
    digits = word.encode().hex().ljust(8, "0")[:8]
    return f"{digits}-0000-4000-8000-{word.encode().hex().ljust(12, '0')[-12:]}"


ENDED = {SlotState.RELEASED, SlotState.FAILED, SlotState.PREEMPTED}

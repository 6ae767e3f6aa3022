"""One seed: users come, things go wrong; then calm, in which everything must come to its end."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from tests.sim.clock import Clock
from tests.sim.faults import Chance, Fault
from tests.sim.head import Disk, Head
from tests.sim.lrm import OWNER, Lrm, SimJob
from tests.sim.node import BUDGET, Facts, Host, SimPilot, uuid
from tests.sim.share import Share
from tests.sim.table import Moves
from tests.sim.truth import Truth
from wspilot.daemon import store
from wspilot.daemon.addresses import mac_of
from wspilot.daemon.core import Books, Rules, spares
from wspilot.daemon.core import events as d
from wspilot.daemon.core.acting import VERBS
from wspilot.daemon.core.turn import derive_id
from wspilot.daemon.policy import SlotPlan, reuse
from wspilot.ensemble import Request
from wspilot.messages import Kind, Notification
from wspilot.model import Group, Nic
from wspilot.node.core import Settings, launch
from wspilot.settings import Policy

HOSTS = 4
STORY_S = 700.0  # in which faults strike
PATIENCE_S = 1200.0  # of its users, in the calm
CALM_S = 6000.0  # by then everything must have ended
RULES = Rules(owner=OWNER, launch_s=60, boot_s=60, gather_s=100, again_s=(10, 30, 60),
              repair_s=(20, 60, 120), repair_wait_s=300)  # fmt: skip
WARM = SlotPlan((), 1, 1, 200, True)
KEEPING = {  # seed % 5 -> rules of a site whose slots change hands
    3: replace(RULES, policy=Policy("reuse", hold_s=150)),
    4: replace(RULES, policy=Policy("warm", hold_s=300, slots=2, hours=1), warm=WARM,
               warm_walltime_s=900),
}  # fmt: skip
CALM = replace(RULES, policy=Policy(hold_s=150))
_MEMORY = Path("/dev/shm")


class Play:
    """The whole system under one seed."""

    def __init__(self, seed: int, disk: Disk, *, kinds: Collection[Fault] | None,
                 without: Collection[str], users: int | None = None) -> None:  # fmt: skip
        self.clock = Clock()
        self.chance = chance = Chance(seed, self.clock, kinds=kinds, without=without)
        self.seed = seed
        names = tuple(f"n{n}" for n in range(1, HOSTS + 1))
        self.lrm = Lrm(self.clock, chance, names)
        self.pilots: dict[str, SimPilot] = {}
        self.moves = Moves(chance)
        self.truth = Truth(self)
        self.head: Head
        self._disk = disk
        self.share = Share(self.clock, chance, lambda at: self.head.wake(at))
        self.hosts = {name: self._host(name) for name in names}
        self._per_job = chance.random.random() < 0.5
        self._suspendable = chance.random.random() < 0.5
        self.asked: list[str] = []
        self.users, self._users_came = users or 0, 0
        if seed % 5 in KEEPING and kinds is None:  # slots change hands when leases end early
            chance.kinds |= {Fault.DESTROY}
            self.users = users or chance.random.randrange(3, 9)
        self._launched: dict[str, list[SimPilot]] = {}  # job -> pilots of its last start

    def _host(self, name: str) -> Host:
        skew = self.chance.between(-200, 200) if self.chance.hits(Fault.CLOCK_SKEW, name) else 0.0
        return Host(name, self.clock, self.chance, self.share, skew_s=skew, born=self.truth.born)

    # -- the story

    def run(self) -> None:
        """All of it. Raises Violation."""
        rules = KEEPING.get(self.seed % 5, RULES)
        self.head = Head(self.clock, self.chance, self.lrm, self._disk, rules, self._look)
        self.head.share = self.share
        signals = self.lrm.signals
        signals.start = lambda job: self._start(job, job.starts)
        signals.term = lambda job: self._each(job, SimPilot.term)
        signals.overdue = lambda job: self._each(job, SimPilot.overdue)
        signals.kill = lambda job: self._each(job, SimPilot.kill)
        signals.stop = lambda job: self._each(job, SimPilot.stop)
        signals.resume = lambda job: self._each(job, SimPilot.resume)
        chance = self.chance
        self.users = self.users or chance.random.randrange(1, 5)
        for _ in range(self.users):
            self.clock.after(chance.between(0, 200), self._user)
        for _ in range(4):
            if chance.hits(Fault.SHARE_HANGS):
                hang = partial(self.share.hang, chance.between(5, 200))
                self.clock.after(chance.between(0, STORY_S), hang)
        self._calamities()
        self.clock.run(self.clock.now + STORY_S)
        self._calm()

    def _calamities(self) -> None:
        """Every few seconds a node may go down."""
        for host in self.hosts.values():
            if host.up and self.chance.hits(Fault.NODE_CRASH, host.name):
                self._crash(host)
        if not self.chance.calm:
            self.clock.after(self.chance.between(5, 30), self._calamities)

    def _crash(self, host: Host) -> None:
        self.head.history.append((self.clock.now, f"{host.name} crashes"))
        for pilot in self.pilots.values():
            if pilot.host is host:
                pilot.lose_host()
        host.crash()
        self.lrm.node_down(host.name)

        def back() -> None:
            host.up = True
            self.lrm.node_up(host.name)

        self.clock.after(self.chance.between(30, 300), back)

    def _calm(self) -> None:
        """No fault strikes any more; what was broken is mended; time goes on until all is over."""
        self.chance.calm = True
        self.head.rules = CALM  # nothing is asked for in advance any more
        self.share.back_at = 0.0
        for pilot in self.pilots.values():
            pilot.resume()
        begin = self.clock.now
        end = begin + CALM_S
        quiet = 0  # a late word may still make something new to do
        while self.clock.now < end and quiet < 2:
            self.clock.run(self.clock.now + 60)
            quiet = quiet + 1 if self.truth.settled() else 0
            if begin + PATIENCE_S < self.clock.now <= begin + PATIENCE_S + 60:
                self._give_up()
        self.truth.finally_()

    def close(self) -> None:
        """Give the store's files back."""
        if getattr(self, "head", None) is not None and self.head.up:
            self.head.store.close()

    def _give_up(self) -> None:
        """A job that is held for ever is the users' business: they destroy what is not over."""
        for id in self.asked:
            self._say(lambda one=id: d.Destroy((one,)))

    def _look(self, books: Books) -> None:
        self.moves.look(books)
        self.truth.look(books)

    # -- users

    def _user(self) -> None:
        random = self.chance.random
        count, lease = random.randrange(1, 5), random.choice([30, 120, 300])
        number = self._users_came = self._users_came + 1
        id = derive_id(self.seed, number, "ws")
        minimum = random.choice([count, random.randrange(1, count + 1)])
        group = Group("vm", "small", count, minimum, "small", 1, 128, 0, nics=("private",))
        members = tuple(("vm", n) for n in range(1, count + 1))
        plan: tuple[SlotPlan, ...] = (SlotPlan(members, count, 1, 200, True),)
        if self._per_job:
            plan = tuple(SlotPlan((one,), 1, 1, 200, True) for one in members)
        self._deploy(id, number, Request("", lease, (group,)), plan, members)

    def _deploy(self, id: str, number: int, request: Request, plan: tuple[SlotPlan, ...],
                members: tuple[tuple[str, int], ...]) -> None:  # fmt: skip
        again = partial(self._deploy, id, number, request, plan, members)
        held = self.head.books.held
        free = (f"10.0.0.{n}" for n in range(2, 250) if f"10.0.0.{n}" not in held)
        nics = tuple(
            (Nic("private", mac_of(ip), ip),) for _, ip in zip(members, free, strict=False)
        )
        walltime = request.duration_s + int(sum(BUDGET.values()))
        event = d.Deploy(id, 7, f"ws{number}", request, self._held(plan, request.duration_s),
                         walltime, "per-node", nics)  # fmt: skip
        known = self.head.up and self.head.books.workspace(id) is not None
        if not known and not self.head.command(event):
            self.clock.after(5, again)  # the same request with the same token
            return
        self.asked.append(id)
        self._plans(id)

    def _held(self, plan: tuple[SlotPlan, ...], lease_s: int) -> tuple[SlotPlan, ...]:
        """As the daemon's API does it: spare slots before new ones."""
        head = self.head
        if not head.up or not head.rules.policy.keeps:
            return plan
        offers = spares.offers(head.books, head.rules, self.clock.now)
        return reuse(plan, offers, BUDGET["boot"] + lease_s, BUDGET["gather"])

    def _plans(self, id: str) -> None:
        """What its user will do with it."""
        chance, after = self.chance, self.clock.after
        if chance.hits(Fault.DESTROY, id):
            latest = chance.random.choice([4, 10, 40, 300])
            after(chance.between(0, latest), lambda: self._say(lambda: d.Destroy((id,))))
        if chance.hits(Fault.DESTROY_VM, id):
            after(chance.between(0, 200), lambda: self._say(lambda: self._one_vm(id)))
        if chance.hits(Fault.VERB, id):
            for _ in range(chance.random.randrange(2, 16)):
                after(chance.between(5, 250), lambda: self._say(lambda: self._verb(id)))
        if chance.hits(Fault.ABANDON, id):
            abandon = d.Destroy((id,), abandon=True)
            latest = chance.random.choice([4, 10, 40, 300])
            after(chance.between(0, latest), lambda: self._say(lambda: abandon))

    def _say(self, make: Any) -> None:
        event = make()
        if event is not None and not self.head.command(event):
            self.clock.after(3, lambda: self._say(make))

    def _one_vm(self, id: str) -> d.Destroy | None:
        ws = self.head.books.workspace(id) if self.head.up else None
        if ws is None:
            return None
        failed = [vm.id for vm in self.head.books.vms_of(ws) if vm.state.value == "failed"]
        return d.Destroy((), (self.chance.random.choice(failed or ws.vms),))

    def _verb(self, id: str) -> d.Act | d.Extend | None:
        """What a user asks of a VM, fit for its state or not."""
        head, random = self.head, self.chance.random
        ws = head.books.workspace(id) if head.up else None
        if ws is None:
            return None
        if random.random() < 0.1:
            return d.Extend(id, random.choice([10, 60]))
        verb, vm = random.choice(sorted(VERBS)), random.choice(ws.vms)
        record = head.books.vm(vm)
        return d.Act(verb, (vm,)) if record is not None and not record.doing else None

    # -- jobs

    def _each(self, job: SimJob, act: Any) -> None:
        for pilot in self._launched.get(job.id, []):
            act(pilot)

    def _start(self, job: SimJob, start: int) -> None:
        self._launched[job.id] = []
        wait = self.chance.between(0.2, 4.0) + self.share.wait_s()
        self.clock.after(wait, lambda: self._launcher(job, start))

    def _runs(self, job: SimJob, start: int) -> bool:
        return job.starts == start and job.state.value in ("running", "suspended")

    def _launcher(self, job: SimJob, start: int) -> None:
        """What `launcher.py` does: claim the epoch, look at the nodes, start one pilot a node."""
        if not self._runs(job, start):
            return
        if (wait := self.share.wait_s()) > 0:
            self.clock.after(wait + 0.1, lambda: self._launcher(job, start))
            return
        epoch = self.head.epochs.launch(job.slot)
        if epoch > 1:
            for host in job.hosts:
                self._refuse(job, self.hosts[host], epoch, "restarted")
            self.clock.after(1, lambda: self.lrm.ended(job))
            return
        given = job.hosts
        if self.chance.hits(Fault.PACKED, job.id):
            given = given[:-1] or given
        why = launch.too_few(given, job.nodes, False)
        if why:
            self._refuse(job, self.hosts[given[0]], epoch, why, nothing_started=True)
            self.clock.after(0.5, lambda: self.lrm.ended(job))
            return
        if self.chance.hits(Fault.LAUNCHER_KILLED, job.id):
            wait = self.chance.between(0, 200)
            self.clock.after(wait, lambda: self._if_runs(job, start))
        self._pilots(job, given, self.clock.now)

    def _if_runs(self, job: SimJob, start: int) -> None:
        if self._runs(job, start):  # the job's own process is gone: so is the job
            self.lrm.strike(job)

    def _pilots(self, job: SimJob, given: tuple[str, ...], began: float) -> None:
        slot = self.head.books.slot(job.slot)
        repair = bool(slot and slot.repair_of)
        ws = self.head.books.workspace(slot.workspace) if slot else None
        budget = BUDGET if not repair else {"launch": 30.0, "reserve": 30.0, "restore": 5.0,
                                            "slack": 10.0}  # fmt: skip
        settings = Settings(
            slot=job.slot, lease_s=ws.lease_s if ws else job.walltime_s, walltime_s=job.walltime_s,
            budget=budget, allow_root=True, grace_s=5.0, stop_share=0.6, take_mib=200,
            repair=repair,
        )  # fmt: skip
        left = set(given)

        def gone(host: str) -> None:
            left.discard(host)
            if not left:
                self.clock.after(self.chance.between(0.05, 0.5), lambda: self.lrm.ended(job))

        mine = self._launched[job.id]
        self.truth.launched(job.slot)
        facts = Facts(job.slot, settings, began, self._suspendable)
        for host in given:
            if not self.hosts[host].up:
                gone(host)
                continue
            pilot = SimPilot(self.hosts[host], facts, partial(gone, host))
            pilot.lives = self.pilots
            self.pilots[pilot.id] = pilot
            mine.append(pilot)
            if job.state.value == "suspended":
                pilot.stop()

    def _refuse(self, job: SimJob, host: Host, epoch: int, cause: str, **more: object) -> None:
        """A launcher that must not start anything repairs its nodes and says so."""
        if not host.up:
            return
        done, left = host.mend() if epoch > 1 else ([], [])
        data = {"cause": cause, "causes": left, "undone": done, "clean": not left,
                "boot_id": f"{host.name}-{host.boot}", **host.here(),
                **more}  # fmt: skip
        self.share.put(Notification(job.slot, host.name, uuid(self.chance), epoch, 1, Kind.FAILED,
                                    host.wall(), 1.0, data))  # fmt: skip


def play(seed: int, *, kinds: Collection[Fault] | None = None,
         without: Collection[str] = (), keep: list[Play] | None = None,
         users: int | None = None) -> Play:  # fmt: skip
    """One seed's story, to its end. Raises Violation; `keep` gets the play all the same."""
    memory = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="wspilot-sim-", dir=memory) as place:
        disk = Disk(Path(place) / "store")
        one = Play(seed, disk, kinds=kinds, without=without, users=users)
        collects = gc.isenabled()
        gc.disable()  # a play is short and its garbage small
        if keep is not None:
            keep.append(one)
        with mock.patch.object(store, "os", disk):
            try:
                one.run()
            finally:
                one.close()
                if collects:
                    gc.enable()
        return one


def active(one: Play) -> int:
    """How many leases became active: stories in which nothing happens prove nothing."""
    return sum(ws.active_at is not None for ws in one.head.books.workspaces())

"""What a pilot does to its node, each step with a time limit: reserve, create, destroy, restore.

Every effect that begins here ends in exactly one event, whatever it raises, also when it is
cancelled; and every step stands in the undo journal before it is taken.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from wspilot.errors import Code, Refused, WspilotError
from wspilot.node import others, patch, proc, undo
from wspilot.node.aside import aside
from wspilot.node.context import make_seed
from wspilot.node.core import events as e
from wspilot.node.core.settings import Settings
from wspilot.node.host import HostAdapter
from wspilot.node.images import Images
from wspilot.node.journal import Journal
from wspilot.node.network import Ground, Ways
from wspilot.node.places import Places
from wspilot.node.reached import Reached
from wspilot.node.signing import Writer
from wspilot.node.values import dataclass
from wspilot.node.vmm import probe_kvm
from wspilot.node.vmm.base import VmEvent, VmHandle, Vmm, VmSpec, parse_spec
from wspilot.node.vmm.flatten import RATE_MIB
from wspilot.text import clean

UNDO_S = 20.0  # beyond the restore budget: 3 s for each journal that somebody left stuck
OUTBOX_S = 5.0  # for the outbox to reach the spool, before a repair job says its last word
PEERS = -1  # a `context` that only says where the sister nodes are
DETACH_S = 20.0  # the root helper included
DESTROY_S = 30.0  # beyond the grace: a VMM that has not answered by then never will


@dataclass(frozen=True)
class Site:
    """Where this pilot stands and with what it works."""

    settings: Settings
    spool: Path
    writer: Writer
    places: Places
    vmm: Vmm
    host: HostAdapter
    age_s: float
    job: str = ""


class Work:
    """The hands of one pilot. `say` takes the events; `outbox(limit_s)` returns when earlier
    pilots' messages have been delivered, as far as that is possible."""

    def __init__(
        self,
        site: Site,
        journal: Journal,
        rundir: Path,
        boot_id: str,
        say: Callable[[e.Event], None],
        outbox: Callable[[float], Coroutine[Any, Any, None]],
    ) -> None:
        self._site, self._journal, self._rundir, self._boot = site, journal, rundir, boot_id
        self._say, self._outbox = say, outbox
        self._picture: dict[str, Mapping[str, Any]] = {}  # parts of the workspace's picture
        ground = Ground(site.settings, site.writer.node, site.places, journal, rundir)
        self.networks = Ways(ground, site.vmm.name)
        self._reached = Reached(self.networks, site.vmm)
        self.images = Images(ground, real=site.vmm.name != "sim")
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._reserve: asyncio.Task[None] | None = None

    def begin(self, effect: e.Effect) -> None:
        """Start carrying out an effect."""
        if isinstance(effect, e.Reserve):
            self._reserve = self._task("reserve", self._do_reserve(effect.limit_s))
            self._reserve.add_done_callback(self._given_up)
        elif isinstance(effect, e.GiveUpReserve):
            if self._reserve is not None:
                self._reserve.cancel()
        elif isinstance(effect, e.Propagate):
            self._task(f"propagate {effect.vm}", self._propagate(effect))
        elif isinstance(effect, e.Create):
            self._task(f"create {effect.vm}", self._create(effect))
        elif isinstance(effect, e.Act):
            self._task(f"{effect.verb} {effect.vm}", self._act(effect))
        elif isinstance(effect, e.Context):
            self._task("context", self._context(effect.data))
        elif isinstance(effect, e.Destroy):
            self._task(f"destroy {effect.vm}", self._destroy(effect))
        elif isinstance(effect, e.Restore):
            self._task("restore", self._restore(effect.limit_s))

    def cancel(self) -> None:
        """Whatever still runs is no longer wanted."""
        for task in list(self._tasks):
            task.cancel()

    def _task(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks[task] = name
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
        return task

    def _given_up(self, task: asyncio.Task[None]) -> None:
        """Cancelled, perhaps before its first step: it could not say so itself."""
        if task.cancelled():
            self._say(e.ReserveFailed(proc.now(), "given up"))

    async def _do_reserve(self, limit_s: float) -> None:
        site, journal = self._site, self._journal
        kvm, taken = None, 0
        undone: tuple[str, ...] = ()
        try:
            found = await self._undo_others()
            undone = found.undone
            if found.left:
                cause = "dirty: " + "; ".join(found.left)
                self._say(e.ReserveFailed(proc.now(), cause, False, undone, found.left))
                return
            if site.settings.repair:
                await self._outbox(OUTBOX_S)
            else:
                site.vmm.check()
                entry = site.host.intent(site.settings.take_mib)
                journal.intend("reserve", entry)
                await self.networks.start()
                kvm = await self._probe()
                taken = await asyncio.wait_for(site.host.reserve(entry), limit_s)
        except asyncio.TimeoutError:
            cause = f"the node was not made ready within {limit_s:g} s"
            self._say(e.ReserveFailed(proc.now(), cause, True, undone))
        except Exception as error:
            self._say(e.ReserveFailed(proc.now(), f"reserve: {words(error)}", True, undone))
        else:
            self._say(e.Reserved(proc.now(), taken, kvm, undone, self._here()))

    def _here(self) -> Mapping[str, Any]:
        """Who else has a journal on this node, as it is told."""
        return others.census(self._site.places, self._journal.path).data()

    async def _undo_others(self) -> undo.Outcome:
        """Earlier pilots' leftovers, in a child process: a stuck VM takes seconds.

        A guardian at work is waited for, a restore budget long.
        """
        site, mine = self._site, self._journal.path
        if all(path == mine for path in site.places.journals()):
            return undo.Outcome()
        wait = site.settings.budget.get("restore", 5.0)
        force = site.settings.repair

        def work() -> Mapping[str, Any]:
            found = others.wait_others(site.places, mine, self._boot, wait, force)
            return {"undone": found.undone, "left": found.left}

        title = f"wspilot-undo slot={site.writer.slot} job={site.job}"
        try:
            told = await aside(work, wait + UNDO_S, title)
        except (WspilotError, OSError) as error:
            return undo.Outcome(left=(words(error),))
        return undo.Outcome(_texts(told.get("undone")), _texts(told.get("left")))

    async def _probe(self) -> bool | None:
        """Does KVM work here? Known of this boot, or tried; None where nobody asks."""
        site = self._site
        known = site.settings.kvm.get(site.writer.node)
        return await probe_kvm(site.vmm, site.settings.vmm_options, known, self._boot)

    async def _propagate(self, effect: e.Propagate) -> None:
        try:
            bring = self.images.propagate(
                effect.vm,
                effect.data["image"],
                lambda done: self._say(e.Progress(proc.now(), effect.vm, done)),
            )
            image = await asyncio.wait_for(bring, effect.limit_s)
        except asyncio.CancelledError:
            self._say(e.PropagateFailed(proc.now(), effect.vm, "given up"))
            raise
        except Exception as error:
            late = f"its image was not here within {effect.limit_s:g} s"
            cause = late if isinstance(error, asyncio.TimeoutError) else words(error)
            self._say(e.PropagateFailed(proc.now(), effect.vm, cause))
        else:
            self._say(e.Propagated(proc.now(), effect.vm, image))

    async def _create(self, effect: e.Create) -> None:
        site, key = self._site, f"vm:{effect.vm}"
        try:
            spec = self._told(parse_spec(effect.data), effect.data)
            identity = site.vmm.intent(spec, self._rundir)
            self._journal.intend(key, {"vmm": site.vmm.name, "identity": dict(identity)})
            console = self._rundir / f"console-{spec.id}.log"
            handle = await asyncio.wait_for(self._start(spec, console), effect.limit_s)
            self._record(effect.vm, handle.identity)
        except Exception as error:
            if site.vmm.identity(effect.vm) is None:  # else it would not go, and is undone later
                self._journal.settle(key)
            cause = "it did not start in time" if isinstance(error, asyncio.TimeoutError) else ""
            self._say(e.CreateFailed(proc.now(), effect.vm, cause or words(error)))
        else:
            self._say(e.Created(proc.now(), effect.vm))

    def _told(self, spec: VmSpec, data: Mapping[str, Any]) -> VmSpec:
        """The VM with what tells its guest who it is: a seed disk, or files for its own; simulated
        ones have neither."""
        way = spec.image.get("context")
        if self._site.vmm.name == "sim" or way == "none":
            return spec
        members = [one for part in self._picture.values() for one in part.get("members", ())]
        keys = next((part["keys"] for part in self._picture.values() if part.get("keys")), ())
        picture = {"members": members, "keys": keys}
        try:
            if way == "patch":
                return replace(spec, patch=patch.entries(data, picture))
            path = self._rundir / f"{spec.id}.seed"
            make_seed(path, data, picture)
        except ValueError as error:
            raise WspilotError(f"VM {spec.name}: {error}") from error
        return replace(spec, seed=str(path))

    async def _start(self, spec: VmSpec, console: Path) -> VmHandle:
        """NICs first, then the VM; when that fails they are taken away again."""
        spec = replace(spec, nics=await self.networks.attach(spec))
        self._reached.expect(spec)
        try:
            return await self._site.vmm.create(spec, self._rundir, console, self._on_vm)
        except BaseException:
            self._reached.forget(spec.id)
            with contextlib.suppress(WspilotError):  # it stays on the books; why is told first
                await asyncio.shield(self.networks.detach(spec.id))
            raise

    def _record(self, vm: str, identity: Mapping[str, Any]) -> None:
        """What the journal keeps of a VM, unless it was ended meanwhile."""
        if f"vm:{vm}" in self._journal.entries:
            entry = {"vmm": self._site.vmm.name, "identity": dict(identity)}
            self._journal.intend(f"vm:{vm}", entry)

    async def _act(self, effect: e.Act) -> None:
        vmm = self._site.vmm
        try:
            save = effect.verb == "save"
            act = self._save(effect) if save else vmm.act(effect.vm, effect.verb, effect.data)
            data = await asyncio.wait_for(act, effect.limit_s)
        except Exception as error:
            late = f"not done within {effect.limit_s:g} s"
            cause = late if isinstance(error, asyncio.TimeoutError) else words(error)
            code = Code.REFUSED if isinstance(error, Refused) else Code.FAILED
            self._say(e.ActFailed(proc.now(), effect.vm, effect.verb, cause, code))
        else:
            self._say(e.Acted(proc.now(), effect.vm, effect.verb, data))
        identity = vmm.identity(effect.vm)
        if identity is not None:
            self._record(effect.vm, identity)

    async def _save(self, effect: e.Act) -> Mapping[str, Any]:
        """The VM's disks are one file each, quickly, and go to the repository while it goes on."""
        rate = self._site.settings.images.get("save_rate_mib", RATE_MIB)
        asked = {**effect.data, "left_s": effect.limit_s, "rate_mib": rate}
        made = await self._site.vmm.act(effect.vm, "save", asked)
        if "flat" not in made:  # a pretended VM has no disk
            return made
        name = str(effect.data.get("image"))
        return await self.images.save(effect.vm, name, made["image"], made["flat"])

    async def _context(self, data: Mapping[str, Any]) -> None:
        try:
            if data.get("part") != PEERS:
                self._picture[str(data.get("part"))] = data
            if data.get("part") in (PEERS, 0):
                peers = data.get("peers")
                peers = peers if isinstance(peers, Mapping) else {}
                self.images.peers(peers)
                await self.networks.peers(peers)
        except Exception as error:
            self._say(e.Noted(proc.now(), "error", f"context: {words(error)}"))

    def _on_vm(self, event: VmEvent) -> None:
        self._reached.heard(event)
        self._say(e.VmSaid(proc.now(), event.vm, event.kind.value, event.text))

    async def _destroy(self, effect: e.Destroy) -> None:
        for task, name in list(self._tasks.items()):
            if name == f"propagate {effect.vm}":
                task.cancel()
        try:
            self._reached.forget(effect.vm)
            restore_s = self._site.settings.budget.get("restore", 0.0)  # long on a slow node
            limit = effect.grace_s + max(DESTROY_S, restore_s)
            await asyncio.wait_for(self._site.vmm.destroy(effect.vm, effect.grace_s), limit)
            await asyncio.wait_for(self.networks.detach(effect.vm), max(DETACH_S, restore_s))
            self.images.release(effect.vm)
            if not any(name == f"create {effect.vm}" for name in self._tasks.values()):
                self._journal.settle(f"vm:{effect.vm}")
        except Exception as error:
            self._say(e.DestroyFailed(proc.now(), effect.vm, words(error)))
        else:
            self._say(e.Destroyed(proc.now(), effect.vm))

    async def _restore(self, limit_s: float) -> None:
        """VMs that are left are killed; then the journal is undone, rundir and all."""
        site = self._site
        self._reached.close()
        try:
            for close in (site.vmm.close, self.networks.close, self.images.close):
                # What will not go is the undo's to tell: it spares the others.
                with contextlib.suppress(asyncio.TimeoutError, WspilotError, OSError):
                    await asyncio.wait_for(close(), limit_s / 2)
            outcome = await self._undo(limit_s)
        except Exception as error:
            self._say(e.RestoreFailed(proc.now(), words(error), self._here()))
            return
        if outcome.left:
            self._say(e.RestoreFailed(proc.now(), "; ".join(outcome.left), self._here()))
        else:
            self._say(e.Restored(proc.now(), outcome.undone, self._here()))

    async def _undo(self, limit_s: float) -> undo.Outcome:
        """Our own journal, in a child: memory that goes back takes seconds, a helper that waits
        for another pilot's step minutes, and a loop that stands still is a pilot that hangs."""
        site, mine = self._site, self._journal

        def work() -> Mapping[str, Any]:
            found = undo.undo(mine, site.places, self._boot, host_options(site.settings))
            return {"undone": found.undone, "left": found.left}

        title = f"wspilot-undo slot={site.writer.slot} job={site.job}"
        try:
            told = await aside(work, limit_s + UNDO_S, title, (mine.fd,))
        finally:
            mine.reread()
        return undo.Outcome(_texts(told.get("undone")), _texts(told.get("left")))


def host_options(settings: Settings) -> Mapping[str, Any]:
    """What the host adapter is told (`vmm_options.host`)."""
    options = settings.vmm_options.get("host")
    return options if isinstance(options, Mapping) else {}


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()


def words(error: BaseException) -> str:
    """What people read of an exception."""
    if isinstance(error, WspilotError):
        return f"{error.message} ({error.hint})" if error.hint else error.message
    return clean(str(error), 300) or type(error).__name__

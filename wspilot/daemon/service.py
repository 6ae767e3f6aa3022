"""The daemon's shell: feeds events into the core, commits, and carries effects out.

The way of an event: a file in the spool -> `Spool.read` -> `core.step` -> one commit a batch ->
unlink, effects, and the changed items to every subscriber. Nothing here decides about leases.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import pwd
import secrets
import signal
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any

from wspilot import __version__
from wspilot.config import Site
from wspilot.daemon import core
from wspilot.daemon.ballast import Ballast
from wspilot.daemon.control import ControlServer
from wspilot.daemon.core.books import Books
from wspilot.daemon.core.events import (
    Destroy,
    Effect,
    Event,
    Recovered,
    Tick,
)
from wspilot.daemon.documents import item, status_item
from wspilot.daemon.effects import Effects
from wspilot.daemon.hearing import Hearing
from wspilot.daemon.lane import Aside, Lane
from wspilot.daemon.lock import HomeLock
from wspilot.daemon.lrm import open_driver
from wspilot.daemon.lrm.runner import Runner
from wspilot.daemon.policy import warm_plan, warm_walltime_s
from wspilot.daemon.polling import Polling
from wspilot.daemon.spool import Spool
from wspilot.daemon.store import WAY_OUT, Store, StoreDamaged, StoreError, StoreFull
from wspilot.errors import TimedOut, WspilotError
from wspilot.home import socket_path
from wspilot.images import load_images
from wspilot.model import EventRecord
from wspilot.text import clean

log = logging.getLogger("wspilot")

TICK_S = 0.25
Listener = Callable[[int, list[dict[str, Any]], list[str]], None]


class Service:
    """One daemon on one home."""

    def __init__(self, site: Site, home: Path) -> None:
        self.site, self.home = site, home
        self.books = Books()
        self.rules = rules_of(site)
        self.spool = Spool(site.spool)
        self.lane = Lane("spool")
        self.pictures, self.papers = Aside("the images", 2.0), Aside("the spool", 10.0)
        self._images: dict[str, Any] = {}
        self.driver = open_driver(site.lrm, site.lrm_settings, home)
        self.runner = Runner()
        self.effects = Effects(self)
        self.secret = b""
        self.started_at = time.time()
        self.hearing, self.polling = Hearing(self), Polling(self)
        self.revision = 0
        self.stopping = asyncio.Event()
        self.changed = asyncio.Condition()
        self._listeners: list[Listener] = []
        self._store: Store | None = None
        self._ballast = Ballast(site.store)
        self._unposted: list[Event] = []
        self._clock0 = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)

    # -- time and images

    def now(self) -> float:
        """Seconds since 1970 that never go back while this daemon lives."""
        return self._clock0 + time.clock_gettime(time.CLOCK_BOOTTIME)

    def go_on_from(self, latest: float) -> None:
        """A clock that was set back while no daemon ran would put off every retry on the books by
        as much: time goes on from the last record instead."""
        behind = latest - self.now()
        if behind > 0:
            log.warning("the clock is %.0f s behind the books: time goes on from theirs", behind)
            self._clock0 += behind

    async def images(self) -> dict[str, Any]:
        """The site's images as they are now; where they cannot be read in time, as they were."""
        try:
            self._images = await self.pictures.run(self._load_images)
        except TimedOut:
            if not self._images:
                raise
        return self._images

    def _load_images(self) -> dict[str, Any]:
        return dict(load_images(self.site.images_dir, self.site))

    # -- life

    async def run(self, take_over: bool = False) -> None:
        """Own the home, serve until asked to stop, and leave leases alone. Raises WspilotError."""
        lock = HomeLock(self.home)
        lock.acquire(take_over=take_over)
        try:
            self._store = Store(self.site.store)
            self._ballast.lay()
            self.books = load_books(self._store)
            self.go_on_from(self.books.latest())
            self.spool.prepare()
            self.secret = _secret(self.home / "secret")
            server = ControlServer(socket_path(self.home), self._api())
            await server.start()
            try:
                await self._serve()
            finally:
                await server.close()
        finally:
            self.lane.close()
            if self._store is not None:
                self._store.close()
            lock.release()

    def _api(self) -> Any:
        from wspilot.daemon.api import ServiceApi  # it needs this module's Service

        return ServiceApi(self)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        self.turn([Recovered()])
        log.info(
            "daemon ready home=%s spool=%s lrm=%s vmm=%s leases=%d",
            self.home,
            self.site.spool,
            self.site.lrm,
            self.site.vmm,
            len(self.books.open_workspaces),
        )
        tasks = [
            asyncio.create_task(_forever(work), name=name)
            for name, work in (
                ("spool", self.hearing.listen),
                ("beats", self.hearing.beats),
                ("poll", self.polling.work),
                ("tick", self._tick),
                ("lrm", self.effects.work_lrm),
                ("files", self.effects.work_files),
            )
        ]
        try:
            await self.stopping.wait()
        finally:
            self.runner.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        log.info("daemon stopped leases=%d", len(self.books.open_workspaces))

    # -- one turn: the only place where the books change

    def turn(self, events: Sequence[Event]) -> list[bool]:
        """Apply events, commit once, then ask for effects and tell subscribers.

        Answers for each event whether it is done. Raises StoreError when the commit failed: then
        nothing has changed. A WspilotError of one event (a refused request) is raised as well.
        """
        assert self._store is not None
        done: list[bool] = []
        effects: list[Effect] = []
        for event in events:
            mark = self.books.mark()
            try:
                step = core.step(self.books, event, self.now(), self.rules)
            except WspilotError:
                self.books.rollback()
                raise
            except Exception:
                self.books.rollback(mark)
                log.exception("a bug: this event was dropped: %.500r", event)
                done.append(True)
                continue
            done.append(step.done)
            effects.extend(step.effects)
        self._commit(effects, any(isinstance(event, Destroy) for event in events))
        return done

    def _commit(self, effects: Iterable[Effect], must: bool) -> None:
        changed = sorted(self.books.changed())
        try:
            if changed:
                self._write(must)
        except StoreError:
            self.books.rollback()
            self.books.asking.clear()
            raise
        self.books.settle()
        self.effects.ask(effects)
        self._publish(changed)

    def _write(self, must: bool) -> None:
        """Commit; what must get through on a full disk takes of the ballast."""
        assert self._store is not None
        changes = self.books.changes()
        try:
            self._store.commit(changes)
        except StoreFull:
            if not must or not self._ballast.spend():
                raise
            log.warning("the store's disk is full: this end is written on its last reserve")
            self._store.commit(changes)

    def post(self, event: Event) -> None:
        """An event of our own that must not be lost: kept until a commit works."""
        self._unposted.append(event)
        events, self._unposted = self._unposted, []
        try:
            self.turn(events)
        except StoreError as error:
            log.error("kept in memory, the store cannot be written: %s", error)
            self._unposted = events + self._unposted

    # -- subscribers

    def listen(self, callback: Listener) -> Callable[[], None]:
        """Call back with (revision, changed items, gone ids) after every commit."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    def snapshot(self) -> tuple[int, list[dict[str, Any]]]:
        """Every item, with the revision that deltas go on from."""
        tables = (
            self.books.workspaces,
            self.books.vms,
            self.books.slots,
            self.books.nodes,
            self.books.events,
        )
        items = [item(self.books, record) for table in tables for record in table()]
        return self.revision, [*items, self.status()]

    def status(self) -> dict[str, Any]:
        """The daemon's own item."""
        return status_item(
            version=__version__,
            pid=os.getpid(),
            since=self.started_at,
            home=self.home,
            site=self.site,
            poll=self.polling.state,
            spool=self.hearing.state,
        )

    def _publish(self, changed: Iterable[tuple[str, str]]) -> None:
        items, gone = [], []
        for table, id in changed:
            if table not in ("workspaces", "vms", "slots", "nodes", "events"):
                continue
            record = self.books.get(table, id)
            if record is None:
                gone.append(f"{table}/{id}")
                continue
            items.append(item(self.books, record))
            if isinstance(record, EventRecord):
                _log_event(record)
        self._tell(items, gone)

    def tell_status(self) -> None:
        """What concerns the daemon itself has changed."""
        self._tell([self.status()], [])

    def _tell(self, items: list[dict[str, Any]], gone: list[str]) -> None:
        if not items and not gone:
            return
        self.revision += 1
        for callback in tuple(self._listeners):
            callback(self.revision, items, gone)

    def quietly(self, events: Sequence[Event]) -> None:
        """Events that come again by themselves: a failed commit only loses this one."""
        try:
            if events:
                self.turn(events)
        except StoreError as error:
            log.error("the store cannot be written: %s", error)

    # -- time

    async def _tick(self) -> None:
        idle_since = time.monotonic()
        swept = laid = 0.0
        while True:
            await asyncio.sleep(TICK_S)
            self.quietly([Tick()])
            if self._unposted:
                self.post(Tick())
            busy = self.books.open_workspaces or self.books.open_slots or self._listeners
            idle_since = time.monotonic() if busy else idle_since
            limit = self.site.idle_exit_s
            if limit is not None and time.monotonic() - idle_since > limit:
                log.info("nothing to do for %d s: the daemon ends itself (idle_exit)", limit)
                self.stopping.set()
            if time.monotonic() - laid > 60:
                laid = time.monotonic()
                self._ballast.lay()
            if time.monotonic() - swept > 3600:
                swept = time.monotonic()
                with contextlib.suppress(OSError):
                    await self.lane.run(self.spool.sweep)


def load_books(store: Store) -> Books:
    """The books as they are on disk. Raises StoreDamaged when a document is no record.

    What is there at the start is left alone by the collector: with 10,000 VMs each of its full
    rounds stopped the loop for 100 ms. (Replaced records are freed all the same: no cycles.)
    """
    gc.disable()
    try:
        books = Books.load(store.load())
        gc.freeze()
        return books
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        text = f"the store holds what is no record: {clean(repr(error), 200)}"
        raise StoreDamaged(text, WAY_OUT) from None
    finally:
        gc.enable()


async def _forever(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """A bug in one loop is logged and the loop begins again: the daemon lives on."""
    while True:
        try:
            await work()
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception(
                "a bug in the daemon's %s loop; it begins again in 1 s",
                getattr(work, "__name__", "?"),
            )
            await asyncio.sleep(1)


def rules_of(site: Site) -> core.Rules:
    """The site's numbers as the core takes them."""
    budget = site.budget
    local = site.lrm == "local"
    warm = warm_plan(site) if site.policy.name == "warm" else None
    return core.Rules(
        launch_s=budget.launch_s,
        boot_s=budget.boot_s,
        stop_s=budget.stop_s,
        restore_s=budget.restore_s,
        slack_s=budget.slack_s,
        gather_s=budget.gather_s,
        max_jobs=site.max_jobs,
        keep_s=site.keep_s,
        submit_gap_s=0.0 if local else 0.25,
        retry_s=(1, 2, 5, 15) if local else (5, 15, 60, 300),
        owner=pwd.getpwuid(os.getuid()).pw_name,
        policy=site.policy,
        warm=warm,
        warm_walltime_s=warm_walltime_s(site),
    )


def _secret(path: Path) -> bytes:
    """This home's secret, made once (0600): workspace keys are derived from it."""
    try:
        return bytes.fromhex(path.read_text())
    except FileNotFoundError:
        secret = secrets.token_bytes(32)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secret.hex())
        return secret


def _log_event(event: EventRecord) -> None:
    marks = " ".join(
        f"{name}={value}"
        for name, value in (
            ("workspace", event.workspace),
            ("slot", event.slot),
            ("vm", event.vm),
            ("node", event.node),
        )
        if value
    )
    level = {"warning": logging.WARNING, "error": logging.ERROR}.get(event.level, logging.INFO)
    log.log(level, "%s %s %s", event.kind, marks, event.text)


def run(config: Path | None, home: Path, *, take_over: bool = False) -> int:
    """`wspilot daemon` in the foreground. Returns the exit code; raises WspilotError."""
    from wspilot.config import load

    logging.getLogger("sh").setLevel(logging.WARNING)  # it tells of every process otherwise
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s.%(msecs)03d %(levelname)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )

    async def main() -> None:
        await Service(load(config, home), home).run(take_over)

    asyncio.run(main())
    return 0


__all__ = ["Service", "run"]

"""The pilot's shell: feeds events into the pure core, speaks for it, and guards its neighbours.

asyncio, no threads. Everything that may hang is another process (the courier) or has a time limit.
Nothing that an effect does can end the pilot: what it raises becomes an event.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from wspilot.errors import WspilotError
from wspilot.messages import HB, NEW, BadMessage, Kind, cmd_dir, parse_order_name, read_order
from wspilot.node import guardian, journal, proc, undo
from wspilot.node.core import events as e
from wspilot.node.core.lease import wake_at
from wspilot.node.core.pilot import step
from wspilot.node.core.state import State
from wspilot.node.courier import Round
from wspilot.node.live import Live
from wspilot.node.live.services import Services
from wspilot.node.places import Places, private
from wspilot.node.post import Post
from wspilot.node.signing import Writer
from wspilot.node.work import Site, Work, host_options, words
from wspilot.text import clean

TICK_S = 1.0
DOUBT_S = 10.0  # a command that cannot be verified may still be arriving on a network filesystem
LOG_BYTES = 1 << 20
CLOSE_S = 1.0  # for the courier to copy the logs once more
GUARDIANS = 3  # a guardian that dies is replaced at once this often, then after REST_S
REST_S = 10.0

log = logging.getLogger("wspilot")
T = TypeVar("T")


class NotBegun(WspilotError):
    """The node does not let a pilot begin (full disk, a directory that is somebody else's)."""


class LocalLog(logging.FileHandler):
    """The pilot's own log: node-local, bounded, and copied to the spool by the courier."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._left = LOG_BYTES
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """One line, while there is room."""
        self._left -= len(record.getMessage()) + 40
        if self._left > 0:
            super().emit(record)


class Pilot:
    """One node of one slot. `run` returns the exit code."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._events: asyncio.Queue[e.Event] = asyncio.Queue()
        self._names: dict[str, int] = {}
        self._doubted: dict[str, float] = {}
        self._finish: e.Finish | None = None
        self._guardian: socket.socket | None = None
        self._guardians = 0
        self._next_byte = 0.0
        writer, settings = site.writer, site.settings
        began = proc.now() - site.age_s
        self._state = State(settings, began, writer.epoch, int(writer.pilot[:8], 16) / 0xFFFFFFFF)
        self._rundir = site.places.rundir(writer.pilot)
        self._boot = proc.boot_id()
        self._where = Round(
            site.spool,
            cmd_dir(writer.slot, writer.node, writer.pilot),
            self._rundir,
            site.spool / "slots" / writer.slot,
            site.places.outbox,
        )
        self._title = f"slot={writer.slot} job={site.job} user={site.places.uid}"
        self._post = Post(
            self._where,
            f"wspilot-courier {self._title}",
            self._on_stored,
            self._on_command,
            lambda text: self._say(e.Noted(proc.now(), "warning", clean(text, 500))),
        )

    async def run(self) -> int:
        """From the journal to the exit."""
        self._journal = self._open_journal()
        self._work = Work(
            self._site, self._journal, self._rundir, self._boot, self._say, self._post.delivered
        )
        live = self._site.settings.live
        services = Services(self._site.vmm, live, self._post.look)
        self._live = Live(live, self._site.writer.key, self._site.writer.pilot, services)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, lambda: self._say(e.Term(proc.now())))
        for other in (signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(other, lambda: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        self._start_guardian()
        self._post.start()
        self._live.start()
        self._step(e.Begin(proc.now(), time.time(), self._facts()))
        while self._finish is None:
            self._step(await self._next())
        return await self._leave(self._finish)

    # -- events

    def _say(self, event: e.Event) -> None:
        self._events.put_nowait(event)

    async def _next(self) -> e.Event:
        at = wake_at(self._state)
        wait = TICK_S if at is None else min(TICK_S, max(0.0, at - proc.now()))
        self._look_after()
        try:
            return await asyncio.wait_for(self._events.get(), wait)
        except asyncio.TimeoutError:
            return e.Tick(proc.now())

    def _step(self, event: e.Event) -> None:
        self._state, effects = step(self._state, event)
        for effect in effects:
            try:
                self._do(effect)
            except Exception as error:
                log.exception("%s", type(effect).__name__)
                self._say(e.Noted(proc.now(), "error", f"{type(effect).__name__}: {error!r}"))

    def _look_after(self) -> None:
        """Once a second: a byte for the guardian, a look at the courier."""
        now = proc.now()
        if now < self._next_byte:
            return
        self._next_byte = now + TICK_S
        self._post.tick()
        if self._guardian is not None:
            with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionError):
                self._guardian.send(guardian.BEAT)

    def _on_stored(self, name: str) -> None:
        seq = self._names.pop(name, None)
        if seq is not None:
            self._say(e.Stored(proc.now(), seq))

    def _on_command(self, name: str, raw: bytes) -> None:
        writer = self._site.writer
        try:
            _, seq = parse_order_name(name)
            order = read_order(writer.key, raw, writer.slot, writer.node, writer.pilot, seq)
        except BadMessage as error:
            self._doubt(name, str(error))
            return
        self._doubted.pop(name, None)
        self._say(e.Ordered(proc.now(), order))

    def _doubt(self, name: str, why: str) -> None:
        """Read it again for a while; then say once that it is bad."""
        first = self._doubted.setdefault(name, proc.now())
        if proc.now() - first < DOUBT_S:
            self._post.read_again(name)
        else:
            text = f"command {clean(name, 60)} is not valid: {why}"
            self._say(e.Noted(proc.now(), "warning", text))

    # -- effects

    def _do(self, effect: e.Effect) -> None:
        if isinstance(effect, e.Letter):
            self._send(effect)
        elif isinstance(effect, e.Beat):
            name, raw = self._site.writer.note(
                effect.seq, Kind.HEARTBEAT, effect.wall, effect.mono, effect.data
            )
            self._post.put(HB, name, raw)
        elif isinstance(effect, e.Finish):
            self._finish = effect
        else:
            self._work.begin(effect)

    def _send(self, letter: e.Letter) -> None:
        name, raw = self._site.writer.note(
            letter.seq, Kind(letter.kind), letter.wall, letter.mono, letter.data
        )
        self._names[name] = letter.seq
        log.info("%d %s %s", letter.seq, letter.kind, letter.data)
        self._post.put(NEW, name, raw)

    # -- processes

    def _open_journal(self) -> journal.Journal:
        """The journal first, then the run-time directory that it names."""
        site, writer = self._site, self._site.writer
        places = site.places
        header = {
            "boot": self._boot,
            "slot": writer.slot,
            "pilot": writer.pilot,
            "node": writer.node,
            "job": site.job,
            "pid": os.getpid(),
            "start": proc.start_time(os.getpid()),
            "spool": str(site.spool),
            "restore_s": site.settings.budget.get("restore", 5.0),
        }
        path = places.journal(writer.slot, writer.pilot)
        opened = None
        try:
            opened = _again(lambda: journal.create(places.make(path.parent) / path.name, header))
            opened.intend(undo.RUNDIR, {"path": str(self._rundir)})
            _again(lambda: self._make_rundir(places))
        except (OSError, WspilotError) as error:
            if opened is not None:
                undo.sweep(opened)
            raise NotBegun(f"node {writer.node}: {words(error)}") from error
        return opened

    def _make_rundir(self, places: Places) -> None:
        places.make(self._rundir.parent)
        private(self._rundir, places.uid)
        (self._rundir / "boot").write_text(self._boot)
        # Never on the job's own output: that file may lie on the filesystem that hangs.
        log.addHandler(LocalLog(self._rundir / f"pilot-{self._site.writer.node}.log"))

    def _start_guardian(self) -> None:
        if not self._site.settings.guardian or self._finish is not None:
            return
        self._guardians += 1
        try:
            self._guardian = guardian.start(self._ward())
        except OSError as error:  # no more processes allowed: a pilot without one goes on
            self._say(e.Noted(proc.now(), "error", f"no guardian could be started: {error}"))
            asyncio.get_running_loop().call_later(REST_S, self._start_guardian)
            return
        asyncio.get_running_loop().add_reader(self._guardian, self._guardian_gone)

    def _ward(self) -> guardian.Ward:
        site, writer = self._site, self._site.writer
        return guardian.Ward(
            pid=os.getpid(),
            start=proc.start_time(os.getpid()) or 0,
            boot_id=self._boot,
            places=site.places,
            journal=self._journal,
            writer=Writer(writer.slot, writer.node, writer.epoch, writer.key, of=writer.pilot),
            where=self._where,
            suspendable=site.host.suspendable,
            restore_s=site.settings.budget.get("restore", 5.0),
            options=host_options(site.settings),
            title=self._title,
            heartbeat_s=site.settings.heartbeat_s,
        )

    def _guardian_gone(self) -> None:
        """End of file: it died, and another takes its place."""
        if self._guardian is None:
            return
        self._end_guardian(b"")
        if self._finish is not None:
            return
        rest = 0.0 if self._guardians <= GUARDIANS else REST_S
        text = "the guardian died; another one is started" + f" in {rest:g} s" * bool(rest)
        self._say(e.Noted(proc.now(), "warning", text))
        asyncio.get_running_loop().call_later(rest, self._start_guardian)

    def _end_guardian(self, last: bytes) -> None:
        if self._guardian is not None:
            asyncio.get_running_loop().remove_reader(self._guardian)
            with contextlib.suppress(OSError):
                self._guardian.send(last) if last else None
            self._guardian.close()
            self._guardian = None

    async def _leave(self, finish: e.Finish) -> int:
        """The last word is stored, or lies in the outbox; then everybody may go."""
        closing = asyncio.ensure_future(self._live.close())
        end = proc.now() + finish.flush_s
        while proc.now() < end and (self._post.unstored() or self._state.mail):
            with contextlib.suppress(asyncio.TimeoutError):
                event = await asyncio.wait_for(self._events.get(), 0.1)
                self._step(event)
            self._look_after()
            if self._finish is not None and self._finish is not finish:  # TERM: less time
                finish = self._finish
                end = min(end, proc.now() + finish.flush_s)
        for name, raw in self._post.unstored().items():
            try:
                guardian.leave(self._site.places, name, raw)
            except (OSError, WspilotError) as error:
                log.error("outbox: %s", error)
        self._end_guardian(guardian.FAREWELL)
        self._work.cancel()
        await closing
        await self._post.close(min(CLOSE_S, max(0.1, end - proc.now())))
        self._rest()
        self._site.places.tidy()
        return finish.code

    def _rest(self) -> None:
        """The logs are copied: the run-time directory goes, and the journal when it is empty."""
        with contextlib.suppress(OSError):
            undo.sweep(self._journal)
        self._journal.close()

    # -- facts

    def _facts(self) -> Mapping[str, Any]:
        settings = self._site.settings
        return {
            "boot_id": self._boot,
            "host": socket.gethostname(),
            "cpus": proc.cpus(),
            "memory_mib": proc.memory_mib(),
            "kvm_device": Path("/dev/kvm").exists(),
            "guardian": settings.guardian,
            "uid": os.getuid(),
            "python": ".".join(map(str, sys.version_info[:3])),
            "clock": round(time.time(), 6),
            "pid": os.getpid(),
            "adapter": settings.adapter,
            "vmm": settings.vmm,
            **self._work.networks.facts(),
            **self._work.images.facts(),
            **self._live.facts(),
        }


def _again(work: Callable[[], T]) -> T:
    """A neighbour that leaves may remove an empty directory between two of our steps."""
    for _ in range(20):
        with contextlib.suppress(FileNotFoundError):
            return work()
    return work()

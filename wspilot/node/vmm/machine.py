"""One VM of the VMM `qemu`, from its disk to the reaping of its process.

Every QMP call has a time limit, and a QEMU that is stopped or silent is SIGKILLed. Guest's lines
and console come over socket pairs, so that nobody else can speak on them and no log grows without
bound.

Invariant: a machine that got a process emits exactly one `exited`, when the process is reaped, the
guest's last words are taken and its files are removed; `over` is set after that, or without it when
there never was a process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, Optional

from qemu.qmp import QMPClient, QMPError, Runstate

from wspilot.errors import TimedOut, WspilotError
from wspilot.node.vmm import stale
from wspilot.node.vmm.argv import Wiring, qemu_argv, streams
from wspilot.node.vmm.base import Emit, EventKind, Ready, VmEvent, VmSpec
from wspilot.node.vmm.child import Child, spawn
from wspilot.node.vmm.console import Console
from wspilot.node.vmm.disks import Disk
from wspilot.node.vmm.door import Door
from wspilot.node.vmm.handed import listening, opened
from wspilot.node.vmm.making import make_disks
from wspilot.node.vmm.voice import BoundedLog, Channel, Pattern, Voice
from wspilot.text import clean

GREETING_S = 20.0
QMP_S = 1.0
QUIT_S = 1.0
ANSWER_S = 10.0  # of a command that a user waits for
ARRIVE_S = 60.0
POLL_S = 0.05
WIRED_S, WIRED_POLL_S = 10.0, 0.02  # a switch that died is back after one second
_JOINED = re.compile(r"(\S+): index=\d+,type=stream,\S")
REAP_S = 5.0
LAST_WORDS_S = 0.5
DEFAULT_PATTERN = "login:"
QMP_FAULTS = (QMPError, OSError, EOFError, asyncio.TimeoutError)


class Machine:
    """A VM. `identity` is what the undo journal keeps; `ended` is called once, at the very end."""

    def __init__(
        self,
        spec: VmSpec,
        identity: dict[str, Any],
        emit: Emit,
        ended: Callable[[], None],
        console: Optional[Console] = None,
    ) -> None:
        self.identity = identity
        self.over = asyncio.Event()
        self.door = Door(self._do, spec.nics)
        self._console = console or Console()
        self._spec, self._emit, self._ended = spec, emit, ended
        self._child: Optional[Child] = None
        self._tools: list[Child] = []
        self._qmp: Optional[QMPClient] = None
        self._watching: Optional[asyncio.Future[None]] = None  # held, or it may be collected
        self._listening: Optional[asyncio.Future[None]] = None
        self._channels: list[Channel] = []
        self._log: Optional[BoundedLog] = None
        self._voice = Voice()
        self._pattern = Pattern(str(spec.image.get("pattern") or DEFAULT_PATTERN))
        self._ready = False
        self.paused = False
        self._resting = False
        self._doomed = False
        self._why = ""

    async def make_disks(self, disks: Sequence[Disk]) -> None:
        """Overlays and blank disks, side by side. Some 40 ms. Raises WspilotError, OSError."""
        await make_disks(self._tool, self._what(), disks, self._spec.patch)

    async def _tool(
        self, argv: Sequence[str], limit_s: float, keep: Sequence[int] = (), out: int = -1
    ) -> Child:
        """A tool that worked on this VM's disks; killed with the VM. Raises WspilotError."""
        self._check_doom()
        tool = spawn(argv, keep, out)
        self._tools.append(tool)
        try:
            if not await tool.wait(limit_s):
                name = Path(argv[0]).name
                raise TimedOut(f"{self._what()}: {name} took longer than {limit_s:.0f} s")
        finally:
            tool.kill()
        self._check_doom()
        return tool

    def start(
        self, qemu: str, kvm: bool, sandbox: bool, disks: tuple[Disk, ...], log: Path, memory: str
    ) -> None:
        """Start the process, from `memory` where the guest was suspended. Blocks for the fork."""
        self._check_doom()
        self._ready = bool(memory)
        self._log = BoundedLog(log)
        console, agent = Channel(self._on_console), Channel(self._on_agent)
        self._channels = [console, agent]
        self._console.wire(console.put)
        with listening(Path(self.identity["qmp"])) as listener, opened(memory) as fd:
            keep = [listener.fileno(), console.theirs.fileno(), agent.theirs.fileno()]
            wiring = Wiring(qemu, kvm, keep[0], keep[1], keep[2], disks, sandbox, fd)
            self._child = spawn(qemu_argv(self._spec, wiring), [*keep, *([fd] if fd >= 0 else [])])
        for channel in self._channels:
            channel.theirs.close()
        self.identity.update(pid=self._child.pid, start=stale.start_time(self._child.pid))
        self._watching = asyncio.ensure_future(self._watch(self._child))

    async def greet(self) -> None:
        """Wait until QMP answers and the guest's processors run; from here on, events flow."""
        client = QMPClient(self._spec.id)
        try:
            await asyncio.wait_for(client.connect(self.identity["qmp"]), GREETING_S)
            status = await asyncio.wait_for(client.execute("query-status"), GREETING_S)
        except QMP_FAULTS as error:
            self._check_doom()
            if self._child is not None and await self._child.wait(QMP_S):
                raise WspilotError(f"{self._what()}: {self._exit_text()}") from error
            raise TimedOut(
                f"{self._what()}: QEMU does not answer: {clean(str(error), 200)}"
            ) from error
        self._check_doom()
        self._qmp = client
        self._listening = asyncio.ensure_future(self._listen_events(client))
        self._say(EventKind.STARTED, f"pid {self.identity['pid']}")
        word = str(_field(status, "status"))
        if word == "prelaunch":
            await self._wired()
            await self._do("cont")
            word = "running"
        self._say(EventKind.BOOTING, word)
        for channel in self._channels:
            channel.open()
        if self._spec.ready == Ready.PROCESS.value:
            self._is_ready("unproven")

    async def give_up(self) -> None:
        """After a failed start: leave nothing."""
        for tool in self._tools:
            tool.kill()
            await tool.wait(REAP_S)  # until it is dead it may still make its file
        if self._child is None:
            self._finish()
        else:
            await self.end(0.0)

    async def pause(self) -> None:
        """The guest's processors stand still. Raises WspilotError."""
        await self._do("stop")
        self.paused = True

    async def resume(self) -> None:
        """They run again. Raises WspilotError."""
        await self._do("cont")
        self.paused = False

    async def arrive(self, limit_s: float = ARRIVE_S) -> None:
        """A suspended guest's state has been read; it goes on. Raises WspilotError."""
        await self._until("query-status", ("paused", "postmigrate", "running"), limit_s)
        await self._wired()
        await self._do("cont")

    async def _wired(self) -> None:
        """Until the switch has joined its cables. Raises WspilotError, TimedOut.

        QEMU 7.2 dies (SIGSEGV in qio_channel_writev) of a frame that a guest sends before: one that
        was suspended with frames to send did so as soon as it ran, one time in some thirty.
        """
        loose, end = streams(self._spec), time.monotonic() + WIRED_S
        while loose:
            words = {"command-line": "info network"}
            loose -= set(_JOINED.findall(str(await self._do("human-monitor-command", words))))
            if loose and time.monotonic() > end:
                raise TimedOut(f"{self._what()}: its network's switch did not join it"
                               f" within {WIRED_S:g} s")  # fmt: skip
            await asyncio.sleep(WIRED_POLL_S if loose else 0)

    async def write_memory(self, path: Path, limit_s: float) -> None:
        """The guest stops, its state goes into `path` (0600). Raises WspilotError; then it goes on.

        Through a descriptor: QEMU's sandbox may start no `cat`, and 7.2 knows no `file:`.
        """
        was_paused, client = self.paused, self._qmp
        if client is None:
            raise WspilotError(f"{self._what()}: it does not run")
        await self.pause()
        await self.door.shut()
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(path, flags, 0o600)
            try:
                client.send_fd_scm(fd)
                await self._do("getfd", {"fdname": "memory"})
            finally:
                os.close(fd)
            await self._do("migrate-set-parameters", {"max-bandwidth": 1 << 40})
            await self._do("migrate", {"uri": "fd:memory"})
            await self._until("query-migrate", ("completed",), limit_s)
        except BaseException as error:
            with contextlib.suppress(OSError):
                path.unlink()
            if not was_paused:
                await asyncio.shield(self.resume())
            if isinstance(error, OSError):
                raise WspilotError(f"{self._what()}: {path} cannot be written: {error}") from error
            raise

    async def _do(self, command: str, arguments: Mapping[str, Any] = {}) -> Any:
        """One QMP command, in words when it fails. Raises WspilotError."""
        if self._qmp is None or self.over.is_set():
            raise WspilotError(f"{self._what()}: it does not run")
        try:
            return await asyncio.wait_for(self._qmp.execute(command, dict(arguments)), ANSWER_S)
        except asyncio.TimeoutError:
            raise TimedOut(f"{self._what()}: QEMU did not answer {command}") from None
        except QMP_FAULTS as error:
            raise WspilotError(f"{self._what()}: {command}: {clean(str(error), 300)}") from error

    async def _until(self, query: str, states: tuple[str, ...], limit_s: float) -> None:
        """Ask until QEMU is in one of `states`. Raises WspilotError, TimedOut."""
        end = time.monotonic() + limit_s
        while True:
            said = await self._do(query)
            status = str(_field(said, "status"))
            if status in states:
                return
            if status in ("failed", "cancelled", "internal-error"):
                why = clean(str(_field(said, "error-desc") or status), 300)
                raise WspilotError(f"{self._what()}: {query[6:]} failed: {why}")
            if time.monotonic() > end:
                raise TimedOut(f"{self._what()}: {query[6:]} is {status} after {limit_s:g} s")
            await asyncio.sleep(POLL_S)

    def rest(self) -> None:
        """From now on its end is a stop: files stay, and nobody is told that it ended."""
        self._resting = True

    async def end(self, grace_s: float) -> None:
        """Powerdown (with grace, and only a guest that is up), quit, SIGKILL; returns when over.

        Several may call it at once: whoever has the least grace decides. Raises TimedOut when the
        kernel does not let the process die.
        """
        self._doomed = True
        for tool in self._tools:
            tool.kill()
        child = self._child
        if child is not None and not await self._end_gently(child, grace_s):
            child.kill()
        try:
            await asyncio.wait_for(self.over.wait(), REAP_S)
        except asyncio.TimeoutError:
            raise TimedOut(
                f"{self._what()}: its process {self.identity['pid']} does not die of SIGKILL",
                "it hangs in the kernel (state D): look at its disks and file systems",
            ) from None

    async def _end_gently(self, child: Child, grace_s: float) -> bool:
        up = self._ready and grace_s > 0
        if up and self.paused and await self._ask("cont"):
            self.paused = False
        if up and await self._ask("system_powerdown") and await child.wait(grace_s):
            return True
        return await self._ask("quit") and await child.wait(QUIT_S)

    async def _ask(self, command: str) -> bool:
        """Did QEMU take the command within `QMP_S`? A stopped one is not even asked."""
        child, client = self._child, self._qmp
        if child is None or client is None or stale.state(child.pid) in ("", "T", "t", "Z"):
            return child is not None and child.returncode is not None
        try:
            await asyncio.wait_for(client.execute(command), QMP_S)
        except QMP_FAULTS:
            return child.returncode is not None
        return True

    async def _listen_events(self, client: QMPClient) -> None:
        while True:
            self._on_event(await client.events.get())

    def _on_event(self, event: Mapping[str, Any]) -> None:
        name, data = event.get("event"), event.get("data", {})
        if name == "RESET" and _field(data, "guest"):
            self._ready = self._spec.ready == Ready.PROCESS.value
            self._say(EventKind.BOOTING, "the guest restarts itself")
        elif name == "SHUTDOWN":
            self._why = str(_field(data, "reason"))
        elif name == "BLOCK_IO_ERROR":
            self._say(EventKind.ERROR, f"disk error: {_field(data, 'reason')}")
        elif name == "GUEST_PANICKED":
            self._say(EventKind.ERROR, "the guest's kernel panicked")

    def _on_console(self, data: bytes) -> None:
        self._console.write(data)
        if self._log is not None:
            self._log.write(data)
        if self._spec.ready == Ready.CONSOLE.value and not self._ready and self._pattern.feed(data):
            self._is_ready("its console shows the pattern")

    def _on_agent(self, data: bytes) -> None:
        for word, text in self._voice.feed(data, time.monotonic()):
            if self._log is not None:
                self._log.write(f"\r\n[org.wspilot.0] {word} {text}\r\n".encode())
            if word == "error":
                self._say(EventKind.ERROR, text)
            elif word == "ok":
                self._say(EventKind.SAID, text)
            elif self._spec.ready == Ready.AGENT.value and not self._ready:
                self._is_ready(text)

    def answered(self) -> None:
        """Its address answers, for whom that is what up means."""
        if self._spec.ready == Ready.ADDRESS.value and not self._ready and self._qmp is not None:
            self._is_ready("its address answers")

    def _is_ready(self, text: str) -> None:
        self._ready = True
        self._say(EventKind.READY, text)

    async def _watch(self, child: Child) -> None:
        """The end of every process: last words, reaping, tidying, `exited`."""
        try:
            await child.gone.wait()
            if self._qmp is not None:
                await self._last_events(self._qmp)
            for channel in self._channels:
                channel.drain()
        finally:
            self._finish()

    async def _last_events(self, client: QMPClient) -> None:
        """What QMP said last, the reason of the end among it, and the end of the connection."""
        with contextlib.suppress(*QMP_FAULTS):
            if client.runstate == Runstate.RUNNING:
                await asyncio.wait_for(client.runstate_changed(), LAST_WORDS_S)
        if self._listening is not None:
            self._listening.cancel()
        for event in client.events.clear():
            self._on_event(event)
        with contextlib.suppress(*QMP_FAULTS):
            await asyncio.wait_for(client.disconnect(), LAST_WORDS_S)

    def _finish(self) -> None:
        self._console.wire(None)
        for channel in self._channels:
            channel.close()
        if self._log is not None:
            self._log.close()
        files = () if self._resting else self.identity["files"]
        for name in (self.identity["qmp"], *files):
            with contextlib.suppress(OSError):
                Path(name).unlink()
        self._ended()
        try:
            if self._child is not None and not self._resting:
                self._say(EventKind.EXITED, self._exit_text(), self._child.returncode)
        finally:
            self.over.set()

    def _exit_text(self) -> str:
        child = self._child
        code = child.returncode if child is not None else None
        if child is None or code is None:
            return "no process"
        if code < 0:
            return f"QEMU was killed by {signal.Signals(-code).name}"
        if code == 0:
            known = {"guest-shutdown": "the guest powered itself off", "host-qmp-quit": "ended"}
            return known.get(self._why, f"QEMU ended ({clean(self._why, 40) or 'no reason given'})")
        last = clean(child.stderr[-1500:], 400) or "without a word"
        return f"QEMU ended with code {code}: {last}"

    def _say(self, kind: EventKind, text: str, code: Optional[int] = None) -> None:
        self._emit(VmEvent(self._spec.id, kind, clean(text, 400), code))

    def _check_doom(self) -> None:
        if self._doomed:
            raise WspilotError(f"{self._what()}: destroyed while it was being started")

    def _what(self) -> str:
        return f"VM {self._spec.name}"


def _field(data: object, key: str) -> Any:
    return data.get(key, "") if isinstance(data, Mapping) else ""

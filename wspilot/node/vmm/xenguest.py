"""One guest of the VMM `xen`: what it is made of, and what it says on its console.

Invariant: `on_end` is called at most once a run, when the console ends before `rest` was called;
`exited` is said at most once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, Optional

from wspilot.errors import WspilotError
from wspilot.node.vmm.base import Emit, EventKind, Ready, VmEvent, VmSpec
from wspilot.node.vmm.console import Console
from wspilot.node.vmm.tty import Tty
from wspilot.node.vmm.voice import BoundedLog, Pattern, Voice
from wspilot.text import clean

DEFAULT_PATTERN = "login:"
_GONE = {
    "poweroff": "the guest powered itself off",
    "reboot": "the guest asked for a reboot",
    "crash": "the guest crashed",
    "": "the guest is gone; xl's log does not say why",
}


class Guest:
    """A VM. `words` are what it is created from, each time."""

    def __init__(
        self,
        spec: VmSpec,
        identity: dict[str, Any],
        words: Mapping[str, Any],
        emit: Emit,
        log: Path,
    ) -> None:
        self.spec, self.identity, self.words = spec, identity, words
        self.console = Console()
        self.on_end: Callable[[], None] = lambda: None
        self.task: Optional[asyncio.Task[None]] = None  # held, or it may be collected
        self.running = self.ready = self.paused = self.saved = False
        self.resting = self.doomed = False
        self._emit = emit
        self._log = BoundedLog(log)
        self._tty: Optional[Tty] = None
        self._voice = Voice()
        self._pattern = Pattern(str(spec.image.get("pattern") or DEFAULT_PATTERN))

    def begin(self, domid: int, tty: str, again: bool) -> None:
        """It runs: its console is read from now on. `again`: from its memory, so it is up."""
        self.resting, self.running, self.ready = False, True, again
        self._voice = Voice()
        self._say(EventKind.STARTED, f"domain {domid}")
        self._say(EventKind.BOOTING, "resumed" if again else "running")
        try:
            self._tty = Tty(tty, self._hear, self._over)
        except OSError:  # it is gone already
            asyncio.get_running_loop().call_soon(self._over)
            return
        self.console.wire(self._tty.put)
        if self.spec.ready == Ready.PROCESS.value and not again:
            self._is_ready("unproven")

    def answered(self) -> None:
        """Its address answers, for whom that is what up means."""
        if self.spec.ready == Ready.ADDRESS.value and self.running and not self.ready:
            self._is_ready("its address answers")

    def rest(self) -> None:
        """It runs no more; whoever ended it says so."""
        self.resting, self.running, self.ready, self.paused = True, False, False, False
        self.console.wire(None)
        if self._tty is not None:
            self._tty.close()
            self._tty = None

    def close(self) -> None:
        """Nothing is heard of it any more."""
        self.rest()
        self.console.close()
        self._log.close()

    def remove_files(self) -> None:
        """Its disks and its seed."""
        for name in self.identity["files"]:
            with contextlib.suppress(OSError):
                Path(name).unlink()

    def check_doom(self) -> None:
        """Raises WspilotError when it was destroyed meanwhile."""
        if self.doomed:
            raise WspilotError(f"VM {self.spec.name}: destroyed while it was being started")

    def say_booting(self, text: str) -> None:
        """It starts again."""
        self._say(EventKind.BOOTING, text)

    def say_exited(self, text: str) -> None:
        """Its last event."""
        self._say(EventKind.EXITED, text)

    def say_saved(self, why: str) -> None:
        """It rests, and its memory is kept, though nobody was told so."""
        self._say(EventKind.ERROR, f"it is suspended, its memory is kept (suspend, resume): {why}")

    def say_gone(self, why: str) -> None:
        """It ended by itself."""
        if why == "crash":
            self._say(EventKind.ERROR, "the guest's kernel panicked")
        self.say_exited(_GONE.get(why, why))

    def _over(self) -> None:
        self.running = False
        self.console.wire(None)
        self.on_end()

    def _hear(self, data: bytes) -> None:
        self.console.write(data)
        self._log.write(data)
        if self.spec.ready == Ready.CONSOLE.value and not self.ready and self._pattern.feed(data):
            self._is_ready("its console shows the pattern")
        for word, text in self._voice.feed(data, time.monotonic()):
            if word == "error":
                self._say(EventKind.ERROR, text)
            elif word == "ok":
                self._say(EventKind.SAID, text)
            elif self.spec.ready == Ready.AGENT.value and not self.ready:
                self._is_ready(text)

    def _is_ready(self, text: str) -> None:
        self.ready = True
        self._say(EventKind.READY, text)

    def _say(self, kind: EventKind, text: str) -> None:
        self._emit(VmEvent(self.spec.id, kind, clean(text, 400)))

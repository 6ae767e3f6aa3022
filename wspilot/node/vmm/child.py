"""One child process, started so that a batch system cannot end it behind the pilot's back.

TERM, INT and HUP are blocked over the exec (a job's signals go to every process of it, and QEMU
dies of its own TERM within 5 to 50 ms), and PDEATHSIG KILL takes the child along when the pilot is
gone. It stays in the pilot's session, process group and cgroup, so that accounting and limits hold
(DESIGN.md section 6). No threads: asyncio's own subprocesses start one each on Python 3.9.

Invariant: a `Child` is reaped exactly once, here; until then its pid cannot be anybody else's.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import subprocess
from collections.abc import Sequence
from typing import Optional

from wspilot.errors import WspilotError

BLOCKED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
STDERR_KEPT = 8192
_POLL_S = 0.05
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)  # before any fork: no import lock may be held in a child
_PRCTL = _LIBC.prctl


class Child:
    """A running process. `stderr` holds the last 8 KiB of what it complained about."""

    def __init__(self, process: subprocess.Popen[bytes], errors: int) -> None:
        self.pid = process.pid
        self.stderr = b""
        self.gone = asyncio.Event()
        self._process = process
        self._errors = errors
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(errors, self._on_stderr)
        self._pidfd = _pidfd(process.pid)
        if self._pidfd >= 0:
            self._loop.add_reader(self._pidfd, self._on_exit)
        else:  # Linux before 5.3
            self._loop.call_later(_POLL_S, self._poll)

    @property
    def returncode(self) -> Optional[int]:
        """Its exit code, -9 for SIGKILL; None while it runs."""
        return self._process.returncode

    def kill(self) -> None:
        """SIGKILL; harmless when it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def wait(self, limit_s: float) -> bool:
        """True when it is gone and reaped within the limit."""
        try:
            await asyncio.wait_for(self.gone.wait(), limit_s)
        except asyncio.TimeoutError:
            return False
        return True

    def _on_stderr(self) -> None:
        try:
            data = os.read(self._errors, 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.stderr = (self.stderr + data)[-STDERR_KEPT:]
        if not data:
            self._close_stderr()

    def _close_stderr(self) -> None:
        if self._errors >= 0:
            self._loop.remove_reader(self._errors)
            os.close(self._errors)
            self._errors = -1

    def _poll(self) -> None:
        if self._process.poll() is None:
            self._loop.call_later(_POLL_S, self._poll)
        else:
            self._on_exit()

    def _on_exit(self) -> None:
        if self._process.poll() is None:
            return
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        if self._errors >= 0:
            self._on_stderr()  # the last words; a grandchild may hold the pipe open for ever
        self._close_stderr()
        self.gone.set()


def spawn(argv: Sequence[str], keep: Sequence[int] = (), out: int = -1) -> Child:
    """Start `argv` with the descriptors `keep`; returns after its exec. `out`: its stdout, or none.

    Raises WspilotError when it cannot be executed. Blocks for the fork alone (a few ms).
    """
    parent = os.getpid()
    errors, theirs = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(errors, False)

    def prepare() -> None:
        # Between fork and exec: calls only, no imports, no allocation worth speaking of.
        signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold the guest's memory
        _PRCTL(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it died before the prctl
            os._exit(1)

    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=out if out >= 0 else subprocess.DEVNULL,
            stderr=theirs,
            close_fds=True,
            pass_fds=tuple(keep),
            cwd="/",
            preexec_fn=prepare,
        )
    except OSError as error:
        os.close(errors)
        raise WspilotError(f"{argv[0]} cannot be started: {error.strerror}") from error
    except subprocess.SubprocessError as error:
        os.close(errors)
        raise WspilotError(f"{argv[0]} cannot be started: {error}") from error
    finally:
        os.close(theirs)
    return Child(process, errors)


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1

"""The one place where LRM commands run: `sh` in a worker thread, one at a time, always limited.

Argument lists only, no terminal, bytes out, LC_ALL=C and a small environment; nothing is raised:
whatever happens is a `Result`, and an answer that was cut off is none. A command that hits
its time limit is killed with its whole session, because a grandchild would hold its output open
(LIBS.md section 5). `sh` costs 190 ms to import, so only the first command pays for it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from typing import Any

from wspilot.daemon.lrm.base import Command, Result

MAX_OUTPUT = 64 << 20
MAX_ERROR = 1 << 20
_CHUNK = 65536
_PASSED = ("PATH", "HOME", "USER", "LOGNAME", "XDG_RUNTIME_DIR", "TMPDIR")
_PASSED_PREFIXES = ("SLURM_CONF", "PBS_DEFAULT", "PBS_SERVER", "TORQUE", "SGE_", "WSPILOT_LOCAL")


class Runner:
    """Runs commands for one batch system, never more than one at a time."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(1)
        self._limit: _Limit | None = None

    async def run(self, command: Command) -> Result:
        """The result, whatever happens: this raises nothing but CancelledError."""
        async with self._turn:
            self._limit = _Limit(command.timeout_s)
            return await asyncio.to_thread(run_blocking, command, self._limit)

    def close(self) -> None:
        """End a command that is under way: a hung qstat must not outlive or hold the daemon."""
        if self._limit is not None:
            self._limit.strike()


def environment() -> dict[str, str]:
    """What a command sees of our environment."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED or name.startswith(_PASSED_PREFIXES)
    }
    kept.setdefault("PATH", "/usr/local/bin:/usr/bin:/bin")
    return {**kept, "LC_ALL": "C"}


def run_blocking(command: Command, limit: _Limit | None = None) -> Result:
    """Run one command to its end or its time limit."""
    import sh

    argv, start = command.argv, time.monotonic()
    limit = limit or _Limit(command.timeout_s)
    try:
        done = sh.Command(argv[0])(
            *argv[1:],
            _in=command.stdin or None,
            _tty_out=False,
            _tty_in=False,
            _return_cmd=True,
            _new_session=True,
            _preexec_fn=limit.tell,
            _out_bufsize=_CHUNK,
            _internal_bufsize=MAX_OUTPUT // _CHUNK + 1,  # in chunks; the oldest are dropped
            _env={**environment(), **dict(command.env)},
        )
        return _result(argv, 0, done, start)
    except sh.CommandNotFound:
        return Result(argv, None, b"", b"not found", missing=True)
    except sh.ForkException as error:  # no interpreter, not a program, too many arguments
        why = str(error).strip().rpartition("\n")[2].strip().encode()
        return Result(argv, None, b"", b"could not be started: " + why, missing=True)
    except sh.ErrorReturnCode as error:  # a death by signal too: a negative code
        if limit.struck:
            return Result(argv, None, elapsed_s=time.monotonic() - start, timed_out=True)
        return _result(argv, int(error.exit_code), error, start)
    except OSError as error:
        return Result(argv, None, b"", str(error).encode(), time.monotonic() - start)
    finally:
        limit.close()


class _Limit:
    """Kills the command's session when its time is over.

    sh's own `_timeout` polls (0.1 s more for each command) and leaves grandchildren alive.
    """

    def __init__(self, seconds: float) -> None:
        self.struck = False
        self._open = True
        self._lock = threading.Lock()  # a closed pipe's number may be somebody else's by now
        self._told, self._tell = os.pipe()
        os.set_blocking(self._told, False)
        self._timer = threading.Timer(seconds, self.strike)
        self._timer.daemon = True
        self._timer.start()

    def tell(self) -> None:
        """In the child, before its exec: say which session to kill."""
        os.write(self._tell, b"%d" % os.getpid())

    def close(self) -> None:
        self._timer.cancel()
        with self._lock:
            self._open = False
            os.close(self._told)
            os.close(self._tell)

    def strike(self) -> None:
        """The time is over."""
        with self._lock:
            if not self._open:
                return
            self.struck = True
            try:
                os.killpg(int(os.read(self._told, 32)), signal.SIGKILL)
            except (OSError, ValueError):
                pass  # it has not begun, or has just ended by itself


def _result(argv: tuple[str, ...], rc: int, said: Any, start: float) -> Result:
    elapsed = time.monotonic() - start
    if len(said.stdout) >= MAX_OUTPUT:  # its beginning is lost: half an answer is none
        return Result(argv, None, b"", b"more than 64 MiB of output", elapsed)
    return Result(argv, rc, said.stdout, said.stderr[-MAX_ERROR:], elapsed)

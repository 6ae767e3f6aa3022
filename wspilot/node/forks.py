"""Forking a process that shares nothing with its parent but what it is given.

The child closes, as its first act, every descriptor that is not its own: the journal's lock, the
others' pipe ends, the event loop. It never returns: no destructor of the parent's objects runs in
it. TERM, INT and HUP are ignored, for batch systems send those to every process of a job.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable

_LIBC = ctypes.CDLL(None, use_errno=True)  # before any fork: no import lock may be held in a child
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def fork(main: Callable[[], None], keep: Iterable[int], title: str = "") -> int:
    """A child that runs `main` with the descriptors `keep`; its pid. Blocks for the fork alone."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _child(main, keep, title)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return pid


def detach(main: Callable[[], None], keep: Iterable[int], title: str = "") -> None:
    """The same, double-forked into a session of its own: no child of ours, and not of the job's.

    As the pilot's child, setsid or not, Slurm's linuxproc kills it with the job (16 of 16).
    """
    keep = tuple(keep)

    def middle() -> None:
        os.setsid()
        fork(main, keep, title)

    os.waitpid(fork(middle, keep), 0)


def _child(main: Callable[[], None], keep: Iterable[int], title: str) -> None:
    code = 1
    try:
        gc.freeze()  # the parent's garbage is never collected here: it would close our descriptors
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            ignored = number in IGNORED or number == signal.SIGPIPE
            _handle(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.chdir("/")
        close_others(keep)
        if title:
            rename(title)
        main()
        code = 0
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(code)


def _handle(number: int, action: signal.Handlers) -> None:
    try:
        signal.signal(number, action)
    except OSError:
        pass  # the C library's own real-time signals


def die_with(parent: int) -> None:
    """From now on the kernel kills this process when `parent` is gone; ends it if it is already."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def close_others(keep: Iterable[int]) -> None:
    """Close all but `keep`; stdio goes to /dev/null."""
    kept = set(keep)
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    for number in sorted(int(name) for name in os.listdir("/proc/self/fd")):  # noqa: PTH208
        if number > 2 and number not in kept:
            try:
                os.close(number)
            except OSError:
                pass


def rename(title: str) -> None:
    """Show `title` in ps, so that operators know what this is: our argv, overwritten in place."""
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        start, end = int(fields[45]), int(fields[46])  # arg_start, arg_end
        text = title.encode("utf-8", "replace")[: end - start - 1]
        ctypes.memmove(start, text.ljust(end - start, b"\0"), end - start)
        _LIBC.prctl(_PR_SET_NAME, title.split(" ")[0].encode()[:15], 0, 0, 0)
    except (OSError, ValueError, IndexError):
        pass

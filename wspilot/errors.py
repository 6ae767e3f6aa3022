"""The one error that wspilot shows to people, and its codes.

Every error says what happened and where (`message`) and what to do next (`hint`). The codes are
the exit codes of the command line (PROTOCOLS.md section 5), so a script sees the same number on the
socket and from the shell. Standard library only: node code raises these too.
"""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """Exit codes; also the `code` of an error on the control socket."""

    FAILED = 1
    USAGE = 2
    NO_DAEMON = 3
    NOT_FOUND = 4
    REFUSED = 5
    TIMED_OUT = 6


class WspilotError(Exception):
    """What happened, where and why (`message`), and what to do next (`hint`, may be empty)."""

    code = Code.FAILED

    def __init__(self, message: str, hint: str = "", code: Code | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code


class UsageError(WspilotError):
    """The request itself is wrong: nothing was changed."""

    code = Code.USAGE


class NoDaemon(WspilotError):
    """No daemon answers on this home's socket."""

    code = Code.NO_DAEMON


class NotFound(WspilotError):
    """No such workspace, group, VM, slot or node."""

    code = Code.NOT_FOUND


class Refused(WspilotError):
    """Understood, and not allowed or not possible now: nothing was changed."""

    code = Code.REFUSED


class TimedOut(WspilotError):
    """The time limit of a wait or of an effect has passed; what was begun may still finish."""

    code = Code.TIMED_OUT

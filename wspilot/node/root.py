"""Asking the node's root helper (`root_helper.py`) for a step that needs root, by one sudo rule.

Invariant: nothing here decides what may be done; the helper does, by root's own node.conf. `ask`
and `asked` work in any process from words alone, and come back within their limit: a helper that
is still at work then ends by its own limits (a user's signal does not reach it). A `Call` waits
for its words as long as whoever made it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wspilot.errors import TimedOut, WspilotError
from wspilot.node.aside import aside
from wspilot.text import clean

HELPER = "/usr/local/libexec/wspilot-root"
LIMIT_S = 30.0
XEN_S = 1500.0  # Xen's verbs: beyond what they wait for another's and their own longest step


class Declined(WspilotError):
    """The helper said no: nothing was done, or what was done has been undone."""


class Call:
    """The helper, started and not told yet what to do: it waits, without its lock. Its start (sudo,
    an interpreter) is most of a short step, so whoever will ask later may start it before.

    Whoever forks before it is told keeps its stdin open. Raises Declined where this node has none,
    WspilotError.
    """

    def __init__(self, verb: str) -> None:
        if not Path(HELPER).is_file():
            raise Declined(
                f"{HELPER} is not on this node, and this step needs root",
                "its administrator installs it: make install-node (docs/operating.md)",
            )
        argv = [HELPER, verb] if os.geteuid() == 0 else ["sudo", "-n", HELPER, verb]
        # Root asks for itself: who called *us* by sudo is not who the helper shall think it serves.
        env = {name: value for name, value in os.environ.items() if not name.startswith("SUDO_")}
        self._verb = verb
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                env=env,
            )
        except OSError as error:
            raise WspilotError(f"{argv[0]} cannot be started: {error.strerror}") from error

    def answer(self, words: Mapping[str, Any], limit_s: float) -> Mapping[str, Any]:
        """Tell it, once, and wait. Raises Declined with its own words, TimedOut, WspilotError."""
        process = self._process
        try:
            out, err = process.communicate(json.dumps(dict(words)).encode(), limit_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError):
                process.kill()
            text = f"the root helper's {self._verb} took longer than {limit_s:g} s"
            raise TimedOut(text) from None
        finally:
            _hang_up(process)
        return _answer(self._verb, out, err)

    def drop(self) -> None:
        """Nobody will tell it: it does what its verb does without words, and ends. Also after an
        answer, when nothing is left to drop."""
        _hang_up(self._process)


def ask(verb: str, words: Mapping[str, Any], limit_s: float = LIMIT_S) -> Mapping[str, Any]:
    """The helper's answer; blocks. Raises Declined with its own words, TimedOut, WspilotError."""
    return Call(verb).answer(words, limit_s)


def _hang_up(process: subprocess.Popen[bytes]) -> None:
    """A helper that has not begun yet sees that nobody waits (`root_helper.is_heard`): also while
    an exception, a signal's too, still holds the frame that called. What it is told ends last."""
    for pipe in (process.stdout, process.stderr, process.stdin):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _answer(verb: str, out: bytes, err: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(out)
    except ValueError:
        said = clean(err.decode("utf-8", "replace"), 200) or "no word"
        raise WspilotError(
            f"the root helper's {verb}: {said}",
            "sudo -l shows whether the rule of docs/operating.md is there",
        ) from None
    if not isinstance(found, dict):
        raise WspilotError(f"the root helper's {verb} answered no object")
    if "error" in found:
        raise Declined(
            f"the root helper refuses {verb}: {clean(str(found['error']), 400)}",
            clean(str(found.get("hint") or ""), 300),
        )
    return found


async def asked(verb: str, words: Mapping[str, Any], limit_s: float = LIMIT_S) -> Mapping[str, Any]:
    """The same, without blocking the pilot's loop. Raises as `ask` does."""

    def work() -> Mapping[str, Any]:
        try:
            return {"found": dict(ask(verb, words, limit_s))}
        except WspilotError as error:
            how = {"declined": isinstance(error, Declined)}
            return {"error": str(error), "hint": error.hint, **how}

    told = await aside(work, limit_s + 1, f"wspilot-root {verb}")
    if "error" in told:
        kind = Declined if told.get("declined") else WspilotError
        raise kind(str(told["error"]), str(told.get("hint") or ""))
    found: Mapping[str, Any] = told["found"]
    return found

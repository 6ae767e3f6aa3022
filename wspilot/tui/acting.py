"""Verbs from the interface: asked of the daemon, waited for, and their outcome told in words.

The same requests as the command line's. The screen never waits: all of it runs in a worker.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

from wspilot.errors import TimedOut, WspilotError
from wspilot.text import clean
from wspilot.tui.screens.act import Target
from wspilot.tui.source import Source

DONE_S = 120.0  # beyond that it is told that it goes on

Tell = Callable[[str, bool], None]  # (words, is it bad news)


async def act(source: Source, verb: str, target: Target, tell: Tell) -> None:
    """Ask, wait until it is done, and say how it went."""
    what = f"{verb}: {target.title}"
    try:
        await source.call(verb, ids=[target.id], token=uuid.uuid4().hex)
        tell(f"{what}: asked for", False)
        await source.call("wait", id=target.id, timeout_s=DONE_S, **{"for": "done"})
    except TimedOut:
        tell(f"{what}: not done after {DONE_S:.0f} s; it goes on", True)
    except WspilotError as error:
        tell(f"{what}: {clean(f'{error.message} {error.hint}', 400)}", True)
    else:
        tell(f"{what}: done", False)

"""Into a guest and back: the interface gives the terminal to the command line's own code.

The same code as `wspilot console` and `wspilot ssh`; while it runs nothing is drawn, and what the
daemon says meanwhile is taken in afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from textual.app import SuspendNotSupported

from wspilot.errors import WspilotError
from wspilot.text import clean

if TYPE_CHECKING:
    from wspilot.tui.acting import Target
    from wspilot.tui.app import WspilotApp


def reach(app: WspilotApp, verb: str, target: Target) -> None:
    """Suspend, run the verb, come back, and say how it went."""
    if app.source.home is None:
        app.tell(f"{verb}: the demo has no guests to go to", "warning")
        return
    args = argparse.Namespace(verb=verb, home=str(app.source.home), id=target.id, json=False,
                              login="root", port=22, args=[])  # fmt: skip
    try:
        with app.suspend():
            print(f"\x1b[Jconnecting to {target.name} ...", flush=True)  # a node may take its time
            code, said = _run(args)
    except SuspendNotSupported:
        app.tell(f"{verb}: not here; in a terminal: wspilot {verb} {target.name}", "warning")
        return
    if said:
        app.tell(f"{verb}: {target.name}: {said}", "error")
    else:
        app.tell(f"{verb}: back from {target.name}" + (f" (exit {code})" if code else ""), "info")
    app.refresh()


def _run(args: argparse.Namespace) -> tuple[int, str]:
    """(exit code, what went wrong)."""
    try:
        with _interruptible():
            return _visit(args)
    except KeyboardInterrupt:
        return 130, ""


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl+C ends what runs here, at once, and nothing else.

    To the event loop it is a byte in a pipe: nothing would be ended until we are back, and then
    the interface. What other signals say there is handed on at the end.
    """
    heard, said = os.pipe()
    os.set_blocking(heard, False)
    os.set_blocking(said, False)
    loop, before = signal.set_wakeup_fd(said), signal.getsignal(signal.SIGINT)
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        signal.set_wakeup_fd(loop)
        os.close(said)
        others = bytes(one for one in os.read(heard, 4096) if one != signal.SIGINT)
        os.close(heard)
        if others and loop != -1:
            os.write(loop, others)


def _visit(args: argparse.Namespace) -> tuple[int, str]:
    from wspilot.cli.verbs import run

    try:
        code = run(args)
    except WspilotError as error:
        return 1, clean(f"{error.message}. {error.hint}" if error.hint else error.message, 400)
    except Exception as error:  # whatever it was: the screen comes back and says it
        return 1, clean(f"{type(error).__name__}: {error}", 400)
    if code and args.verb == "ssh":  # what ssh said would be gone with the next frame
        print(f"ssh has ended with {code}; press Enter to go back", file=sys.stderr, flush=True)
        sys.stdin.readline()
    return code, ""

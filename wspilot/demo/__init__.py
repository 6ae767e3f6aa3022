"""`wspilot demo`: a whole site on this machine, one real lease on it, and then nothing.

Invariant: whatever ends it (the end, an error, Ctrl-C, SIGTERM, a hang-up), `Stage.close` runs, and
only what this demo started is ended.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from wspilot.asks import token
from wspilot.cli import render
from wspilot.cli.act import read_ensemble
from wspilot.cli.parse import Args
from wspilot.cli.progress import wait
from wspilot.demo.interrupts import Interrupted, Interrupts
from wspilot.demo.site import Guests, choose, example
from wspilot.demo.stage import Stage
from wspilot.errors import WspilotError
from wspilot.text import clean, format_duration

LEASE = "1h"
ACTIVE_S = {"qemu": 420.0, "sim": 90.0}


def run(args: Args) -> int:
    """The demo. Returns the exit code; raises WspilotError when the lease could not be had."""
    path = Path(args.ensemble) if args.ensemble else example("osg-cluster.toml")
    ensemble = read_ensemble(path)
    with Interrupts() as interrupts:
        try:
            guests = choose("sim" if args.sim else args.vmm or "", say)
            stage = Stage(guests, interrupts)
            try:
                say(f"guests: {guests.words}")
                return _play(args, stage, guests, ensemble, path)
            finally:
                interrupts.ignore()
                say("ending: the lease, the daemon, the directory")
                _closing(stage)
        except Interrupted as stop:
            return 128 + stop.number


def _play(args: Args, stage: Stage, guests: Guests, ensemble: dict[str, Any], path: Path) -> int:
    """The lease from first to last."""
    stage.open()
    say(f"daemon: pid {stage.pid}, home {stage.home}, batch system local with four nodes")
    say(f"leasing {path.name} for {LEASE} at most")
    asked = time.monotonic()
    params = {"ensemble": ensemble, "duration": LEASE, "token": token()}
    ws = stage.call("deploy", params)["workspace"]
    try:
        doc = wait(stage.home, ws["id"], "active", ACTIVE_S[guests.vmm], quiet=args.json)
    except WspilotError as error:
        raise type(error)(f"{error.message}\n{stage.log_tail()}", error.hint) from None
    took = time.monotonic() - asked
    if args.json:
        print(json.dumps(doc), flush=True)
        return 0
    print(f"\nactive after {format_duration(took)} ({took:.1f} s); phases in seconds\n")
    print(render.show(doc["workspace"], time.time()) + "\n", flush=True)
    if not args.no_tui and sys.stdin.isatty() and sys.stdout.isatty():
        stage.show_tui()
    return 0


def _closing(stage: Stage) -> None:
    left = stage.close()
    say("the demo is over: nothing of it is left" if not left else f"still there: {left}")


def say(text: str) -> None:
    """One line about what goes on; stdout is for the result. A terminal that has gone is no error:
    the clean-up must not stop for it."""
    with contextlib.suppress(OSError):
        print(clean(text, 500), file=sys.stderr, flush=True)


__all__ = ["run"]

"""`wspilot bench host [NODE]`: a slot that measures its node against bare xl, and its figures.

The job is an ordinary one of this user's; whatever happens here, it is not left in the queue.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wspilot.asks import token
from wspilot.cli.parse import Args
from wspilot.client import call
from wspilot.errors import TimedOut, WspilotError
from wspilot.hostfigures import table
from wspilot.text import clean, parse_duration

POLL_S, WAIT_S = 0.5, 3600.0


def bench_host(args: Args, home: Path) -> tuple[dict[str, Any], str]:
    """The document and its table. Raises WspilotError when nothing was measured."""
    parse_duration(args.duration, "--duration")
    limit_s = args.timeout or WAIT_S
    asked = {"token": token(), "wait_s": limit_s, "rounds": args.rounds, "mib": args.mib,
             "guests": args.guests, "kernel": args.kernel or "", "initrd": args.initrd or "",
             "node": args.node or "", "duration": args.duration}  # fmt: skip
    slot = call(home, "bench", asked)["bench"]
    before = signal.signal(signal.SIGTERM, _interrupted)
    try:
        slot = _until_ended(home, slot, limit_s, args.json)
    except BaseException:
        call(home, "bench_end", {"slot": slot["id"], "token": token()})
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if slot["figures"] is None:
        why = clean(slot["cause"], 400) or "it said nothing"
        where = slot["node"] or "no node"
        raise WspilotError(f"nothing was measured ({where}): {why}",
                           "the node: wspilot-node.pyz selftest (docs/xen.md)")  # fmt: skip
    return {"schema": 1, "bench": slot}, f"{slot['node']}: {table(slot['figures'])}"


def _until_ended(
    home: Path, slot: Mapping[str, Any], limit_s: float, quiet: bool
) -> Mapping[str, Any]:
    """Raises TimedOut."""
    end, said = time.monotonic() + limit_s, ""
    while not slot["ended"]:
        where = slot["node"] or "no node yet"
        told = f"slot {slot['id']}: {slot['state']}, {where}"
        if told != said and not quiet:
            print(told, file=sys.stderr, flush=True)
            said = told
        if time.monotonic() > end:
            if slot["figures"]:  # all but the batch system's word that the job is gone
                break
            raise TimedOut(f"slot {slot['id']} was not done within {limit_s:g} s: it is ended",
                           "a longer --timeout, or fewer --rounds")  # fmt: skip
        time.sleep(POLL_S)
        slot = call(home, "bench_look", {"slot": slot["id"]})["bench"]
    return slot


def _interrupted(number: int, frame: object) -> None:
    raise KeyboardInterrupt

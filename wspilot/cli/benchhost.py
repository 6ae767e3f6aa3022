"""`wspilot bench host [NODE]`: a slot that measures its node against bare xl, and its figures.

The job is an ordinary one of this user's. However this ends, the daemon is told that nobody waits
any more, by the request's token: also where its answer was lost. Where it cannot be told (it stays
away, or this was killed) the slot ends by itself: in the queue once it has waited as long as this
would have, on its node by its walltime at the latest.
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
from wspilot.errors import NoDaemon, NotFound, TimedOut, WspilotError
from wspilot.hostfigures import table
from wspilot.text import clean, parse_duration

POLL_S, WAIT_S, AWAY_S = 0.5, 3600.0, 5.0


def bench_host(args: Args, home: Path) -> tuple[dict[str, Any], str]:
    """The document and its table. Raises WspilotError when nothing was measured."""
    parse_duration(args.duration, "--duration")
    limit_s = args.timeout or WAIT_S
    asked = {"token": token(), "wait_s": limit_s, "rounds": args.rounds, "mib": args.mib,
             "guests": args.guests, "kernel": args.kernel or "", "initrd": args.initrd or "",
             "node": args.node or "", "duration": args.duration}  # fmt: skip
    call(home, "ping", {})  # without a daemon there is nothing to end
    before = signal.signal(signal.SIGTERM, _interrupted)
    try:
        slot = _heard(home, "bench", asked)["bench"]
        slot = _until_ended(home, slot, limit_s, args.json)
    except BaseException:
        _end(home, asked["token"])
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
        slot = _heard(home, "bench_look", {"slot": slot["id"]})["bench"]
    return slot


def _end(home: Path, request: str) -> None:
    try:
        _heard(home, "bench_end", {"of": request, "token": token()})
    except NotFound:  # it never came to be
        pass
    except WspilotError as error:
        print(f"wspilot: its slot could not be ended ({clean(error.message, 300)}): it ends by "
              "itself, by its walltime at the latest", file=sys.stderr)  # fmt: skip


def _heard(home: Path, method: str, params: dict[str, Any]) -> dict[str, Any]:
    """Asked once more where the daemon is away: it may be starting again. A token is done once."""
    try:
        return call(home, method, params)
    except NoDaemon:
        time.sleep(AWAY_S)
        return call(home, method, params)


def _interrupted(number: int, frame: object) -> None:
    raise KeyboardInterrupt

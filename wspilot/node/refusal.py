"""A launcher that must not start anything: it repairs its node, says why, and ends.

Apart from the launcher, because it needs most of the node code and a launcher that starts pilots
needs none of it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from wspilot.messages import NEW, Kind
from wspilot.node import proc
from wspilot.node.core.settings import Settings
from wspilot.node.files import put
from wspilot.node.launcher import Job
from wspilot.node.places import Places
from wspilot.node.settings import read_key
from wspilot.node.signing import Writer
from wspilot.node.undo import wait_others


def again(job: Job, settings: Settings, epoch: int, node: str) -> int:
    """A second start: repair this node, say so, end."""
    places = Places(node, os.getuid())
    limit = settings.budget.get("restore", 5.0)
    outcome = wait_others(places, proc.boot_id(), limit)
    places.tidy()
    say_failed(job, epoch, node, "restarted", not outcome.left, outcome.undone + outcome.left)
    return 1


def say_failed(
    job: Job, epoch: int, node: str, cause: str, clean: bool, causes: Sequence[str] = ()
) -> None:
    """One message under an own pilot id. Blocks: there is nothing here that could suffer."""
    data: dict[str, Any] = {
        "cause": cause,
        "causes": list(causes),
        "clean": clean,
        "boot_id": proc.boot_id(),
    }
    writer = Writer(job.slot, node, epoch, read_key(job.place))
    name, raw = writer.note(1, Kind.FAILED, time.time(), proc.now() - job.began, data)
    put(job.spool, NEW, name, raw)
    print(f"wspilot: slot {job.slot}, node {node}: {cause}", file=sys.stderr, flush=True)

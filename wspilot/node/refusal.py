"""A job that must not start anything: it repairs its nodes, each says why, and ends.

Apart from the launcher, because it needs most of the node code and a launcher that starts pilots
needs none of it.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wspilot.messages import NEW, Kind
from wspilot.node import proc
from wspilot.node.core import launch
from wspilot.node.files import put
from wspilot.node.launcher import Job
from wspilot.node.others import census, wait_others
from wspilot.node.places import Places
from wspilot.node.settings import read_key, read_slot
from wspilot.node.signing import Writer


def repair(job: Job, epoch: int, named: str, nodes: Sequence[str]) -> int:
    """A second start, on one of its nodes: undo what is left, say `restarted`, end. Blocks."""
    settings = read_slot(job.place)
    node = launch.own_node(named, nodes, os.environ, socket.gethostname())
    places = Places(node, os.getuid())
    limit = settings.budget.get("restore", 5.0)
    found = wait_others(places, Path(), proc.boot_id(), limit)
    here = census(places, Path()).data()
    places.tidy()
    say_failed(job, epoch, node, "restarted", not found.left, found.left, found.undone, here)
    return 0


def say_failed(
    job: Job,
    epoch: int,
    node: str,
    cause: str,
    clean: bool,
    causes: Sequence[str] = (),
    undone: Sequence[str] = (),
    here: Mapping[str, Any] = {},
) -> None:
    """One message under an own pilot id. Blocks: there is nothing here that could suffer."""
    data: dict[str, Any] = {
        "cause": cause,
        "causes": list(causes),
        "undone": list(undone),
        "clean": clean,
        "boot_id": proc.boot_id(),
        **here,
    }
    writer = Writer(job.slot, node, epoch, read_key(job.place))
    name, raw = writer.note(1, Kind.FAILED, time.time(), proc.now() - job.began, data)
    put(job.spool, NEW, name, raw)
    print(f"wspilot: slot {job.slot}, node {node}: {cause}", file=sys.stderr, flush=True)

"""A pilot process from its arguments to its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import re
import socket
from pathlib import Path

from wspilot.errors import UsageError, WspilotError
from wspilot.messages import NODE_RE, SLOT_RE
from wspilot.node import proc
from wspilot.node.core import launch
from wspilot.node.host import open_adapter
from wspilot.node.pilot import NotBegun, Pilot
from wspilot.node.places import Places
from wspilot.node.settings import read_key, read_slot
from wspilot.node.signing import Writer
from wspilot.node.vmm import open_vmm
from wspilot.node.work import Site, host_options, words

JOB_IDS = ("SLURM_JOB_ID", "PBS_JOBID", "WSPILOT_LOCAL_JOB")


def run_pilot(
    spool: Path, slot: str, epoch: int, age_s: float, named: str, nodes: tuple[str, ...]
) -> int:
    """Raises WspilotError or OSError when it cannot even begin: nothing was done then, and the
    daemon has been told if the spool can be written to."""
    if not re.fullmatch(SLOT_RE, slot):
        raise UsageError(f"{slot!r:.40} is not a slot's id")
    node = launch.own_node(named, nodes, os.environ, socket.gethostname())
    if not re.fullmatch(NODE_RE, node):
        raise UsageError(f"{node!r:.80} is not a node's name")
    try:
        site = _site(spool, slot, epoch, age_s, node)
    except (WspilotError, OSError) as error:
        _tell(spool, slot, epoch, age_s, node, error)
        raise
    log = logging.getLogger("wspilot")
    log.setLevel(logging.INFO)
    log.propagate = False
    logging.raiseExceptions = False
    gc.collect()
    gc.freeze()  # shared with courier and guardian for ever: the collector must not touch it
    try:
        return asyncio.run(_run(site))
    except NotBegun as error:
        _tell(spool, slot, epoch, age_s, node, error)
        raise


def _site(spool: Path, slot: str, epoch: int, age_s: float, node: str) -> Site:
    # Read here, once, before there is anything to guard; after this only the courier goes there.
    settings = read_slot(spool / "slots" / slot)
    key = read_key(spool / "slots" / slot)
    # A VM whose journal is lost can still be told apart: it inherits these (`guests.py`).
    os.environ.update(WSPILOT_SLOT=slot, WSPILOT_NODE=node)
    places, writer = Places(node, os.getuid()), Writer(slot, node, epoch, key)
    # What root does for a pilot is known by its journal, and ends with it.
    own = {"slot": slot, "journal": str(places.journal(slot, writer.pilot))}
    if settings.adapter == "balloon":
        own["policy"] = str(settings.vmm_options.get("policy", "exact"))
    return Site(
        settings=settings,
        spool=spool,
        writer=writer,
        places=places,
        vmm=open_vmm(settings.vmm, {**settings.vmm_options, **own}),
        host=open_adapter(settings.adapter, places, {**host_options(settings), **own}),
        age_s=age_s,
        job=next((os.environ[name] for name in JOB_IDS if os.environ.get(name)), ""),
    )


def _tell(spool: Path, slot: str, epoch: int, age_s: float, node: str, error: Exception) -> None:
    """The one word of a pilot that never was; blocking, since it guards nothing."""
    from wspilot.node import refusal
    from wspilot.node.launcher import Job

    job = Job(spool, slot, (), proc.now() - age_s)
    with contextlib.suppress(WspilotError, OSError):
        refusal.say_failed(job, epoch, node, words(error), True)


async def _run(site: Site) -> int:
    """Made inside the loop: Python 3.9's queues belong to the loop they were made in."""
    return await Pilot(site).run()

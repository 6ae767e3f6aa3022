"""A slot of `wspilot bench host`: a job that measures its node, says what it found, and ends.

It starts no VM of anybody's and takes no command. A TERM ends it: what it took goes back, and it
says `failed`. One that is killed leaves a journal, as a pilot does, and its node is dirty.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wspilot.errors import Refused, WspilotError
from wspilot.hostfigures import table
from wspilot.messages import HB, NEW, Kind
from wspilot.node import proc
from wspilot.node.benchhost import Guests, Plan, Trial, measured
from wspilot.node.core import launch
from wspilot.node.core.settings import Settings
from wspilot.node.files import put
from wspilot.node.launcher import Job
from wspilot.node.others import census, wait_others
from wspilot.node.places import Places
from wspilot.node.settings import read_key, read_slot
from wspilot.node.signing import Writer
from wspilot.text import clean

BEAT_S = 20.0


class Ended(WspilotError):
    """The batch system has sent TERM."""


class Voice:
    """What it says, in order; a heartbeat while it works."""

    def __init__(self, job: Job, epoch: int, node: str) -> None:
        self._spool = job.spool
        self._writer = Writer(job.slot, node, epoch, read_key(job.place))
        self._seq, self._last, self._began = 0, proc.now(), proc.now()

    def say(self, kind: Kind, **data: Any) -> None:
        """A notification. Raises OSError."""
        self._seq += 1
        self._put(NEW, kind, data)

    def beat(self) -> None:
        """Now and then, that it is there."""
        if proc.now() - self._last > BEAT_S:
            self._put(HB, Kind.HEARTBEAT, {"last_seq": self._seq, "vms": []})

    def _put(self, direction: str, kind: Kind, data: Mapping[str, Any]) -> None:
        self._last = proc.now()
        name, raw = self._writer.note(self._seq, kind, time.time(), self._last - self._began, data)
        put(self._spool, direction, name, raw)


def measure(job: Job, epoch: int, named: str, nodes: Sequence[str]) -> int:
    """The one process of such a slot; its exit code. Raises WspilotError, OSError."""
    _heed_term()
    settings = read_slot(job.place)
    node = launch.own_node(named, nodes, os.environ, socket.gethostname())
    places, voice = Places(node, os.getuid()), Voice(job, epoch, node)
    voice.say(Kind.STARTED, **_facts(job, settings))
    try:
        found = _measured(job, settings, places, voice)
        _deaf()  # in here: until then a TERM may come
    except (WspilotError, OSError) as error:
        _deaf()
        if isinstance(error, Ended):
            voice.say(Kind.PREEMPTED, cause=error.message)
        limit_s = settings.budget.get("restore", 5.0)
        left = wait_others(places, Path(), proc.boot_id(), limit_s).left
        places.tidy()
        voice.say(Kind.FAILED, cause=clean(str(error), 400), causes=list(left), clean=not left,
                  boot_id=proc.boot_id(), **census(places, Path()).data())  # fmt: skip
        print(f"wspilot: {error}", file=sys.stderr, flush=True)
        return 1
    voice.say(Kind.RELEASED, bench=found, clean=True, boot_id=proc.boot_id(),
              **census(places, Path()).data())  # fmt: skip
    print(table(found), flush=True)
    return 0


def _measured(job: Job, settings: Settings, places: Places, voice: Voice) -> Mapping[str, Any]:
    if os.getuid() == 0 and not settings.allow_root:
        raise Refused("this runs as root", "no pilot does: DESIGN.md section 6")
    words, end = settings.bench, settings.hard_end(job.began)
    kernel, initrd = str(words.get("kernel", "")), str(words.get("initrd", ""))
    guests = Guests(int(words.get("guests", 0)), kernel, initrd)
    plan = Plan(int(words["rounds"]), int(words["mib"]), guests)
    return measured(Trial(plan, places, job.slot, voice.beat), lambda: end - proc.now())


def _facts(job: Job, settings: Settings) -> Mapping[str, Any]:
    return {
        "boot_id": proc.boot_id(),
        "host": socket.gethostname(),
        "cpus": proc.cpus(),
        "memory_mib": proc.memory_mib(),
        "guardian": False,
        "uid": os.getuid(),
        "pid": os.getpid(),
        "adapter": settings.adapter,
        "vmm": settings.vmm,
        "age_s": round(proc.now() - job.began, 6),
    }


def _heed_term() -> None:
    """Once: the undoing is not disturbed by a second."""

    def end(number: int, frame: object) -> None:
        _deaf()
        raise Ended("the batch system has ended the job")

    signal.signal(signal.SIGTERM, end)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def _deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

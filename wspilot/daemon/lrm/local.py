"""Driver of the built-in batch system (`local_lrm.py`), through commands like any other."""

from __future__ import annotations

import json
import pwd
import re
import sys
from dataclasses import asdict
from os import getuid
from pathlib import Path
from typing import Any

from wspilot.daemon.lrm import local_lrm, local_spread
from wspilot.daemon.lrm.base import (
    Answer,
    Command,
    Job,
    JobRequest,
    JobState,
    Listing,
    Result,
    Verdict,
)
from wspilot.daemon.lrm.site import LocalSettings
from wspilot.text import clean

_ID = re.compile(r"[0-9]{1,18}")
PROGRAM = str(Path(local_lrm.__file__).absolute())
SPREAD = str(Path(local_spread.__file__).absolute())


class LocalDriver:
    """Nodes that are only names, on this machine; or, with `via`, hosts without a batch system."""

    name = "local"

    def __init__(self, settings: LocalSettings, place: Path) -> None:
        self._settings = settings
        self._base = (
            sys.executable, "-I", PROGRAM, str(place), ",".join(settings.names) or
            str(settings.nodes), str(settings.cores), str(settings.memory_mib),
            str(settings.grace_s),
        )  # fmt: skip

    def _command(self, verb: str, body: dict[str, Any] | None = None) -> Command:
        more = () if body is None else (json.dumps(body),)
        return Command((*self._base, verb, *more))

    def submit(self, request: JobRequest) -> Command:
        body = asdict(request)
        body["pinned"] = body.pop("hosts")
        return self._command("submit", {**body, "owner": pwd.getpwuid(getuid()).pw_name})

    def submitted(self, result: Result) -> Answer:
        doc = _document(result)
        if doc is not None and _ID.fullmatch(str(doc.get("id"))):
            return Answer(Verdict.ACCEPTED, str(doc["id"]))
        if result.rc == local_lrm.REFUSED:
            return Answer(Verdict.REFUSED, text=clean(result.err, 300))
        if result.rc == local_lrm.LATER:
            return Answer(Verdict.RETRY, text=clean(result.err, 300))
        return Answer(Verdict.UNCLEAR, text=_why(result))

    def poll(self, ids: tuple[str, ...]) -> Command:
        return self._command("list")

    def polled(self, result: Result, ids: tuple[str, ...]) -> Listing:
        doc = _document(result)
        if doc is None:
            return Listing(False, text=_why(result))
        try:
            jobs = [_job(job) for job in doc["jobs"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            text = f"the built-in batch system said something unknown: {clean(repr(error), 120)}"
            return Listing(False, text=text)
        return Listing(True, {job.id: job for job in jobs})

    def find(self, owner: str) -> Command:
        return self._command("list")

    def cancel(self, job_id: str) -> Command:
        return self._command("cancel", {"id": job_id})

    def cancelled(self, result: Result) -> Answer:
        doc = _document(result)
        if doc is None:
            return Answer(Verdict.UNCLEAR, text=_why(result))
        return Answer(Verdict.GONE if doc.get("gone") is True else Verdict.ACCEPTED)

    def script(self, request: JobRequest, launch: tuple[str, ...]) -> str:
        return site_script("#!/bin/sh", (), launch)

    def shell(self, request: JobRequest, launch: tuple[str, ...]) -> str | None:
        return None

    def start(self) -> tuple[str, ...]:
        via = self._settings.via
        far = ("--via", json.dumps(list(via)), str(self._settings.grace_s)) if via else ()
        return (sys.executable, "-I", SPREAD, *far)

    def node_list(self) -> str:
        return "local"

    def grace_s(self, nodes: int) -> float:
        return self._settings.grace_s


def site_script(shebang: str, directives: tuple[str, ...], launch: tuple[str, ...]) -> str:
    """A job script: directives, then the launcher in place of the shell."""
    import shlex

    return "\n".join([shebang, *directives, f"exec {shlex.join(launch)}", ""])


def _job(doc: dict[str, Any]) -> Job:
    """Raises KeyError, TypeError, ValueError or AttributeError for what is no job."""
    id, raw, ended = doc["id"], clean(str(doc["state"]), 40), doc["exit"]
    if not isinstance(id, str) or not _ID.fullmatch(id):
        raise ValueError(f"{id!r} is not a job id")
    if not isinstance(ended, (int, type(None))):
        raise TypeError(f"exit {ended!r}")
    try:
        state = JobState(raw)
    except ValueError:
        state = JobState.UNKNOWN
    hosts = tuple(clean(str(host), 80) for host in doc["hosts"])
    return Job(id, clean(str(doc["name"]), 80), clean(str(doc["owner"]), 64), state, raw, hosts,
               ended, clean(str(doc["reason"]), 200))  # fmt: skip


def _document(result: Result) -> dict[str, Any] | None:
    if result.rc != 0:
        return None
    try:
        doc = json.loads(result.out)
    except (ValueError, RecursionError):
        return None
    return doc if isinstance(doc, dict) else None


def _why(result: Result) -> str:
    if result.timed_out:
        return "the built-in batch system did not answer in time"
    return clean(result.err or result.out, 300) or f"exit {result.rc}"

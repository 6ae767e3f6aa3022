"""Driver of the built-in batch system (`local_lrm.py`), through commands like any other."""

from __future__ import annotations

import json
import pwd
import sys
from dataclasses import asdict
from os import getuid
from pathlib import Path
from typing import Any

from wspilot.daemon.lrm import local_lrm
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

PROGRAM = str(Path(local_lrm.__file__).absolute())


class LocalDriver:
    """Four nodes that are only names, on this machine."""

    name = "local"

    def __init__(self, settings: LocalSettings, place: Path) -> None:
        self._settings = settings
        self._base = (
            sys.executable, "-I", PROGRAM, str(place), str(settings.nodes), str(settings.cores),
            str(settings.memory_mib), str(settings.grace_s),
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
        if doc is not None and isinstance(doc.get("id"), str):
            return Answer(Verdict.ACCEPTED, doc["id"])
        if result.rc == local_lrm.REFUSED:
            return Answer(Verdict.REFUSED, text=clean(result.err, 300))
        return Answer(Verdict.UNCLEAR, text=_why(result))

    def poll(self, ids: tuple[str, ...]) -> Command:
        return self._command("list")

    def polled(self, result: Result, ids: tuple[str, ...]) -> Listing:
        doc = _document(result)
        if doc is None:
            return Listing(False, text=_why(result))
        return Listing(True, {job["id"]: _job(job) for job in doc["jobs"]})

    def find(self, owner: str) -> Command:
        return self._command("list")

    def cancel(self, job_id: str) -> Command:
        return self._command("cancel", {"id": job_id})

    def cancelled(self, result: Result) -> Answer:
        doc = _document(result)
        if doc is None:
            return Answer(Verdict.UNCLEAR, text=_why(result))
        return Answer(Verdict.GONE if doc["gone"] else Verdict.ACCEPTED)

    def script(self, request: JobRequest, launch: tuple[str, ...]) -> str:
        return site_script("#!/bin/sh", (), launch)

    def shell(self, request: JobRequest, launch: tuple[str, ...]) -> str | None:
        return None

    def start(self) -> tuple[str, ...]:
        return (sys.executable, "-I", PROGRAM, "spread")

    def node_list(self) -> str:
        return "local"

    def grace_s(self, nodes: int) -> float:
        return self._settings.grace_s


def site_script(shebang: str, directives: tuple[str, ...], launch: tuple[str, ...]) -> str:
    """A job script: directives, then the launcher in place of the shell."""
    import shlex

    return "\n".join([shebang, *directives, f"exec {shlex.join(launch)}", ""])


def _job(doc: dict[str, Any]) -> Job:
    try:
        state = JobState(doc["state"])
    except ValueError:
        state = JobState.UNKNOWN
    return Job(doc["id"], doc["name"], doc["owner"], state, doc["state"], tuple(doc["hosts"]),
               doc["exit"], doc["reason"])  # fmt: skip


def _document(result: Result) -> dict[str, Any] | None:
    if result.rc != 0:
        return None
    try:
        doc = json.loads(result.out)
    except ValueError:
        return None
    return doc if isinstance(doc, dict) else None


def _why(result: Result) -> str:
    if result.timed_out:
        return "the built-in batch system did not answer in time"
    return clean(result.err or result.out, 300) or f"exit {result.rc}"

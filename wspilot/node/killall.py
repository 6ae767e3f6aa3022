"""kill-all: end wspilot's VMs on this node and give everything back (DESIGN.md section 6).

Stand-alone: no daemon, no spool, no PATH and no HOME. One process a user: as root it becomes each
journal's owner before it reads or undoes it, so that whatever a journal says can harm its owner
only. Pilots in scope are killed, their guardians waited for, then killed too, and what is left is
undone.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import select
import signal
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from wspilot.errors import Refused, UsageError
from wspilot.node import proc, root, xennode
from wspilot.node.core import killall as core
from wspilot.node.core.killall import Scope
from wspilot.node.core.launch import NODE
from wspilot.node.guests import Guest, end_guests, guests, may_end
from wspilot.node.owned import Sweep
from wspilot.node.places import KEEP_ROOT, RUN_ROOT
from wspilot.node.values import dataclass, replace
from wspilot.text import clean

LIMIT_S = 30.0  # beyond what guardians are waited for; one user's process that takes longer hangs
MOST_TOLD = 1 << 20
_OWNED = re.compile(r"wspilot-(0|[1-9][0-9]{0,9})")


@dataclass(frozen=True)
class Request:
    """The command line."""

    job: str = ""
    slot: str = ""
    everyone: bool = False
    user: str = ""
    all: bool = False
    yes: bool = False
    node: str = ""
    wait: Optional[float] = None
    json: bool = False


@dataclass(frozen=True)
class Roots:
    """Where the users' directories lie."""

    run: Path = RUN_ROOT
    keep: Path = KEEP_ROOT


HERE = Roots()


def kill_all(request: Request, env: Mapping[str, str], roots: Roots = HERE) -> int:
    """Exit code: 0 clean, 1 something is left. Raises UsageError (2), Refused (5)."""
    scope = _scope(request, env)
    strangers = _strangers(request)
    domains = _domains(request)
    failed = xennode.end_strangers([str(one["uuid"]) for one in domains])  # they hold memory
    report = run(scope, roots)
    report["guests"] += [
        {"pid": 0, "uid": 0, "name": one["name"], "ours": False} for one in domains
    ]
    report["left"] += [failed] if failed else []
    for one in strangers:
        report["guests"].append(_doc(one))
    report["left"] += [f"guest {one.name} (pid {one.pid})" for one in end_guests(strangers, True)]
    report["clean"], report["code"] = not report["left"], core.code(report)
    text = json.dumps(report) if request.json else "\n".join(core.lines(report))
    print(text, flush=True)
    return core.code(report)


def run(scope: Scope, roots: Roots = HERE) -> dict[str, Any]:
    """Everything but strangers' guests; the report. Raises Refused."""
    began, notes = time.monotonic(), list[str]()
    found = core.uids(scope, os.getuid(), _owners(roots, notes))
    limit = LIMIT_S + (scope.most_s if scope.wait_s is None else scope.wait_s)
    limit += root.XEN_S if xennode.is_domain_0() else 0.0  # a guest that will not go, and memory
    crew = [(uid, *_as_owner(uid, scope, roots)) for uid in found]
    report: dict[str, Any] = {"schema": 1, "node": scope.node, "journals": [], "guests": []}
    report.update(left=[], notes=notes)
    called = xennode.call()  # after the forks: none of them holds its pipes
    try:
        for uid, pid, pipe in crew:
            told = _collect(pid, pipe, limit - (time.monotonic() - began))
            if told is None:
                told = {"left": [f"uid {uid}: what undoes this user's journals did not finish"]}
            for key in ("journals", "guests", "left", "notes"):
                report[key] += told.get(key, [])
        _look(scope, report, called)
    finally:
        if called is not None:
            called.drop()
    report["seconds"] = round(time.monotonic() - began, 3)
    return report


def _look(scope: Scope, report: dict[str, Any], called: Optional[root.Call]) -> None:
    """What Xen itself still has: also of users who have no directory here any more."""
    slots, me = {one["slot"] for one in report["journals"]}, os.getuid()
    xen = xennode.look(
        lambda uid: core.covers_uid(scope, me, uid),
        lambda slot: core.covers_slot(scope, slot, slots),
        called,
    )
    report["left"] += xen.left
    report["notes"] += [*xen.undone, *([xen.note] if xen.note else [])]


def _scope(request: Request, env: Mapping[str, str]) -> Scope:
    node = request.node or env.get("SLURMD_NODENAME") or env.get("WSPILOT_NODE") or ""
    if node and not NODE.fullmatch(node):
        raise UsageError(f"{clean(node, 80)!r} is not a node's name")
    uid = _uid(request.user) if request.user else None
    most_s = core.XEN_WAIT_S if xennode.is_domain_0() else core.MOST_WAIT_S
    scope = Scope(request.job, request.slot, request.everyone, uid, node, request.wait, most_s)
    core.check(scope)
    if uid is None and os.getuid() == 0:
        scope = replace(scope, uid=core.epilogue_user(scope, env))
    return scope


def _uid(user: str) -> int:
    if user.isdigit():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise UsageError(f"there is no user {clean(user, 80)!r}") from None


# -- guests that are not ours


def _strangers(request: Request) -> list[Guest]:
    """With --all: those to end, after a confirmation that names them. Raises Refused."""
    found = [one for one in guests() if not one.ours and may_end(one)] if request.all else []
    if found and not request.yes:
        _confirm([f"pid {one.pid}, uid {one.uid}: {one.name}" for one in found])
    return found


def _domains(request: Request) -> Sequence[Mapping[str, Any]]:
    """The same of a Xen node, as root. Raises Refused, WspilotError."""
    found = xennode.strangers() if request.all and os.geteuid() == 0 else ()
    if found and not request.yes:
        _confirm([f"domain {one['name']}, {one['mib']} MiB" for one in found])
    return found


def _confirm(found: Sequence[str]) -> None:
    print("guests that are not wspilot's:", file=sys.stderr)
    for one in found:
        print(f"  {one}", file=sys.stderr)
    if not sys.stdin.isatty():
        raise Refused(f"{len(found)} guests are not wspilot's", "say --yes if they shall end too")
    print("End them too? (yes/no) ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != "yes":
        raise Refused("nothing was ended")


def _doc(one: Guest) -> dict[str, Any]:
    return {"pid": one.pid, "uid": one.uid, "name": one.name, "ours": one.ours}


# -- one process a user


def _owners(roots: Roots, notes: list[str]) -> list[int]:
    """Users that have a directory here. One that somebody else made is a note, not a failure: it
    could otherwise drain every node by an Epilog."""
    found = []
    for path in sorted(roots.keep.iterdir()):
        match = _OWNED.fullmatch(path.name)
        if match is None:
            continue
        info = path.lstat()
        if stat.S_ISDIR(info.st_mode) and info.st_uid == int(match[1]):
            found.append(info.st_uid)
        else:
            notes.append(f"{path} is not a directory of uid {match[1]}: left alone")
    return found


def _as_owner(uid: int, scope: Scope, roots: Roots) -> tuple[int, int]:
    """Start the work as that user; (pid, pipe)."""

    def work() -> Mapping[str, Any]:
        if os.getuid() != uid:
            group = (roots.keep / f"wspilot-{uid}").lstat().st_gid
            os.setgroups([])
            os.setresgid(group, group, group)
            os.setresuid(uid, uid, uid)
        return Sweep(scope, uid, proc.boot_id(), roots.run, roots.keep).run()

    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        _tell(theirs, work)
    os.close(theirs)
    return pid, ours


def _tell(pipe: int, work: Callable[[], Mapping[str, Any]]) -> None:
    """The child: never returns."""
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        try:
            raw = json.dumps(work()).encode()
        except Exception as error:
            told = [f"uid {os.getuid()}: {type(error).__name__}: {clean(str(error), 300)}"]
            raw = json.dumps({"left": told}).encode()
        while raw:
            raw = raw[os.write(pipe, raw) :]
    finally:
        os._exit(0)


def _collect(pid: int, pipe: int, limit_s: float) -> Optional[Mapping[str, Any]]:
    """What it told; None when it hung or fell silent. It is ended either way."""
    raw, end = b"", time.monotonic() + max(0.0, limit_s)
    while len(raw) < MOST_TOLD:
        if not select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
            break
        part = os.read(pipe, 65536)
        if not part:
            break
        raw += part
    os.close(pipe)
    os.kill(pid, signal.SIGKILL)  # our own child, not reaped yet
    os.waitpid(pid, 0)
    try:
        told = json.loads(raw)
    except ValueError:
        return None
    return told if isinstance(told, dict) else None

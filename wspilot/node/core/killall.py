"""kill-all's decisions: whose journals, which of them, how long guardians are waited for, and how
it ends. No I/O.

Invariant: what is in scope is decided by the journal alone (job, slot) and by its directory's owner
and node, never by anything on the spool.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Optional

from wspilot.errors import Refused, UsageError
from wspilot.node.values import dataclass

# Where a journal names no restore budget; and at most, for the budget is a user's word.
WAIT_S, MOST_WAIT_S = 5.0, 60.0
XEN_WAIT_S = 600.0  # in domain 0, where memory comes back slowly
CLEAN, LEFT = 0, 1  # exit codes; 2 is usage, 5 refused
EMPTY = frozenset({"rundir"})  # of a journal whose guardian only has to say so yet


@dataclass(frozen=True)
class Scope:
    """What kill-all is about. `uid`: only that user's; `node`: only that node's directories."""

    job: str = ""
    slot: str = ""
    everyone: bool = False
    uid: Optional[int] = None
    node: str = ""
    wait_s: Optional[float] = None
    most_s: float = MOST_WAIT_S


def uids(scope: Scope, me: int, found: Sequence[int]) -> tuple[int, ...]:
    """Whose journals are looked at. Raises Refused."""
    if me != 0:
        if scope.everyone or scope.uid not in (None, me):
            raise Refused(
                "only root may end what belongs to other users",
                "run it as root, or without --everyone and --user",
            )
        return (me,)
    if scope.uid is not None:
        return tuple(uid for uid in found if uid == scope.uid)
    if scope.everyone or scope.job or scope.slot:
        return tuple(found)
    return (me,)


def covers_uid(scope: Scope, me: int, uid: int) -> bool:
    """Is what belongs to `uid` meant, whether it has a directory here or not?"""
    return uid in uids(scope, me, (uid,))


def epilogue_user(scope: Scope, env: Mapping[str, str]) -> Optional[int]:
    """Slurm names the job's owner to its Epilog: what another user's journal claims of that job
    holds nobody up."""
    owner = env.get("SLURM_JOB_UID", "")
    if scope.job and scope.job == env.get("SLURM_JOB_ID") and owner.isdigit():
        return int(owner)
    return None


def same_job(one: str, other: str) -> bool:
    """Torque says `12.server` to a job, and people say `12`."""
    if not one or not other:
        return False
    return one == other or one.partition(".")[0] == other or other.partition(".")[0] == one


def covers(scope: Scope, slot: str, job: str) -> bool:
    """Is that journal, or that guest, meant?"""
    if scope.slot:
        return slot == scope.slot
    return not scope.job or same_job(scope.job, job)


def covers_slot(scope: Scope, slot: str, found: Collection[str]) -> bool:
    """The same where only the slot is known: with a job, `found` are the slots of its journals."""
    if scope.slot or scope.job:
        return slot == scope.slot or slot in found
    return True


def wait_s(scope: Scope, header: Mapping[str, Any]) -> float:
    """How long that journal's guardian is waited for. The header is a user's word: bounded."""
    given = header.get("restore_s") if scope.wait_s is None else scope.wait_s
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not given >= 0:
        return WAIT_S
    return min(float(given), scope.most_s)


def is_done(entries: Mapping[str, Any]) -> bool:
    """Has a guardian undone everything, so that only its report is still under way?"""
    return set(entries) <= EMPTY


def check(scope: Scope) -> None:
    """Raises UsageError."""
    if scope.wait_s is not None and not 0 <= scope.wait_s <= scope.most_s:
        raise UsageError(f"--wait {scope.wait_s:g}: 0 to {scope.most_s:g} seconds")


def code(document: Mapping[str, Any]) -> int:
    """The exit code of a report: 0 when nothing in scope is left."""
    return LEFT if document["left"] else CLEAN


def lines(document: Mapping[str, Any]) -> list[str]:
    """The report as people read it."""
    told = []
    for one in document["journals"]:
        who = f"slot {one['slot']} (job {one['job'] or '?'}, uid {one['uid']}, node {one['node']})"
        if one["left"]:
            told.append(f"{who}: LEFT: {'; '.join(one['left'])}")
        what = f", {len(one['vms'])} VMs" if one["vms"] else ""
        if not one["left"] or one["undone"]:
            undone = "; ".join(one["undone"]) or "nothing was left to undo"
            told.append(f"{who}: by {one['by']} in {one['seconds']:.2f} s{what}: {undone}")
    told += [f"guest {one['name']} (pid {one['pid']}): ended" for one in document["guests"]]
    told += [f"left: {text}" for text in document["left"]]
    told += [f"note: {text}" for text in document["notes"]]
    state = "clean" if not document["left"] else "NOT CLEAN"
    told.append(f"{document['node'] or 'this host'}: {state} ({document['seconds']:.2f} s)")
    return told

"""Do the books, the batch system, the nodes and the spool agree? Pure: records and listings in,
steps out. What a step does is an ordinary event or effect of the daemon; nothing here decides about
a lease. `proofs` tells for everything an ended lease had who has said that it came back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from wspilot.daemon.core.books import Books
from wspilot.daemon.lrm.base import Job, JobState, Listing
from wspilot.messages import rfc3339
from wspilot.model import (
    FINAL_SLOT,
    NodeState,
    PilotRecord,
    Proof,
    Slot,
    SlotState,
    Vm,
    Workspace,
    WorkspaceState,
)

_JOB_NAME = re.compile(r"ws-([a-z0-9]{8})-\d{2}")
_OVER = (JobState.DONE, JobState.EXITING)


@dataclass(frozen=True)
class Leftovers:
    """What lies in the spool, by name; `stale` in tmp/ for a day, `code` that no slot names."""

    slots: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    beats: tuple[str, ...] = ()
    bad: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    code: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """One thing that does not agree, and what mends it.

    `act` is what the daemon does with `--yes` (`cancel`, `poll`, `repair`, `remove`), empty where
    only a person can; `subject` is what it does it to.
    """

    kind: str  # store, lrm, job, slot, node, address, spool
    what: str
    why: str
    command: str
    act: str = ""
    subject: tuple[str, ...] = field(default=())

    def document(self, done: bool | None = None, said: str = "") -> dict[str, Any]:
        """As it is shown: `done` is None where nothing was tried."""
        return {"kind": self.kind, "what": self.what, "why": self.why, "command": self.command,
                "automatic": bool(self.act), "done": done, "said": said}  # fmt: skip


def plan(books: Books, listing: Listing, spool: Leftovers | None, owner: str) -> list[Step]:
    """Everything that does not agree. `spool` is None where it could not be listed."""
    steps = list(_jobs(books, listing, spool, owner))
    steps += _slots(books)
    steps += _nodes(books)
    steps += _held(books)
    if spool is None:
        steps.append(Step("spool", "the spool could not be listed", "its leftovers are not known",
                          "wspilot doctor"))  # fmt: skip
    else:
        steps += _left(books, listing, spool, owner)
    return steps


# -- the batch system


def _jobs(books: Books, listing: Listing, spool: Leftovers | None, owner: str) -> Iterator[Step]:
    if not listing.ok:
        yield Step("lrm", "the batch system could not be asked", listing.text, "wspilot doctor")
        return
    for job in listing.jobs.values():
        match = _JOB_NAME.fullmatch(job.name)
        if match and owner in ("", job.owner) and job.state not in _OVER:
            yield from _stray(books, job, match.group(1), spool)
    for id in sorted(books.open_slots):
        slot = books.slot(id)
        if slot and slot.job and listing.whole and slot.job not in listing.jobs:
            why = f"the batch system does not name it; so did {slot.lrm.absent} good polls"
            yield Step("job", f"job {slot.job} of slot {id} ({slot.state.value})", why,
                       "wait: the daemon asks again, and decides after several good polls",
                       "poll", (id,))  # fmt: skip


def _stray(books: Books, job: Job, id: str, spool: Leftovers | None) -> Iterator[Step]:
    """A living job of ours that no open slot names."""
    slot = books.slot(id)
    if slot is None and (spool is None or id not in spool.slots):
        why = "neither the books nor the spool know its slot: another home of yours?"
        command = f"when it is nobody's, delete job {job.id} with the batch system's own command"
        yield Step("job", f"job {job.id} ({job.name})", why, command)
        return
    if slot is None:
        why = "it has a directory in the spool, and no slot on the books"
    elif slot.job == job.id:
        if slot.state not in FINAL_SLOT:
            return
        why = f"its slot is {slot.state.value}"
    elif not slot.job and slot.state not in FINAL_SLOT:
        return  # its submission is under way, or its answer is being looked for
    else:
        why = f"slot {id} has job {slot.job or 'none'}"
    yield Step("job", f"job {job.id} ({job.name}, {job.raw or job.state.value})", why,
               f"delete it: {job.id}", "cancel", (id, job.id))  # fmt: skip


# -- slots and nodes


def _slots(books: Books) -> Iterator[Step]:
    for id in sorted(books.open_slots):
        slot = books.slot(id)
        if slot is not None and slot.state is SlotState.UNKNOWN:
            ws = books.workspace(slot.workspace)
            name = ws.name if ws else id
            yield Step("slot", f"slot {id} of {name} is unknown since {rfc3339(slot.since)}",
                       slot.cause or slot.waits_for,
                       f"wait for its node; or wspilot destroy {name} [--abandon]")  # fmt: skip


def _nodes(books: Books) -> Iterator[Step]:
    for node in sorted(books.nodes(), key=lambda one: one.id):
        if not node.owes:
            continue
        what = f"node {node.id} is {node.state.value} since {rfc3339(node.since)}"
        why = f"{node.cause} (it owes its word for {', '.join(node.owes)})"
        forget = f"wspilot nodes forget {node.id}"
        if node.state is NodeState.REPAIRING or books.repairs.get(node.id):
            slots = ", ".join(sorted(books.repairs.get(node.id, ())))
            yield Step("node", what, f"{why}; repair job {slots} is under way", "wait for it")
        elif node.cause.startswith("needs the operator"):
            yield Step("node", what, why, f"look at it; then {forget}, or let it be tried again",
                       "repair", (node.id,))  # fmt: skip
        else:
            yield Step("node", what, why, f"wspilot nodes repair {node.id}", "repair", (node.id,))


def _held(books: Books) -> Iterator[Step]:
    """Addresses that ended leases still hold, by the node that has to let them go."""
    by_node: dict[str, list[Vm]] = {}
    for ws in books.workspaces():
        if ws.state is WorkspaceState.ENDED:
            for vm in books.vms_of(ws):
                if vm.held and vm.nics:
                    by_node.setdefault(vm.node, []).append(vm)
    for name, vms in sorted(by_node.items()):
        addresses = ", ".join(nic.ip for vm in vms for nic in vm.nics)
        what = f"{addresses} of {', '.join(vm.name for vm in vms)}"
        node = books.node(name)
        state = node.state.value if node else "not known"
        why = f"the lease has ended, and node {name} ({state}) has not said that they are gone"
        command = f"they come back when {name} is clean again"
        yield Step("address", what, why, f"{command}: wspilot nodes forget {name}"
                   if node is None or not node.owes else command)  # fmt: skip


# -- the spool


def _left(books: Books, listing: Listing, spool: Leftovers, owner: str) -> Iterator[Step]:
    living = {
        match.group(1)
        for job in listing.jobs.values()
        if (match := _JOB_NAME.fullmatch(job.name)) and owner in ("", job.owner)
    }
    for id in spool.slots:
        # A launcher that starts late must find its epoch claimed, so not while a job may do that.
        if books.slot(id) is None and listing.ok and listing.whole and id not in living:
            yield _remove(f"slots/{id}", "no slot on the books has this name")
    for folder, names in (("cmd", spool.cmd), ("hb", spool.beats)):
        for name in names:
            slot = books.slot(name[:8])
            if slot is None or slot.state in FINAL_SLOT:
                why = f"slot {name[:8]} has ended" if slot else "no slot on the books has this name"
                yield _remove(f"{folder}/{name}", why)
    if spool.bad:
        refused = sum(1 for name in spool.bad if name.endswith(".why"))
        yield Step("spool", f"{len(spool.bad)} files in bad/",
                   f"{refused} messages were refused; each .why says for what",
                   "remove them", "remove", tuple(f"bad/{name}" for name in spool.bad))  # fmt: skip
    for name in spool.stale:
        yield _remove(f"tmp/{name}", "it was begun more than a day ago and never finished")
    for name in spool.code:
        yield _remove(f"bin/{name}", "no slot names this node code any more")


def _remove(path: str, why: str) -> Step:
    return Step("spool", path, why, "remove it", "remove", (path,))


# -- what came back, and who said so


def proofs(books: Books, workspaces: Iterable[Workspace], repairs: bool) -> list[dict[str, Any]]:
    """A row for every address, MAC, MiB, job and process of ended leases (and of repair jobs)."""
    rows: list[dict[str, Any]] = []
    for ws in workspaces:
        if ws.state is WorkspaceState.ENDED:
            for vm in books.vms_of(ws):
                rows += _of_vm(vm)
            for slot in books.slots_of(ws):
                rows += _of_slot(books, slot, ws.name)
    if repairs:
        for slot in books.slots():
            if not slot.workspace and slot.state in FINAL_SLOT:
                spare = "bench" if slot.bench else "spare"
                of = f"repair of {slot.repair_of}" if slot.repair_of else spare
                rows += _of_slot(books, slot, of)
    return rows


def _of_vm(vm: Vm) -> Iterator[dict[str, Any]]:
    proof = None if vm.held else vm.proof
    for nic in vm.nics:
        yield _row("address", nic.ip, vm.name, vm.node, proof)
        yield _row("mac", nic.mac, vm.name, vm.node, proof)
    yield _row("memory", f"{vm.memory_mib} MiB", vm.name, vm.node, proof)
    if vm.created:
        yield _row("process", f"VM {vm.id}", vm.name, vm.node, proof)


def _of_slot(books: Books, slot: Slot, of: str) -> Iterator[dict[str, Any]]:
    yield _row("job", slot.job or "no job was made", f"{of}, slot {slot.id}", "", slot.proof)
    for pilot in books.pilots_of(slot):
        yield from _of_pilot(pilot, f"{of}, slot {slot.id}")


def _of_pilot(pilot: PilotRecord, of: str) -> Iterator[dict[str, Any]]:
    proof = pilot.proof if pilot.clean else None
    yield _row("process", f"pilot {pilot.id[:8]}", of, pilot.node, proof)
    yield _row("memory", "all that it took", of, pilot.node, proof)


def _row(kind: str, name: str, of: str, node: str, proof: Proof | None) -> dict[str, Any]:
    said = (
        {"at": rfc3339(proof.at), "by": proof.by, "text": proof.text}
        if proof
        else {"at": None, "by": "", "text": "not proved"}
    )
    return {"kind": kind, "name": name, "of": of, "node": node, "proved": proof is not None, **said}

"""The public documents: records as users, scripts and the TUI see them (PROTOCOLS.md section 6).

Pure. Times become RFC 3339 here and nowhere else; text in the records was cleaned when it came in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wspilot.config import Site
from wspilot.daemon.core.books import Books
from wspilot.daemon.core.slots import job_name
from wspilot.daemon.policy import SlotPlan, Walltime
from wspilot.ensemble import Request
from wspilot.images import Image
from wspilot.messages import rfc3339
from wspilot.model import EventRecord, Group, LrmView, Node, Proof, Slot, Span, Vm, Workspace

Doc = dict[str, Any]
SCHEMA = 1


def item(books: Books, record: Any) -> Doc:
    """One item of the subscription, with its table."""
    if isinstance(record, Vm):
        return {"table": "vms", **_vm(record)}
    if isinstance(record, Workspace):
        return {"table": "workspaces", **_workspace(record)}
    if isinstance(record, Slot):
        return {"table": "slots", **_slot(books, record)}
    if isinstance(record, Node):
        return {"table": "nodes", **_node(record)}
    return {"table": "events", **_event(record)}


def listing(noun: str, books: Books, records: Iterable[Any]) -> Doc:
    """`{"schema": 1, "<noun>": [...]}`."""
    made = []
    for record in records:
        doc = item(books, record)
        del doc["table"]
        made.append(doc)
    return {"schema": SCHEMA, noun: made}


def workspace(books: Books, ws: Workspace) -> Doc:
    """What `show` and `deploy` answer: the workspace with its VMs in full."""
    vms = [_vm(vm) for vm in books.vms_of(ws)]
    slots = [_slot(books, slot) for slot in books.slots_of(ws)]
    return {"schema": SCHEMA, "workspace": {**_workspace(ws), "vms": vms, "slots": slots}}


def types(site: Site) -> Doc:
    """The site's catalogue."""
    return {"schema": SCHEMA, "types": [_plain(asdict(kind)) for kind in site.types.values()]}


def images(found: Iterable[Image]) -> Doc:
    """The image repository."""
    keep = ("name", "kind", "ready", "digest", "memory_mib", "fault")
    return {"schema": SCHEMA,
            "images": [{key: getattr(image, key) for key in keep} for image in found]}  # fmt: skip


def config(site: Site) -> Doc:
    """The effective settings."""
    return {"schema": SCHEMA, "config": _plain(asdict(site))}


def dry_run(request: Request, plans: Iterable[SlotPlan], sum_: Walltime) -> Doc:
    """What a request would ask the batch system for."""
    plans = tuple(plans)
    slots = [
        {"nodes": one.nodes, "ppn": one.ppn, "memory_mib": one.memory_mib,
         "whole_node": one.whole_node, "vms": len(one.members), "held": one.held}
        for one in plans
    ]  # fmt: skip
    nodes = sum(one.nodes for one in plans if not one.held)  # held ones cost nothing more
    return {
        "schema": SCHEMA,
        "plan": {
            "name": request.name,
            "lease_s": request.duration_s,
            "groups": [_group(group) for group in request.groups],
            "slots": slots,
            "walltime": [{"term": term, "seconds": seconds} for term, seconds in sum_.terms],
            "walltime_s": sum_.total_s,
            "node_hours": round(nodes * sum_.total_s / 3600, 2),
        },
    }


def status_item(*, version: str, pid: int, since: float, home: Path, site: Site,
                poll: Mapping[str, Any], spool: Mapping[str, Any]) -> Doc:  # fmt: skip
    """The daemon's own item."""
    return {
        "table": "status", "id": "daemon", "name": "daemon", "version": version, "pid": pid,
        "since": rfc3339(since), "home": str(home), "site": site.source, "lrm": site.lrm,
        "vmm": site.vmm, "poll": {**poll, "at": _time(poll.get("at"))},
        "spool": {**spool, "at": _time(spool.get("at")), "path": str(site.spool)},
    }  # fmt: skip


def _time(seconds: float | None) -> str | None:
    return rfc3339(seconds) if seconds else None


def _span(span: Span) -> Doc:
    seconds = None if span.seconds is None else round(span.seconds, 3)
    return {"name": span.name, "start": rfc3339(span.start), "seconds": seconds,
            "clock": span.clock}  # fmt: skip


def _proof(proof: Proof | None) -> Doc | None:
    if proof is None:
        return None
    return {"at": rfc3339(proof.at), "by": proof.by, "text": proof.text}


def _group(group: Group) -> Doc:
    return {
        "name": group.name, "type": group.type, "count": group.count, "min": group.min,
        "image": group.image, "cpus": group.cpus, "memory_mib": group.memory_mib,
        "nics": list(group.nics), "ready": group.ready, "placement": group.placement,
        "roles": {"provides": list(group.provides), "requires": list(group.requires)},
        "scripted": bool(group.user_data),
    }  # fmt: skip


def _workspace(ws: Workspace) -> Doc:
    return {
        "id": ws.id, "name": ws.name, "state": ws.state.value, "wanted": ws.wanted,
        "outcome": ws.outcome.value if ws.outcome else None, "cause": ws.cause,
        "causes": list(ws.causes), "since": rfc3339(ws.since), "waits_for": ws.waits_for,
        "created": rfc3339(ws.created), "active_at": _time(ws.active_at), "ends": _time(ws.ends),
        "lease_s": ws.lease_s, "rounds": ws.rounds,
        "groups": [_group(group) for group in ws.groups],
        "vms": list(ws.vms), "slots": list(ws.slots),
    }  # fmt: skip


def _vm(vm: Vm) -> Doc:
    return {
        "id": vm.id, "name": vm.name, "workspace": vm.workspace, "group": vm.group,
        "index": vm.index, "type": vm.type, "image": vm.image, "state": vm.state.value,
        "wanted": vm.wanted, "since": rfc3339(vm.since), "waits_for": vm.waits_for,
        "node": vm.node, "slot": vm.slot, "phase": vm.phase, "cause": vm.cause,
        "unproven": vm.unproven, "progress": vm.progress, "cpus": vm.cpus,
        "memory_mib": vm.memory_mib, "nics": [asdict(nic) for nic in vm.nics],
        "spans": [_span(span) for span in vm.spans], "seen": _time(vm.seen), "seen_by": vm.seen_by,
        "held": vm.held, "proof": _proof(vm.proof), "doing": vm.doing, "refused": vm.refused,
        "context": vm.context, "said": vm.said,
    }  # fmt: skip


def _slot(books: Books, slot: Slot) -> Doc:
    pilots = books.pilots_of(slot)
    spans = [_span(span) for span in slot.spans]
    spans += [{**_span(span), "node": pilot.node} for pilot in pilots for span in pilot.spans]
    return {
        "id": slot.id, "name": job_name(slot.id, max(1, slot.calls)),
        "workspace": slot.workspace, "state": slot.state.value, "wanted": slot.wanted,
        "since": rfc3339(slot.since), "waits_for": slot.waits_for, "cause": slot.cause,
        "causes": list(slot.causes), "nodes": [pilot.node for pilot in pilots],
        "count": slot.nodes, "ppn": slot.ppn, "memory_mib": slot.memory_mib,
        "walltime_s": slot.walltime_s, "job": slot.job, "lrm": _lrm(slot.lrm), "spans": spans,
        "vms": list(slot.vms), "repair_of": slot.repair_of,
        "measures": str(slot.bench.get("node") or "a node") if slot.bench else "",
        "again": slot.again,
        "tries": slot.calls, "cancel_tries": slot.cancel_tries, "cancel_said": slot.cancel_said,
        "unknown_nodes": [pilot.node for pilot in pilots if pilot.lost],
        "proof": _proof(slot.proof), "idle_at": _time(slot.idle_at),
    }  # fmt: skip


def _lrm(view: LrmView) -> Doc:
    return {"state": view.state, "raw": view.raw, "reason": view.reason, "at": _time(view.at)}


def _node(node: Node) -> Doc:
    return {
        "id": node.id, "name": node.id, "state": node.state.value, "since": rfc3339(node.since),
        "cause": node.cause, "slots": list(node.slots), "cpus": node.cpus,
        "memory_mib": node.memory_mib, "taken_mib": node.taken_mib, "kvm": node.kvm,
        "skew_s": node.skew_s, "seen": _time(node.seen), "owes": list(node.owes),
        "repair_tries": node.repair_tries,
        "repair_at": _time(node.repair_at) if node.owes else None,
    }  # fmt: skip


def _event(event: EventRecord) -> Doc:
    return {
        "id": event.id, "name": event.id, "at": rfc3339(event.at), "level": event.level,
        "kind": event.kind, "text": event.text, "workspace": event.workspace, "slot": event.slot,
        "vm": event.vm, "node": event.node, "data": dict(event.data),
    }  # fmt: skip


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value

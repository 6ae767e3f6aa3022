"""The documents of the demo's site, as a daemon would send them (SEAMS of `documents.py`).

Pure: every function makes whole items from plain arguments. States are the words of DESIGN.md
section 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from wspilot.messages import rfc3339

Doc = dict[str, Any]
GroupSpec = tuple[str, str, int]  # name, lease type, count
LEASE_S, WALLTIME_S = 7200, 7680
TYPES = {"small": (1, 1024), "medium": (2, 2048), "large": (4, 8192)}
# What each phase of a VM takes in the demo, seconds, and the state it ends.
PHASES = {
    "pending": ("invoke", 0.21),
    "propagating": ("propagate", 0.84),
    "starting": ("create", 0.37),
    "booting": ("boot", 4.2),
}
RISE = ("pending", "propagating", "starting", "booting", "running")


def span(name: str, seconds: float, at: float) -> Doc:
    """One phase that is over."""
    return {"name": name, "start": rfc3339(at), "seconds": round(seconds, 3), "clock": "node"}


def _record(table: str, id: str, name: str, state: str, wanted: str, at: float) -> Doc:
    return {"table": table, "id": id, "name": name, "state": state, "wanted": wanted,
            "since": rfc3339(at), "waits_for": "", "cause": "", "causes": []}  # fmt: skip


def status(at: float, begun: float) -> Doc:
    """The daemon's own item."""
    return {
        **_record("status", "daemon", "daemon", "", "", begun),
        "version": "demo", "pid": 4242, "home": "demo", "site": "demo", "lrm": "torque",
        "vmm": "qemu", "poll": {"ok": True, "at": rfc3339(at), "text": ""},
        "spool": {"at": rfc3339(at), "backlog": 0, "bad": 0, "text": ""},
    }  # fmt: skip


def node(name: str, state: str, at: float, slots: Sequence[str] = (), cause: str = "") -> Doc:
    """One compute host."""
    return {**_record("nodes", name, name, state, "", at), "cause": cause, "slots": list(slots),
            "cpus": 8, "memory_mib": 32768, "taken_mib": 0, "kvm": True, "skew_s": 0.0,
            "owes": [], "repair_tries": 0, "repair_at": None,
            "seen": rfc3339(at)}  # fmt: skip


def workspace(id: str, name: str, groups: Iterable[GroupSpec], state: str, at: float,
              lease_s: int = LEASE_S) -> Doc:  # fmt: skip
    """What somebody leases; its VMs and slots are filled in by the caller."""
    up = state in ("active", "degraded")
    return {
        **_record("workspaces", id, name, state, "ended" if state == "ended" else "active", at),
        "outcome": None, "created": rfc3339(at), "active_at": rfc3339(at) if up else None,
        "lease_s": lease_s, "ends": rfc3339(at + lease_s) if up else None, "vms": [], "slots": [],
        "rounds": 0, "groups": [
            {"name": group, "type": kind, "count": count, "min": count, "image": "default",
             "nics": ["private"], "ready": "agent", "placement": "spread",
             "roles": {"provides": [], "requires": []}, "scripted": False}
            for group, kind, count in groups
        ],
    }  # fmt: skip


def vm(id: str, ws: Doc, group: str, kind: str, index: int, state: str, at: float, *,
       node: str, octet: int) -> Doc:  # fmt: skip
    """One VM, with the phases it has behind it."""
    cpus, memory = TYPES.get(kind, TYPES["small"])
    behind = {"pending": 0, "booting": 3}.get(state, 4)
    spans = [
        span(name, seconds * (1 + 0.03 * ((index * 7 + n * 3) % 11)), at)
        for n, (name, seconds) in enumerate(list(PHASES.values())[:behind])
    ]
    return {
        **_record("vms", id, f"{ws['name']}/{group}/{index}", state, "running", at),
        "workspace": ws["id"], "group": group, "index": index, "type": kind, "image": "default",
        "node": node if behind else "", "slot": "", "phase": "", "unproven": False,
        "progress": None, "spans": spans, "cpus": cpus, "memory_mib": memory,
        "nics": [{"network": "private", "mac": f"02:57:0a:4d:00:{octet:02x}",
                  "ip": f"10.77.0.{octet}"}],
        "seen": rfc3339(at) if behind else None, "seen_by": "3f2a91c0" if behind else "",
        "doing": "", "refused": "", "context": "ok" if state == "running" else "", "held": True,
        "said": "", "proof": None,
    }  # fmt: skip


def slot(id: str, ws: Doc, state: str, vms: Sequence[Doc], at: float, job: int) -> Doc:
    """The job that holds the nodes of a workspace."""
    begun = state != "queued"
    lrm = {"queued": ("queued", "Q"), "released": ("gone", "C")}.get(state, ("running", "R"))
    phases = (("lrm", 3.4), ("pilot", 0.4), ("reserve", 0.1)) if begun else ()
    return {
        **_record("slots", id, f"ws-{id}-01", state, "held", at), "workspace": ws["id"],
        "nodes": [one["node"] for one in vms] if begun else [], "count": len(vms), "ppn": 4,
        "memory_mib": 1536, "walltime_s": WALLTIME_S, "job": f"{job}.head",
        "lrm": {"state": lrm[0], "raw": lrm[1], "reason": "", "at": rfc3339(at)},
        "spans": [span(name, seconds, at) for name, seconds in phases],
        "vms": [one["id"] for one in vms], "repair_of": "", "measures": "",
        "again": "", "tries": 1, "cancel_tries": 0, "cancel_said": "", "unknown_nodes": [],
        "proof": None, "idle_at": None,
    }  # fmt: skip


def ran(argv: Sequence[str], seconds: float) -> tuple[str, Doc]:
    """(text, data) of the event of a command of the batch system that went well."""
    return f"{' '.join(argv)} (exit 0, {seconds:.2f} s)", {
        "argv": list(argv), "rc": 0, "seconds": seconds, "timed_out": False,
    }  # fmt: skip


def qsub(slot: Doc) -> tuple[str, Doc]:
    """The same of the one that has submitted a slot."""
    return ran(("qsub", f"/demo/spool/slots/{slot['id']}/job.sh"), 0.04)


def event(id: str, kind: str, text: str, at: float, level: str = "info", **about: Any) -> Doc:
    """One line of the stream."""
    return {"table": "events", "id": id, "name": id, "at": rfc3339(at), "level": level,
            "kind": kind, "text": text, "workspace": "", "slot": "", "vm": "", "node": "",
            "data": {}, **about}  # fmt: skip

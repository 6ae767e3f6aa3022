"""What a slot's directory holds before its job is asked for: pure text, written by the spool.

Everything that the node side needs and could not know stands in pilot.json (PROTOCOLS.md section
1), so that a job's environment and arguments, which every user may read, hold nothing but paths.
"""

from __future__ import annotations

import hmac
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from wspilot.config import Site
from wspilot.daemon.lrm.base import Driver, JobRequest
from wspilot.daemon.policy import pad_s
from wspilot.model import Node, Slot, Workspace

SLOT_FILES = {"key": 0o600, "pilot.json": 0o600, "job.sh": 0o700, "shell": 0o700}


def job_request(slot: Slot, name: str, place: Path, exclude: tuple[str, ...]) -> JobRequest:
    """The slot's job as the driver takes it; `place` is slots/<slot>."""
    return JobRequest(
        name=name,
        nodes=slot.nodes,
        ppn=slot.ppn,
        memory_mib=slot.memory_mib,
        walltime_s=slot.walltime_s,
        script=str(place / "job.sh"),
        output=str(place / "job.out"),
        whole_node=slot.whole_node,
        hosts=pinned(slot),
        exclude=exclude,
    )


def pinned(slot: Slot) -> tuple[str, ...]:
    """The one node where its job must run, or none."""
    node = slot.repair_of or str(slot.bench.get("node", ""))
    return (node,) if node else ()


def launch_argv(site: Site, spool: Path, zipapp: Path, slot: str) -> tuple[str, ...]:
    """What the job script runs."""
    python = sys.executable if site.lrm == "local" and not site.node_python else site.node_python
    return (python or "python3", str(zipapp), "launch", "--spool", str(spool), "--slot", slot)


def pilot_settings(
    site: Site,
    driver: Driver,
    ws: Workspace | None,
    slot: Slot,
    secret: bytes,
    nodes: Iterable[Node],
) -> dict[str, object]:
    """The content of pilot.json. The workspace key is the same in all slots of a workspace; a
    repair job has no workspace.

    What earlier leases learned of KVM on each node goes along, by boot id: a probe may take 3 s.
    """
    budget = site.budget
    gather = budget.gather_s if ws and len(ws.slots) > 1 else 0
    of = ws.id if ws else ""
    # A slot that may change hands cannot have its first workspace's key: all slots have one then.
    key_of = "" if site.policy.keeps else of
    return {
        "v": 1,
        "slot": slot.id,
        "workspace": of,
        "nodes": slot.nodes,
        "pack": any(group.placement == "pack" for group in ws.groups) if ws else True,
        "memory_mib": slot.memory_mib,
        "lease_s": ws.lease_s if ws else slot.walltime_s,
        "walltime_s": slot.walltime_s,
        "budget": _repair_budget(site)
        if slot.repair_of
        else {
            "launch": budget.launch_s,
            "gather": gather,
            "propagate": budget.propagate_s,
            "reserve": budget.reserve_s,
            "boot": budget.boot_s,
            "pad": pad_s(site),
            "save": 0,
            "stop": budget.stop_s,
            "restore": budget.restore_s,
            "slack": budget.slack_s,
        },
        "adapter": site.adapter,
        "take_mib": slot.memory_mib if site.adapter != "none" else 0,
        "vmm": site.vmm,
        "vmm_options": dict(site.vmm_options),
        "start": list(driver.start()),
        "node_list": driver.node_list(),
        "grace_s": driver.grace_s(slot.nodes),
        "stop_share": site.stop_share,
        "allow_root": site.allow_root or site.lrm == "local",
        "guardian": site.guardian,
        "node_python": site.node_python or sys.executable,
        "workspace_key": hmac.new(secret, b"workspace\0" + key_of.encode(), "sha256").hexdigest(),
        "heartbeat_s": 30,
        "repair": bool(slot.repair_of),
        "bench": dict(slot.bench),
        "lrm": site.lrm,
        "live": {} if slot.repair_of else live(site),
        "images": {**asdict(site.images), "repository": str(site.images_dir)},
        "networks": {name: network.spec() for name, network in site.networks.items()},
        "kvm": {node.id: [node.boot_id, node.kvm] for node in nodes if node.kvm is not None},
    }


def live(site: Site) -> dict[str, object]:
    """The pilots' live channel; empty: there is none."""
    if not site.live:
        return {}
    return {
        "network": site.live_network,
        "ports": list(site.live_ports),
        "forward": list(site.live_forward),
    }


def _repair_budget(site: Site) -> dict[str, float]:
    """A repair job has two minutes for all: most of them must be left for the undoing."""
    return {"launch": 30, "reserve": 30, "restore": site.budget.restore_s, "slack": 10}


def slot_files(
    settings: dict[str, object], script: str, shell: str | None, key: bytes
) -> dict[str, tuple[bytes, int]]:
    """Name -> (bytes, mode) of everything in slots/<slot>/."""
    texts = {
        "key": key.hex().encode(),
        "pilot.json": json.dumps(settings, indent=1).encode(),
        "job.sh": script.encode(),
    }
    if shell is not None:
        texts["shell"] = shell.encode()
    return {name: (data, SLOT_FILES[name]) for name, data in texts.items()}

"""What the demo's site has to give: a catalogue, images, the real validator, logs to look at.

Requests are checked by the very code that a daemon runs, against this site's settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from wspilot import config
from wspilot.ensemble import Request, parse_ensemble
from wspilot.images import Image
from wspilot.settings import Site

Doc = dict[str, Any]
NODES = 48
MOST_EXTENSION_S = 3600
TERMS = (("launch", 60), ("gather", 0), ("propagate", 60), ("reserve", 30), ("boot", 120),
         ("pad", 0), ("stop", 15), ("restore", 5), ("slack", 60))  # fmt: skip
_TYPES = [
    {"name": "small", "cpus": 1, "memory": "1GiB", "disk": "4GiB", "max_duration": "24h"},
    {"name": "medium", "cpus": 2, "memory": "2GiB", "disk": "8GiB", "max_duration": "24h"},
    {"name": "large", "cpus": 4, "memory": "8GiB", "disk": "20GiB", "max_duration": "12h"},
]


@cache
def site() -> Site:
    """Its settings."""
    doc = {"site": {"lrm": "torque", "vmm": "qemu", "nodes": NODES}, "type": _TYPES}
    return config.check(doc, Path("/demo"), "the demo")


@cache
def images() -> Mapping[str, Image]:
    """Its repository."""
    return {name: Image(name, kind="disk", digest=digest * 8, memory_mib=memory)
            for name, digest, memory in (("default", "5d0c11ae", 128), ("small", "91fe2207", 64),
                                         ("root-6", "c3a0ffee", 512))}  # fmt: skip


def check(doc: Any) -> Request:
    """As the daemon does. Raises UsageError with every fault."""
    return parse_ensemble(doc if isinstance(doc, Mapping) else {}, site(), images())


def plan(request: Request) -> Doc:
    """What a dry run answers."""
    nodes = sum(group.count for group in request.groups)
    terms = [(term, seconds) for term, seconds in TERMS if seconds]
    walltime = -(-(request.duration_s + sum(seconds for _, seconds in terms)) // 60) * 60
    memory = max(group.memory_mib for group in request.groups)
    cores = max(group.cpus for group in request.groups)
    one = {"nodes": nodes, "ppn": cores, "vms": nodes, "whole_node": True, "held": False,
           "memory_mib": memory + 128 + memory // 16}  # fmt: skip
    return {
        "name": request.name, "slots": [one], "lease_s": request.duration_s,
        "walltime_s": walltime, "node_hours": round(nodes * walltime / 3600, 2),
        "walltime": [{"term": term, "seconds": seconds}
                     for term, seconds in (("lease", request.duration_s), *terms)],
    }  # fmt: skip


def script(plan: Mapping[str, Any]) -> str:
    """A job script of this site."""
    one = plan["slots"][0]
    minutes = plan["walltime_s"] // 60
    return "\n".join((
        "#!/bin/sh",
        "#PBS -N ws-xxxxxxx0-01",
        f"#PBS -l nodes={one['nodes']}:ppn={one['ppn']}",
        f"#PBS -l walltime={minutes // 60:02d}:{minutes % 60:02d}:00",
        f"#PBS -l pmem={one['memory_mib']}mb",
        "#PBS -r n -m n -j oe",
        "cd /",
        "exec python3 /demo/spool/bin/NODE.pyz launch /demo/spool/slots/xxxxxxx0 --start pbsdsh",
    ))  # fmt: skip


def logs(items: Mapping[str, Doc], id: str) -> Doc:
    """What pilots and consoles of a lease have written."""
    found = []
    for vm in items.values():
        slot = vm.get("slot", "") if vm["table"] == "vms" else ""
        if slot and (vm["workspace"] == id.partition("/")[0] or vm["id"] == id) and vm["node"]:
            found.append({"slot": slot, "name": f"console-{vm['id']}.log", "text": _console(vm)})
            text = (f"pilot started on {vm['node']}\nreserved: adapter none, 0 MiB taken\n"
                    f"create {vm['name']}: {vm['cpus']} cpu, {vm['memory_mib']} MiB\n"
                    f"{vm['name']} is {vm['state']}")  # fmt: skip
            found.append({"slot": slot, "name": f"pilot-{vm['node']}.log", "text": text})
    return {"logs": found[:24]}


def _console(vm: Doc) -> str:
    host = f"{vm['group']}-{vm['index']}"
    lines = [
        "[    0.000000] Linux version 6.1.0-28-amd64",
        "[    0.412201] virtio_blk virtio1: vda",
        "[    0.618842] EXT4-fs (vda1): mounted filesystem",
        "[    1.204417] eth0: link up",
    ]
    if vm["state"] == "running":
        lines += [f"{host}: context applied", "WSPILOT ready", "", "Debian GNU/Linux 12",
                  f"{host} login:"]  # fmt: skip
    return "\n".join(lines)


def _types() -> Doc:
    keys = ("name", "cpus", "memory_mib", "disk_mib", "max_duration_s")
    return {"types": [{key: getattr(one, key) for key in keys} for one in site().types.values()]}


def _images() -> Doc:
    keys = ("name", "kind", "ready", "digest", "memory_mib", "fault")
    return {"images": [{key: getattr(one, key) for key in keys} for one in images().values()]}


ANSWERS: Mapping[str, Callable[[], Doc]] = {"types": _types, "images": _images}

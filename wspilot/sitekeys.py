"""What may stand in a site's TOML: every table's keys, and how each value is read.

Pure tables, which docs/config.md is held against; what only several keys together can get wrong is
`config.py`'s business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from wspilot.checks import (
    Reader,
    address,
    cidr,
    count,
    directory,
    duration,
    flag,
    link,
    list_of,
    node_name,
    number,
    one_of,
    ports,
    range_,
    size,
    text,
    word,
)
from wspilot.errors import UsageError
from wspilot.model import READY
from wspilot.settings import Budget
from wspilot.text import check_name

LRMS = ("torque", "slurm", "local")
VMMS = ("xen", "qemu", "sim")
ADAPTERS = ("balloon", "none", "sim")
ADAPTER_OF = {"xen": "balloon", "qemu": "none", "sim": "sim"}

SITE_KEYS: Mapping[str, tuple[str, Reader]] = {  # key -> (field of Site, reader)
    "lrm": ("lrm", one_of(LRMS)),
    "vmm": ("vmm", one_of(VMMS)),
    "adapter": ("adapter", one_of(ADAPTERS)),
    "node_python": ("node_python", text),
    "spool": ("spool", directory),
    "store": ("store", directory),
    "images": ("images_dir", directory),
    "jobs": ("jobs", one_of(("per-workspace", "per-node"))),
    "default_image": ("default_image", check_name),
    "idle_exit": ("idle_exit_s", duration(1)),
    "keep": ("keep_s", duration(1)),
    "max_duration": ("max_duration_s", duration(1)),
    "allow_root": ("allow_root", flag),
    "allow_web": ("allow_web", flag),
    "guardian": ("guardian", flag),
    "stop_share": ("stop_share", number(0.01, 0.99)),
    "live": ("live", flag),
    "live_network": ("live_network", range_),
    "live_ports": ("live_ports", ports),
    "live_forward": ("live_forward", list_of(count(1, 65535), 32)),
    "nodes": ("nodes", count(1, 100_000)),
    "node_cpus": ("node_cpus", count(1, 4096)),
    "node_memory": ("node_memory_mib", size(1)),
}
_EVERY_LRM: Mapping[str, Reader] = {
    "poll": duration(1),
    "min_poll": duration(1),
    "max_jobs": count(1, 100_000),
}
_BATCH: Mapping[str, Reader] = {
    "queue": word,
    "account": word,
    "qos": word,
    "reservation": word,
    "kill_delay": duration(0),
    "extra": list_of(text),
    "drop": list_of(text),
    **_EVERY_LRM,
}
LRM_KEYS: Mapping[str, Mapping[str, Reader]] = {
    "torque": {
        "start": one_of(("pbsdsh", "srun")),
        "flavour": one_of(("torque", "slurm")),
        "priority": count(-1024, 1023),  # qsub -p
        **_BATCH,
    },
    "slurm": {"priority": count(-2147483645, 2147483645), **_BATCH},  # sbatch --nice
    "local": {
        "nodes": lambda value, where: nodes(value, where),
        "via": list_of(text),
        "cores": count(1, 4096),
        "memory": size(1),
        "grace": duration(0),
        **_EVERY_LRM,
    },
}
VMM_KEYS: Mapping[str, Mapping[str, Reader]] = {
    "sim": {
        "boot_s": number(0, 86400),
        "stop_s": number(0, 86400),
        "fail": lambda value, where: table(value, where),
    },
    "qemu": {"accel": one_of(("auto", "tcg", "kvm"))},
    "xen": {
        "kind": one_of(("pv", "pvh")),
        "policy": one_of(("exact", "node")),
    },
}
# What has to take some time: with nothing for these no lease could ever become active.
BUDGET_LEAST = {"launch": 1, "boot": 1, "restore": 1}
BUDGET_KEYS: Mapping[str, Reader] = {
    key: duration(BUDGET_LEAST.get(key, 0))
    for key in (item.name.removesuffix("_s") for item in fields(Budget))
}
POLICIES = ("exact", "reuse", "padded", "warm")
POLICY_KEYS: Mapping[str, tuple[str, Reader, tuple[str, ...]]] = {  # -> field, reader, whose it is
    "name": ("name", one_of(POLICIES), POLICIES),
    "pad": ("pad_s", duration(0), ("padded", "reuse", "warm")),
    "hold": ("hold_s", duration(1), ("reuse", "warm")),
    "slots": ("slots", count(1, 1000), ("warm",)),
    "hours": ("hours", count(1, 1_000_000), ("warm",)),
    "lease": ("lease_s", duration(1), ("warm",)),
    "type": ("type", check_name, ("warm",)),
}
HOLD_S = {"warm": 7200}
PAD_S = {"padded": 1800, "reuse": 3600, "warm": 3600}
PLACEMENTS = ("spread", "pack")
ROLE_KEYS: Mapping[str, Reader] = {
    "provides": list_of(check_name, 32),
    "requires": list_of(check_name, 32),
}
TYPE_KEYS: Mapping[str, Reader] = {
    "name": check_name,
    "cpus": count(1, 4096),
    "memory": size(1),
    "disk": size(0),
    "max_duration": duration(1),
    "image": check_name,
    "nics": list_of(text, 8),
    "ready": one_of(READY),
    "placement": one_of(PLACEMENTS),
    "roles": lambda value, where: value,  # a table of its own: ROLE_KEYS
}
NETWORK_KEYS: Mapping[str, Reader] = {
    "way": one_of(("user", "bridge")),
    "cidr": cidr,
    "bridge": link,
    "gateway": address,
    "dns": list_of(address),
    "deny": list_of(range_, 32),  # a node takes 64, the headnode's addresses among them
    "restrict": flag,
}
IMAGES_KEYS: Mapping[str, tuple[str, Reader]] = {  # key -> (field of Images, reader)
    "cache": ("cache_mib", size(0)),
    "share": ("share", flag),
    "save_rate": ("save_rate_mib", size(1)),
}
SECTIONS = ("site", "lrm", "vmm", "images", "budget", "policy", "type", "network")


def table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{where}: must be a table")
    return value


def nodes(value: Any, where: str) -> int | tuple[str, ...]:
    """How many nodes, or their names."""
    if not isinstance(value, list):
        return int(count(1, 1000)(value, where))
    found: tuple[str, ...] = list_of(node_name, 1000)(value, where)
    if not found:
        raise UsageError(f"{where}: names no node")
    for name, times in Counter(found).items():
        if times > 1:
            raise UsageError(f"{where}: {name} is there {times} times")
    return found

"""A site's settings for its batch system: the `[lrm.NAME]` tables as values.

`extra` and `drop` are site lines added to, and removed from, the job script's directives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wspilot.text import parse_duration, parse_size


@dataclass(frozen=True)
class BatchSettings:
    """What Torque and Slurm have in common. Empty means: say nothing about it."""

    queue: str = ""
    account: str = ""
    priority: str = ""
    qos: str = ""
    reservation: str = ""
    extra: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    start: str = "pbsdsh"  # Torque only: pbsdsh or srun
    flavour: str = "torque"  # `slurm`: Torque's commands as Slurm's wrappers give them
    kill_delay_s: float = 2.0  # Torque's kill_delay; Slurm's KillWait


@dataclass(frozen=True)
class LocalSettings:
    """The built-in batch system's cluster. Memory in MiB a node."""

    nodes: int = 4
    names: tuple[str, ...] = ()
    """The nodes where they are listed: filled in this order."""
    via: tuple[str, ...] = ()
    """How a process is started on a listed host; empty: the nodes are only names."""
    cores: int = 8
    memory_mib: int = 8192
    grace_s: float = 5.0


def batch_settings(table: Mapping[str, Any], kill_delay_s: float) -> BatchSettings:
    """The settings of a checked `[lrm.torque]` or `[lrm.slurm]`."""
    words = {key: str(table[key]) for key in _WORDS if key in table}
    start = words.get("start", "pbsdsh")
    words.setdefault("flavour", "slurm" if start == "srun" else "torque")
    return BatchSettings(
        **words,
        extra=tuple(table.get("extra", ())),
        drop=tuple(table.get("drop", ())),
        kill_delay_s=_seconds(table, "kill_delay", kill_delay_s),
    )


def local_settings(table: Mapping[str, Any]) -> LocalSettings:
    """The settings of a checked `[lrm.local]`."""
    base, nodes = LocalSettings(), table.get("nodes", ())
    names = tuple(nodes) if isinstance(nodes, (list, tuple)) else ()
    return LocalSettings(
        nodes=len(names) or int(table.get("nodes", base.nodes)),
        names=names,
        via=tuple(table.get("via", ())),
        cores=int(table.get("cores", base.cores)),
        memory_mib=parse_size(table["memory"]) if "memory" in table else base.memory_mib,
        grace_s=_seconds(table, "grace", base.grace_s),
    )


_WORDS = ("queue", "account", "priority", "qos", "reservation", "start", "flavour")


def _seconds(table: Mapping[str, Any], key: str, default: float) -> float:
    return float(parse_duration(table[key])) if key in table else default

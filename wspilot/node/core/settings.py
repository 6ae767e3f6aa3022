"""What the daemon wrote for the node side: `slots/<slot>/pilot.json`, as a checked value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wspilot.errors import UsageError
from wspilot.node.values import dataclass, field

VERSION = 1


@dataclass(frozen=True)
class Settings:
    """What the node side needs and could not know (`slots/<slot>/pilot.json`). Seconds, MiB."""

    slot: str
    lease_s: float
    walltime_s: float
    budget: Mapping[str, float]
    nodes: int = 1
    pack: bool = False
    adapter: str = "none"
    take_mib: int = 0
    vmm: str = "sim"
    vmm_options: Mapping[str, Any] = field(default_factory=dict)
    start: tuple[str, ...] = ()
    node_list: str = "local"
    grace_s: float = 5.0
    stop_share: float = 0.6
    allow_root: bool = False
    guardian: bool = True
    node_python: str = "python3"
    heartbeat_s: float = 30.0
    repair: bool = False
    bench: Mapping[str, Any] = field(default_factory=dict)  # what to measure; empty: nothing
    lrm: str = ""
    kvm: Mapping[str, Any] = field(default_factory=dict)  # node -> [boot id, verdict], if known
    workspace: str = ""
    workspace_key: str = ""  # hex; the same in all slots of a workspace
    networks: Mapping[str, Any] = field(default_factory=dict)  # name -> what the node must know
    images: Mapping[str, Any] = field(default_factory=dict)  # the node's cache: cache_mib
    live: Mapping[str, Any] = field(default_factory=dict)  # the live channel; empty: none

    def hard_end(self, began: float) -> float:
        """When the undoing must begin at the latest; `began` is when the launcher did.

        PROTOCOLS.md section 2: walltime - age - save - stop - restore - slack, where the age
        counts the launch budget too: nobody here knows when the batch system's clock started.
        """
        spare = sum(self.budget.get(term, 0.0) for term in ("save", "stop", "restore", "slack"))
        return began + self.walltime_s - self.budget.get("launch", 0.0) - spare


def read_settings(doc: Any) -> Settings:
    """The settings of a pilot.json. Raises UsageError naming the key."""
    if not isinstance(doc, Mapping) or doc.get("v") != VERSION:
        raise UsageError("pilot.json is not of version 1", "the daemon and the zipapp must match")
    known: dict[str, Any] = {}
    for name, kind in _KINDS.items():
        if name in doc:
            known[name] = _checked(name, doc[name], kind)
    for name in ("slot", "lease_s", "walltime_s", "budget"):
        if name not in known:
            raise UsageError(f"pilot.json: {name} is missing")
    known["budget"] = {
        str(term): float(_checked(f"budget.{term}", value, (int, float)))
        for term, value in known["budget"].items()
    }
    known["start"] = tuple(str(word) for word in known.get("start", ()))
    return Settings(**known)


_KINDS: Mapping[str, Any] = {
    **dict.fromkeys(
        ("slot", "adapter", "vmm", "node_list", "node_python", "lrm", "workspace", "workspace_key"),
        str,
    ),
    **dict.fromkeys(
        ("lease_s", "walltime_s", "grace_s", "stop_share", "heartbeat_s"), (int, float)
    ),
    **dict.fromkeys(("nodes", "take_mib"), int),
    **dict.fromkeys(("pack", "allow_root", "guardian", "repair"), bool),
    **dict.fromkeys(("budget", "vmm_options", "kvm", "networks"), Mapping),
    **dict.fromkeys(("images", "live", "bench"), Mapping),
    "start": list,
}


def _checked(name: str, value: Any, kind: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UsageError(f"pilot.json: {name} is {value!r:.80}")
    return value

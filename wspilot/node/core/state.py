"""A pilot's settings and its whole state: frozen values, read from `pilot.json` and then stepped.

Times are seconds on CLOCK_BOOTTIME unless they are called `wall` (seconds since 1970).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Optional

from wspilot.errors import UsageError
from wspilot.messages import Order
from wspilot.model import Span, VmReport, VmState
from wspilot.node.core.mail import Mailbox

LEASE_VERSION = 1
TERMS = ("launch", "gather", "propagate", "reserve", "boot", "pad", "save", "stop", "restore")


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
    lrm: str = ""
    kvm: Mapping[str, Any] = field(default_factory=dict)  # node -> [boot id, verdict], if known

    def hard_end(self, began: float) -> float:
        """When the undoing must begin at the latest; `began` is when the launcher did.

        PROTOCOLS.md section 2: walltime - age - save - stop - restore - slack, where the age
        counts the launch budget too: nobody here knows when the batch system's clock started.
        """
        spare = sum(self.budget.get(term, 0.0) for term in ("save", "stop", "restore", "slack"))
        return began + self.walltime_s - self.budget.get("launch", 0.0) - spare


def read_settings(doc: Any) -> Settings:
    """The settings of a pilot.json. Raises UsageError naming the key."""
    if not isinstance(doc, Mapping) or doc.get("v") != LEASE_VERSION:
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
    **dict.fromkeys(("slot", "adapter", "vmm", "node_list", "node_python", "lrm"), str),
    **dict.fromkeys(
        ("lease_s", "walltime_s", "grace_s", "stop_share", "heartbeat_s"), (int, float)
    ),
    **dict.fromkeys(("nodes", "take_mib"), int),
    **dict.fromkeys(("pack", "allow_root", "guardian", "repair"), bool),
    **dict.fromkeys(("budget", "vmm_options", "kvm"), Mapping),
    "start": list,
}


def _checked(name: str, value: Any, kind: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UsageError(f"pilot.json: {name} is {value!r:.80}")
    return value


class Phase(str, Enum):
    """A pilot's life; the words of `PilotRecord.state`."""

    STARTING = "starting"
    RESERVING = "reserving"
    READY = "ready"
    RELEASING = "releasing"
    RELEASED = "released"
    FAILED = "failed"


@dataclass(frozen=True)
class Vm:
    """A VM of this node. `wanted` is `running` or `gone`; `busy`: its VMM works on it."""

    id: str
    state: VmState
    boot_s: float
    grace_s: float = 0.0
    wanted: str = "running"
    creating: bool = False
    destroying: bool = False
    exists: bool = True  # False: nothing of it is left on the node
    unproven: bool = False
    boot_by: Optional[float] = None
    cause: str = ""
    spans: tuple[Span, ...] = ()
    open: Optional[tuple[str, float]] = None  # the span that runs now, and since when

    def report(self) -> VmReport:
        """What the daemon is told: the whole state."""
        return VmReport(self.id, self.state, self.cause, self.unproven, None, self.spans)


@dataclass(frozen=True)
class Held:
    """A command that has been seen and cannot be carried out yet."""

    order: Order
    seen: float


@dataclass(frozen=True)
class State:
    """Everything a pilot knows. `began` is when its launcher did."""

    settings: Settings
    began: float
    epoch: int = 1
    jitter: float = 0.0  # 0..1, this pilot's own
    phase: Phase = Phase.STARTING
    started: float = 0.0
    wall0: float = 0.0  # wall clock at boottime 0, as this pilot saw it when it began
    mail: Mailbox = field(default_factory=Mailbox)
    vms: Mapping[str, Vm] = field(default_factory=dict)
    held: tuple[Held, ...] = ()
    applied: int = 0  # seq of the last command applied
    answered: frozenset[str] = frozenset()
    lease_end: Optional[float] = None
    leased: bool = False  # a `lease` command came
    last_running: Optional[float] = None
    taken_mib: int = 0
    spans: tuple[Span, ...] = ()
    since: float = 0.0  # of the phase
    ending: str = ""  # the cause of the end
    preempted: bool = False
    killed: bool = False  # VMs end without the daemon having asked
    refused: str = ""  # why this pilot fails, once the node is restored
    left: str = ""  # what could not be undone: the node is dirty
    reserving: bool = False
    restoring: bool = False
    undone: tuple[str, ...] = ()  # of earlier pilots' leftovers
    boot_id: str = ""
    force_at: Optional[float] = None  # VMs that still live then are left to `Restore`
    next_beat: float = 0.0
    over: bool = False

    def hard_end(self) -> float:
        """See `Settings.hard_end`."""
        return self.settings.hard_end(self.began)

    def wall(self, now: float) -> float:
        """The wall clock at `now`."""
        return self.wall0 + now

    def with_vm(self, vm: Vm) -> State:
        """The same with `vm` in its place."""
        return replace(self, vms={**self.vms, vm.id: vm})

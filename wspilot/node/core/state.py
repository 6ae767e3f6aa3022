"""A pilot's whole state: one frozen value, and its VMs.

Times are seconds on CLOCK_BOOTTIME unless they are called `wall` (seconds since 1970).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Optional

from wspilot.messages import Order
from wspilot.model import Span, VmReport, VmState
from wspilot.node.core.mail import Mailbox
from wspilot.node.core.settings import Settings
from wspilot.node.values import dataclass, field, replace


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
    been_up: bool = False  # once up, a slow boot is the user's affair
    data: Mapping[str, Any] = field(default_factory=dict)  # its `create`, until it is begun
    doing: str = ""  # the verb that is carried out now ...
    order: str = ""  # ... the command that asked for it ...
    before: Optional[VmState] = None  # ... and what the VM was then
    context: Optional[bool] = None  # what the guest said of its context: ok, or an error
    progress: Optional[float] = None
    cause: str = ""
    spans: tuple[Span, ...] = ()
    open: Optional[tuple[str, float]] = None  # the span that runs now, and since when

    def report(self) -> VmReport:
        """What the daemon is told: the whole state."""
        return VmReport(self.id, self.state, self.cause, self.unproven, self.progress, self.spans)


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
    never: frozenset[str] = frozenset()  # VMs destroyed before their `create` was seen
    lease_end: Optional[float] = None
    leased: bool = False  # a `lease` command came
    last_running: Optional[float] = None
    taken_mib: int = 0
    spans: tuple[Span, ...] = ()
    since: float = 0.0  # of the phase
    ending: str = ""  # the cause of the end
    preempted: bool = False
    termed: float = 0.0  # when the TERM came
    killed: bool = False  # VMs end without the daemon having asked
    refused: str = ""  # why this pilot fails, once the node is restored
    left: str = ""  # what could not be undone: the node is dirty
    causes: tuple[str, ...] = ()  # of `refused`, one by one
    reserving: bool = False
    restoring: bool = False
    undone: tuple[str, ...] = ()  # of earlier pilots' leftovers
    here: Mapping[str, Any] = field(default_factory=dict)  # `neighbours`, `node_clean`: last seen
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

"""What exists: lease types, workspaces, VMs, slots, nodes, and the states they pass through.

Records are frozen; a change is a new record. Each holds what is *wanted*, what was last *observed*,
and *when and by whom* (DESIGN.md section 5). The words are DESIGN.md section 2's. No I/O, no clock;
standard library only, Python 3.9 (the node side shares the states and `VmReport`).

Times are seconds since 1970 on the daemon's clock, memory is MiB, durations are seconds.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from functools import cache, partial
from typing import Any, Optional, TypeVar


class SlotState(str, Enum):
    """DESIGN.md section 5, slot."""

    SUBMITTING = "submitting"
    QUEUED = "queued"
    STARTING = "starting"
    RESERVING = "reserving"
    READY = "ready"
    RELEASING = "releasing"
    RELEASED = "released"
    PREEMPTED = "preempted"
    FAILED = "failed"
    UNKNOWN = "unknown"


class VmState(str, Enum):
    """DESIGN.md section 5, VM."""

    PENDING = "pending"
    PROPAGATING = "propagating"
    STARTING = "starting"
    BOOTING = "booting"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    RESUMING = "resuming"
    SUSPENDING = "suspending"
    SUSPENDED = "suspended"
    REBOOTING = "rebooting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    TERMINATED = "terminated"
    FAILED = "failed"
    UNKNOWN = "unknown"


class WorkspaceState(str, Enum):
    """DESIGN.md section 5, workspace."""

    PENDING = "pending"
    PROVISIONING = "provisioning"
    ACTIVE = "active"
    DEGRADED = "degraded"
    FAILED = "failed"
    ENDING = "ending"
    ENDED = "ended"


class NodeState(str, Enum):
    """DESIGN.md section 5, node."""

    CLEAN = "clean"
    IN_USE = "in use"
    DIRTY = "dirty"
    REPAIRING = "repairing"
    UNKNOWN = "unknown"


class Outcome(str, Enum):
    """How an ended workspace ended."""

    OK = "ok"
    FAILED = "failed"
    PREEMPTED = "preempted"
    DESTROYED = "destroyed"
    ABANDONED = "abandoned"


S, V, W = SlotState, VmState, WorkspaceState
READY = ("agent", "address", "console", "process")  # how a guest shows that it is up

# From any state on the left a record may go to those on the right; whatever is not here is a
# late or repeated word and changes nothing. docs/states.md is printed from these tables.
SLOT_MOVES: Mapping[SlotState, frozenset[SlotState]] = {
    S.SUBMITTING: frozenset({S.QUEUED, S.STARTING, S.RELEASING, S.RELEASED, S.FAILED, S.UNKNOWN,
                             S.RESERVING}),
    S.QUEUED: frozenset({S.STARTING, S.RESERVING, S.RELEASING, S.RELEASED, S.FAILED, S.UNKNOWN}),
    S.STARTING: frozenset({S.QUEUED, S.RESERVING, S.READY, S.RELEASING, S.RELEASED, S.PREEMPTED,
                           S.FAILED, S.UNKNOWN}),
    S.RESERVING: frozenset({S.READY, S.RELEASING, S.RELEASED, S.PREEMPTED, S.FAILED, S.UNKNOWN}),
    S.READY: frozenset({S.RELEASING, S.RELEASED, S.PREEMPTED, S.FAILED, S.UNKNOWN}),
    S.RELEASING: frozenset({S.RELEASED, S.PREEMPTED, S.FAILED, S.UNKNOWN}),
    S.UNKNOWN: frozenset({S.QUEUED, S.STARTING, S.RESERVING, S.READY, S.RELEASING, S.RELEASED,
                          S.PREEMPTED, S.FAILED}),
    S.PREEMPTED: frozenset(),
    S.FAILED: frozenset(),
    S.RELEASED: frozenset(),
}  # fmt: skip

VM_MOVES: Mapping[VmState, frozenset[VmState]] = {
    V.PENDING: frozenset({V.PROPAGATING, V.STARTING, V.BOOTING, V.RUNNING, V.STOPPING,
                          V.TERMINATED, V.FAILED, V.UNKNOWN}),
    V.PROPAGATING: frozenset({V.STARTING, V.BOOTING, V.RUNNING, V.STOPPING, V.TERMINATED,
                              V.FAILED, V.UNKNOWN}),
    V.STARTING: frozenset({V.BOOTING, V.RUNNING, V.STOPPING, V.STOPPED, V.TERMINATED,
                           V.FAILED, V.UNKNOWN}),
    V.BOOTING: frozenset({V.RUNNING, V.REBOOTING, V.STOPPING, V.STOPPED, V.TERMINATED,
                           V.FAILED, V.UNKNOWN}),
    V.RUNNING: frozenset({V.PAUSING, V.PAUSED, V.SUSPENDING, V.SUSPENDED, V.REBOOTING, V.STOPPING,
                          V.STOPPED, V.TERMINATED, V.FAILED, V.UNKNOWN}),
    V.PAUSING: frozenset({V.PAUSED, V.RUNNING, V.STOPPING, V.TERMINATED, V.FAILED, V.UNKNOWN}),
    V.PAUSED: frozenset({V.RESUMING, V.RUNNING, V.SUSPENDING, V.SUSPENDED, V.STOPPING,
                         V.TERMINATED, V.FAILED, V.UNKNOWN}),
    V.RESUMING: frozenset({V.RUNNING, V.PAUSED, V.SUSPENDED, V.STOPPING, V.TERMINATED,
                           V.FAILED, V.UNKNOWN}),
    V.SUSPENDING: frozenset({V.SUSPENDED, V.RUNNING, V.PAUSED, V.STOPPING, V.TERMINATED, V.FAILED,
                             V.UNKNOWN}),
    V.SUSPENDED: frozenset({V.RESUMING, V.RUNNING, V.STOPPING, V.TERMINATED, V.FAILED,
                            V.UNKNOWN}),
    V.REBOOTING: frozenset({V.BOOTING, V.RUNNING, V.STOPPING, V.TERMINATED, V.FAILED, V.UNKNOWN}),
    V.STOPPING: frozenset({V.STOPPED, V.TERMINATED, V.FAILED, V.UNKNOWN}),
    V.STOPPED: frozenset({V.STARTING, V.BOOTING, V.RUNNING, V.STOPPING, V.TERMINATED, V.FAILED,
                          V.UNKNOWN}),
    V.FAILED: frozenset({V.STOPPING, V.TERMINATED, V.UNKNOWN}),
    V.UNKNOWN: frozenset(set(VmState) - {V.UNKNOWN, V.PENDING}),
    V.TERMINATED: frozenset(),
}  # fmt: skip

WORKSPACE_MOVES: Mapping[WorkspaceState, frozenset[WorkspaceState]] = {
    W.PENDING: frozenset({W.PROVISIONING, W.FAILED, W.ENDING, W.ENDED}),
    W.PROVISIONING: frozenset({W.PENDING, W.ACTIVE, W.FAILED, W.ENDING, W.ENDED}),
    W.ACTIVE: frozenset({W.DEGRADED, W.FAILED, W.ENDING, W.ENDED}),
    W.DEGRADED: frozenset({W.ACTIVE, W.FAILED, W.ENDING, W.ENDED}),
    W.FAILED: frozenset({W.ENDING, W.ENDED}),
    W.ENDING: frozenset({W.ENDED}),
    W.ENDED: frozenset(),
}

FINAL_SLOT = frozenset({S.RELEASED, S.PREEMPTED, S.FAILED})


@dataclass(frozen=True)
class Span:
    """One phase: when it began (recorder's wall clock) and how long it took (its monotonic clock).

    `clock` is `node` or `daemon`; `receipt` marks a span that begins and ends on different hosts
    and is timed on the daemon's clock, by receipt (PROTOCOLS.md section 2).
    """

    name: str
    start: float
    seconds: Optional[float] = None
    clock: str = "daemon"


@dataclass(frozen=True)
class LeaseType:
    """An entry of the site's catalogue: what a VM of this type gets, unless its group says else."""

    name: str
    cpus: int
    memory_mib: int
    disk_mib: int
    max_duration_s: int
    image: str = ""
    nics: Optional[tuple[str, ...]] = None
    ready: str = ""
    placement: str = ""
    provides: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()


@dataclass(frozen=True)
class Proof:
    """Why we are sure that something came back: who said so (`by`), when it was learned, in words.

    `by` is `node`, `guardian`, `repair`, `reboot` (the node started anew), `lrm`, `daemon` (it was
    never given out), or `person` (`nodes forget`).
    """

    at: float
    by: str
    text: str


@dataclass(frozen=True)
class Nic:
    """One network interface as the service assigned it; `ip` without mask."""

    network: str
    mac: str = ""
    ip: str = ""


@dataclass(frozen=True)
class Group:
    """n equal VMs of a workspace, with everything of their lease type resolved."""

    name: str
    type: str
    count: int
    min: int
    image: str
    cpus: int
    memory_mib: int
    disk_mib: int
    nics: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    ready: str = ""
    placement: str = "spread"
    user_data: str = ""  # a script (#!) or cloud-config, for each member


@dataclass(frozen=True)
class Workspace:
    """What the user leases. `wanted` is `active` or `ended`; destroy only ever sets `ended`."""

    id: str
    name: str
    owner: int
    created: float
    lease_s: int
    groups: tuple[Group, ...]
    jobs: str = "per-workspace"
    wanted: str = "active"
    state: WorkspaceState = WorkspaceState.PENDING
    since: float = 0.0
    waits_for: str = ""
    outcome: Optional[Outcome] = None
    ending: Optional[Outcome] = None  # the outcome it will have once everything is confirmed
    cause: str = ""
    causes: tuple[str, ...] = ()  # the chain, nearest first
    vms: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()
    active_at: Optional[float] = None
    ends: Optional[float] = None  # when the lease is over, on the daemon's clock
    rounds: int = 0  # how often slots were asked for again
    serial: int = 0  # ids derived so far
    keys: tuple[str, ...] = ()  # ssh public keys that may log in to its VMs


@dataclass(frozen=True)
class Vm:
    """One virtual machine. `wanted` is `running` or `gone`."""

    id: str
    uuid: str
    name: str
    workspace: str
    group: str
    index: int
    type: str
    image: str
    cpus: int
    memory_mib: int
    wanted: str = "running"
    state: VmState = VmState.PENDING
    since: float = 0.0
    waits_for: str = ""
    slot: str = ""
    pilot: str = ""
    node: str = ""
    phase: str = ""  # the state it was in when it failed
    cause: str = ""
    unproven: bool = False  # `ready = process`: only the process is known
    created: bool = False  # a create was sent: its end needs proof
    held: bool = True  # its addresses are not free yet
    proof: Optional[Proof] = None  # why they are, once they are
    seen: float = 0.0  # when its state was last observed
    seen_by: str = ""  # and by whom: pilot8, guardian8, lrm, daemon
    progress: Optional[float] = None  # 0..1 in its phase, where that is known
    doing: str = ""  # the verb that was asked for and is not answered yet
    refused: str = ""  # why the last one was not done
    refused_code: int = 0  # and as what: an exit code (PROTOCOLS.md section 5)
    context: str = ""  # ok, error, late, waits (for the guest's word); empty: none is expected
    said: str = ""  # the guest's word on its context
    nics: tuple[Nic, ...] = ()
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True)
class LrmView:
    """What the batch system last said of a slot's job, and when."""

    state: str = ""  # a JobState's value, or "absent"
    raw: str = ""
    reason: str = ""
    at: float = 0.0
    absent: int = 0  # good polls in a row that did not name it
    absent_since: float = 0.0
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slot:
    """Time-limited lease of nodes: one LRM job. `wanted` is `held` or `released`."""

    id: str
    workspace: str
    nodes: int
    ppn: int
    memory_mib: int
    walltime_s: int
    created: float
    vms: tuple[str, ...] = ()
    wanted: str = "held"
    state: SlotState = SlotState.SUBMITTING
    since: float = 0.0
    waits_for: str = ""
    cause: str = ""
    causes: tuple[str, ...] = ()
    calls: int = 0  # qsub calls of which none is known to have started: the nn of the job name
    job: str = ""
    asked: Optional[float] = None  # when the last qsub was sent
    unclear: bool = False  # the last qsub's answer was lost: look before asking again
    looked: int = 0  # good polls since then that did not show it
    looked_at: float = 0.0
    submitted: Optional[float] = None
    launched: Optional[float] = None
    retry_at: float = 0.0
    lrm: LrmView = field(default_factory=LrmView)
    claimed: Optional[bool] = None  # the daemon's own claim of epoch.1: won or lost
    pilots: tuple[str, ...] = ()
    whole_node: bool = False
    cancel_tries: int = 0
    cancel_at: float = 0.0
    cancel_said: str = ""
    repair_of: str = ""  # a repair job's node
    bench: Mapping[str, Any] = field(default_factory=dict)  # what its job measures, where
    again: str = ""  # the slot that was asked for in its place
    warm: bool = False  # asked for in advance, for whoever comes
    idle_at: Optional[float] = None  # since when it stands for nobody (or is being emptied for it)
    idle_s: float = 0.0  # how long it did so before it was taken
    proof: Optional[Proof] = None  # that its job is over
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True)
class PilotRecord:
    """One node of a slot, as its pilot (or the pilot's guardian) last spoke of it."""

    id: str
    slot: str
    node: str
    epoch: int
    of: str = ""  # a guardian's pilot
    state: str = "starting"  # starting, reserving, ready, releasing, released, failed, preempted
    seq: int = 0  # the last applied
    heard: float = 0.0
    boot_id: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    orders: int = 0  # seq of the last command written for it
    gap_since: float = 0.0
    gap_scans: int = 0
    lost: bool = False  # silent beyond the limit
    taken_mib: int = 0
    clean: Optional[bool] = None  # its last word: the node is as it was found
    proof: Optional[Proof] = None  # who gave that word, and when
    cause: str = ""
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True)
class PendingOrder:
    """A command that has no answer yet; on the books until the answer is committed."""

    id: str
    pilot: str
    slot: str
    node: str
    epoch: int
    seq: int
    ns: int
    kind: str
    ttl_s: float
    issued: float
    vm: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Node:
    """A compute host as wspilot knows it. `id` is the LRM's name for it."""

    id: str
    state: NodeState = NodeState.CLEAN
    since: float = 0.0
    cause: str = ""
    slots: tuple[str, ...] = ()  # open slots on it
    boot_id: str = ""
    cpus: int = 0
    memory_mib: int = 0
    taken_mib: int = 0
    kvm: Optional[bool] = None
    skew_s: Optional[float] = None
    seen: float = 0.0
    owes: tuple[str, ...] = ()  # slots that ended without its word: it is dirty while there are any
    repair_tries: int = 0
    repair_at: float = 0.0


@dataclass(frozen=True)
class EventRecord:
    """One line of the event stream; `id` is its serial number as text."""

    id: str
    at: float
    level: str  # info, warning, error
    kind: str  # workspace, slot, vm, node, lrm, spool, daemon
    text: str
    workspace: str = ""
    slot: str = ""
    vm: str = ""
    node: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TokenRecord:
    """A client's token: the same body gives the first answer, another one an error."""

    id: str
    at: float
    body: str  # sha256 of the request
    answer: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class VmReport:
    """A VM's whole state as its pilot tells it (kinds `vm`, `progress`, `heartbeat`)."""

    id: str
    state: VmState
    cause: str = ""
    unproven: bool = False
    progress: Optional[float] = None
    spans: tuple[Span, ...] = ()

    def to_data(self) -> dict[str, Any]:
        """The object that travels."""
        return to_doc(self)


TABLES: Mapping[str, type] = {
    "workspaces": Workspace,
    "vms": Vm,
    "slots": Slot,
    "pilots": PilotRecord,
    "orders": PendingOrder,
    "nodes": Node,
    "events": EventRecord,
    "tokens": TokenRecord,
}

T = TypeVar("T")


def to_doc(record: Any) -> dict[str, Any]:
    """A record as the JSON object that is stored and sent."""
    values: Mapping[str, Any] = vars(record)
    kind: Any = type(record)
    return {
        name: values[name] if make is None else make(values[name]) for name, make in _plainers(kind)
    }


def from_doc(kind: type[T], doc: Mapping[str, Any]) -> T:
    """The record of a document, unknown keys dropped.

    Raises TypeError, ValueError, KeyError or AttributeError for what is none.
    """
    names, made = _makers(kind)  # type: ignore[arg-type]
    values = {name: value for name, value in doc.items() if name in names}
    for name, make in made:
        if name in values:
            values[name] = make(values[name])
    return kind(**values)


@cache
def _plainers(kind: Any) -> tuple[tuple[str, Any], ...]:
    hints = typing.get_type_hints(kind)
    return tuple((item.name, _plainer(hints[item.name])) for item in fields(kind))


def _plainer(hint: Any) -> Any:
    """A function from a value of the type `hint` to JSON; None: it is JSON as it is."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        item = _plainer(args[0])
        return list if item is None else lambda value: [item(part) for part in value]
    if origin is typing.Union:
        inner = _plainer(next(arg for arg in args if arg is not type(None)))
        return inner and (lambda value: None if value is None else inner(value))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return lambda value: value.value
    return to_doc if is_dataclass(hint) else None


@cache
def _makers(kind: Any) -> tuple[frozenset[str], tuple[tuple[str, Any], ...]]:
    """(every field, those that are not taken as they are and what makes them)."""
    hints = typing.get_type_hints(kind)
    makers = [(item.name, _maker(hints[item.name])) for item in fields(kind)]
    made = tuple((name, make) for name, make in makers if make is not None)
    return frozenset(name for name, _ in makers), made


def _maker(hint: Any) -> Any:
    """A function from a JSON value to one of the type `hint`; None: it is taken as it is.

    10,000 VMs are read at a daemon's start, so whatever can be known of a type is known before.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        item = _maker(args[0])
        return tuple if item is None else lambda value: tuple([item(part) for part in value])
    if origin is typing.Union:
        inner = _maker(next(arg for arg in args if arg is not type(None)))
        return inner and (lambda value: None if value is None else inner(value))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {member.value: member for member in hint}.__getitem__
    if is_dataclass(hint):
        return partial(from_doc, hint)  # type: ignore[arg-type]
    return float if hint is float else None

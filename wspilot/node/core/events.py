"""What happens to a pilot (events) and what it asks for (effects): plain values, no behaviour.

Every event carries `now`, seconds on CLOCK_BOOTTIME: the core has no clock of its own. An effect
that takes time is answered by an event, also when it fails or hits its time limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional, Union

from wspilot.errors import Code
from wspilot.messages import Order
from wspilot.node.values import dataclass, field

# -- events


@dataclass(frozen=True)
class Begin:
    """The pilot stands: settings read, journal held. `wall` is the wall clock at `now`."""

    now: float
    wall: float
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reserved:
    """The node is ready. `kvm` is None where it was not probed; `undone` names old leftovers.

    `here`: who else has a journal on this node (`neighbours`, `node_clean`), as it is told.
    """

    now: float
    taken_mib: int = 0
    kvm: Optional[bool] = None
    undone: tuple[str, ...] = ()
    here: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ReserveFailed:
    """The node was not made ready; `clean`: nothing of an earlier pilot is left on it.

    Where something is: `undone` was undone, `causes` say one by one what was not.
    """

    now: float
    cause: str
    clean: bool = True
    undone: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ordered:
    """A verified command has come (perhaps not for the first time)."""

    now: float
    order: Order


@dataclass(frozen=True)
class Progress:
    """So much (0..1) of a VM's image is on the node."""

    now: float
    vm: str
    fraction: float


@dataclass(frozen=True)
class Propagated:
    """A VM's image is on the node and verified; `image` names its local files."""

    now: float
    vm: str
    image: Mapping[str, Any]


@dataclass(frozen=True)
class PropagateFailed:
    """Its image could not be brought here; no part of it is used."""

    now: float
    vm: str
    cause: str


@dataclass(frozen=True)
class Created:
    """The VM's process runs and answers."""

    now: float
    vm: str


@dataclass(frozen=True)
class CreateFailed:
    """The VM did not start; nothing of it is left."""

    now: float
    vm: str
    cause: str


@dataclass(frozen=True)
class VmSaid:
    """A VMM's event (`vmm.base.EventKind`'s value)."""

    now: float
    vm: str
    kind: str
    text: str = ""


@dataclass(frozen=True)
class Acted:
    """A verb was carried out on a VM."""

    now: float
    vm: str
    verb: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ActFailed:
    """A verb was not carried out; the VM is as it was, or has said otherwise itself."""

    now: float
    vm: str
    verb: str
    cause: str
    code: int = Code.FAILED


@dataclass(frozen=True)
class Destroyed:
    """The VM is gone, and its journal entry with it."""

    now: float
    vm: str


@dataclass(frozen=True)
class DestroyFailed:
    """The VM could not be ended within its time."""

    now: float
    vm: str
    cause: str


@dataclass(frozen=True)
class Restored:
    """The node is as it was found; `undone` names what was undone, in words; `here`: `Reserved`."""

    now: float
    undone: tuple[str, ...] = ()
    here: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RestoreFailed:
    """Something is left: the node is dirty."""

    now: float
    cause: str
    here: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Term:
    """SIGTERM: the batch system takes the node."""

    now: float


@dataclass(frozen=True)
class Stored:
    """The courier has put notification `seq` on the spool."""

    now: float
    seq: int


@dataclass(frozen=True)
class Noted:
    """Something people should read in the event stream."""

    now: float
    level: str
    text: str


@dataclass(frozen=True)
class Tick:
    """Time has passed."""

    now: float


Event = Union[
    Begin,
    Reserved,
    ReserveFailed,
    Ordered,
    Progress,
    Propagated,
    PropagateFailed,
    Created,
    CreateFailed,
    VmSaid,
    Acted,
    ActFailed,
    Destroyed,
    DestroyFailed,
    Restored,
    RestoreFailed,
    Term,
    Stored,
    Noted,
    Tick,
]

# -- effects


@dataclass(frozen=True)
class Letter:
    """A notification with its number: hand it to the courier (again: it is harmless)."""

    seq: int
    kind: str
    wall: float
    mono: float
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Beat:
    """Replace the heartbeat. `seq` is the last number given."""

    seq: int
    wall: float
    mono: float
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Reserve:
    """Undo what earlier pilots left here, then make the node ready."""

    limit_s: float


@dataclass(frozen=True)
class GiveUpReserve:
    """Stop making it ready; answered by `ReserveFailed` (or `Reserved`, when that was faster)."""


@dataclass(frozen=True)
class Context:
    """The picture of the workspace, or of the sister nodes, as the daemon now knows it."""

    data: Mapping[str, Any]


@dataclass(frozen=True)
class Propagate:
    """Bring a VM's image to this node and verify it, from a `create` command's data."""

    vm: str
    data: Mapping[str, Any]
    limit_s: float


@dataclass(frozen=True)
class Act:
    """Carry out a verb on a VM: start, stop, pause, resume, reboot, suspend, save."""

    vm: str
    verb: str
    data: Mapping[str, Any]
    limit_s: float


@dataclass(frozen=True)
class Create:
    """Journal the intent, then start a VM from a `create` command's data."""

    vm: str
    data: Mapping[str, Any]
    limit_s: float


@dataclass(frozen=True)
class Destroy:
    """End a VM; with `grace_s` > 0 the guest is asked first. Also while it is being created."""

    vm: str
    grace_s: float


@dataclass(frozen=True)
class Restore:
    """Undo everything in the journal; VMs that are left are killed."""

    limit_s: float


@dataclass(frozen=True)
class Finish:
    """All is said: wait until the courier has stored it (`flush_s`), then exit with `code`."""

    code: int
    flush_s: float


Effect = Union[
    Letter,
    Beat,
    Reserve,
    GiveUpReserve,
    Context,
    Propagate,
    Create,
    Act,
    Destroy,
    Restore,
    Finish,
]

"""What happens to the core (events) and what it asks for (effects): plain values, no behaviour.

An event is a fact that the shell learned; an effect is carried out by the shell only after the
commit that contains it, so that a crash between the two is always recovered as "intended, perhaps
done" (DESIGN.md section 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from wspilot.daemon.lrm.base import Answer, Listing
from wspilot.daemon.policy import SlotPlan
from wspilot.ensemble import Request
from wspilot.messages import Notification, Verb
from wspilot.model import Nic

# -- events


@dataclass(frozen=True)
class Deploy:
    """A checked request becomes a workspace. `nics` are in the order of groups and members."""

    id: str  # the workspace's, random: every other id is derived from it
    owner: int
    name: str
    request: Request
    plan: tuple[SlotPlan, ...]
    walltime_s: int
    jobs: str
    nics: tuple[tuple[Nic, ...], ...]
    keys: tuple[str, ...] = ()  # of the daemon's user, where the request names none


@dataclass(frozen=True)
class Destroy:
    """End workspaces, groups (`WS/GROUP` as its VMs) or single VMs, by id."""

    workspaces: tuple[str, ...] = ()
    vms: tuple[str, ...] = ()
    abandon: bool = False


@dataclass(frozen=True)
class Act:
    """Carry out a verb on VMs: start, stop, pause, resume, reboot, suspend, save."""

    verb: Verb
    vms: tuple[str, ...]
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Extend:
    """An active lease lasts `by_s` seconds longer; the caller has looked that it may."""

    workspace: str
    by_s: float


@dataclass(frozen=True)
class Forget:
    """A person vouches that nothing of ours is left on a node."""

    node: str


@dataclass(frozen=True)
class Repair:
    """A person asks for a dirty node's repair job now."""

    node: str


@dataclass(frozen=True)
class Bench:
    """A node is to be measured: by a slot of this id, which does nothing else. `spec`: how, and
    `node` where one was named."""

    id: str
    spec: Mapping[str, Any]
    ppn: int
    memory_mib: int
    walltime_s: int


@dataclass(frozen=True)
class EndBench:
    """Nobody waits for that slot's figures any more."""

    id: str


@dataclass(frozen=True)
class Submitted:
    """What came of a slot's qsub number `calls`."""

    slot: str
    calls: int
    answer: Answer


@dataclass(frozen=True)
class Polled:
    """One query of the batch system, begun at `sent` (daemon's clock)."""

    listing: Listing
    sent: float


@dataclass(frozen=True)
class Cancelled:
    """What came of a qdel."""

    slot: str
    job: str
    answer: Answer


@dataclass(frozen=True)
class Claimed:
    """The daemon's own mkdir of a slot's epoch.1: True, no launcher can start any more."""

    slot: str
    won: bool


@dataclass(frozen=True)
class Heard:
    """A notification, or (kind `heartbeat`) the newest heartbeat of a pilot."""

    note: Notification


@dataclass(frozen=True)
class Listened:
    """The spool was listed well; `seconds` since the last good listing."""

    seconds: float


@dataclass(frozen=True)
class Ran:
    """An LRM command was run for a slot: kept as an event so that users see what was asked."""

    slot: str
    argv: tuple[str, ...]
    rc: int | None
    seconds: float
    timed_out: bool
    text: str = ""


@dataclass(frozen=True)
class Recovered:
    """The daemon has just loaded its books."""


@dataclass(frozen=True)
class Tick:
    """Time has passed."""


Event = Union[
    Deploy,
    Destroy,
    Act,
    Extend,
    Forget,
    Repair,
    Bench,
    EndBench,
    Submitted,
    Polled,
    Cancelled,
    Claimed,
    Heard,
    Listened,
    Ran,
    Recovered,
    Tick,
]

# -- effects


@dataclass(frozen=True)
class Submit:
    """Write the slot's files and run qsub; the books already say that it may have happened."""

    slot: str
    calls: int


@dataclass(frozen=True)
class Poll:
    """Ask the batch system soon (never faster than `min_poll`)."""


@dataclass(frozen=True)
class Cancel:
    """qdel of a job."""

    slot: str
    job: str


@dataclass(frozen=True)
class Claim:
    """Try to close a slot by claiming its epoch."""

    slot: str


@dataclass(frozen=True)
class Send:
    """Write a pending command's file (again: it is harmless)."""

    order: str


@dataclass(frozen=True)
class Unsend:
    """Remove an answered command's file."""

    slot: str
    node: str
    pilot: str
    ns: int
    seq: int


@dataclass(frozen=True)
class CloseSlot:
    """The slot has ended: remove its entries in hb/ and cmd/ (and its key when all is proved)."""

    slot: str
    proved: bool


@dataclass(frozen=True)
class Wipe:
    """`keep` is over: remove slots/<slot>/."""

    slot: str


Effect = Union[Submit, Poll, Cancel, Claim, Send, Unsend, CloseSlot, Wipe]

"""Notifications, commands and heartbeats: the one wire format of daemon and node.

Every file is authenticated with its slot's key before it is parsed, and its name must agree with
its body (PROTOCOLS.md section 1): a file that was copied, renamed or bent is refused, never half
believed. Standard library only; Python 3.9.

What `data` holds, by kind (times are RFC 3339 UTC, memory is MiB):

| kind | data |
|---|---|
| `started` | boot_id, host, cpus, memory_mib, kvm_device, guardian, uid, python, age_s, clock |
| `reserved` | taken_mib, kvm (true, false, null: not probed), undone, neighbours, node_clean |
| `vm`, `progress` | the VM's whole state: `VmReport.to_data` |
| `context` | vm, ok, text: the guest's one word on its context |
| `answer` | re, ok, code, message, data |
| `preempted` | cause |
| `killed` | vms (ids this node destroyed on its own), cause |
| `releasing` | cause, over (true: the lease was served to its end) |
| `released` | undone (words), clean, boot_id, cause, neighbours, node_clean |
| `failed` | cause, causes (chain), clean (true: the node is as it was found), undone, boot_id, |
|  | neighbours, node_clean; a guardian's: undone_after_s; a launcher's: nothing_started |
| `log` | level, text |
| `heartbeat` | last_seq, state, vms (all `VmReport`s), taken_mib, undelivered |

`node_clean`: no journal of a dead pilot is left on this node; `neighbours`: the slots whose pilots
or guardians were seen alive there. Both together prove the return of what earlier slots had.

And of commands: `create` VmSpec as the pilot's VMM takes it; `destroy` {vm, grace_s};
`start, stop, pause, resume, reboot, suspend, save` {vm, ...}; `release` {cause}; `lease` {seconds};
`ping` {}; `context` {part, parts, members, keys, peers}: the workspace's picture, or with part -1
only where its nodes are (`daemon/core/picture.py`).
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import Enum
from typing import Any, Optional

VERSION = 1
MAX_FILE = 64 * 1024
NEW, HB, CMD = "new", "hb", "cmd"

SLOT_RE = r"[a-z0-9]{8}"
NODE_RE = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
_PILOT = rf"({SLOT_RE})_({NODE_RE})_([0-9a-f]{{8}})"
_NOTE = re.compile(rf"(\d{{20}})_{_PILOT}_(\d{{1,12}})\.json")
_BEAT = re.compile(rf"{_PILOT}\.json")
_ORDER = re.compile(r"(\d{20})_(\d{1,12})\.json")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class BadMessage(ValueError):
    """A file that is refused; the text says why (it goes into `bad/NAME.why`)."""


class Kind(str, Enum):
    """What a notification says."""

    STARTED = "started"
    RESERVED = "reserved"
    VM = "vm"
    PROGRESS = "progress"
    CONTEXT = "context"
    ANSWER = "answer"
    PREEMPTED = "preempted"
    KILLED = "killed"
    RELEASING = "releasing"
    RELEASED = "released"
    FAILED = "failed"
    LOG = "log"
    HEARTBEAT = "heartbeat"  # only in hb/


# These never wait for a gap before them to be filled.
URGENT = frozenset({Kind.RELEASED, Kind.FAILED, Kind.PREEMPTED, Kind.KILLED})


class Verb(str, Enum):
    """What a command asks of a pilot."""

    CREATE = "create"
    DESTROY = "destroy"
    START = "start"
    STOP = "stop"
    PAUSE = "pause"
    RESUME = "resume"
    REBOOT = "reboot"
    SUSPEND = "suspend"
    SAVE = "save"
    CONTEXT = "context"
    RELEASE = "release"
    LEASE = "lease"
    PING = "ping"


@dataclass(frozen=True)
class Notification:
    """One thing a pilot, guardian or launcher says. `of` is the field `for`: whose guardian."""

    slot: str
    node: str
    pilot: str
    epoch: int
    seq: int
    kind: Kind
    time: str
    mono: float
    data: Mapping[str, Any] = field(default_factory=dict)
    of: Optional[str] = None

    def body(self) -> dict[str, Any]:
        """The JSON object of the file."""
        body: dict[str, Any] = {
            "v": VERSION,
            "slot": self.slot,
            "node": self.node,
            "pilot": self.pilot,
            "epoch": self.epoch,
            "seq": self.seq,
            "kind": self.kind.value,
            "time": self.time,
            "mono": round(self.mono, 6),
            "data": dict(self.data),
        }
        if self.of:
            body["for"] = self.of
        return body

    def file_name(self, ns: int) -> str:
        """Its name in new/; `ns` is the writer's wall clock in nanoseconds."""
        return f"{ns:020d}_{self.slot}_{self.node}_{self.pilot[:8]}_{self.seq}.json"

    def beat_name(self) -> str:
        """Its name in hb/ (one file a pilot, replaced)."""
        return f"{self.slot}_{self.node}_{self.pilot[:8]}.json"


@dataclass(frozen=True)
class Order:
    """A command to one pilot (`Command` is the word for LRM commands in this code).

    `ttl_s` runs from the pilot's first sight of it, on the pilot's own clock.
    """

    slot: str
    node: str
    pilot: str
    epoch: int
    seq: int
    kind: Verb
    id: str
    ttl_s: float
    time: str
    mono: float = 0.0
    data: Mapping[str, Any] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """The JSON object of the file."""
        return {
            "v": VERSION,
            "slot": self.slot,
            "node": self.node,
            "pilot": self.pilot,
            "epoch": self.epoch,
            "seq": self.seq,
            "kind": self.kind.value,
            "time": self.time,
            "mono": self.mono,
            "id": self.id,
            "ttl_s": self.ttl_s,
            "data": dict(self.data),
        }

    def file_name(self, ns: int) -> str:
        """Its name in the pilot's cmd directory."""
        return f"{ns:020d}_{self.seq}.json"


def cmd_dir(slot: str, node: str, pilot: str) -> str:
    """The name of a pilot's directory below cmd/."""
    return f"{slot}_{node}_{pilot[:8]}"


@dataclass(frozen=True)
class FileName:
    """What a name in new/ or hb/ says: `ns` and `seq` are 0 for a heartbeat."""

    slot: str
    node: str
    pilot8: str
    ns: int = 0
    seq: int = 0


def parse_note_name(name: str) -> FileName:
    """Split a name in new/; raises BadMessage."""
    match = _NOTE.fullmatch(name)
    if match is None:
        raise BadMessage("the name is not <ns>_<slot>_<node>_<pilot8>_<seq>.json")
    ns, slot, node, pilot8, seq = match.groups()
    return FileName(slot, node, pilot8, int(ns), int(seq))


def parse_beat_name(name: str) -> FileName:
    """Split a name in hb/; raises BadMessage."""
    match = _BEAT.fullmatch(name)
    if match is None:
        raise BadMessage("the name is not <slot>_<node>_<pilot8>.json")
    slot, node, pilot8 = match.groups()
    return FileName(slot, node, pilot8)


def parse_order_name(name: str) -> tuple[int, int]:
    """(ns, seq) of a name in a cmd directory; raises BadMessage."""
    match = _ORDER.fullmatch(name)
    if match is None:
        raise BadMessage("the name is not <ns>_<seq>.json")
    return int(match.group(1)), int(match.group(2))


def seal(direction: str, key: bytes, body: Mapping[str, Any]) -> bytes:
    """The bytes of a file: mac, newline, JSON. Raises BadMessage when it would be too large."""
    text = json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
    raw = _mac(direction, key, text) + b"\n" + text
    if len(raw) > MAX_FILE:
        raise BadMessage(f"{len(raw)} bytes are over the limit of {MAX_FILE}")
    return raw


def unseal(direction: str, key: bytes, raw: bytes) -> dict[str, Any]:
    """Verify, then parse. Raises BadMessage and never anything else."""
    if len(raw) > MAX_FILE:
        raise BadMessage(f"larger than {MAX_FILE} bytes")
    mac, newline, text = raw.partition(b"\n")
    if not newline or len(mac) != 64:
        raise BadMessage("torn: no mac and newline at its beginning")
    if not hmac.compare_digest(mac, _mac(direction, key, text)):
        raise BadMessage("the mac is not of this slot's key (torn, forged, or for another slot)")
    try:
        body = json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"not JSON: {error}") from None
    if not isinstance(body, dict):
        raise BadMessage("not a JSON object")
    if body.get("v") != VERSION:
        raise BadMessage(f"version {body.get('v')!r}; this wspilot reads version {VERSION}")
    return body


def read_note(direction: str, key: bytes, raw: bytes, name: FileName) -> Notification:
    """A notification or heartbeat whose body agrees with its file's name; raises BadMessage."""
    body = unseal(direction, key, raw)
    note = Notification(
        slot=_text(body, "slot"),
        node=_text(body, "node"),
        pilot=_uuid(body, "pilot"),
        epoch=_count(body, "epoch"),
        seq=_count(body, "seq"),
        kind=_member(Kind, body),
        time=_text(body, "time"),
        mono=_number(body, "mono"),
        data=_object(body, "data"),
        of=_uuid(body, "for") if "for" in body else None,
    )
    _agree(note.slot, note.node, note.pilot, name)
    if direction == NEW and note.seq != name.seq:
        raise BadMessage("seq differs from the name's")
    if (direction == HB) != (note.kind is Kind.HEARTBEAT):
        raise BadMessage(f"a {note.kind.value} does not belong in {direction}/")
    return note


def read_order(key: bytes, raw: bytes, slot: str, node: str, pilot: str, seq: int) -> Order:
    """A command for exactly this pilot; raises BadMessage."""
    body = unseal(CMD, key, raw)
    order = Order(
        slot=_text(body, "slot"),
        node=_text(body, "node"),
        pilot=_uuid(body, "pilot"),
        epoch=_count(body, "epoch"),
        seq=_count(body, "seq"),
        kind=_member(Verb, body),
        id=_text(body, "id"),
        ttl_s=_number(body, "ttl_s"),
        time=_text(body, "time"),
        mono=_number(body, "mono"),
        data=_object(body, "data"),
    )
    if (order.slot, order.node, order.pilot, order.seq) != (slot, node, pilot, seq):
        raise BadMessage("addressed to another pilot, or its seq differs from the name's")
    return order


def rfc3339(seconds: float) -> str:
    """A wall-clock time as text, UTC, microseconds."""
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_rfc3339(text: str) -> float:
    """Seconds since 1970; raises ValueError. One a notification: strptime took 80 us of it."""
    if not _TIME.fullmatch(text):
        raise ValueError("not a time as it is written here")
    return datetime.fromisoformat(text[:-1]).replace(tzinfo=timezone.utc).timestamp()


def _no_number(text: str) -> float:
    """Python reads NaN and Infinity, and would hand them on in what is then no JSON any more."""
    raise ValueError(f"{text} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    return value if -1e308 <= value <= 1e308 else _no_number(text[:40])


def _mac(direction: str, key: bytes, text: bytes) -> bytes:
    return hmac.new(key, direction.encode() + b"\0" + text, "sha256").hexdigest().encode()


def _agree(slot: str, node: str, pilot: str, name: FileName) -> None:
    if (slot, node, pilot[:8]) != (name.slot, name.node, name.pilot8):
        raise BadMessage("slot, node or pilot differ from the name's")


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= 256:
        raise BadMessage(f"{key} is missing or not a text")
    return value


def _uuid(body: Mapping[str, Any], key: str) -> str:
    value = _text(body, key)
    if not _UUID.fullmatch(value):
        raise BadMessage(f"{key} is not a uuid")
    return value


def _count(body: Mapping[str, Any], key: str) -> int:
    value = body.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise BadMessage(f"{key} is missing or not a count")
    return value


def _number(body: Mapping[str, Any], key: str) -> float:
    value = body.get(key)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not -1e15 < value < 1e15:
        raise BadMessage(f"{key} is missing or not a number")
    return float(value)


def _object(body: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = body.get(key)
    if not isinstance(value, dict):
        raise BadMessage(f"{key} is missing or not an object")
    return value


def _member(kind: Any, body: Mapping[str, Any]) -> Any:
    value = _text(body, "kind")
    try:
        return kind(value)
    except ValueError:
        raise BadMessage(f"unknown kind {value!r}") from None

"""The notification reader: real files in a real spool, and what the core makes of signed ones.

Unsigned: whatever is accepted is byte for byte a file that was signed under that name. Signed with
the right key, but with any content: refused in words, or applied without an exception, to books
that can still be written, read and shown.
"""

from __future__ import annotations

import hmac
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.unit.core.dialogue import Dialogue, uuid
from tests.unit.fuzz.harness import Check, Target, bent, bent_doc
from wspilot.daemon import documents
from wspilot.daemon import spool as spool_module
from wspilot.daemon.core import step
from wspilot.daemon.core.books import Books
from wspilot.daemon.core.events import Heard
from wspilot.daemon.spool import MAX_BAD, Spool
from wspilot.messages import (
    HB,
    MAX_FILE,
    NEW,
    BadMessage,
    FileName,
    Kind,
    Notification,
    read_note,
    rfc3339,
    seal,
)
from wspilot.model import TABLES, VmReport, VmState, from_doc, to_doc

KEY = bytes(range(32))
SPAN = {"name": "boot", "start": 1.0, "seconds": 2.0, "clock": "node"}


def _talk() -> Dialogue:
    """A lease in the middle of its life: two nodes, one VM running, one about to."""
    talk = Dialogue(2)
    talk.accept()
    talk.later(5)
    talk.poll(talk.job())
    talk.start("n1", "n2")
    talk.report("n1", talk.vms[0], VmState.RUNNING)
    return talk


def _datas(talk: Dialogue) -> dict[Kind, dict[str, Any]]:
    vm = talk.vms[1].id
    order = next(talk.books.orders()).id
    report = {**VmReport(vm, VmState.BOOTING, "why").to_data(), "spans": [SPAN], "progress": 0.5}
    return {
        Kind.STARTED: {"boot_id": "b", "host": "h", "cpus": 4, "memory_mib": 8192, "age_s": 1.5,
                       "kvm_device": True, "guardian": True, "uid": 7, "clock": 5.0},
        Kind.RESERVED: {"taken_mib": 512, "kvm": None, "spans": [SPAN]},
        Kind.VM: report, Kind.PROGRESS: report,
        Kind.ANSWER: {"re": order, "ok": False, "code": 1, "message": "no", "data": {}},
        Kind.PREEMPTED: {"cause": "c"}, Kind.KILLED: {"vms": [vm], "cause": "c"},
        Kind.RELEASING: {"cause": "c", "over": True},
        Kind.RELEASED: {"undone": ["x"], "boot_id": "b", "cause": "c", "spans": [SPAN]},
        Kind.FAILED: {"cause": "c", "causes": ["a", "b"], "clean": True, "boot_id": "b"},
        Kind.LOG: {"level": "info", "text": "t"}, Kind.CONTEXT: {},
        Kind.HEARTBEAT: {"last_seq": 3, "state": "ready", "vms": [report], "taken_mib": 1,
                         "undelivered": 0},
    }  # fmt: skip


TALK = _talk()
SLOT = TALK.slot.id


def _note(kind: Kind, seq: int, data: dict[str, Any], of: str | None = None) -> Notification:
    who = uuid("n1:guardian" if of else "n1")
    return Notification(SLOT, "n1", who, 1, seq, kind, rfc3339(TALK.now), 1.0, data, of)


SEQ = 1 + max(pilot.seq for pilot in TALK.books.all("pilots"))
NOTES = [_note(kind, SEQ, data) for kind, data in _datas(TALK).items()]
NOTES += [_note(Kind.FAILED, 1, {"cause": "c", "clean": True}, uuid("n1")),
          _note(Kind.PREEMPTED, 1, {"cause": "c"}, uuid("n1"))]  # fmt: skip
FILES = {note.file_name(n + 1): seal(NEW, KEY, note.body())
         for n, note in enumerate(NOTES) if note.kind is not Kind.HEARTBEAT}  # fmt: skip
BEATS = {note.beat_name(): seal(HB, KEY, note.body())
         for note in NOTES if note.kind is Kind.HEARTBEAT}  # fmt: skip
_names = st.one_of(
    st.sampled_from([*FILES, *BEATS]),
    bent([name.encode() for name in FILES]).map(lambda raw: raw.decode("utf-8", "replace")),
)
_raws = st.one_of(bent([*FILES.values(), *BEATS.values()]), st.sampled_from([*FILES.values()]),
                  st.binary(max_size=300), st.just(b"x" * (MAX_FILE + 1)))  # fmt: skip


@contextmanager
def _spool() -> Iterator[Check]:
    """Names and contents of every kind in new/ and hb/ of a real directory."""
    doubt, spool_module.DOUBT_S = spool_module.DOUBT_S, 0.0
    try:
        with tempfile.TemporaryDirectory(prefix="wspilot-fuzz-") as place:
            spool = Spool(Path(place) / "spool")
            spool.prepare()
            spool.write_slot(SLOT, {"key": (KEY.hex().encode(), 0o600)})
            yield lambda value: _read(spool, *value)
    finally:
        spool_module.DOUBT_S = doubt


def _read(spool: Spool, direction: str, name: str, raw: bytes) -> None:
    name = name.replace("/", "_").replace("\0", "_") or "_"
    encoded = name.encode("utf-8", "replace")[:250].decode("utf-8", "ignore")
    if encoded in (".", ".."):
        return
    path = spool.root / direction / encoded
    path.write_bytes(raw)
    batch = spool.read() if direction == NEW else spool.beats()
    signed = FILES if direction == NEW else BEATS
    for one in batch.received:
        assert raw in signed.values(), "applied, and never signed"
        assert one.note in NOTES
    if direction == NEW:
        spool.unlink(one.file for one in batch.received)
        assert not list((spool.root / "new").iterdir()), "it stays, and is read for ever"
        assert not spool._doubtful and not spool._names
    path.unlink(missing_ok=True)
    if len(raw) % 32 == 0 or len(raw) > MAX_FILE:
        bad = [entry.stat().st_size for entry in (spool.root / "bad").iterdir()]
        assert len(bad) <= 2 * MAX_BAD + 2 and max(bad, default=0) <= MAX_FILE


def _signed(value: tuple[dict[str, Any] | bytes, int]) -> None:
    """A file with the right mac and any content: `body` as it stands, or bytes."""
    body, guardian = value
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    direction = HB if isinstance(body, dict) and body.get("kind") == "heartbeat" else NEW
    mac = hmac.new(KEY, direction.encode() + b"\0" + text, "sha256").hexdigest().encode()
    who = uuid("n1:guardian" if guardian else "n1")
    seq = body.get("seq") if isinstance(body, dict) else SEQ
    name = FileName(SLOT, "n1", who[:8], 1, seq if isinstance(seq, int) else SEQ)
    try:
        note = read_note(direction, KEY, mac + b"\n" + text, name)
    except BadMessage:
        return
    assert direction == HB or note.seq == name.seq
    _apply(TALK.books, note)


def _apply(books: Books, note: Notification) -> None:
    try:
        step(books, Heard(note), TALK.now + 1, TALK.rules)
        for table, docs in books.changes().items():
            for doc in docs.values():
                if doc is not None:
                    again = json.loads(json.dumps(doc, allow_nan=False))
                    assert to_doc(from_doc(TABLES[table], again)) == again
        for table, id in books.changed():
            record = books.get(table, id)
            if table in ("vms", "slots", "workspaces", "nodes", "events") and record is not None:
                json.dumps(documents.item(books, record), allow_nan=False)
    finally:
        books.rollback()
        books.heard_at.clear()


@contextmanager
def _core() -> Iterator[Check]:
    yield _signed


_BODIES = [note.body() for note in NOTES]
TARGETS = (
    Target("spool", st.tuples(st.sampled_from([NEW, NEW, HB]), _names, _raws), _spool),
    Target(
        "signed notes",
        st.one_of(
            st.tuples(bent_doc(_BODIES), st.integers(0, 1)),
            st.tuples(bent([json.dumps(body).encode() for body in _BODIES]), st.just(0)),
        ),
        _core,
    ),
)

"""The journal readers: the store's (snapshot and journal) and the node's undo journal.

The store after any damage: exactly a state that was committed, and none older than the damage can
explain; or refused. Whatever it was, fsck reads it, and what it saves can be opened.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.unit.fuzz.harness import Check, Target, bent
from wspilot.daemon import storerepair
from wspilot.daemon.store import JOURNAL, SNAPSHOT, Store, StoreError
from wspilot.node import journal

State = dict[str, dict[str, Any]]
STATES: list[State] = []


def _write(place: Path) -> tuple[bytes, bytes]:
    """Eight commits, a compaction after the third."""
    store, state = Store(place, sync=False), dict[str, dict[str, Any]]()
    for n in range(8):
        table = "vms" if n % 3 else "slots"
        batch: dict[str, Any] = {f"i{n}": {"id": f"i{n}", "n": n, "pad": "é" * 5}}
        if n in (5, 7):
            batch["i2"] = None if n == 5 else {"id": "i2", "n": 70}
        store.commit({table: batch})
        for id, doc in batch.items():
            state.setdefault(table, {}).pop(id, None)
            if doc is not None:
                state[table][id] = doc
        STATES.append({name: dict(docs) for name, docs in state.items()})
        if n == 2:
            store._storage.compact()
    store.close()
    return (place / SNAPSHOT).read_bytes(), (place / JOURNAL).read_bytes()


with tempfile.TemporaryDirectory(prefix="wspilot-fuzz-") as _place:
    GOOD_SNAPSHOT, GOOD_JOURNAL = _write(Path(_place) / "store")
LINES = GOOD_JOURNAL.splitlines()
IN_SNAPSHOT = 3


@contextmanager
def _store() -> Iterator[Check]:
    with tempfile.TemporaryDirectory(prefix="wspilot-fuzz-") as place:
        yield lambda value: _open_bent(Path(place) / "store", *value)


def _open_bent(place: Path, which: str, raw: bytes) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o700)
    (place / SNAPSHOT).write_bytes(raw if which == SNAPSHOT else GOOD_SNAPSHOT)
    (place / JOURNAL).write_bytes(raw if which == JOURNAL else GOOD_JOURNAL)
    opened = _opened(place)
    found = storerepair.examine(place, lambda table, doc: doc["id"])
    assert found.sound == (opened is not None)
    if opened is not None:
        expected = STATES[_least(which, raw) - 1 :]
        assert opened in expected, "not a state that was committed, or an older one"
        return
    aside = storerepair.save(found)
    assert {path.name for path in aside.iterdir()} == {SNAPSHOT, JOURNAL}
    saved = _opened(place)
    assert saved is not None, "what was saved cannot be opened"
    assert saved == {
        name: {doc["id"]: doc for doc in docs.values()}
        for name, docs in found.tables.items() if docs
    }  # fmt: skip


def _opened(place: Path) -> State | None:
    try:
        store = Store(place, sync=False)
    except StoreError as error:
        assert error.hint
        return None
    try:
        return {name: dict(docs) for name, docs in store.load().items() if docs}
    except StoreError:
        return None
    finally:
        store.close()


def _least(which: str, raw: bytes) -> int:
    """How many commits must be there: all that stand whole anywhere in what is left of them."""
    if which == SNAPSHOT:
        return len(STATES)
    standing = [n for n, line in enumerate(LINES, IN_SNAPSHOT + 1) if line + b"\n" in raw]
    return max([IN_SNAPSHOT, *standing])


HEADER = {"v": 1, "boot": "b", "slot": "a" * 8, "pilot": "p"}
ENTRIES = [{"kind": "vm", "pid": 7, "uuid": "u"}, {"path": "/x"}, {"kind": "tap", "name": "t"}]
_RECORDS: list[dict[str, Any]] = [HEADER, *({"key": f"k{n}", "entry": one}
                                            for n, one in enumerate(ENTRIES)),
                                  {"key": "k1", "done": True}]  # fmt: skip
UNDO = b"".join(journal._line(record) for record in _RECORDS)


@contextmanager
def _undo() -> Iterator[Check]:
    yield _parse


def _parse(raw: bytes) -> None:
    content = journal.parse(raw)
    assert content.header in ({}, HEADER)
    for key, entry in content.entries.items():
        assert key in ("k0", "k1", "k2") and entry in ENTRIES, "an undo that was never written"
    if raw.startswith(UNDO):
        assert {"k0", "k2"} <= content.entries.keys()


TARGETS = (
    Target(
        "store",
        st.one_of(
            st.tuples(st.just(JOURNAL), bent([GOOD_JOURNAL])),
            st.tuples(st.just(SNAPSHOT), bent([GOOD_SNAPSHOT])),
        ),
        _store,
        share=0.25,
    ),
    Target("undo journal", bent([UNDO]), _undo),
)

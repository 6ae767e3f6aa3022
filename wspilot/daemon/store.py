"""TinyDB, made durable: a snapshot that any TinyDB opens, and a journal of commits beside it.

A commit is one appended, checksummed, fsynced record for a whole batch of changes, so its cost does
not grow with the number of documents; the snapshot is replaced by rename once the journal has grown
as large. Start-up replays, drops a torn last record, and refuses a damaged middle: then nothing is
guessed (PROTOCOLS.md section 3; the traps are msiemens/tinydb issue 467 and LIBS section 3).
"""

from __future__ import annotations

import copy
import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from tinydb import TinyDB
from tinydb.storages import Storage
from tinydb.table import Table

from wspilot.daemon import storefile
from wspilot.daemon.storefile import META, Damaged, OtherSchema, Tables
from wspilot.errors import WspilotError
from wspilot.home import own_dir

SNAPSHOT, JOURNAL = "snapshot.json", "journal.jsonl"
WAY_OUT = "see what can be saved: wspilot fsck"
MIN_JOURNAL = 4 << 20  # bytes; smaller journals are not worth a new snapshot
Doc = Mapping[str, Any]
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class StoreError(WspilotError):
    """The store could not be read or written; nothing was changed."""


class StoreDamaged(StoreError):
    """The files are not what was written. `wspilot fsck` tells what can be saved."""


class StoreFull(StoreError):
    """No room on the disk, or over the quota; nothing was changed."""


class Journal:
    """The file of commits: lines of `storefile.line`, each {seq, set, del}.

    `size` is where the good records end. What lies behind (a torn tail, never acknowledged) is cut
    off by the first commit, so that merely looking at a living daemon's store changes nothing.
    """

    def __init__(self, path: Path, size: int, sync: bool) -> None:
        self.path, self.size, self._sync = path, size, sync
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._tail = os.fstat(self._descriptor).st_size > size
        self._broken = False

    def append(self, record: Mapping[str, Any]) -> None:
        """Durable when it returns. On an error the file is as long as it was before."""
        if self._broken:
            raise StoreError(
                f"{self.path} could not be cut back after a failed write",
                "make room on its disk and restart the daemon",
            )
        line = storefile.line(record)
        try:
            if self._tail:
                os.ftruncate(self._descriptor, self.size)
                self._tail = False
            written = 0
            while written < len(line):
                written += os.pwrite(self._descriptor, line[written:], self.size + written)
            if self._sync:
                os.fdatasync(self._descriptor)
        except OSError as error:
            self._cut_back()
            kind = StoreFull if error.errno in _FULL else StoreError
            raise kind(f"{self.path}: {error.strerror}", "make room on its disk") from None
        self.size += len(line)

    def clear(self) -> None:
        """Begin anew; the snapshot holds everything."""
        os.ftruncate(self._descriptor, 0)
        os.fsync(self._descriptor)
        self.size = 0

    def close(self) -> None:
        os.close(self._descriptor)

    def _cut_back(self) -> None:
        try:
            os.ftruncate(self._descriptor, self.size)
        except OSError:
            self._broken = True


class JournalStorage(Storage):
    """A TinyDB storage that sees snapshot and journal: `TinyDB(dir, storage=JournalStorage)`.

    The daemon's own path is `commit`, which costs what the batch costs. `write`, which stock TinyDB
    calls with everything, works too and costs a comparison of all documents.
    """

    def __init__(self, path: str | Path, *, sync: bool = True) -> None:
        self._place = Path(path)
        own_dir(self._place)
        self._sync = sync
        self._seq, self._tables, good = read(self._place)
        self._snapshot_size = _size(self._place / SNAPSHOT)
        self._journal = Journal(self._place / JOURNAL, good, sync)

    def read(self) -> Tables | None:
        """A copy of all tables: stock TinyDB changes documents in place."""
        return copy.deepcopy(self._tables) or None

    @property
    def tables(self) -> Mapping[str, Mapping[str, Doc]]:
        """The live tables, for reading only."""
        return self._tables

    def write(self, data: Tables) -> None:
        """Stock TinyDB's way: the difference to what is here becomes one commit."""
        sets, gone = {}, {}
        for name in self._tables.keys() | data.keys():
            old, new = self._tables.get(name, {}), data.get(name, {})
            if changed := {id: dict(doc) for id, doc in new.items() if old.get(id) != doc}:
                sets[name] = changed
            if lost := sorted(old.keys() - new.keys()):
                gone[name] = lost
        if sets or gone:
            self.commit(sets, gone)

    def commit(self, sets: Mapping[str, Mapping[str, Doc]], gone: Mapping[str, list[str]]) -> None:
        """One batch, durable when it returns. Raises StoreFull, StoreError: nothing changed."""
        record = {"seq": self._seq + 1, "set": sets, "del": gone}
        self._journal.append(record)
        self._seq += 1
        apply(self._tables, record)
        if self._journal.size > max(MIN_JOURNAL, self._snapshot_size):
            self.compact()

    def compact(self) -> None:
        """Replace the snapshot. A crash at any point leaves records that replay harmlessly."""
        try:
            data = storefile.snapshot(self._seq, self._tables)
            replace_snapshot(self._place, data)
            self._snapshot_size = len(data)
            self._journal.clear()
        except OSError:
            pass  # the journal goes on; tried again at the next commit

    def close(self) -> None:
        """Everything is durable already: only descriptors are given back."""
        self._journal.close()


class JournalTable(Table):
    """A table whose reads do not copy and whose batches go to the storage as they are."""

    def _read_table(self) -> dict[str, Mapping[Any, Any]]:
        return dict(cast(JournalStorage, self._storage).tables.get(self.name, {}))


class Store:
    """The daemon's documents by table and by our own id, on TinyDB.

    TinyDB's document ids are integers, so that a stock TinyDB opens the snapshot; `_ids` maps ours
    to them. Documents handed in and out are shared, never copied: nobody may change them.
    """

    def __init__(self, path: Path, *, sync: bool = True) -> None:
        self._db = TinyDB(path, storage=JournalStorage, sync=sync)
        self._db.table_class = JournalTable
        self._storage = cast(JournalStorage, self._db.storage)
        self._ids: dict[str, dict[str, str]] = {}
        self._next = 1

    def load(self) -> dict[str, dict[str, Doc]]:
        """Every document, by table and id. Raises StoreDamaged for one without an id of ours."""
        try:
            return self._load()
        except (KeyError, TypeError, ValueError) as error:
            raise StoreDamaged(f"the store holds what is no record: {error!r}", WAY_OUT) from None

    def _load(self) -> dict[str, dict[str, Doc]]:
        """Not through TinyDB's tables, which make a `Document` of each: 0.7 s for 10,000 VMs."""
        tables: dict[str, dict[str, Doc]] = {}
        for name, documents in sorted(self._storage.tables.items()):
            if name == META:
                continue
            tables[name] = {doc["id"]: doc for doc in documents.values()}
            self._ids[name] = {doc["id"]: key for key, doc in documents.items()}
            self._next = max([self._next, *(int(key) + 1 for key in documents)])
        return tables

    def commit(self, changes: Mapping[str, Mapping[str, Doc | None]]) -> None:
        """One batch: durable when it returns; None removes. Raises StoreFull, StoreError."""
        sets: dict[str, dict[str, Doc]] = {}
        gone: dict[str, list[str]] = {}
        fresh: list[tuple[str, str]] = []
        for table, documents in changes.items():
            ids = self._ids.setdefault(table, {})
            for id, doc in documents.items():
                if doc is not None:
                    if id not in ids:
                        ids[id] = str(self._next)
                        self._next += 1
                        fresh.append((table, id))
                    sets.setdefault(table, {})[ids[id]] = doc
                elif id in ids:
                    gone.setdefault(table, []).append(ids[id])
        try:
            if sets or gone:
                self._storage.commit(sets, gone)
        except StoreError:
            for table, id in fresh:
                del self._ids[table][id]
            raise
        for table, documents in changes.items():
            for id in [id for id, doc in documents.items() if doc is None]:
                self._ids[table].pop(id, None)

    def close(self) -> None:
        """Give the files back."""
        self._db.close()


def read(place: Path) -> tuple[int, Tables, int]:
    """(last seq, tables, where the journal's good records end). Raises StoreError."""
    try:
        data = _bytes(place / SNAPSHOT)
        seq, tables = storefile.read_snapshot(data) if data is not None else (0, {})
    except Damaged as error:
        raise StoreDamaged(f"{place / SNAPSHOT} is damaged: {error}", WAY_OUT) from None
    except OtherSchema as error:
        raise StoreError(
            f"{place / SNAPSHOT} has {error}", "use the wspilot that wrote it"
        ) from None
    reading = storefile.read_journal(_bytes(place / JOURNAL) or b"")
    if reading.gaps:
        gap, path = reading.gaps[0], place / JOURNAL
        raise StoreDamaged(
            f"{path} is damaged at byte {gap.at}, with commits after it: {gap.text}", WAY_OUT
        )
    for _, record in reading.records:
        if record["seq"] > seq + 1:
            raise StoreDamaged(
                f"{place / JOURNAL} goes on at commit {record['seq']}, but the last one is {seq}",
                WAY_OUT,
            )
        if record["seq"] > seq:
            apply(tables, record)
            seq = record["seq"]
    return seq, tables, reading.good


def apply(tables: Tables, record: Mapping[str, Any]) -> None:
    """Whole documents replace what was there."""
    for name, documents in record["set"].items():
        tables.setdefault(name, {}).update(documents)
    for name, ids in record["del"].items():
        for id in ids:
            tables.get(name, {}).pop(id, None)


def replace_snapshot(place: Path, data: bytes) -> None:
    """Durable when it returns. Raises OSError: the old one stands."""
    path = place / SNAPSHOT
    temporary = path.with_suffix(".tmp")
    try:
        with open(temporary, "wb", opener=_private) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_dir(place)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def sync_dir(path: Path) -> None:
    """Make renames in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""What can be saved of a damaged store, and the saving. No daemon runs meanwhile: the lock is ours.

Every commit holds whole documents. So what stands after a damage is applied too: it is newer than
what stands before, and only the documents that were last written in the damaged bytes are older
than they should be. Those cannot be named; what they lead to is found by comparing the books with
the batch system and the nodes, which the next daemon and `wspilot fsck` do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wspilot.daemon import storefile
from wspilot.daemon.store import JOURNAL, SNAPSHOT, StoreError, apply, replace_snapshot, sync_dir
from wspilot.daemon.storefile import Damaged, Gap, OtherSchema, Tables
from wspilot.text import clean

_DOCUMENT = re.compile(r'"(\d{1,15})":(?=\{"id":)')


@dataclass
class Salvage:
    """What a store's files still hold.

    `before` and `after` count the documents written before the journal's first damage and after
    it; `unproved` those that stand in a part of the snapshot whose checksum is wrong; `unread` the
    documents that are no records any more and are left out.
    """

    place: Path
    seq: int = 0
    tables: Tables = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)
    before: dict[str, int] = field(default_factory=dict)
    after: dict[str, int] = field(default_factory=dict)
    unproved: dict[str, int] = field(default_factory=dict)
    unread: dict[str, int] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Nothing is wrong with it."""
        return not self.damage


def examine(place: Path, judge: Callable[[str, Any], object]) -> Salvage:
    """Read everything that can be read, and change nothing.

    `judge(table, document)` raises KeyError, TypeError or ValueError for what is no record. Raises
    StoreError when the files cannot be read, or are of another schema.
    """
    found = Salvage(place)
    _read_snapshot(found, _bytes(place / SNAPSHOT))
    _read_journal(found, _bytes(place / JOURNAL))
    for table, docs in found.tables.items():
        ours: dict[str, str] = {}
        for id, doc in sorted(docs.items(), key=lambda item: int(item[0])):
            try:
                judge(table, doc)
            except (KeyError, TypeError, ValueError, AttributeError):
                del docs[id]
                found.unread[table] = found.unread.get(table, 0) + 1
            else:
                docs.pop(ours.get(doc["id"], ""), None)  # a lost commit had removed the older one
                ours[doc["id"]] = id
    if found.unread:
        found.damage.append(f"{sum(found.unread.values())} documents are no records")
    return found


def save(found: Salvage) -> Path:
    """Keep the damaged files aside and write what was saved. Returns where the damaged ones lie.

    Killed at any point it leaves the damaged store, or the saved one: copies first, then the new
    snapshot by rename, and the journal last; its records are older than that snapshot.
    """
    aside = _aside(found.place)
    try:
        for name in (SNAPSHOT, JOURNAL):
            if (found.place / name).exists():
                (aside / name).write_bytes((found.place / name).read_bytes())
        sync_dir(aside)
        # Beyond every commit that the journal may still hold, so that none is applied again.
        highest = [record["seq"] for _, record in _journal(found.place).records]
        seq = max([found.seq, 0, *highest])
        replace_snapshot(found.place, storefile.snapshot(seq, found.tables))
        (found.place / JOURNAL).unlink(missing_ok=True)
        sync_dir(found.place)
    except OSError as error:
        raise StoreError(f"{found.place}: {error.strerror}; nothing was lost",
                         "make room on its disk and say it again") from None  # fmt: skip
    return aside


def _aside(place: Path) -> Path:
    number = 1
    while True:
        aside = place / f"damaged-{number}"
        try:
            aside.mkdir(mode=0o700)
            return aside
        except FileExistsError:
            number += 1
        except OSError as error:
            raise StoreError(f"{aside}: {error.strerror}", "make room on its disk") from None


# -- the snapshot


def _read_snapshot(found: Salvage, data: bytes) -> None:
    if not data:
        return
    try:
        found.seq, found.tables = storefile.read_snapshot(data)
        return
    except OtherSchema as error:
        raise StoreError(f"{found.place / SNAPSHOT} has {error}",
                         "use the wspilot that wrote it") from None  # fmt: skip
    except Damaged as error:
        found.damage.append(f"{SNAPSHOT}: {error}")
    try:
        found.seq, slices = storefile.slices_of(data)
    except (Damaged, OtherSchema):
        slices = {name: (part, False) for name, part in _torn_tables(data)}
        found.seq = -1  # not known; the journal's commits are newer, or say the same again
    for name, (part, whole) in slices.items():
        found.tables[name] = _documents(part)
        if not whole:
            found.unproved[name] = len(found.tables[name])


def _torn_tables(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Each table's bytes, by its name and the next one's, where sizes are not known."""
    from wspilot.model import TABLES

    places = sorted(
        (at, name) for name in TABLES if (at := data.find(b'"%s":{' % name.encode())) >= 0
    )
    ends = [*(at for at, _ in places), len(data)][1:]
    for (at, name), end in zip(places, ends, strict=True):
        yield name, data[at:end]


def _documents(part: bytes) -> dict[str, Any]:
    """Every document of a table that can still be read as JSON."""
    found: dict[str, Any] = {}
    decoder, at = json.JSONDecoder(), 0
    text = part.decode("utf-8", "replace")
    while match := _DOCUMENT.search(text, at):
        try:
            found[match.group(1)], at = decoder.raw_decode(text, match.end())
        except (ValueError, RecursionError):
            at = match.end()
    return found


# -- the journal


def _read_journal(found: Salvage, data: bytes) -> None:
    reading = storefile.read_journal(data)
    first = reading.gaps[0].at if reading.gaps else len(data)
    found.damage += [f"{JOURNAL}: {_where(gap)}: {gap.text}" for gap in reading.gaps]
    start = found.seq
    fresh = [(at, record) for at, record in reading.records if record["seq"] > start]
    if fresh and 0 <= start < fresh[0][1]["seq"] - 1:
        missing = fresh[0][1]["seq"] - start - 1
        found.damage.append(f"{missing} commits are missing between {SNAPSHOT} and {JOURNAL}")
    for at, record in fresh:
        apply(found.tables, record)
        found.seq = record["seq"]
        side = found.before if at < first else found.after
        for table, docs in record["set"].items():
            side[table] = side.get(table, 0) + len(docs)


def _where(gap: Gap) -> str:
    return f"bytes {gap.at} to {gap.end}" if gap.end > gap.at else f"byte {gap.at}"


def _journal(place: Path) -> storefile.Reading:
    return storefile.read_journal(_bytes(place / JOURNAL))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {clean(str(error), 200)}") from None

"""The store's two files as bytes: how they are written, and how damage in them is seen.

Every byte is under a checksum. A journal line is `crc32 SPACE json NEWLINE`. The snapshot stays a
stock TinyDB file: its first table, `meta`, holds size and checksum of every other table as it
stands in the file, and a checksum of itself. Pure: bytes in, values out.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SCHEMA = 1
META = "meta"
Tables = dict[str, dict[str, Any]]
_HEAD = b'{"meta":{"1":'
_BEGINS = re.compile(rb'[0-9a-f]{8} \{"seq":')


class Damaged(ValueError):
    """The bytes are not what was written; the text says where."""


class OtherSchema(ValueError):
    """A whole file, of a wspilot that this one does not read."""


# -- the journal


@dataclass(frozen=True)
class Gap:
    """Damaged bytes `at` to `end` of a file."""

    at: int
    end: int
    text: str


@dataclass(frozen=True)
class Reading:
    """A journal's bytes: records with their offsets, and the damage between them.

    `good` is where the records end that may be relied on when there is no damage. What lies behind
    is one torn record, never acknowledged.
    """

    records: tuple[tuple[int, dict[str, Any]], ...]
    good: int
    gaps: tuple[Gap, ...] = ()


def line(record: Mapping[str, Any]) -> bytes:
    """A commit as it is appended."""
    body = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def read_journal(data: bytes) -> Reading:
    """Every whole record. A bad end that holds nothing whole is a torn tail, anything else a gap.

    A flipped newline joins two lines: so a bad line is searched for records that begin inside it.
    """
    found: list[tuple[int, dict[str, Any]]] = []
    gaps: list[Gap] = []
    end = 0
    for at, stop, record in _whole(data):
        if at > end:
            gaps.append(Gap(end, at, f"{at - end} bytes are not what was written"))
        elif found and record["seq"] != found[-1][1]["seq"] + 1:
            told = f"commit {record['seq']} follows commit {found[-1][1]['seq']}"
            gaps.append(Gap(at, at, told))
        found.append((at, record))
        end = stop
    if b"\n" in data[end:-1]:  # one torn record has no line's end inside it
        gaps.append(Gap(end, len(data), f"{len(data) - end} bytes are not what was written"))
    return Reading(tuple(found), end, tuple(gaps))


def _whole(data: bytes) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """(begin, end, record) of every whole record, wherever it begins."""
    at = 0
    while (end := data.find(b"\n", at)) >= 0:
        record = _parse(data[at:end])
        begin = at
        if record is None:
            for match in _BEGINS.finditer(data, at + 1, end):
                begin, record = match.start(), _parse(data[match.start() : end])
                if record is not None:
                    break
        if record is not None:
            yield begin, end + 1, record
        at = end + 1


def _parse(text: bytes) -> dict[str, Any] | None:
    crc, _, body = text.partition(b" ")
    if crc != b"%08x" % zlib.crc32(body):
        return None
    try:
        record = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return record if _is_record(record) else None


def _is_record(record: Any) -> bool:
    """The shape that a commit has; documents themselves are judged by the books."""
    if not isinstance(record, dict) or not isinstance(record.get("seq"), int):
        return False
    sets, gone = record.get("set"), record.get("del")
    return (
        isinstance(sets, dict)
        and isinstance(gone, dict)
        and all(isinstance(docs, dict) for docs in sets.values())
        and all(isinstance(ids, list) for ids in gone.values())
    )


# -- the snapshot


def snapshot(seq: int, tables: Mapping[str, Mapping[str, Any]]) -> bytes:
    """The file's bytes: `meta` first, then each table."""
    parts = {
        name: json.dumps(docs, separators=(",", ":")).encode()
        for name, docs in tables.items()
        if name != META
    }
    sums = {name: [len(part), f"{zlib.crc32(part):08x}"] for name, part in parts.items()}
    meta = _sealed({"schema": SCHEMA, "seq": seq, "sums": sums})
    head = json.dumps({META: {"1": meta}}, separators=(",", ":")).encode()[:-1]
    return b"".join([head, *(_key(name) + part for name, part in parts.items()), b"}"])


def _sealed(meta: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(meta, separators=(",", ":"))
    return {**meta, "crc": f"{zlib.crc32(text.encode()):08x}"}


def _key(name: str) -> bytes:
    return b"," + json.dumps(name).encode() + b":"


def read_snapshot(data: bytes) -> tuple[int, Tables]:
    """(seq, tables without `meta`). Raises Damaged, OtherSchema."""
    plain = _unsealed(data)
    if plain is not None:
        return plain
    seq, slices = slices_of(data)
    bad = [name for name, (_, whole) in slices.items() if not whole]
    if bad:
        raise Damaged(f"the checksum of {', '.join(bad)} is not that of what stands there")
    try:
        return seq, {name: json.loads(part) for name, (part, _) in slices.items()}
    except (ValueError, RecursionError) as error:
        raise Damaged(str(error)) from None


def _unsealed(data: bytes) -> tuple[int, Tables] | None:
    """A snapshot without checksums, as stock TinyDB or an older wspilot writes it."""
    if b'"sums"' in data[:200]:
        return None
    try:
        tables = json.loads(data)
        meta = tables.pop(META)["1"]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    if not isinstance(meta, dict) or set(meta) != {"schema", "seq"}:
        return None
    if meta["schema"] != SCHEMA or not isinstance(meta["seq"], int):
        raise OtherSchema(f"schema {meta['schema']!r}; this wspilot reads schema {SCHEMA}")
    return meta["seq"], tables


def slices_of(data: bytes) -> tuple[int, dict[str, tuple[bytes, bool]]]:
    """(seq, each table's bytes and whether they are whole). Raises Damaged, OtherSchema."""
    meta, at = _meta(data)
    slices: dict[str, tuple[bytes, bool]] = {}
    whole = True
    for name, (size, crc) in meta["sums"].items():
        key = _key(name)
        part = data[at + len(key) : at + len(key) + size]
        fits = data[at : at + len(key)] == key
        slices[name] = part, fits and f"{zlib.crc32(part):08x}" == crc
        at += len(key) + size
        whole = whole and slices[name][1]
    if whole and data[at:] != b"}":
        raise Damaged(f"something else than its end stands at byte {at}")
    return meta["seq"], slices


def _meta(data: bytes) -> tuple[dict[str, Any], int]:
    """(the checked `meta` document, where the first table begins)."""
    try:
        if not data.startswith(_HEAD):
            raise ValueError("it does not begin with `meta`")
        text = data[len(_HEAD) : len(_HEAD) + (1 << 16)].decode("utf-8", "replace")
        meta, length = json.JSONDecoder().raw_decode(text)
        if not isinstance(meta, dict):
            raise ValueError("`meta` is no document")
        crc = meta.pop("crc", None)
        if meta.get("schema") != SCHEMA and _sealed(meta)["crc"] == crc:
            raise OtherSchema(f"schema {meta.get('schema')!r}; this wspilot reads schema {SCHEMA}")
        if _sealed(meta)["crc"] != crc:
            raise ValueError("the checksum of `meta` is not that of what stands there")
        at = len(_HEAD) + len(text[:length].encode())
        if data[at : at + 1] != b"}":
            raise ValueError(f"`meta` does not end at byte {at}")
    except (ValueError, RecursionError) as error:
        if isinstance(error, OtherSchema):
            raise
        raise Damaged(str(error)) from None
    return meta, at + 1

"""A damaged store: what can be saved is told, the damaged files are kept, the rest is saved."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from wspilot.daemon import storefile, storerepair
from wspilot.daemon.store import JOURNAL, SNAPSHOT, Store, StoreDamaged, StoreError


def judge(table: str, doc: Any) -> object:
    return doc["id"]


def written(place: Path, compact_after: int = 0) -> None:
    """Six commits: v0 to v5, each with `last` overwritten."""
    store = Store(place, sync=False)
    for n in range(6):
        vms = {f"v{n}": {"id": f"v{n}"}, "last": {"id": "last", "n": n}}
        store.commit({"vms": vms, "slots": {f"s{n}": {"id": f"s{n}"}}})
        if n + 1 == compact_after:
            store._storage.compact()
    store.close()


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def ids(place: Path) -> dict[str, set[str]]:
    store = Store(place)
    try:
        return {table: set(docs) for table, docs in store.load().items() if docs}
    finally:
        store.close()


def test_every_flipped_byte_of_the_snapshot_is_reported(tmp_path: Path) -> None:
    written(tmp_path / "s", compact_after=6)
    whole = (tmp_path / "s" / SNAPSHOT).read_bytes()
    for at in range(len(whole)):
        flip(tmp_path / "s" / SNAPSHOT, at)
        with pytest.raises(StoreError, match=r"damaged|schema"):
            Store(tmp_path / "s")
        (tmp_path / "s" / SNAPSHOT).write_bytes(whole)
    assert len(ids(tmp_path / "s")["vms"]) == 7


def test_every_flipped_byte_of_the_journal_but_the_last_commit_is_reported(tmp_path: Path) -> None:
    written(tmp_path / "s")
    path = tmp_path / "s" / JOURNAL
    whole = path.read_bytes()
    last = whole[:-1].rindex(b"\n") + 1
    for at in range(last):
        flip(path, at)
        with pytest.raises(StoreDamaged, match="damaged at byte") as caught:
            Store(tmp_path / "s")
        assert "wspilot fsck" in caught.value.hint
        path.write_bytes(whole)


def test_a_damaged_middle_is_told_by_table_and_saved_on_both_sides(tmp_path: Path) -> None:
    place = tmp_path / "s"
    written(place, compact_after=2)
    path = place / JOURNAL
    damaged = path.read_bytes()
    at = damaged.index(b"\n") + 30  # in the second of its four commits: v3
    flip(path, at)
    bent = path.read_bytes()
    found = storerepair.examine(place, judge)
    assert not found.sound and "journal.jsonl: bytes" in found.damage[0]
    assert found.before == {"vms": 2, "slots": 1} and found.after == {"vms": 4, "slots": 2}
    assert path.read_bytes() == bent  # looking changes nothing
    aside = storerepair.save(found)
    assert aside.name == "damaged-1" and (aside / JOURNAL).read_bytes() == bent
    left = {f"{letter}{n}" for n in (0, 1, 2, 4, 5) for letter in "v"}
    assert ids(place) == {"vms": left | {"last"}, "slots": {f"s{n}" for n in (0, 1, 2, 4, 5)}}
    store = Store(place)  # and commits go on
    assert store.load()["vms"]["last"]["n"] == 5
    store.commit({"vms": {"new": {"id": "new"}}})
    store.close()
    assert "new" in ids(place)["vms"]


def test_of_a_damaged_snapshot_the_whole_tables_are_proved(tmp_path: Path) -> None:
    place = tmp_path / "s"
    written(place, compact_after=6)
    data = (place / SNAPSHOT).read_bytes()
    flip(place / SNAPSHOT, data.index(b'"v3"') + 1)
    found = storerepair.examine(place, judge)
    assert "vms" in found.damage[0] and set(found.unproved) == {"vms"}
    assert len(found.tables["slots"]) == 6
    storerepair.save(found)
    assert ids(place)["slots"] == {f"s{n}" for n in range(6)}


@pytest.mark.parametrize("cut", [0, 10, 200, -1])
def test_a_snapshot_that_was_cut_gives_what_it_has(tmp_path: Path, cut: int) -> None:
    place = tmp_path / "s"
    written(place, compact_after=4)
    data = (place / SNAPSHOT).read_bytes()
    (place / SNAPSHOT).write_bytes(data[:cut])
    found = storerepair.examine(place, judge)
    assert not found.sound
    storerepair.save(found)
    assert {"v4", "v5", "last"} <= ids(place)["vms"]  # the journal's commits, in any case


def test_a_document_that_is_no_record_is_left_out(tmp_path: Path) -> None:
    place = tmp_path / "s"
    place.mkdir(mode=0o700)
    docs = {"1": {"id": "a"}, "2": {"no": "id"}, "3": 7, "4": {"id": "a", "n": 2}}
    (place / SNAPSHOT).write_bytes(storefile.snapshot(5, {"vms": docs}))
    found = storerepair.examine(place, judge)
    assert found.unread == {"vms": 2} and found.tables["vms"] == {"4": {"id": "a", "n": 2}}


def test_a_snapshot_that_stock_tinydb_or_an_older_wspilot_wrote_is_read(tmp_path: Path) -> None:
    place = tmp_path / "s"
    place.mkdir(mode=0o700)
    doc = {"vms": {"1": {"id": "a"}}, "meta": {"1": {"schema": 1, "seq": 3}}}
    (place / SNAPSHOT).write_text(json.dumps(doc))
    assert ids(place) == {"vms": {"a"}} and storerepair.examine(place, judge).sound


def test_killed_in_the_saving_it_is_the_old_store_or_the_saved_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    for moment in range(6):
        place = tmp_path / str(moment)
        written(place)
        flip(place / JOURNAL, 40)
        calls = 0

        def die(real: Any) -> Any:
            def call(*args: Any, **more: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls > moment:  # noqa: B023
                    raise Killed
                return real(*args, **more)

            return call

        with monkeypatch.context() as patch:
            for owner, name in ((Path, "replace"), (Path, "unlink"), (os, "fsync")):
                patch.setattr(owner, name, die(getattr(owner, name)))
            try:
                storerepair.save(storerepair.examine(place, judge))
            except Killed:
                pass
        if not storerepair.examine(place, judge).sound:
            storerepair.save(storerepair.examine(place, judge))
        assert {f"v{n}" for n in range(1, 6)} <= ids(place)["vms"]
        assert any((aside / JOURNAL).exists() for aside in place.glob("damaged-*"))

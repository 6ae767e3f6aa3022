"""The store: what was acknowledged is there, what is damaged is refused, TinyDB can read it."""

from __future__ import annotations

import errno
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from tinydb import TinyDB

from wspilot.daemon import store as store_module
from wspilot.daemon.store import JournalStorage, Store, StoreError, StoreFull

Docs = dict[str, dict[str, Any]]


def doc(id: str, **more: Any) -> dict[str, Any]:
    return {"id": id, **more}


def reopened(path: Path) -> dict[str, dict[str, Any]]:
    store = Store(path)
    try:
        return {table: dict(docs) for table, docs in store.load().items() if docs}
    finally:
        store.close()


def test_a_commit_is_there_after_reopening(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    store.commit({"vms": {"a": doc("a", n=1), "b": doc("b")}})
    store.commit({"vms": {"a": doc("a", n=2), "b": None}, "slots": {"x": doc("x")}})
    store.close()
    assert reopened(tmp_path / "s") == {"vms": {"a": doc("a", n=2)}, "slots": {"x": doc("x")}}


def test_a_torn_tail_at_every_byte_loses_only_the_commit_it_belongs_to(tmp_path: Path) -> None:
    path = tmp_path / "s"
    store = Store(path)
    store.commit({"vms": {"a": doc("a", n=1)}})
    first = (path / "journal.jsonl").stat().st_size
    store.commit({"vms": {"a": doc("a", n=2)}})
    store.close()
    whole = (path / "journal.jsonl").read_bytes()
    for cut in range(first, len(whole) + 1):
        (path / "journal.jsonl").write_bytes(whole[:cut])
        n = 2 if cut == len(whole) else 1
        assert reopened(path) == {"vms": {"a": doc("a", n=n)}}, cut


def test_after_a_torn_tail_commits_go_on(tmp_path: Path) -> None:
    path = tmp_path / "s"
    store = Store(path)
    store.commit({"vms": {"a": doc("a", n=1)}})
    store.close()
    with (path / "journal.jsonl").open("ab") as file:
        file.write(b'12345678 {"seq":2,"set":{"vms":{"1":{"id":"a","n":' + b"9" * 500)
    store = Store(path)
    store.load()
    store.commit({"vms": {"a": doc("a", n=3)}})
    store.close()
    assert reopened(path) == {"vms": {"a": doc("a", n=3)}}


def test_a_flipped_byte_in_the_middle_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "s"
    store = Store(path)
    for n in range(3):
        store.commit({"vms": {"a": doc("a", n=n)}})
    store.close()
    data = bytearray((path / "journal.jsonl").read_bytes())
    start = data.index(b"\n") + 1
    data[start + 30] ^= 1
    (path / "journal.jsonl").write_bytes(data)
    with pytest.raises(StoreError, match=f"damaged at byte {start}") as caught:
        Store(path)
    assert "fsck" in caught.value.hint
    assert (path / "journal.jsonl").read_bytes() == data


def test_a_full_disk_changes_nothing_and_the_next_commit_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "s")
    store.commit({"vms": {"a": doc("a", n=1)}})
    real = os.pwrite

    def half(descriptor: int, data: bytes, offset: int) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[: len(data) // 2], offset)

    monkeypatch.setattr(store_module.os, "pwrite", half)
    with pytest.raises(StoreFull, match="No space left"):
        store.commit({"vms": {"a": doc("a", n=2), "b": doc("b")}})
    monkeypatch.setattr(store_module.os, "pwrite", real)
    store.commit({"vms": {"c": doc("c")}})
    store.close()
    assert reopened(tmp_path / "s") == {"vms": {"a": doc("a", n=1), "c": doc("c")}}


def test_a_snapshot_is_stock_tinydb_and_the_journal_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "s"
    store = Store(path)
    store.commit({"vms": {f"v{n}": doc(f"v{n}") for n in range(10)}})
    storage = store._storage
    storage.compact()
    store.commit({"vms": {"late": doc("late"), "v0": None}})
    assert {one["id"] for one in TinyDB(path / "snapshot.json").table("vms")} == {
        f"v{n}" for n in range(10)
    }
    seen = TinyDB(path, storage=JournalStorage).table("vms")
    assert {one["id"] for one in seen} == {f"v{n}" for n in range(1, 10)} | {"late"}
    store.close()
    assert len(reopened(path)["vms"]) == 10


def test_stock_tinydb_calls_write_through_the_journal(tmp_path: Path) -> None:
    db = TinyDB(tmp_path / "s", storage=JournalStorage)
    db.table("vms").insert(doc("q"))
    db.table("vms").update({"n": 1})
    db.close()
    assert reopened(tmp_path / "s") == {"vms": {"q": doc("q", n=1)}}


def test_looking_at_a_store_changes_no_byte_of_it(tmp_path: Path) -> None:
    path = tmp_path / "s"
    store = Store(path)
    store.commit({"vms": {"a": doc("a")}})
    (path / "journal.jsonl").open("ab").write(b"torn")
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    assert len(TinyDB(path, storage=JournalStorage).table("vms")) == 1
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    store.close()


@pytest.mark.parametrize("schema", [0, 2, "1", None])
def test_an_unknown_schema_is_refused_in_words(tmp_path: Path, schema: object) -> None:
    path = tmp_path / "s"
    path.mkdir(mode=0o700)
    (path / "snapshot.json").write_text(json.dumps({"meta": {"1": {"schema": schema, "seq": 1}}}))
    with pytest.raises(StoreError, match="reads schema 1"):
        Store(path)


def test_random_batches_with_compactions_and_reopenings_match_a_plain_dictionary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MIN_JOURNAL", 2000)
    chance, path = random.Random(7), tmp_path / "s"
    model: dict[str, Docs] = {"vms": {}, "slots": {}}
    store = Store(path, sync=False)
    for step in range(400):
        table = chance.choice(["vms", "slots"])
        batch: dict[str, Any] = {}
        for _ in range(chance.randrange(1, 6)):
            id = f"i{chance.randrange(30)}"
            batch[id] = None if chance.random() < 0.3 else doc(id, step=step, text="x" * 20)
        store.commit({table: batch})
        for id, one in batch.items():
            if one is None:
                model[table].pop(id, None)
            else:
                model[table][id] = one
        if chance.random() < 0.1:
            store.close()
            assert reopened(path) == {name: docs for name, docs in model.items() if docs}
            store = Store(path, sync=False)
            store.load()
    store.close()


@pytest.mark.parametrize("moment", ["before the rename", "before the journal is cleared"])
def test_a_crash_in_a_compaction_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    path = tmp_path / "s"
    store = Store(path)
    for n in range(5):
        store.commit({"vms": {"a": doc("a", n=n), f"v{n}": doc(f"v{n}")}})
    if moment == "before the rename":
        monkeypatch.setattr(Path, "replace", die)
    else:
        monkeypatch.setattr(store_module.Journal, "clear", die)
    with pytest.raises(Killed):
        store._storage.compact()
    monkeypatch.undo()
    vms = reopened(path)["vms"]
    assert vms["a"]["n"] == 4 and len(vms) == 6

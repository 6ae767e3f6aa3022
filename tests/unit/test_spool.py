"""The spool: applied once, refused with a reason, never followed out of its directory."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
from pathlib import Path

import pytest

from wspilot.daemon import spool as spool_module
from wspilot.daemon.spool import MAX_BAD, Spool, Watch
from wspilot.errors import Refused
from wspilot.messages import HB, MAX_FILE, NEW, Kind, Notification, rfc3339, seal

KEY = bytes(range(32))
SLOT, PILOT = "abcdefgh", "01234567-0000-4000-8000-000000000000"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "spool")
    made.prepare()
    made.write_slot(SLOT, {"key": (KEY.hex().encode(), 0o600)})
    return made


def note(seq: int = 1, kind: Kind = Kind.LOG, node: str = "n_1") -> Notification:
    return Notification(SLOT, node, PILOT, 1, seq, kind, rfc3339(1.0), 1.0, {"text": "x"})


def put(spool: Spool, one: Notification, *, name: str = "", raw: bytes = b"") -> str:
    name = name or one.file_name(one.seq)
    (spool.root / "new" / name).write_bytes(raw or seal(NEW, KEY, one.body()))
    return name


def whys(spool: Spool) -> list[str]:
    return [path.read_text().strip() for path in sorted((spool.root / "bad").glob("*.why"))]


def test_messages_come_in_order_whatever_the_directory_says(spool: Spool) -> None:
    for seq in (3, 1, 2):
        put(spool, note(seq), name=note(seq).file_name(10 - seq))
    batch = spool.read()
    assert [one.note.seq for one in batch.received] == [1, 2, 3] and not batch.refused


def test_a_file_stays_until_it_is_unlinked(spool: Spool) -> None:
    name = put(spool, note())
    assert spool.read().received[0].file == name == spool.read().received[0].file
    spool.unlink([name])
    spool.unlink([name])
    assert not spool.read().received


def test_many_files_are_taken_in_slices(spool: Spool) -> None:
    for seq in range(1, 201):
        put(spool, note(seq))
    sizes = []
    while True:
        batch = spool.read(64)
        sizes.append(len(batch.received))
        spool.unlink(one.file for one in batch.received)
        if not batch.more:
            break
    assert sizes == [64, 64, 64, 8]


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"x" * (MAX_FILE + 1), "larger than"),
        (b"", "torn"),
        (b"\x00\xff" * 50, "torn"),
        (seal(NEW, b"other key", note().body()), "mac"),
        (seal(HB, KEY, note().body()), "mac"),
        (seal(NEW, KEY, note(2).body()), "seq differs"),
        (seal(NEW, KEY, {**note().body(), "v": 2}), "version 2"),
        (seal(NEW, KEY, {**note().body(), "node": "n_2"}), "differ from the name"),
        (seal(NEW, KEY, {**note().body(), "kind": "hello"}), "unknown kind"),
        (seal(NEW, KEY, {**note().body(), "kind": "heartbeat"}), "does not belong"),
        (seal(NEW, KEY, {**note().body(), "data": []}), "data"),
        (seal(NEW, KEY, {**note().body(), "seq": True}), "seq"),
    ],
)
def test_what_is_refused_goes_to_bad_with_its_reason(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, raw: bytes, why: str
) -> None:
    monkeypatch.setattr(spool_module, "DOUBT_S", 0.0)
    put(spool, note(), raw=raw or b"\n")
    spool.read()
    batch = spool.read()
    refused = batch.refused or tuple(("", text) for text in whys(spool))
    assert any(why in text for _, text in refused), refused
    assert not list((spool.root / "new").iterdir())


def test_a_torn_file_gets_a_little_time(spool: Spool) -> None:
    whole = seal(NEW, KEY, note().body())
    name = put(spool, note(), raw=whole[:-5])
    assert spool.read() == spool_module.Batch()
    put(spool, note(), name=name, raw=whole)
    assert spool.read().received and not whys(spool)


@pytest.mark.parametrize("name", ["x.json", "..json", "1_abcdefgh_n_01234567_1.json", "a b", "é"])
def test_rubbish_names_are_refused(spool: Spool, name: str) -> None:
    (spool.root / "new" / name).write_bytes(b"{}")
    assert len(spool.read().refused) == 1 and len(whys(spool)) == 1


def test_a_symbolic_link_a_directory_and_a_fifo_are_not_followed(
    spool: Spool, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(seal(NEW, KEY, note(1).body()))
    (spool.root / "new" / note(1).file_name(1)).symlink_to(secret)
    (spool.root / "new" / note(2).file_name(2)).mkdir()
    os.mkfifo(spool.root / "new" / note(3).file_name(3))
    batch = spool.read()
    assert not batch.received and len(batch.refused) == 3 and secret.exists()


def test_bad_is_bounded(spool: Spool) -> None:
    for n in range(MAX_BAD + 50):
        (spool.root / "new" / f"rubbish{n}").write_bytes(b"x")
    while spool.read().more:
        pass
    assert len(list((spool.root / "bad").iterdir())) <= 2 * MAX_BAD
    assert not list((spool.root / "new").iterdir())


def test_what_is_too_large_is_not_kept_and_what_cannot_be_moved_is_told_once(spool: Spool) -> None:
    put(spool, note(), raw=b"x" * (MAX_FILE + 1))
    full = spool.root / "new" / "full"
    full.mkdir()
    (full / "inside").touch()
    put(spool, note(), name="\u4e2d" * 83 + ".json")  # 254 bytes: `.why` would not fit behind it
    assert len(spool.read().refused) == 3
    kept = [path for path in (spool.root / "bad").iterdir() if path.suffix != ".why"]
    assert len(kept) == 1 and kept[0].stat().st_size < MAX_FILE and len(whys(spool)) == 3
    assert [path.name for path in (spool.root / "new").iterdir()] == ["full"]
    assert not spool.read().refused
    (full / "inside").unlink()
    full.rmdir()
    assert not spool.read().refused and not spool._stuck


def test_a_doubtful_file_that_vanishes_is_forgotten(spool: Spool) -> None:
    name = put(spool, note(), raw=seal(NEW, KEY, note().body())[:-5])
    spool.read()
    spool._names = [name]
    (spool.root / "new" / name).unlink()
    spool.read()
    assert not spool._doubtful


def test_a_foreign_owner_is_refused(spool: Spool) -> None:
    if os.getuid() != 0:
        pytest.fail("this test changes an owner: run it as root (sudo make test)")
    name = put(spool, note())
    os.chown(spool.root / "new" / name, 65534, 65534)
    assert "uid 65534" in spool.read().refused[0][1]


def test_a_spool_of_somebody_else_is_refused(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.fail("this test changes an owner: run it as root (sudo make test)")
    (tmp_path / "spool").mkdir()
    os.chown(tmp_path / "spool", 65534, 65534)
    with pytest.raises(Refused, match="not a directory of uid"):
        Spool(tmp_path / "spool").prepare()


def test_heartbeats_come_once_each_change_and_stay(spool: Spool) -> None:
    beat = note(5, Kind.HEARTBEAT)
    path = spool.root / "hb" / beat.beat_name()
    path.write_bytes(seal(HB, KEY, beat.body()))
    assert len(spool.beats().received) == 1 and not spool.beats().received
    path.unlink()
    path.write_bytes(seal(HB, KEY, note(6, Kind.HEARTBEAT).body()))
    assert spool.beats().received[0].note.seq == 6


def test_the_epoch_is_claimed_once(spool: Spool) -> None:
    assert spool.claim_epoch(SLOT) is True
    assert spool.claim_epoch(SLOT) is True  # ours already: a crash may ask again
    spool.write_slot("launched", {})
    (spool.root / "slots" / "launched" / "epoch.1").mkdir()
    assert spool.claim_epoch("launched") is False


def test_a_closed_slot_leaves_nothing_and_late_words_are_dropped(spool: Spool) -> None:
    spool.write_order(f"{SLOT}_n_1_01234567", "1_1.json", b"x")
    for name in (f"{SLOT}_n_1_01234567.json", f"{SLOT}_n_1_guard1an.json", "other000_n_1_x.json"):
        (spool.root / "hb" / name).touch()
    (spool.root / "cmd" / f"{SLOT}_n_2_never5aid").mkdir()  # its first word never came
    spool.close_slot(SLOT, proved=True)
    assert not list((spool.root / "cmd").iterdir())
    assert [path.name for path in (spool.root / "hb").iterdir()] == ["other000_n_1_x.json"]
    put(spool, note())
    batch = spool.read()
    assert not batch.received and not batch.refused
    assert not list((spool.root / "new").iterdir())
    (spool.root / "cmd" / f"{SLOT}_n_1_made1ate").mkdir()
    spool.wipe_slot(SLOT)
    assert not (spool.root / "slots" / SLOT).exists()
    assert not list((spool.root / "cmd").iterdir())


def test_the_first_key_stays_when_a_submission_is_repeated(spool: Spool) -> None:
    spool.write_slot(SLOT, {"key": (b"00", 0o600), "job.sh": (b"x", 0o700)})
    assert spool.key(SLOT) == KEY
    assert (spool.root / "slots" / SLOT / "job.sh").stat().st_mode & 0o777 == 0o700
    assert not list((spool.root / "tmp").iterdir())


async def test_the_watch_wakes_for_a_rename_and_survives_a_new_directory(spool: Spool) -> None:
    flag, place = asyncio.Event(), spool.root / "new"
    watch = Watch(place, flag)
    try:
        for n in range(2):
            watch.arm()
            (spool.root / "tmp" / "a").write_bytes(b"x")
            (spool.root / "tmp" / "a").rename(place / f"a{n}")
            await asyncio.wait_for(flag.wait(), 5)
            for path in place.iterdir():
                path.unlink()
            place.rmdir()
            place.mkdir()
            await asyncio.sleep(0.05)
            flag.clear()
    finally:
        watch.close()


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_what_is_no_json_number_is_refused(spool: Spool, number: str) -> None:
    """Python reads it, and the next JSON document that carries it is none."""
    text = json.dumps(note().body()).replace('"x"', number).encode()
    mac = hmac.new(KEY, b"new\0" + text, "sha256").hexdigest().encode()
    put(spool, note(), raw=mac + b"\n" + text)
    assert "not JSON" in spool.read().refused[0][1]

"""The undo journal and the places: torn, locked, foreign, removed, of another boot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wspilot.errors import Refused, WspilotError
from wspilot.node import journal as journals
from wspilot.node.journal import Journal, create, parse, take
from wspilot.node.others import census, undo_others, wait_others
from wspilot.node.places import Places
from wspilot.node.undo import RUNDIR, Outcome, sweep, undo

BOOT = "boot-1"


@pytest.fixture
def places(tmp_path: Path) -> Places:
    for name in ("run", "keep"):
        (tmp_path / name).mkdir()
    return Places("n1", os.getuid(), tmp_path / "run", tmp_path / "keep")


def opened(places: Places, boot: str = BOOT, pid: int = 1 << 22) -> Journal:
    path = places.journal("a" * 8, "p" * 8)
    places.make(path.parent)
    return create(path, {"boot": boot, "pid": pid, "start": 1})


def vm(tmp_path: Path) -> dict[str, object]:
    file = tmp_path / "v1.sim"
    file.write_text("")
    return {"vmm": "sim", "identity": {"uuid": "u", "pid": None, "files": [str(file)]}}


def test_what_is_settled_is_forgotten_and_order_is_kept(places: Places) -> None:
    journal = opened(places)
    journal.intend("a", {"n": 1})
    journal.intend("b", {"n": 2})
    journal.intend("a", {"n": 3})
    journal.settle("b")
    content = parse(journal.path.read_bytes())
    assert content.entries == {"a": {"n": 3}} and content.header["boot"] == BOOT
    journal.close()


def test_torn_at_every_byte_it_reads_as_a_prefix(places: Places) -> None:
    journal = opened(places)
    for n in range(3):
        journal.intend(f"k{n}", {"n": n})
    raw = journal.path.read_bytes()
    journal.close()
    seen = {tuple(parse(raw[:cut]).entries) for cut in range(len(raw) + 1)}
    assert seen == {(), ("k0",), ("k0", "k1"), ("k0", "k1", "k2")}
    assert all(parse(raw[:cut]).damaged == 0 for cut in range(len(raw) + 1))


def test_a_flipped_byte_costs_one_line_and_is_counted(places: Places) -> None:
    journal = opened(places)
    for n in range(3):
        journal.intend(f"k{n}", {"n": n})
    raw = bytearray(journal.path.read_bytes())
    journal.close()
    raw[raw.index(b'"k1"') + 1] ^= 1
    content = parse(bytes(raw))
    assert tuple(content.entries) == ("k0", "k2") and content.damaged == 1


@pytest.mark.parametrize("raw", [b"", b"\n\n", b"\xff" * 99, b"00000000 []\n", b"x" * 9 + b"\n"])
def test_rubbish_reads_as_nothing(raw: bytes) -> None:
    assert parse(raw).entries == {}


def test_a_held_lock_keeps_others_out_and_a_guardian_inherits_it(places: Places) -> None:
    journal = opened(places)
    assert take(journal.path, os.getuid()) is None
    inherited = os.dup(journal.fd)
    journal.close()
    assert take(journal.path, os.getuid()) is None
    os.close(inherited)
    other = take(journal.path, os.getuid())
    assert other is not None
    other.close()


def test_a_journal_removed_while_its_lock_was_waited_for_is_none(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(places)
    journal.close()
    monkeypatch.setattr("fcntl.flock", lambda *_: journal.path.unlink())
    assert take(journal.path, os.getuid()) is None


def test_a_journal_of_another_owner_or_behind_a_link_is_refused(places: Places) -> None:
    journal = opened(places)
    journal.close()
    with pytest.raises(WspilotError):
        take(journal.path, os.getuid() + 1)
    link = journal.path.with_name("link.journal")
    link.symlink_to(journal.path)
    with pytest.raises(OSError):
        take(link, os.getuid())


def test_the_next_pilot_undoes_what_it_can_lock(places: Places, tmp_path: Path) -> None:
    journal = opened(places)
    rundir = places.make(places.run / "old")
    (rundir / "x").write_text("")
    journal.intend(RUNDIR, {"path": str(rundir)})
    journal.intend("vm:v1", vm(tmp_path))
    journal.close()
    outcome = undo_others(places, Path(), BOOT)
    assert outcome.undone == ("VM v1 ended",) and outcome.vms == ("v1",) and not outcome.left
    assert not (tmp_path / "v1.sim").exists() and not rundir.exists()
    assert not journal.path.exists()


def test_a_living_pilots_journal_is_a_neighbours(places: Places) -> None:
    path = places.journal("a" * 8, "p" * 8)
    places.make(path.parent)
    journal = create(path, {"boot": BOOT, "pid": os.getpid(), "start": None})
    assert undo_others(places, Path(), BOOT) == Outcome()
    journal.close()


def test_a_guardian_at_work_is_waited_for_and_then_named(places: Places) -> None:
    journal = opened(places)
    assert undo_others(places, Path(), BOOT).waits
    assert "guardian" in wait_others(places, Path(), BOOT, 0.1).left[0]
    journal.close()
    assert wait_others(places, Path(), BOOT, 0.1) == Outcome()


def test_entries_of_another_boot_are_void_but_their_files_go(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> bool:
        raise AssertionError("no process of another boot is ours to kill")

    monkeypatch.setattr("wspilot.node.vmm.stale._ask", never)
    monkeypatch.setattr("wspilot.node.vmm.stale.is_it", never)
    journal = opened(places, boot="boot-0")
    journal.intend("vm:v1", vm(tmp_path))
    journal.intend("reserve", {"adapter": "sim", "mib": 5, "file": str(tmp_path / "none")})
    assert not undo(journal, places, BOOT).left
    assert not (tmp_path / "v1.sim").exists()
    sweep(journal)
    journal.close()


def test_what_cannot_be_undone_stays_on_record(places: Places, tmp_path: Path) -> None:
    journal = opened(places)
    taken = tmp_path / "taken"
    taken.write_text("5")
    journal.intend("reserve", {"adapter": "sim", "mib": 5, "file": str(taken)})
    outcome = undo(journal, places, BOOT, {"stuck": True})
    sweep(journal)
    assert outcome.left and journal.path.exists()
    assert parse(journals._read(journal.fd)).entries
    journal.close()


def test_places_refuse_what_somebody_else_made(places: Places, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    places.keep.parent.symlink_to(elsewhere)
    with pytest.raises(Refused):
        places.make(places.outbox)
    foreign = Places("n1", os.getuid() + 1, tmp_path / "run", tmp_path / "keep")
    with pytest.raises(Refused):
        foreign.make(foreign.run)


def test_places_are_private_and_leave_nothing(places: Places, tmp_path: Path) -> None:
    places.make(places.outbox)
    places.run.parent.mkdir(mode=0o755)
    places.make(places.run)
    assert all(path.stat().st_mode & 0o077 == 0 for path in (places.run.parent, places.outbox))
    places.tidy()
    assert not any((tmp_path / "run").iterdir()) and not any((tmp_path / "keep").iterdir())


def test_the_census_tells_the_living_the_guarded_and_the_dead(places: Places) -> None:
    kept = []
    for slot, pid, held in (("a" * 8, os.getpid(), False), ("b" * 8, 1 << 22, True),
                            ("c" * 8, 1 << 22, False), ("d" * 8, os.getpid(), True)):  # fmt: skip
        path = places.journal(slot, "p" * 8)
        places.make(path.parent)
        journal = create(path, {"boot": BOOT, "pid": pid, "start": None})
        kept.append(journal)
        if not held:
            journal.close()
    found = census(places, kept[3].path)
    assert found.neighbours == ("a" * 8, "b" * 8) and found.dead == ("c" * 8,)
    assert found.data() == {"neighbours": ["a" * 8, "b" * 8], "node_clean": False}
    for journal in kept:
        journal.close()


def test_a_header_that_is_lost_is_not_another_boot(places: Places, tmp_path: Path) -> None:
    journal = opened(places)
    journal.intend("reserve", {"adapter": "sim", "mib": 5, "file": str(tmp_path / "taken")})
    (tmp_path / "taken").write_text("5")
    journal.close()
    raw = journal.path.read_bytes()
    journal.path.write_bytes(b"?" + raw[1:])
    outcome = undo_others(places, Path(), BOOT)
    assert outcome.undone == ("5 MiB given back",) and "damaged" in outcome.left[0]
    assert journal.path.exists() and not (tmp_path / "taken").exists()


@pytest.mark.parametrize(
    "entry",
    [{}, {"vmm": "qemu"}, {"vmm": "qemu", "identity": 7}, {"identity": {"files": [None, ""]}},
     {"vmm": "qemu", "identity": {"uuid": "", "pid": 1, "start": 1, "files": []}},
     {"vmm": "qemu", "identity": {"uuid": "x", "pid": True, "start": "y", "qmp": 5}}],
)  # fmt: skip
def test_an_entry_that_makes_no_sense_ends_nobody_and_stops_nothing(
    places: Places, tmp_path: Path, entry: dict[str, object]
) -> None:
    journal = opened(places)
    journal.intend("vm:odd", entry)
    journal.intend("vm:v1", vm(tmp_path))
    assert "odd" in undo(journal, places, BOOT).left[0]
    assert not (tmp_path / "v1.sim").exists()
    journal.close()


def test_an_unknown_step_is_left_and_named(places: Places) -> None:
    journal = opened(places)
    journal.intend("tap:7", {"name": "ws7"})
    assert "tap:7" in undo(journal, places, BOOT).left[0]
    journal.close()


def test_appended_after_a_torn_tail_nothing_is_damaged(places: Places) -> None:
    journal = opened(places)
    for n in range(3):
        journal.intend(f"k{n}", {"n": n})
    raw = journal.path.read_bytes()
    journal.close()
    for cut in range(raw.index(b"\n") + 1, len(raw) + 1):
        journal.path.write_bytes(raw[:cut])
        other = take(journal.path, os.getuid())
        assert other is not None
        other.settle("k0")
        other.close()
        content = parse(journal.path.read_bytes())
        assert content.damaged == 0 and "k0" not in content.entries, cut
        assert len(content.entries) == max(0, raw[:cut].count(b"\n") - 2)


def test_a_full_disk_tears_nothing_and_keeps_nobody_from_undoing(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(places)
    journal.intend("vm:v1", vm(tmp_path))
    write = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) <= 10:
            raise OSError(28, "No space left on device")
        return write(fd, data[: len(data) - 10])

    monkeypatch.setattr("wspilot.node.journal.os.write", full)
    before = journal.path.read_bytes()
    with pytest.raises(OSError):
        journal.intend("k", {"n": 1})
    assert journal.path.read_bytes() == before
    assert not undo(journal, places, BOOT).left
    sweep(journal)
    assert not journal.path.exists()
    journal.close()


def test_after_a_reboot_a_damaged_line_is_nobodys(places: Places) -> None:
    journal = opened(places, boot="boot-0")
    journal.intend("k0", {"n": 1})
    journal.close()
    raw = journal.path.read_bytes()
    journal.path.write_bytes(raw[:-9] + b"\0" * 8 + b"\n")
    assert undo_others(places, Path(), BOOT) == Outcome()
    assert not journal.path.exists()


def test_a_journal_of_which_only_rubbish_is_there_goes(places: Places) -> None:
    path = places.journal("a" * 8, "p" * 8)
    places.make(path.parent)
    path.write_bytes(b"\0" * 40 + b"\n")
    assert undo_others(places, Path(), BOOT) == Outcome() and not path.exists()

"""Domain 0's bookkeeping against a pretended hypervisor: sums, refusals, strays, half steps."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from tests.unit.node.xen import recorded
from wspilot.node import root_balloon as balloon
from wspilot.node import root_bench, root_disks, root_guest, root_xen
from wspilot.node import root_helper as base
from wspilot.node.root_helper import Caller, Limits, Refused

MIB = 1024
CONF = """[xen]
users = alice bob
dom0_min_mib = 400
reserve_mib = 100
settle_s = 1
"""


class Hypervisor:
    """xl and /sys: memory moves one look after it was asked for, unless it is stuck."""

    def __init__(self, root: Path, mib: int = 1024) -> None:
        self.root, self.stuck, self.calls = root, False, list[str]()
        self.asleep = False  # as Linux after a stall: until its target changes
        self.fails: dict[str, tuple[int, str, str]] = {}  # by xl's first word
        self.domains: dict[str, str] = {}  # uuid -> name
        self.used_mib = 100
        (root / "info").mkdir(parents=True)
        self.set(mib * MIB)
        (root / "target_kb").write_text(str(mib * MIB))

    def set(self, kb: int) -> None:
        (self.root / "info/current_kb").write_text(str(kb))
        left = kb - self.used_mib * MIB
        (self.root / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {left} kB\n")

    def xl(self, *words: str, limit_s: float = 0) -> tuple[int, str, str]:
        self.calls.append(" ".join(words))
        if words[0] in self.fails:
            return self.fails[words[0]]
        if words[0] == "mem-set":
            kb = int(words[2][:-1])
            self.asleep = self.asleep and kb == int((self.root / "target_kb").read_text())
            (self.root / "target_kb").write_text(str(kb))
            if not self.stuck and not self.asleep:
                self.set(kb)
        if words[0] == "destroy":
            uuid = list(self.domains)[int(words[1]) - 1]
            del self.domains[uuid]
        if words[0] == "list":
            rows = [
                f"{name}  {n + 1}  96  1  -b----  0.5 {uuid}  -  -"
                for n, (uuid, name) in enumerate(self.domains.items())
            ]
            return 0, "\n".join([*recorded.LIST.split("\n")[:2], *rows, ""]), ""
        return 0, "", ""


class User(Caller):
    def __init__(self, uid: int = 1500, name: str = "alice") -> None:
        self.uid, self.gid, self.name = uid, uid, name


@pytest.fixture
def xen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hypervisor:
    one = Hypervisor(tmp_path / "sys")
    for module in (balloon, base, root_disks, root_guest, root_xen, root_bench):
        for name, value in (
            ("RECORDS", tmp_path), ("SYSFS", one.root), ("MEMINFO", one.root / "meminfo"),
            ("xl", one.xl), ("boot_id", lambda: "boot-1"),
        ):  # fmt: skip
            monkeypatch.setattr(module, name, value, raising=False)
    (tmp_path / "node.conf").write_text(CONF)
    monkeypatch.setattr(base, "CONF", tmp_path / "node.conf")
    monkeypatch.setattr(base, "journal_of", journal)
    monkeypatch.setattr(balloon, "journal_of", journal)
    monkeypatch.setattr(root_bench, "journal_of", journal)
    monkeypatch.setattr(balloon, "POLL_S", 0.001)
    if os.getuid():
        monkeypatch.setattr(base.os, "fstat", lambda fd: os.stat_result((0o100644, *[0] * 9)))
    return one


def journal(caller: Caller, words: Any) -> str:
    return str(words["journal"])


def words(
    tmp_path: Path, name: str = "one_1", mib: int = 200, policy: str = "exact"
) -> dict[str, Any]:
    path = tmp_path / f"{name}.journal"
    path.touch()
    return {"journal": str(path), "slot": name, "mib": mib, "policy": policy}


def take(said: dict[str, Any], user: Caller | None = None) -> Any:
    user = user or User()
    return balloon.take(user, Limits(user), said)


def give(said: dict[str, Any], user: Caller | None = None) -> Any:
    user = user or User()
    return balloon.give(user, Limits(user), said)


def now(xen: Hypervisor) -> int:
    return int((xen.root / "info/current_kb").read_text()) // MIB


def test_what_was_taken_comes_back(xen: Hypervisor, tmp_path: Path) -> None:
    one = words(tmp_path)
    assert take(one)["mib"] == 200 and now(xen) == 824
    assert give(one) == {"mib": 200, "ended": [], "dom0_mib": 1024}
    assert give(one)["mib"] == 0 and now(xen) == 1024
    assert not list(tmp_path.glob("*.take")) and not (tmp_path / "dom0.full").exists()


def bare(verb: str, said: dict[str, Any], user: Caller | None = None) -> Any:
    user = user or User()
    return root_bench.VERBS[verb](user, Limits(user), said)


def test_bare_xl_moves_memory_away_and_back_beside_another_pilots(
    xen: Hypervisor, tmp_path: Path
) -> None:
    take(words(tmp_path, "two_2", 100))
    xen.calls.clear()
    said = bare("bench-memory", words(tmp_path))
    moved = [f"mem-set 0 {kb * MIB}k" for kb in (724, 924)]
    assert xen.calls == [*moved, "list -v"] and now(xen) == 924
    assert set(said) == {"reduce", "restore", "list"} and len(list(tmp_path.glob("*.take"))) == 1


def test_bare_xl_may_no_more_than_a_pilot(xen: Hypervisor, tmp_path: Path) -> None:
    for user, mib, why in ((User(1502, "eve"), 64, "eve may not"), (User(), 700, "its minimum")):
        with pytest.raises(Refused, match=why):
            bare("bench-memory", words(tmp_path, mib=mib), user)
    with pytest.raises(Refused, match="has taken no memory"):
        bare("bench-end", words(tmp_path))
    assert now(xen) == 1024 and xen.calls == [] and not list(tmp_path.glob("*.take"))


def test_a_bare_step_that_does_not_settle_is_undone_by_whoever_comes_next(
    xen: Hypervisor, tmp_path: Path
) -> None:
    xen.stuck = True
    xen.set(1000 * MIB)  # neither way is done in time
    one = words(tmp_path)
    with pytest.raises(Refused, match="after it was told"):
        bare("bench-memory", one)
    assert list(tmp_path.glob("*.take")), "on the books"
    xen.stuck = False
    (tmp_path / "one_1.journal").unlink()
    balloon.sweep(Limits(User()))
    assert now(xen) == 1024 and not list(tmp_path.glob("*.take"))


def test_a_bare_end_destroys_the_callers_guests_and_no_others(
    xen: Hypervisor, tmp_path: Path
) -> None:
    mine, other = words(tmp_path), words(tmp_path, "two_2", 100)
    take(mine)
    take(other)
    for n, (said, uuid) in enumerate(((mine, "1" * 8), (other, "2" * 8)), 1):
        full = f"{uuid}-1111-1111-1111-111111111111"
        xen.domains[full] = f"ws-1500-vm{n}"
        base.save(f"{full}.guest", {"uid": 1500, "boot": "boot-1", "uuid": full, "domid": n,
                                    "journal": said["journal"], "mib": 96})  # fmt: skip
    assert bare("bench-end", mine)["seconds"] >= 0
    assert list(xen.domains.values()) == ["ws-1500-vm2"] and now(xen) == 924
    assert [one.name[0] for one in tmp_path.glob("*.guest")] == ["2"]


@pytest.mark.parametrize(
    ("change", "here"),
    [
        ({"boot": "boot-0", "domid": 1}, False),  # the records outlive a reboot
        ({"domid": 1}, True),  # it was started again since
        ({}, True),  # a helper was killed while it started it
    ],
    ids=["another boot's", "an old id", "no id"],
)
def test_a_bare_end_believes_no_id_of_a_record(
    xen: Hypervisor, tmp_path: Path, change: dict[str, Any], here: bool
) -> None:
    mine, uuid = words(tmp_path), "11111111-2222-3333-4444-555555555555"
    take(mine)
    xen.domains["99999999-2222-3333-4444-555555555555"] = "strange"  # domain 1
    if here:
        xen.domains[uuid] = "ws-1500-vm1"
    said = {"uid": 1500, "boot": "boot-1", "journal": mine["journal"], "uuid": uuid, "mib": 96}
    base.save(f"{uuid}.guest", {**said, **change})
    bare("bench-end", mine)
    assert list(xen.domains.values()) == ["strange"] and now(xen) == 1024
    assert xen.calls.count("destroy 2") == here and not list(tmp_path.glob("*.guest"))


OTHERS = (
    "./one_1.journal",
    "/one_1.journal",
    "././one_1.journal",
    "one_1.saved",
    "x/one_1.journal",
)


@pytest.mark.parametrize("spelling", OTHERS)
def test_what_was_taken_for_one_journal_serves_no_other_spelling_of_it(
    xen: Hypervisor, tmp_path: Path, spelling: str
) -> None:
    mine = words(tmp_path)
    take(mine)
    guest = {"uid": 1500, "name": "ws-1500-vm1", "mib": 96}
    root_guest.check_room({**guest, "journal": mine["journal"]}, "u.guest")
    other = f"{tmp_path}/{spelling}"
    with pytest.raises(Refused, match="has taken no memory for guests"):
        root_guest.check_room({**guest, "journal": other}, "u.guest")
    with pytest.raises(Refused, match="has taken no memory"):
        bare("bench-end", {**mine, "journal": other})
    assert list(tmp_path.glob("*.take"))


@pytest.mark.parametrize(
    "name",
    ["n/./y_1.journal", "n//y_1.journal", "n/../y_1.journal", "n/y_1.journal/", "n/y_1.journal/.",
     "n/y_1.journal.x", "n/y_1.x.journal", "n/y_1", "n/.journal", "../wspilot-0/n/y_1.journal",
     "n/y_1.journal\n", "n\0/y_1.journal", "/n/y_1.journal", ""],
)  # fmt: skip
def test_a_journal_has_one_spelling(name: str) -> None:
    home = "/var/tmp/wspilot-1500"
    good = f"{home}/node-1.site/ab12cd34_0badcafe.journal"
    assert base.journal_of(User(), {"journal": good}) == good
    for path in (f"{home}/{name}", f"//{home}/{name}"):
        with pytest.raises(Refused, match="`journal` is"):
            base.journal_of(User(), {"journal": path})


def test_a_guest_by_a_strangers_uuid_is_refused_and_the_stranger_lives(
    xen: Hypervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balloon, "WORK", tmp_path / "work")
    said, uuid = words(tmp_path), "11111111-2222-3333-4444-555555555555"
    take(said)
    guest = {**said, "vm": "vm1", "kind": "pv", "cpus": 1, "mib": 96, "kernel": "/nosuch"}
    xen.domains[uuid] = "strange"
    for other, why in ((uuid, "another domain's"), (uuid[:-1] + "6", "nosuch")):
        with pytest.raises((Refused, OSError), match=why):
            root_xen.create(User(), Limits(User()), {**guest, "uuid": other})
        assert list(xen.domains.values()) == ["strange"] and not list(tmp_path.glob("*.guest"))


def test_two_pilots_add_up_in_any_order(xen: Hypervisor, tmp_path: Path) -> None:
    rng = random.Random(7)
    saids = [words(tmp_path, f"slot{n}_p", 10 + n) for n in range(6)]
    held: dict[int, int] = {}
    for _ in range(200):
        n = rng.randrange(6)
        if n in held:
            give(saids[n])
            del held[n]
        else:
            held[n] = take(saids[n])["mib"]
        assert now(xen) == 1024 - sum(held.values())
    for n in held:
        give(saids[n])
    assert now(xen) == 1024


def test_a_lost_pilot_leaks_nothing(xen: Hypervisor, tmp_path: Path) -> None:
    lost, one = words(tmp_path, "lost_1"), words(tmp_path)
    take(lost)
    Path(lost["journal"]).unlink()
    take(one)  # whoever calls next undoes the stray first
    assert now(xen) == 824
    give(one)
    assert now(xen) == 1024


def test_another_boots_record_is_void(xen: Hypervisor, tmp_path: Path, monkeypatch: Any) -> None:
    one = words(tmp_path)
    take(one)
    for module in (balloon, base):
        monkeypatch.setattr(module, "boot_id", lambda: "boot-2")
    xen.set(1000 * MIB)
    (xen.root / "target_kb").write_text(str(1000 * MIB))
    other = words(tmp_path, "other_1")
    take(other)
    assert now(xen) == 800
    give(other)
    assert now(xen) == 1000


def test_a_step_that_does_not_settle_is_undone(xen: Hypervisor, tmp_path: Path) -> None:
    limits = Limits(User())
    real = balloon.settle
    one = words(tmp_path)
    xen.stuck = True

    def unstuck(kb: int, limit_s: float) -> None:
        if kb == 1024 * MIB:
            xen.stuck = False
        real(kb, 0.05)

    balloon.settle = unstuck
    try:
        with pytest.raises(Refused, match="given back"):
            balloon.take(User(), limits, one)
    finally:
        balloon.settle = real
    assert now(xen) == 1024 and not list(tmp_path.glob("*.take"))


def test_what_cannot_be_given_back_stays_on_the_books(xen: Hypervisor, tmp_path: Path) -> None:
    one = words(tmp_path)
    take(one)
    xen.stuck = True
    xen.domains["11111111-2222-3333-4444-555555555555"] = "strange"
    with pytest.raises(Refused, match="strange"):
        give(one)
    assert list(tmp_path.glob("*.take")) and "strange" in xen.domains.values()
    xen.stuck = False
    assert give(one)["mib"] == 200 and now(xen) == 1024


def test_a_domain_0_that_sleeps_after_a_stall_is_woken(
    xen: Hypervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balloon, "STALL_S", 0.02)
    one = words(tmp_path)
    take(one)
    xen.stuck = True
    with pytest.raises(Refused, match="824 MiB 1 s after"):
        give(one)
    xen.stuck, xen.asleep = False, True  # the memory is free now, and its target is set already
    assert give(one)["mib"] == 200 and now(xen) == 1024


def test_memory_that_moves_slowly_is_waited_for(
    xen: Hypervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = balloon.current_kb

    def slow() -> int:
        """25 MiB a look, towards its target."""
        has, target, most = real(), balloon.target_kb(), 25 * MIB
        xen.set(has + max(-most, min(most, target - has)))
        return has

    monkeypatch.setattr(balloon, "current_kb", slow)
    xen.stuck = True  # no jump at mem-set
    one = words(tmp_path)
    assert take(one)["mib"] == 200 and now(xen) == 824
    assert give(one)["mib"] == 200 and now(xen) == 1024


@pytest.mark.parametrize(
    ("said", "why"),
    [(recorded.TOO_LOW, "does not let domain 0 go so low"), (recorded.TOO_HIGH, "maximum")],
)
def test_an_exit_code_of_xl_is_a_refusal_and_the_take_is_undone(
    xen: Hypervisor, tmp_path: Path, said: str, why: str
) -> None:
    one = words(tmp_path)
    xen.fails["mem-set"] = (1, "", said)
    with pytest.raises(Refused, match=why):
        take(one)
    assert now(xen) == 1024 and list(tmp_path.glob("*.take")), "not proved undone: on the books"
    del xen.fails["mem-set"]
    assert give(one)["mib"] == 200 and not list(tmp_path.glob("*.take"))


def test_a_domain_that_xl_does_not_destroy_stays_on_the_books(
    xen: Hypervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balloon, "DESTROY_S", 0.1)
    monkeypatch.setattr(balloon.destroy, "__defaults__", (0.1,))
    one, uuid = words(tmp_path), "11111111-2222-3333-4444-555555555555"
    take(one)
    base.save(
        f"{uuid}.guest", {"uid": 1500, "boot": "boot-1", "journal": one["journal"], "uuid": uuid}
    )
    xen.domains[uuid] = "ws-1500-vm1"
    xen.fails["destroy"] = (1, "", "libxl: error: something")
    with pytest.raises(Refused, match="ws-1500-vm1 does not go"):
        give(one)
    assert list(tmp_path.glob("*.guest")) and list(tmp_path.glob("*.take"))


def test_what_domain_0_lacks_is_told_and_nothing_else_is(xen: Hypervisor, tmp_path: Path) -> None:
    take(words(tmp_path))
    assert balloon.state(Limits(User()))["missing_mib"] == 0
    xen.set(800 * MIB)
    assert balloon.state(Limits(User()))["missing_mib"] == 24


def test_no_room_on_the_disk_for_a_guests_memory_is_told_before_xl_runs(
    xen: Hypervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = os.statvfs(tmp_path)
    few = os.statvfs_result((4096, 4096, *room[2:4], 100 << 8, *room[5:10]))  # 100 MiB
    monkeypatch.setattr(root_xen.os, "statvfs", lambda path: few)
    one = root_xen.Domain("ws-1500-vm1", 3, 96, "-b----", "u")
    with pytest.raises(Refused, match="100 MiB left, and 96 MiB are to be saved"):
        root_xen._suspend(one, tmp_path / "u.saved")
    assert not xen.calls and not (tmp_path / "u.saved").exists()


def test_guests_of_the_pilot_that_are_in_the_way_are_ended(xen: Hypervisor, tmp_path: Path) -> None:
    one, uuid = words(tmp_path), "11111111-2222-3333-4444-555555555555"
    take(one)
    base.save(
        f"{uuid}.guest", {"uid": 1500, "boot": "boot-1", "journal": one["journal"], "uuid": uuid}
    )
    xen.domains.update({uuid: "ws-1500-vm1", "11111111-2222-3333-4444-666666666666": "strange"})
    assert give(one)["ended"] == ["ws-1500-vm1"]
    assert list(xen.domains.values()) == ["strange"] and not list(tmp_path.glob("*.guest"))


@pytest.mark.parametrize(
    ("mib", "why"), [(700, "minimum"), (0, "`mib`"), (10**9, "`mib`"), ("1", "`mib`")]
)
def test_too_much_is_refused_before_anything_is_done(
    xen: Hypervisor, tmp_path: Path, mib: Any, why: str
) -> None:
    with pytest.raises(Refused, match=why):
        take({**words(tmp_path), "mib": mib})
    assert not any(call.startswith("mem-set") for call in xen.calls)


def test_a_domain_0_that_is_too_full(xen: Hypervisor, tmp_path: Path) -> None:
    xen.used_mib = 800
    xen.set(1024 * MIB)
    with pytest.raises(Refused, match="too full: 124 MiB are available above its reserve of 100"):
        take(words(tmp_path))


def test_the_whole_node_less_the_reserve(xen: Hypervisor, tmp_path: Path) -> None:
    assert take(words(tmp_path, policy="node"))["mib"] == 624
    assert now(xen) == 400


def test_only_users_that_node_conf_names(xen: Hypervisor, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="carol may not"):
        take(words(tmp_path), User(1502, "carol"))
    one = words(tmp_path)
    take(one)
    with pytest.raises(Refused, match="another user"):
        give(one, User(1501, "bob"))
    assert give(one, User(0, "root"))["mib"] == 200

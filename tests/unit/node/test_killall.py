"""kill-all: whose journals, how long it waits, what it leaves alone; with real locks and processes,
in directories of the test's own."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wspilot.errors import Refused, UsageError
from wspilot.node import forks, killall, proc
from wspilot.node.core import killall as core
from wspilot.node.core.killall import Scope
from wspilot.node.guests import PORT, Guest, _guest
from wspilot.node.journal import Journal, create
from wspilot.node.killall import Request, Roots, kill_all, run
from wspilot.node.owned import Sweep
from wspilot.node.places import Places
from wspilot.node.undo import RUNDIR
from wspilot.node.vmm import argv

ME, BOOT = os.getuid(), proc.boot_id()


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Roots:
    """Guests of this host are other tests' business."""
    for name in ("run", "keep"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr("wspilot.node.owned.guests", lambda _: [])
    return Roots(tmp_path / "run", tmp_path / "keep")


@pytest.fixture
def everybodys(monkeypatch: pytest.MonkeyPatch) -> Iterator[Roots]:
    """As /tmp is; pytest's own directories are closed to other users."""
    monkeypatch.setattr("wspilot.node.owned.guests", lambda _: [])
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="wspilot-test-") as place:
        Path(place).chmod(0o755)
        for name in ("run", "keep"):
            (Path(place) / name).mkdir()
            (Path(place) / name).chmod(0o1777)
        yield Roots(Path(place) / "run", Path(place) / "keep")


@pytest.fixture
def sleeper() -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Processes that stand for pilots."""
    made: list[subprocess.Popen[bytes]] = []

    def one() -> subprocess.Popen[bytes]:
        made.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        return made[-1]

    yield one
    for child in made:
        child.kill()
        child.wait(10)


def left_by(
    roots: Roots, slot: str = "a" * 8, job: str = "7", node: str = "n1", **more: Any
) -> tuple[Journal, Path]:
    """A journal with a simulated VM, and that VM's file."""
    places = Places(node, ME, roots.run, roots.keep)
    path = places.journal(slot, "p" * 8)
    places.make(path.parent)
    header = {"boot": BOOT, "pid": 1 << 22, "start": 1, "job": job, "node": node, **more}
    journal = create(path, header)
    file = roots.run / f"{slot}-{node}.sim"
    file.write_text("")
    journal.intend(RUNDIR, {"path": str(roots.run / f"{slot}-{node}")})
    journal.intend("vm:v1", {"vmm": "sim", "identity": {"uuid": "u", "files": [str(file)]}})
    return journal, file


def orphan(roots: Roots, **more: Any) -> Path:
    journal, file = left_by(roots, **more)
    journal.close()
    return file


# -- pure


def test_by_default_only_this_users() -> None:
    assert core.uids(Scope(), 7, [0, 7, 8]) == (7,)
    assert core.uids(Scope(), 0, [0, 7, 8]) == (0,)
    assert core.uids(Scope(job="1"), 7, [0, 7, 8]) == (7,)


def test_root_looks_at_everybody_for_a_job_and_for_everyone() -> None:
    assert core.uids(Scope(job="1"), 0, [0, 7, 8]) == (0, 7, 8)
    assert core.uids(Scope(everyone=True), 0, [7, 8]) == (7, 8)
    assert core.uids(Scope(job="1", uid=8), 0, [7, 8]) == (8,)


@pytest.mark.parametrize("scope", [Scope(everyone=True), Scope(uid=8)])
def test_nobody_but_root_may_end_what_is_anothers(scope: Scope) -> None:
    with pytest.raises(Refused):
        core.uids(scope, 7, [7, 8])


def test_an_epilog_looks_at_the_jobs_owner_only() -> None:
    env = {"SLURM_JOB_ID": "12", "SLURM_JOB_UID": "1001"}
    assert core.epilogue_user(Scope(job="12"), env) == 1001
    assert core.epilogue_user(Scope(job="13"), env) is None
    assert core.epilogue_user(Scope(), env) is None


def test_a_job_by_its_number_or_its_whole_name() -> None:
    assert core.same_job("12.server", "12") and core.same_job("12", "12.server")
    assert not core.same_job("12.a", "12.b") and not core.same_job("", "")
    assert not core.same_job("12", "123")


@pytest.mark.parametrize(
    ("given", "waits"), [(2, 2.0), (0, 0.0), (1e9, 60.0), (-1, 5.0), ("x", 5.0), (True, 5.0)]
)
def test_a_restore_budget_is_a_users_word_and_bounded(given: Any, waits: float) -> None:
    assert core.wait_s(Scope(), {"restore_s": given}) == waits
    assert core.wait_s(Scope(wait_s=1.5), {"restore_s": given}) == 1.5
    assert core.wait_s(Scope(most_s=core.XEN_WAIT_S), {"restore_s": 1e9}) == 600.0  # in domain 0


def test_a_wait_beyond_the_bound_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        core.check(Scope(wait_s=61))


# -- with locks


def test_what_dead_pilots_left_is_undone(roots: Roots) -> None:
    files = [orphan(roots, slot=slot) for slot in ("a" * 8, "b" * 8)]
    report = run(Scope(uid=ME), roots)
    assert [one["by"] for one in report["journals"]] == ["kill-all"] * 2
    assert report["journals"][0]["undone"] == ["VM v1 ended"] and core.code(report) == 0
    assert not any(file.exists() for file in files) and not list(roots.keep.iterdir())


def test_a_job_a_slot_a_node_and_nothing_else(roots: Roots) -> None:
    mine = orphan(roots, slot="a" * 8, job="12.server")
    other = orphan(roots, slot="b" * 8, job="13.server")
    there = orphan(roots, slot="c" * 8, job="12.server", node="n2")
    assert run(Scope(job="12", node="n1"), roots)["left"] == []
    assert not mine.exists() and other.exists() and there.exists()
    run(Scope(slot="c" * 8), roots)
    assert other.exists() and not there.exists()
    assert run(Scope(job="99"), roots)["journals"] == []
    assert other.exists()


def test_a_living_pilot_is_killed_and_only_that_very_process(
    roots: Roots, sleeper: Callable[[], subprocess.Popen[bytes]]
) -> None:
    pilot, stranger = sleeper(), sleeper()
    orphan(roots, slot="a" * 8, pid=pilot.pid, start=proc.start_time(pilot.pid))
    orphan(roots, slot="b" * 8, pid=stranger.pid, start=1)
    orphan(
        roots, slot="c" * 8, boot="before", pid=stranger.pid, start=proc.start_time(stranger.pid)
    )
    run(Scope(uid=ME), roots)
    assert pilot.wait(5) == -signal.SIGKILL
    assert stranger.poll() is None


def guardian(journal: Journal, main: Callable[[], None]) -> None:
    """Holds the lock as a guardian does; this process lets go of it."""
    forks.detach(main, [journal.fd], "wspilot-guardian of a test")
    journal.close()


def test_a_guardian_at_work_is_waited_for(roots: Roots) -> None:
    journal, file = left_by(roots)

    def main() -> None:
        time.sleep(0.3)
        file.unlink()
        journal.settle("vm:v1")
        time.sleep(5)  # its report takes long: nobody waits for that

    guardian(journal, main)
    report = run(Scope(uid=ME), roots)
    assert report["journals"][0]["by"] == "its guardian" and report["left"] == []
    assert report["seconds"] < 4
    # The end of that guardian: killed with the rest, by whoever waits no longer.
    journal2, _ = left_by(roots, slot="b" * 8)
    journal2.close()
    path = journal.path
    from wspilot.node.others import end_holders

    assert end_holders(path) == 1


@pytest.mark.parametrize("stopped", [False, True])
def test_a_guardian_that_outstays_or_is_stopped_is_killed(roots: Roots, stopped: bool) -> None:
    journal, file = left_by(roots, restore_s=5.0 if stopped else 0.3)

    def main() -> None:
        if stopped:
            os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(30)

    guardian(journal, main)
    report = run(Scope(uid=ME), roots)
    assert report["journals"][0]["by"] == "kill-all" and not file.exists()
    assert report["seconds"] < 2 and not list(roots.keep.iterdir())


def test_what_cannot_be_undone_is_left_and_says_so(roots: Roots) -> None:
    journal, _ = left_by(roots)
    journal.intend("mystery", {"n": 1})
    journal.close()
    report = run(Scope(uid=ME), roots)
    assert core.code(report) == 1 and "mystery" in report["left"][0]
    assert any("LEFT" in line for line in core.lines(report)) and journal.path.exists()


def test_a_damaged_journal_is_set_aside_after_its_rest_is_undone(roots: Roots) -> None:
    journal, file = left_by(roots)
    journal.close()
    raw = journal.path.read_bytes()
    journal.path.write_bytes(raw[:20] + b"?" + raw[21:])
    report = run(Scope(uid=ME), roots)
    assert core.code(report) == 1 and "damaged" in report["left"][0] and not file.exists()
    assert run(Scope(uid=ME), roots)["left"] == []
    assert [path.suffix for path in journal.path.parent.iterdir()] == [".damaged"]


def test_a_directory_that_somebody_else_made_is_a_note(roots: Roots) -> None:
    (roots.keep / f"wspilot-{ME + 1}").mkdir()
    (roots.keep / "wspilot-77").symlink_to("/")
    report = run(Scope(job="1"), roots)
    assert core.code(report) == 0 and len(report["notes"]) == 2


@pytest.mark.skipif(ME != 0, reason="becoming another user needs root")
def test_root_becomes_the_owner_before_it_reads(everybodys: Roots) -> None:
    roots, owner = everybodys, 54321
    places = Places("n1", owner, roots.run, roots.keep)
    secret = roots.run.parent / "roots-own"
    secret.mkdir()
    pid = os.fork()
    if pid == 0:
        os.setresuid(owner, owner, owner)
        places.make(places.keep)
        journal = create(places.journal("a" * 8, "p" * 8), {"boot": BOOT, "job": "7"})
        identity = {"uuid": "u", "files": [str(secret)]}
        journal.intend("vm:v1", {"vmm": "sim", "identity": identity})
        journal.intend(RUNDIR, {"path": str(secret)})
        os._exit(0)
    os.waitpid(pid, 0)
    report = run(Scope(job="7"), roots)
    assert report["journals"][0]["uid"] == owner and core.code(report) == 0
    assert secret.is_dir(), "a journal's word must not make root remove anything"


def test_the_document_and_the_exit_code(
    roots: Roots, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    orphan(roots, node="n9")
    assert kill_all(Request(json=True, user=str(ME)), {"SLURMD_NODENAME": "n9"}, roots) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == 1 and told["clean"] is True and told["code"] == 0
    assert told["node"] == "n9" and told["journals"][0]["vms"] == ["v1"]
    with pytest.raises(UsageError):
        kill_all(Request(node="../x"), {}, roots)


def test_strangers_are_named_and_not_ended_without_a_yes(
    roots: Roots, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = Guest(1 << 22, 1, ME, "debian12", "", False)
    monkeypatch.setattr(killall, "guests", lambda: [stranger])
    ended: list[Guest] = []
    monkeypatch.setattr(killall, "end_guests", lambda some, gently: ended.extend(some) or [])
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(Refused):
        kill_all(Request(all=True), {}, roots)
    assert "debian12" in capsys.readouterr().err and not ended
    assert kill_all(Request(all=True, yes=True), {}, roots) == 0 and ended == [stranger]
    ended.clear()
    assert kill_all(Request(), {}, roots) == 0 and not ended


def test_a_vm_that_no_journal_names_is_told_by_its_environment(
    roots: Roots, monkeypatch: pytest.MonkeyPatch
) -> None:
    def guest(uuid: str, **more: str) -> Guest:
        return Guest(1 << 22, 1, ME, "ws/vm/1", uuid, True, **more)

    journal, _ = left_by(roots)
    journal.intend("vm:v2", {"vmm": "qemu", "identity": {"uuid": "named"}})
    journal.close()
    seen = [guest("named"), guest("lost", job="7", slot="s", node="n1"), guest("bare")]
    monkeypatch.setattr(
        "wspilot.node.owned.guests", lambda uid: [one for one in seen if one.uid == uid]
    )

    def lost(scope: Scope) -> list[str]:
        return [one.uuid for one in Sweep(scope, ME, BOOT, roots.run, roots.keep)._lost()]

    assert lost(Scope()) == ["lost", "bare"]
    assert lost(Scope(node="n1")) == ["lost"] and lost(Scope(node="n2")) == []
    assert lost(Scope(job="7")) == ["lost"] and lost(Scope(job="8")) == []
    assert lost(Scope(slot="s")) == ["lost"] and lost(Scope(slot="t")) == []


def test_what_is_no_qemu_is_no_guest() -> None:
    assert PORT == argv.PORT
    assert _guest(os.getpid()) is None and _guest(1 << 22) is None

"""The doctor's verdicts: what is broken on purpose must be found, with a remedy."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fake_daemon import FakeApi, served, site_answers
from wspilot import __version__
from wspilot.cli import main
from wspilot.config import load
from wspilot.doctor import daemon, examine, files, host, lrm
from wspilot.doctor.verdict import Check, Facts
from wspilot.errors import Refused
from wspilot.home import LockRecord, boot_id, start_time, write_record
from wspilot.settings import Site

NODE = {"name": "n1", "state": "clean", "cause": "", "skew_s": 0.01, "kvm": True, "seen": "t"}


@pytest.fixture(autouse=True)
def quiet_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WSPILOT_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return load(None, tmp_path / "h")


def facts(site: Site, tmp_path: Path, **more: Any) -> Facts:
    (tmp_path / "h").mkdir(exist_ok=True)
    return replace(Facts(site, tmp_path / "h", None), **more)


def verdicts(found: Iterator[Check]) -> list[str]:
    checks = list(found)
    for check in checks:
        assert check.verdict == "ok" or check.remedy, f"no remedy: {check}"
    return [check.verdict for check in checks]


def test_a_fresh_home_has_no_failure(tmp_path: Path) -> None:
    found = list(examine(tmp_path / "h", None))
    assert {check.verdict for check in found} <= {"ok", "warn"}
    names = {check.name for check in found}
    assert names >= {"settings", "daemon", "logout", "batch system", "spool", "owner", "disk",
                     "python", "vmm", "clocks", "nodes"}  # fmt: skip
    assert not list((tmp_path / "h" / "spool" / "tmp").iterdir())


def test_the_verb_prints_a_table_or_one_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ["--home", str(tmp_path / "h")]
    assert main([*home, "doctor"]) == 0
    assert "wspilot daemon --detach" in capsys.readouterr().out
    assert main([*home, "doctor", "--json"]) == 0
    doc = json.loads(capsys.readouterr().out)
    assert doc["schema"] == 1 and set(doc["checks"][0]) == {"name", "verdict", "text", "remedy"}


def test_broken_settings_are_a_failed_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "site.toml").write_text('[site]\nlmr = "slurm"\n')
    argv = ["--home", str(tmp_path / "h"), "doctor", "--config", str(tmp_path / "site.toml")]
    assert main(argv) == 1
    assert "lmr" in capsys.readouterr().out


def status(**more: Any) -> dict[str, Any]:
    return {
        "pid": 1, "version": __version__, "lrm": "local", "site": "built-in defaults",
        "poll": {"ok": True, "at": None, "text": ""},
        "spool": {"at": None, "backlog": 0, "bad": 0, "text": "", "path": "/s"},
        **more,
    }  # fmt: skip


def test_the_running_daemon_is_asked(tmp_path: Path) -> None:
    answers = {**site_answers(), "status": {"schema": 1, "status": status()}}
    with served(tmp_path / "h", FakeApi(answers)):
        got = Facts.gather(None, tmp_path / "h")
    assert got.status is not None and [node["name"] for node in got.nodes] == ["node_1"]
    assert verdicts(daemon.alive(got)) == ["ok"]


def test_the_daemons_troubles_are_told(site: Site, tmp_path: Path) -> None:
    def said(**more: Any) -> list[str]:
        return verdicts(daemon.alive(facts(site, tmp_path, status=status(**more))))

    assert said(version="0.0.1") == ["warn"]
    assert said(poll={"ok": False, "at": None, "text": "refused"}) == ["ok", "fail"]
    spool = {"at": None, "backlog": 0, "bad": 3, "text": "Stale file handle", "path": "/s"}
    assert said(spool=spool) == ["ok", "fail", "warn"]


def test_a_daemon_that_hangs_is_gone_or_is_elsewhere(site: Site, tmp_path: Path) -> None:
    now = facts(site, tmp_path)
    assert verdicts(daemon.alive(now)) == ["warn"]
    own = LockRecord(
        socket.gethostname(), boot_id(), os.getpid(), start_time(os.getpid()) or 0, "s"
    )
    for record, verdict in (
        (own, "fail"), (replace(own, start=1), "warn"), (replace(own, host="other"), "warn"),
    ):  # fmt: skip
        write_record(tmp_path / "h", record)
        assert verdicts(daemon.alive(now)) == [verdict]


@pytest.mark.parametrize(
    ("linger", "kills", "uid", "verdict"),
    [("yes", "b true", 1000, "ok"), ("no", "b true", 1000, "warn"), ("no", "b true", 0, "ok"),
     ("no", "b false", 1000, "ok"), ("", "", 1000, "warn")],
)  # fmt: skip
def test_logout(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    linger: str, kills: str, uid: int, verdict: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(daemon, "SYSTEMD", tmp_path)
    monkeypatch.setattr(daemon, "_say", lambda *argv: linger if argv[0] == "loginctl" else kills)
    monkeypatch.setattr(os, "getuid", lambda: uid)
    assert verdicts(daemon.logout(facts(site, tmp_path))) == [verdict]


def test_clocks_and_nodes(site: Site, tmp_path: Path) -> None:
    good, late = NODE, {**NODE, "name": "n2", "skew_s": -90.0, "state": "dirty", "cause": "killed"}
    assert verdicts(daemon.clocks(facts(site, tmp_path, nodes=(good,)))) == ["ok"]
    both = facts(site, tmp_path, nodes=(good, late))
    assert verdicts(daemon.clocks(both)) == ["warn"]
    assert verdicts(daemon.nodes(both)) == ["warn", "ok"]


def test_lost_commands_are_named(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name, lost in (("slurm", "sbatch"), ("torque", "qsub")):
        [check] = lrm.commands(facts(replace(site, lrm=name), tmp_path))
        assert check.verdict == "fail" and lost in check.text


@pytest.mark.parametrize(("body", "says"), [("exit 1", "squeue"), ("exec sleep 60", "no answer")])
def test_a_batch_system_that_fails_or_hangs(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, says: str
) -> None:
    from wspilot.daemon.lrm import base

    for name in lrm.PROGRAMS["slurm"]:
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    real = base.Command.__init__

    def hasty(self: Any, *args: Any, **more: Any) -> None:
        real(self, *args, **{**more, "timeout_s": 0.5})

    monkeypatch.setattr(base.Command, "__init__", hasty)
    first = next(lrm.commands(facts(replace(site, lrm="slurm"), tmp_path)))
    assert first.verdict == "fail" and says in first.text and first.remedy


def test_no_grace_is_a_warning() -> None:
    assert verdicts(lrm._grace(2.0, 0.0)) == ["warn"]
    assert verdicts(lrm._grace(0.0, 0.0)) == ["warn"]
    assert verdicts(lrm._grace(30.0, 30.0)) == ["ok"]


def test_a_spool_without_inotify_or_too_slow(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_hint", lambda _: None)
    monkeypatch.setattr(files, "_round", lambda _: 1.5)
    assert verdicts(files.spool(facts(site, tmp_path))) == ["warn", "warn"]


def test_a_spool_that_cannot_be_made(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Refused, match="file"):
        list(files.spool(facts(replace(site, spool=tmp_path / "file" / "s"), tmp_path)))


def test_a_file_of_another_owner_as_a_node_wrote_it(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = facts(site, tmp_path)
    assert verdicts(files.owner(now)) == ["ok"]
    place = site.spool / "slots" / "aaaa1111"
    place.mkdir(parents=True)
    (place / "pilot.log").touch()
    assert verdicts(files.owner(now)) == ["ok"]
    real = Path.lstat

    def mapped(path: Path) -> Any:
        info = real(path)
        away = os.getuid() + (path.name == "pilot.log")
        return os.stat_result((*info[:4], away, *info[5:]))

    monkeypatch.setattr(Path, "lstat", mapped)
    assert verdicts(files.owner(now)) == ["fail"]


@pytest.mark.parametrize(("mib", "verdict"), [(50, "fail"), (500, "warn"), (5000, "ok")])
def test_disks(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mib: int, verdict: str
) -> None:
    real = os.statvfs(tmp_path)

    class Usage:
        f_bavail, f_frsize, f_files, f_favail = mib * 256, 4096, real.f_files, 10**6

    monkeypatch.setattr(os, "statvfs", lambda _: Usage)
    assert verdicts(files.disk(facts(site, tmp_path))) == [verdict]


@pytest.mark.parametrize(
    ("says", "verdict"), [("echo 3.9.2", "ok"), ("echo 3.6.8", "fail"), ("echo x", "fail")]
)
def test_python_for_the_nodes(site: Site, tmp_path: Path, says: str, verdict: str) -> None:
    (tmp_path / "py").write_text(f"#!/bin/sh\n{says}\n")
    (tmp_path / "py").chmod(0o755)
    for name, expected in ((str(tmp_path / "py"), verdict), ("/nonexistent", "fail")):
        found = verdicts(host.python(facts(replace(site, node_python=name), tmp_path)))
        assert found == ["ok", expected]


def test_no_qemu(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    qemu = replace(site, vmm="qemu")
    assert verdicts(host.vmm(facts(qemu, tmp_path))) == ["fail"]
    assert verdicts(host.vmm(facts(replace(qemu, lrm="slurm"), tmp_path))) == ["warn"]
    assert verdicts(host.vmm(facts(site, tmp_path))) == ["ok"]


def test_a_check_with_a_bug_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Facts) -> Iterator[Check]:
        raise ZeroDivisionError("x")
        yield

    import wspilot.doctor as doctor

    monkeypatch.setattr(doctor, "CHECKS", (("a", broken), ("logout", daemon.logout)))
    found = list(examine(tmp_path / "h", None))
    assert [check.verdict for check in found[1:2]] == ["fail"] and len(found) == 3


@pytest.mark.parametrize(("epilog", "verdict"), [("kill-all --job 1", "ok"), ("true", "warn")])
def test_the_epilogue_is_read_from_slurms_own_settings(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epilog: str, verdict: str
) -> None:
    script = tmp_path / "epilog"
    script.write_text(f"#!/bin/sh\n{epilog}\n")
    program = tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho 'EnforcePartLimits = NO'\necho 'Epilog = {script}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    slurm = facts(replace(site, lrm="slurm"), tmp_path)
    assert verdicts(lrm.epilogue(slurm)) == [verdict]
    assert not verdicts(lrm.epilogue(facts(site, tmp_path)))

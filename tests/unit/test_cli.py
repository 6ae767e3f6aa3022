"""The command line against a real socket: documents, exit codes, and what is asked before."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fake_daemon import FakeApi, served, site_answers
from wspilot.cli import main
from wspilot.errors import NotFound, Refused, TimedOut, UsageError, WspilotError


class Cli:
    """`main` on one home, with what it printed."""

    def __init__(self, home: Path, api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self.api, self._capsys = home, api, capsys
        self.out = self.err = ""

    def __call__(self, *words: str) -> int:
        code = main(["--home", str(self.home), *words])
        self.out, self.err = self._capsys.readouterr()
        return code

    @property
    def doc(self) -> dict[str, Any]:
        """stdout, which must be one document and nothing else."""
        doc: dict[str, Any] = json.loads(self.out)
        assert doc["schema"] == 1
        return doc


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    with served(tmp_path / "h", FakeApi(site_answers())) as api:
        yield Cli(tmp_path / "h", api, capsys)


@pytest.mark.parametrize(
    ("words", "noun"),
    [
        (["list"], "workspaces"), (["slots"], "slots"), (["nodes"], "nodes"),
        (["events"], "events"), (["show", "osg"], "workspace"),
        (["wait", "osg", "--for", "active"], "workspace"),
        (["deploy", "--type", "small", "--duration", "1h"], "workspace"),
        (["deploy", "--type", "small", "--duration", "1h", "--wait"], "workspace"),
        (["destroy", "osg", "--yes", "--no-wait"], "workspaces"),
        (["destroy", "osg", "--yes"], "workspaces"),
        (["nodes", "forget", "node_1"], "nodes"), (["config"], "config"),
    ],
)  # fmt: skip
def test_every_verb_has_a_table_and_one_document(cli: Cli, words: list[str], noun: str) -> None:
    assert cli(*words) == 0
    assert "\x1b" not in cli.out  # not a terminal: no colour
    assert cli(*words, "--json") == 0
    assert set(cli.doc) == {"schema", noun} and cli.err == ""


def test_the_tables_say_what_matters(cli: Cli) -> None:
    assert cli("list") == 0
    head, row = cli.out.splitlines()
    assert head.split()[:3] == ["NAME", "STATE", "VMS"] and row.split()[:3] == [
        "osg",
        "active",
        "2",
    ]
    assert cli("show", "osg") == 0
    for word in ("osg/worker/1", "10.77.0.2", "node_1", "17.head", "0.2", "the guest's first word"):
        assert word in cli.out


@pytest.mark.parametrize(
    ("error", "code"),
    [(WspilotError("w", "h"), 1), (UsageError("w", "h"), 2), (NotFound("w", "h"), 4),
     (Refused("w", "h"), 5), (TimedOut("w", "h"), 6)],
)  # fmt: skip
def test_errors_are_words_a_code_and_a_document(cli: Cli, error: WspilotError, code: int) -> None:
    cli.api.answers["list"] = error
    assert cli("list") == code
    assert (cli.out, cli.err) == ("", "wspilot: w\n  h\n")
    assert cli("list", "--json") == code
    assert cli.doc["error"] == {"code": code, "message": "w", "hint": "h"}
    assert cli.err == "wspilot: w\n  h\n"


def test_no_daemon_is_code_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    away = Cli(tmp_path, FakeApi(), capsys)
    for words in (["list"], ["show", "x"], ["destroy", "x", "--yes"], ["wait", "x"],
                  ["deploy", "--type", "small", "--duration", "1h"]):  # fmt: skip
        assert away(*words, "--json") == 3
        assert "wspilot daemon" in away.doc["error"]["hint"]


@pytest.mark.parametrize(
    "words",
    [
        ["lsit"], ["list", "--colour"], ["show"], ["wait", "x", "--for", "lunch"],
        ["deploy"], ["deploy", "f.toml", "--type", "small"], ["deploy", "--type", "small"],
        ["deploy", "--type", "small", "--duration", "7200"],
        ["deploy", "--type", "small", "--duration", ""],
        ["deploy", "--type", "small", "--duration", "1h", "--count", "0"],
        ["deploy", "--type", "small", "--duration", "1h", "--count", "-3"],
        ["deploy", "--type", "small", "--duration", "1h", "--count", "two"],
        ["deploy", "/nonexistent.toml"], ["deploy", "/"], ["deploy", "f.toml", "--count", "2"],
        ["destroy"], ["destroy", "osg", "--all"], ["wait", "x", "--timeout", "soon"],
        ["wait", "x", "--timeout", "-1"], ["wait", "x", "--timeout", "nan"],
        ["nodes", "forget"], ["daemon", "--config", "/nonexistent"], ["tui"], [],
    ],
)  # fmt: skip
def test_usage_errors_are_code_2_and_change_nothing(cli: Cli, words: list[str]) -> None:
    assert cli(*words) == 2
    assert cli.out == "" and cli.err.startswith("wspilot: ")
    assert not cli.api.calls
    if words:
        assert cli(*words, "--json") == 2
        assert cli.doc["error"]["code"] == 2


def test_a_wrong_verb_is_told_the_nearest_and_none_that_is_nobodys_to_type(cli: Cli) -> None:
    cli("lsit")
    assert "there is no verb 'lsit'" in cli.err and "did you mean 'list'?" in cli.err
    cli("xyzzy")
    assert "known here: bench, " in cli.err and "__complete" not in cli.err


def test_hostile_words_cannot_paint_the_terminal(cli: Cli) -> None:
    for words in (["\x1b[31mx"], ["show", "\x1b]0;x\x07"], ["list", "--\x1b[2J"]):
        cli(*words)
        assert not any(char in cli.out + cli.err for char in "\x1b\x07\x9b")


# -- deploy

ENSEMBLE = """
[workspace]
name = "x"
duration = "1h"
[[group]]
name = "a"
type = "small"
"""


def test_deploy_sends_the_file_with_one_token(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(ENSEMBLE)
    assert cli("deploy", str(tmp_path / "x.toml"), "--name", "y", "--duration", "2h") == 0
    [(method, params)] = cli.api.calls
    assert method == "deploy" and len(params.pop("token")) == 32
    assert params == {
        "dry_run": False, "show_script": False, "name": "y", "duration": "2h",
        "ensemble": {"workspace": {"name": "x", "duration": "1h"},
                     "group": [{"name": "a", "type": "small"}]},
    }  # fmt: skip
    cli("deploy", str(tmp_path / "x.toml"))
    assert cli.api.calls[1][1]["token"] != cli.api.calls[0][1].get("token")


def test_deploy_by_type(cli: Cli) -> None:
    words = ["--type", "small", "--image", "i", "--count", "3", "--duration", "1h30m"]
    assert cli("deploy", *words) == 0
    params = cli.api.calls[0][1]
    assert (params["type"], params["image"], params["count"]) == ("small", "i", 3)


@pytest.mark.parametrize(
    ("data", "says"),
    [(b"[[group", "not TOML"), (b"\xff\xfe\x00", "not TOML"), (b"\x00", "not TOML"),
     (b"a = " + b"[" * 100_000, "not TOML"), (b"#" * (1 << 20) + b"\n", "over 1 MiB")],
)  # fmt: skip
def test_a_file_that_is_no_ensemble(cli: Cli, tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "bad.toml").write_bytes(data)
    assert cli("deploy", str(tmp_path / "bad.toml")) == 2
    assert says in cli.err and "bad.toml" in cli.err and not cli.api.calls


def test_toml_values_that_json_has_not_are_sent_as_text(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("[workspace]\nduration = 07:32:00\nname = 1979-05-27\n")
    assert cli("deploy", str(tmp_path / "x.toml")) == 0
    assert cli.api.calls[0][1]["ensemble"]["workspace"] == {
        "duration": "07:32:00", "name": "1979-05-27",
    }  # fmt: skip


def test_dry_run_and_script_print_what_would_be_asked(cli: Cli) -> None:
    plan = {
        "slots": [{"nodes": 2, "ppn": 1, "memory_mib": 256, "whole_node": False, "vms": 2}],
        "walltime": [{"term": "lease", "seconds": 3600}, {"term": "save", "seconds": 0}],
        "walltime_s": 3600, "node_hours": 2.0,
    }  # fmt: skip
    cli.api.answers["deploy"] = {"schema": 1, "plan": plan}
    assert cli("deploy", "--type", "small", "--duration", "1h", "--dry-run") == 0
    assert "walltime 1h = lease 3600" in cli.out and "256MiB" in cli.out
    cli.api.answers["deploy"] = {"schema": 1, "plan": plan, "script": "#!/bin/sh\nexec x\n"}
    assert cli("deploy", "--type", "small", "--duration", "1h", "--show-script") == 0
    assert cli.out.startswith("#!/bin/sh\n")


# -- wait


def test_wait_gives_up_in_words_and_code_6(cli: Cli) -> None:
    cli.api.answers["wait"] = TimedOut("not yet")
    assert cli("wait", "osg", "--for", "ended", "--timeout", "0.7") == 6
    assert "osg is active, not ended, after 0.7 s" in cli.err
    assert cli.err.count("osg active") == 1  # the line of progress: nothing changed after it
    assert cli("wait", "osg", "--for", "ended", "--timeout", "0", "--json") == 6
    assert cli.doc["error"]["code"] == 6


def test_wait_on_what_can_no_longer_be(cli: Cli) -> None:
    cli.api.answers["wait"] = WspilotError("osg can no longer become active")
    assert cli("wait", "osg", "--for", "active") == 1


# -- destroy


def test_destroy_without_a_terminal_wants_yes(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert cli("destroy", "osg") == 5
    assert "--yes" in cli.err and "osg: 2 VMs, active" in cli.err
    assert "destroy" not in [method for method, _ in cli.api.calls]


@pytest.mark.parametrize(
    ("said", "code"), [("y\n", 0), ("YES\n", 0), ("\n", 5), ("n\n", 5), ("", 5)]
)
def test_destroy_asks_at_a_terminal(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, said: str, code: int
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(said))
    assert cli("destroy", "--all", "--no-wait") == code
    assert "Destroy ALL of these?" in cli.err and "osg: 2 VMs" in cli.err
    assert ("destroy" in [method for method, _ in cli.api.calls]) == (code == 0)


def test_destroy_waits_for_workspaces_by_id_and_groups_as_named(cli: Cli) -> None:
    assert cli("destroy", "osg", "osg/worker", "--yes", "--abandon") == 0
    assert cli.api.calls[0][1]["abandon"] is True
    waits = [params["id"] for method, params in cli.api.calls if method == "wait"]
    assert waits == ["aaaa1111", "osg/worker"]


# -- the process


def test_a_closed_pipe_is_quiet(cli: Cli) -> None:
    env = {**os.environ, "WSPILOT_HOME": str(cli.home)}
    shell = f"{sys.executable} -m wspilot list | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], env=env, capture_output=True, timeout=30)
    assert done.stderr == b"" and done.stdout.strip() in (b"0", b"1")


def test_a_full_disk_under_stdout_is_an_error_in_words(cli: Cli) -> None:
    env = {**os.environ, "WSPILOT_HOME": str(cli.home)}
    with open("/dev/full", "wb") as full:
        argv = [sys.executable, "-m", "wspilot", "list"]
        done = subprocess.run(argv, env=env, stdout=full, stderr=subprocess.PIPE, timeout=30)
    assert done.returncode == 1
    assert b"No space left" in done.stderr and b"Traceback" not in done.stderr


def test_what_stderr_does_not_take_at_the_end_does_not_change_the_code() -> None:
    """As of a progress line that a signal comes into, on a terminal that has been closed."""
    code = "import sys, wspilot.cli as cli; cli._run = lambda _: sys.stderr.write('begun') + 2\n"
    argv = [sys.executable, "-c", f"{code}sys.exit(cli.main([]))"]
    env = {name: word for name, word in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "wb") as full:
        done = subprocess.run(argv, env=env, stderr=full, timeout=30, check=False)
    assert done.returncode == 7


def test_a_home_that_cannot_be_made_is_an_error_in_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--home", "/proc/nope", "daemon", "--detach"]) == 1
    assert "/proc/nope" in capsys.readouterr().err


def test_interrupt_ends_a_wait_cleanly(cli: Cli) -> None:
    cli.api.answers["wait"] = lambda _: TimedOut("not yet")
    env = {**os.environ, "WSPILOT_HOME": str(cli.home)}
    argv = [sys.executable, "-m", "wspilot", "wait", "osg", "--for", "ended"]
    with subprocess.Popen(argv, env=env, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        child.stderr.readline()  # the first line of progress
        child.send_signal(2)
        _, err = child.communicate(timeout=10)
    assert child.returncode == 130 and "Traceback" not in err and "interrupted" in err


def test_follow_prints_each_event_once(cli: Cli) -> None:
    events = [
        {"id": str(n), "name": str(n), "at": "2026-01-01T00:00:00.000000Z", "level": "info",
         "kind": "vm", "text": f"event {n}", "workspace": "", "slot": "", "vm": "", "node": "",
         "data": {}}
        for n in range(1, 6)
    ]  # fmt: skip

    def answer(params: Any) -> Any:
        after = params.get("after", 0)
        if after >= 5:
            return Refused("enough")  # ends the stream
        return {"schema": 1, "events": [e for e in events if after < int(e["id"]) <= after + 2]}

    cli.api.answers["events"] = answer
    assert cli("events", "-f") == 5
    assert [line.split()[-1] for line in cli.out.splitlines()] == ["1", "2", "3", "4", "5"]


def test_completion_knows_verbs_options_and_names(cli: Cli) -> None:
    def after(*words: str) -> list[str]:
        assert cli("__complete", *words) == 0
        return cli.out.split()

    assert after("des") == ["destroy"]
    assert "__complete" not in after("")
    assert after("show", "osg/w") == ["osg/worker", "osg/worker/1", "osg/worker/2"]
    assert after("wait", "osg", "--for", "") == ["active", "ended"]
    assert after("nodes", "forget", "") == ["node_1"]
    assert "--dry-run" in after("deploy", "--d")
    assert after("fsck", "--prove", "") == ["osg"]
    assert after("nonsense", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_works_in_the_shell(cli: Cli, shell: str, tmp_path: Path) -> None:
    assert cli("completion", shell) == 0
    if shell == "zsh":
        assert "bashcompinit" in cli.out
        return
    wrapper = tmp_path / "wspilot"
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} -m wspilot --home {cli.home} "$@"\n')
    wrapper.chmod(0o755)
    test = cli.out + "\nCOMP_WORDS=(wspilot show osg/w); COMP_CWORD=2; _wspilot\n"
    test += 'printf "%s\\n" "${COMPREPLY[@]}"\n'
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", test], env=env, capture_output=True, timeout=30, text=True)
    assert done.stdout.split() == ["osg/worker", "osg/worker/1", "osg/worker/2"]

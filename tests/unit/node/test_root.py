"""Asking the root helper: whatever it does or says, the caller gets an answer in time, in words."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from wspilot.errors import TimedOut, WspilotError
from wspilot.node import killall, root, root_filter, root_helper, xennode
from wspilot.node.core.killall import Scope


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "wspilot-root"
    monkeypatch.setattr(root, "HELPER", str(path))
    if os.geteuid() != 0:  # root calls it itself; others by a sudo, here one that only runs it
        sudo = tmp_path / "sudo"
        sudo.write_text('#!/bin/sh\nshift; exec "$@"\n')
        sudo.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return path


def write(helper: Path, script: str) -> None:
    helper.write_text(f"#!/bin/sh\n{script}\n")
    helper.chmod(0o755)


def test_the_words_go_in_and_the_answer_comes_back(helper: Path) -> None:
    write(helper, 'read -r words; printf \'{"verb": "%s", "words": %s}\' "$1" "$words"')
    assert root.ask("about", {"a": "x y"}) == {"verb": "about", "words": {"a": "x y"}}
    assert asyncio.run(root.asked("about", {})) == {"verb": "about", "words": {}}


def test_root_asks_for_itself_whoever_called_it_by_sudo(
    helper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_UID", "1000")
    monkeypatch.setenv("SUDO_GID", "1000")
    write(helper, 'printf \'{"for": "%s%s"}\' "$SUDO_UID" "$SUDO_GID"')
    assert root.ask("about", {}) == {"for": ""}


def test_a_refusal_is_told_in_the_helpers_words_and_is_known_as_one(helper: Path) -> None:
    write(helper, 'echo \'{"error": "no \\u001b[2J such", "hint": "do this"}\'; exit 1')
    with pytest.raises(root.Declined, match=r"refuses net-attach: no .*such") as refused:
        root.ask("net-attach", {})
    assert refused.value.hint == "do this"
    assert "\x1b" not in str(refused.value)
    with pytest.raises(root.Declined, match="refuses net-attach") as refused:
        asyncio.run(root.asked("net-attach", {}))
    assert refused.value.hint == "do this"


def test_a_node_without_it_and_one_that_sudo_refuses_say_whom_to_ask(helper: Path) -> None:
    with pytest.raises(root.Declined, match="is not on this node") as absent:
        root.ask("about", {})
    assert "make install-node" in absent.value.hint
    write(helper, "echo 'sudo: a password is required' >&2; exit 1")
    with pytest.raises(WspilotError, match="a password is required") as no:
        root.ask("about", {})
    assert not isinstance(no.value, root.Declined), "nobody knows whether it ran"
    assert "sudo -l" in no.value.hint


@pytest.mark.parametrize("said", ["[1]", "x", '{"a":', ""])
def test_an_answer_that_is_none_is_an_error(helper: Path, said: str) -> None:
    write(helper, f"printf '%s' '{said}'")
    with pytest.raises(WspilotError, match="the root helper's about"):
        root.ask("about", {})


def test_a_helper_that_hangs_is_left_behind_in_time(helper: Path) -> None:
    write(helper, "exec sleep 30")
    begun = time.monotonic()
    with pytest.raises(TimedOut, match=r"took longer than 0\.2 s"):
        root.ask("about", {}, 0.2)
    with pytest.raises(WspilotError, match=r"took longer than"):
        asyncio.run(root.asked("about", {}, 0.2))
    assert time.monotonic() - begun < 20


STATE = {"strays": [], "domains": [], "takes": [], "missing_mib": 0, "dom0_mib": 1, "full_mib": 1,
         "taken_mib": 0}  # fmt: skip


def test_kill_all_has_its_last_helper_started_while_the_undoing_goes_on(
    helper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    write(helper, f"echo up >>{log}; read -r words; echo told >>{log}; echo '{json.dumps(STATE)}'")
    collect = killall._collect

    def collected(*words: Any) -> Any:
        end = time.monotonic() + 30
        while not (log.exists() and log.read_text()):
            assert time.monotonic() < end, "it was not started"
            time.sleep(0.01)
        told = collect(*words)
        with log.open("a") as file:
            file.write("undone\n")
        return told

    monkeypatch.setattr(killall, "_collect", collected)
    monkeypatch.setattr(xennode, "is_domain_0", lambda: True)
    monkeypatch.setattr("wspilot.node.owned.guests", lambda _: [])  # other tests' business
    (tmp_path / f"wspilot-{os.getuid()}").mkdir()
    report = killall.run(Scope(slot="a" * 8), killall.Roots(tmp_path, tmp_path))
    assert (report["left"], log.read_text().split()) == ([], ["up", "undone", "told"])


def test_a_helper_that_died_of_waiting_is_no_leftover_of_the_node(
    helper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = tmp_path / "once"
    write(helper, f"[ -e {once} ] || {{ touch {once}; exit 1; }}; echo '{json.dumps(STATE)}'")
    monkeypatch.setattr(xennode, "is_domain_0", lambda: True)
    called = xennode.call()
    look = xennode.look(lambda _: True, lambda _: True, called)
    assert once.exists() and look.left == () and "domain 0 has 1 of 1 MiB" in look.note


class Ended(Exception):
    """A signal came."""


AT_WORK = """trap '' PIPE; read -r words; kill -{signal} $PPID
for n in $(seq 400); do [ -e {go} ] && break; sleep 0.05; done
if echo '{{}}' 2>/dev/null; then echo True >{heard}.new; else echo False >{heard}.new; fi
mv {heard}.new {heard}"""


@pytest.mark.parametrize("raises", [True, False])
def test_nobody_listens_to_a_helper_once_its_caller_was_ended_by_a_signal(
    helper: Path, tmp_path: Path, raises: bool
) -> None:
    go, heard = tmp_path / "go", tmp_path / "heard"
    write(helper, AT_WORK.format(signal="USR1", go=go, heard=heard))

    def come(number: int, frame: object) -> None:
        if raises:
            raise Ended
        go.touch()

    before = signal.signal(signal.SIGUSR1, come)
    try:
        if raises:
            with pytest.raises(Ended) as held:  # and with it the frames that it went through
                root.ask("balloon-take", {})
            go.touch()
            assert held.value.__traceback__ is not None
        else:
            assert root.ask("balloon-take", {}) == {}
        end = time.monotonic() + 30
        while not heard.exists():
            assert time.monotonic() < end, "the helper never came back"
            time.sleep(0.02)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard.read_text().strip() == str(not raises)


def test_one_that_has_been_called_by_nobodys_sudo_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(root_helper.Refused, match="not run as root"):
        root_helper.answer(["about"], "{}")


def test_what_the_filter_says_of_two_taps_with_overlapping_denials() -> None:
    one = {"mac": "02:57:0a:4d:00:05", "ip": "10.77.0.5", "deny": ["10.0.0.0/8", "10.1.0.0/16"]}
    text = root_filter.nft_rules({"wsa.0": one, "wsb.0": {**one, "deny": []}})
    assert 'elements = { "wsa.0" . 10.0.0.0/8 }' in text, "intervals that overlap are refused"
    assert 'elements = { "wsa.0", "wsb.0" }' in text
    assert "{{" not in text
    assert "elements = {  }" not in root_filter.nft_rules({"wsb.0": {**one, "deny": []}})

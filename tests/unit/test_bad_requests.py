"""Rubbish through the socket of a real daemon: refused in words, nothing changed, it lives on."""

from __future__ import annotations

import copy
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wspilot.client import call
from wspilot.daemon.detach import detach
from wspilot.home import read_record

RUBBISH = [
    None, True, 0, -1, 1e308, float("nan"), 10**30, "", "a", "\x00", "\ud800", "x" * 5000, [], [1],
    [None], {}, {"a": 1}, "1h", ["private"] * 500,
]  # fmt: skip
KEYS = {
    "ping": "x", "types": "x", "images": "x", "nodes": "x", "slots": "x", "list": "all",
    "show": "id", "events": "id after limit", "logs": "id", "wait": "id for timeout_s",
    "destroy": "ids all abandon token", "forget": "node token", "config": "x", "status": "x",
    "deploy": "type image count duration name ensemble token dry_run show_script",
}  # fmt: skip
SOUND = {"destroy": {"ids": ["nonesuch"]}, "deploy": {"type": "nonesuch", "duration": "1h"}}
ENSEMBLE = {"workspace": {"name": "q", "duration": "1h"}, "group": [{"name": "a", "type": "small"}]}
PLACES: list[list[Any]] = [
    ["workspace"], ["workspace", "name"], ["workspace", "duration"], ["group"], ["group", 0],
    *(["group", 0, key] for key in ("name", "type", "count", "min", "nics", "roles", "ready",
                                    "placement", "image", "\x1b[31m")), ["extra"],
]  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.delenv("WSPILOT_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    pid = detach(tmp_path / "h", None, False)
    yield tmp_path / "h"
    os.kill(pid, signal.SIGTERM)


def test_rubbish_in_every_parameter(home: Path) -> None:
    requests = [
        (method, {**SOUND.get(method, {}), key: value})
        for method, keys in KEYS.items()
        for key in keys.split()
        for value in RUBBISH
        if (method, key, value) != ("destroy", "all", True)
    ]
    requests += [
        (method, dict.fromkeys(keys.split(), value))
        for method, keys in KEYS.items()
        for value in RUBBISH
        if value is not True
    ]
    for place in PLACES:
        for value in [*RUBBISH, {"provides": 1}, {"provides": [{}]}]:
            doc = inner = copy.deepcopy(ENSEMBLE)
            for step in place[:-1]:
                inner = inner[step]
            inner[place[-1]] = value
            requests.append(("deploy", {"ensemble": doc, "dry_run": True}))
    asked, record = 0, read_record(home)
    assert record is not None
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        link.connect(record.socket)
        answers = link.makefile("rb")
        for method, params in requests:
            asked += 1
            doc = {"jsonrpc": "2.0", "id": asked, "method": method, "params": params}
            link.sendall(json.dumps(doc).encode() + b"\n")
            answer = json.loads(answers.readline())
            assert answer["id"] == asked
            code = answer.get("error", {}).get("code", 0)
            assert code in range(0, 7), (method, params, answer["error"])
    assert asked > 700
    assert call(home, "list", {"all": True})["workspaces"] == []
    assert call(home, "ping", {})["schema"] == 1


@pytest.mark.parametrize("word", ["false", 1, [1]])
def test_only_true_means_all(home: Path, word: Any) -> None:
    from wspilot.errors import UsageError

    with pytest.raises(UsageError, match="neither true nor false"):
        call(home, "destroy", {"all": word})

"""The network without rights across two nodes: network namespaces, real guests, an ordinary uid."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from wspilot.guest import build_guest, default_cache

pytestmark = pytest.mark.real
ROOT = Path(__file__).parents[2]
PYTHON = "/usr/bin/python3"  # of Debian, as on a node
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=20)


@pytest.fixture
def nodes() -> Iterator[list[str]]:
    """Two namespaces joined by a veth pair."""
    names = [f"wsu{os.getpid()}{n}" for n in "ab"]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "wsu0", "netns", names[0], "type", "veth",
           "peer", "name", "wsu0", "netns", names[1])  # fmt: skip
        for number, name in enumerate(names, 1):
            ip("-n", name, "addr", "add", f"192.168.77.{number}/24", "dev", "wsu0")
            ip("-n", name, "link", "set", "wsu0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, timeout=20)


def test_guests_of_two_nodes_reach_each_other_without_any_rights(
    nodes: list[str], tmp_path: Path
) -> None:
    built = build_guest(default_cache() / "guest", default_cache() / "deb", disk=True)
    ground = Path(f"/tmp/wsu{os.getpid()}")  # pytest's own is closed to other users
    ground.mkdir(mode=0o755)
    started: list[subprocess.Popen[str]] = []
    try:
        guest = ground / "guest"
        guest.mkdir()
        for name in ("vmlinuz", "initrd", "image.json"):
            shutil.copy(built.out / name, guest / name)
        subprocess.run(["chmod", "-R", "a+rX", str(guest)], check=True)
        code = ground / "code"
        # The clone and its venv may lie where nobody else can look: what it needs is copied.
        qmp = Path(str(importlib.util.find_spec("qemu.qmp").origin)).parent.parent  # type: ignore[union-attr]
        skip = shutil.ignore_patterns("__pycache__")
        for package in (ROOT / "wspilot", ROOT / "tests", qmp):
            shutil.copytree(package, code / package.name, dirs_exist_ok=True, ignore=skip)
        subprocess.run(["chmod", "-R", "a+rX", str(code)], check=True)
        for number, name in enumerate(nodes, 2):
            place = ground / name
            place.mkdir(mode=0o700)
            os.chown(place, 65534, 65534)
            node = [PYTHON, "-m", "tests.real.usernode", str(number), str(place)]
            argv = ["ip", "netns", "exec", name, *NOBODY, *node, str(guest), str(5 - number)]
            env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(code), "HOME": str(place)}
            process = subprocess.Popen(argv, stdin=-1, stdout=-1, text=True, env=env, cwd=code)
            started.append(process)
        facts = {name: json.loads(_line(one)) for name, one in zip(nodes, started, strict=True)}
        assert {one["trunk"]["host"] for one in facts.values()} == {"192.168.77.1", "192.168.77.2"}
        for one in started:
            assert one.stdin is not None
            one.stdin.write(json.dumps(facts) + "\n")
            one.stdin.flush()
        for one in started:
            words = _until(one, "said")
            assert "5 packets transmitted, 5 packets received, 0% packet loss" in words
        for one in started:
            one.communicate("\n", timeout=30)
            assert one.returncode == 0
    finally:
        for one in started:
            one.kill()
            one.wait(20)
        shutil.rmtree(ground, ignore_errors=True)


def _line(one: subprocess.Popen[str]) -> str:
    assert one.stdout is not None
    line = one.stdout.readline()
    assert line, "the node ended"
    return line


def _until(one: subprocess.Popen[str], kind: str) -> str:
    while True:
        words = json.loads(_line(one))
        if words["kind"] == kind:
            return str(words["text"])
        assert words["kind"] != "exited", words

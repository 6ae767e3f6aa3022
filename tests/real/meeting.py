"""One real guest on each of two nodes, run by an ordinary user: do they reach each other?"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wspilot.guest import build_guest, default_cache

ROOT = Path(__file__).parents[2]
PYTHON = "/usr/bin/python3"  # of Debian, as on a node
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]


@dataclass(frozen=True)
class Meeting:
    """What each node's way told its sisters, and what each guest said in the end."""

    facts: list[dict[str, Any]]
    said: list[str]
    nodes: list[subprocess.Popen[str]]

    def next_said(self, number: int) -> str:
        """The next line of a guest that goes on speaking; the first guest is 0."""
        return _until(self.nodes[number], "said")


def guests_meet(way: str, nodes: Sequence[Sequence[str]]) -> Meeting:
    """`nodes`: how a command is run in each. Guests have 10.77.0.2 and 10.77.0.3.

    Their largest frames leave their nodes whole.
    """
    before = [_fragments(prefix) for prefix in nodes]
    with meeting(way, nodes) as met:
        pass
    assert [_fragments(prefix) for prefix in nodes] == before
    return met


@contextlib.contextmanager
def meeting(way: str, nodes: Sequence[Sequence[str]]) -> Iterator[Meeting]:
    """The same, and the guests run until the end."""
    ground = Path(f"/tmp/wsm{os.getpid()}")  # pytest's own is closed to other users
    ground.mkdir(mode=0o755)
    started: list[subprocess.Popen[str]] = []
    try:
        guest, code = _copies(ground)
        for number, prefix in enumerate(nodes, 2):
            place = ground / f"n{number}"
            place.mkdir(mode=0o700)
            os.chown(place, 65534, 65534)
            words = [way, str(number), str(place), str(guest), str(5 - number)]
            argv = [*prefix, *NOBODY, PYTHON, "-m", "tests.real.usernode", *words]
            env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(code), "HOME": str(place)}
            started.append(
                subprocess.Popen(argv, stdin=-1, stdout=-1, text=True, env=env, cwd=code)
            )
        facts = [json.loads(_line(one)) for one in started]
        for one in started:
            assert one.stdin is not None
            one.stdin.write(json.dumps({f"n{n}": fact for n, fact in enumerate(facts, 2)}) + "\n")
            one.stdin.flush()
        said = [_until(one, "said") for one in started]
        yield Meeting(facts, said, started)
        for one in started:
            one.communicate("\n", timeout=30)
            assert one.returncode == 0
    finally:
        for one in started:
            one.kill()
            one.wait(20)
        for kept in Path("/var/tmp/wspilot-65534").glob(f"wsm{os.getpid()}-*"):
            shutil.rmtree(kept)
        shutil.rmtree(ground, ignore_errors=True)


def _copies(ground: Path) -> tuple[Path, Path]:
    """Guest and code where an ordinary user may read them: the clone may lie where nobody can."""
    built = build_guest(default_cache() / "guest", default_cache() / "deb", disk=True)
    guest, code = ground / "guest", ground / "code"
    guest.mkdir()
    for name in ("vmlinuz", "initrd", "image.json"):
        shutil.copy(built.out / name, guest / name)
    qmp = Path(str(importlib.util.find_spec("qemu.qmp").origin)).parent.parent  # type: ignore[union-attr]
    skip = shutil.ignore_patterns("__pycache__")
    for package in (ROOT / "wspilot", ROOT / "tests", qmp):
        shutil.copytree(package, code / package.name, dirs_exist_ok=True, ignore=skip)
    subprocess.run(["chmod", "-R", "a+rX", str(guest), str(code)], check=True)
    return guest, code


def _fragments(prefix: Sequence[str]) -> int:
    """How many a node has made of what was too long for its wire."""
    argv = [*prefix, "cat", "/proc/net/snmp"]
    told = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=20).stdout
    names, values = (line.split() for line in told.splitlines() if line.startswith("Ip:"))
    return int(values[names.index("FragCreates")])


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

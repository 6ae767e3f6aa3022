"""Recorded answers of real batch systems, as `Result`s. The data were recorded, never written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from wspilot.daemon.lrm.base import Result

DATA = Path(__file__).parent / "data"
_END = re.compile(r"\[rc=(\d+) wall=[\d.]+s t=\+[\d.]+s\]")


@dataclass(frozen=True)
class Step:
    """One command of a recording and what it answered."""

    cmd: str
    result: Result


@cache
def steps(name: str) -> tuple[Step, ...]:
    """Every command of a recording (`torque_*` are texts, the others JSON)."""
    if (DATA / f"{name}.txt").exists():
        return tuple(_from_text((DATA / f"{name}.txt").read_text()))
    doc = json.loads((DATA / f"{name}.json").read_text())
    return tuple(
        Step(one["cmd"], _result(one["rc"], one["stdout"], one["stderr"]))
        for one in doc["steps"]
        if one["kind"] == "cmd"
    )


def answer(name: str, cmd: str, nth: int = 0) -> Result:
    """What the nth command that is, or begins with, `cmd` answered."""
    found = [step.result for step in steps(name) if step.cmd == cmd]
    found = found or [step.result for step in steps(name) if step.cmd.startswith(cmd)]
    return found[nth]


def _result(rc: int, out: str, err: str) -> Result:
    return Result(("recorded",), rc, out.encode(), err.encode())


def _from_text(text: str) -> Iterator[Step]:
    """`$ cmd` / stdin between <<< and >>> / stdout / [stderr] / [rc=...]."""
    cmd, out, err, into = "", "", "", ""
    for line in text.splitlines(keepends=True):
        if line.startswith("$ ") and not cmd:
            cmd, out, err, into = line[2:].rstrip("\n"), "", "", "out"
        elif match := _END.match(line):
            yield Step(cmd, _result(int(match.group(1)), out, err))
            cmd = ""
        elif line == "<<< stdin\n":
            into = "stdin"
        elif line in (">>>\n", "[stderr]\n"):
            into = "out" if line == ">>>\n" else "err"
        elif cmd and into == "out":
            out += line
        elif cmd and into == "err":
            err += line

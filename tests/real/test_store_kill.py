"""The store under kill -9: every acknowledged commit is there afterwards, none is half there."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
from pathlib import Path

from wspilot.daemon.store import Store

KILLS = 60
WRITER = """
import sys
from pathlib import Path
from wspilot.daemon import store as module
module.MIN_JOURNAL = 20_000  # so that many kills strike in a compaction
store = module.Store(Path(sys.argv[1]))
n = max((doc["n"] for doc in store.load().get("vms", {}).values()), default=0)
while True:
    n += 1
    a, b = f"v{n % 50}", f"w{n % 50}"
    store.commit({"vms": {a: {"id": a, "n": n, "pad": "x" * 200}, b: {"id": b, "n": n}}})
    print(n, flush=True)
"""


def test_every_acknowledged_commit_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    chance, place = random.Random(11), tmp_path / "store"
    compacted = 0
    for _ in range(KILLS):
        acknowledged = _write_and_kill(place, chance.uniform(0.0, 0.15))
        store = Store(place)
        vms = store.load().get("vms", {})
        store.close()
        highest = max((doc["n"] for doc in vms.values()), default=0)
        assert highest >= acknowledged, f"{acknowledged} was acknowledged, {highest} is there"
        for n in range(max(1, highest - 49), highest + 1):  # both halves of each batch, or neither
            assert vms[f"v{n % 50}"]["n"] == vms[f"w{n % 50}"]["n"] == n
        compacted += (place / "snapshot.json").exists()
    assert compacted > KILLS / 2
    assert json.loads((place / "snapshot.json").read_text())["vms"]


def _write_and_kill(place: Path, seconds: float) -> int:
    """The last commit that the writer told of before it was killed."""
    argv = [sys.executable, "-c", WRITER, str(place)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        said = child.stdout.readline()  # it has begun: from here on any moment may be the last
        select.select([], [], [], seconds)
        os.kill(child.pid, signal.SIGKILL)
        said += child.stdout.read()
    lines = [line for line in said.split(b"\n")[:-1] if line]
    return int(lines[-1]) if lines else 0

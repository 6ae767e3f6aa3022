"""The store under kill -9: every acknowledged commit is there afterwards, none is half there."""

from __future__ import annotations

import os
import random
import select
import signal
import time
from pathlib import Path
from typing import NoReturn

from wspilot.daemon import store as module
from wspilot.daemon.store import Store

KILLS = 320
SMALL_JOURNAL = 20_000  # bytes: so that many kills strike in a compaction
LAP = 50


def test_every_acknowledged_commit_survives_300_kills_at_random_moments(tmp_path: Path) -> None:
    """One store through all of them: what a kill leaves behind is what the next one begins with."""
    chance, place = random.Random(11), tmp_path / "store"
    acknowledged = seen_torn = in_compaction = 0
    for _ in range(KILLS):
        acknowledged = max(acknowledged, _write_and_kill(place, chance.uniform(0.0, 0.03)))
        in_compaction += (place / "snapshot.tmp").exists()
        seen_torn += not _ends_whole(place / "journal.jsonl")
        store = Store(place)
        vms = store.load().get("vms", {})
        store.close()
        highest = max((doc["n"] for doc in vms.values()), default=0)
        assert highest >= acknowledged, f"{acknowledged} was acknowledged, {highest} is there"
        for n in range(max(1, highest - LAP + 1), highest + 1):  # both halves of a batch, or none
            assert vms[f"v{n % LAP}"]["n"] == vms[f"w{n % LAP}"]["n"] == n
    print(f"{KILLS} kills, {acknowledged} commits, {in_compaction} in a compaction, "
          f"{seen_torn} torn tails")  # fmt: skip
    assert acknowledged > KILLS and (place / "snapshot.json").exists()
    assert in_compaction > 0, "no kill struck in a compaction: the test proves less than it says"


def _ends_whole(path: Path) -> bool:
    data = path.read_bytes() if path.exists() else b""
    return data[-1:] in (b"", b"\n")


def _write_and_kill(place: Path, seconds: float) -> int:
    """The last commit that the writer told of before it was killed; forked: 300 starts of an
    interpreter would take a minute."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        _write(place, tell)
    os.close(tell)
    try:
        said = os.read(told, 64)  # it has begun: from here on any moment may be the last
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([told], [], [], left)[0]:
                said = said[-64:] + os.read(told, 1 << 16)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    while data := os.read(told, 1 << 16):
        said = said[-64:] + data
    os.close(told)
    lines = said.split(b"\n")[:-1]
    return int(lines[-1]) if lines else 0


def _write(place: Path, tell: int) -> NoReturn:
    try:
        module.MIN_JOURNAL = SMALL_JOURNAL
        store = Store(place)
        n = max((doc["n"] for doc in store.load().get("vms", {}).values()), default=0)
        while True:
            n += 1
            a, b = f"v{n % LAP}", f"w{n % LAP}"
            pad = "x" * (n % 7 * 100)
            store.commit({"vms": {a: {"id": a, "n": n, "pad": pad}, b: {"id": b, "n": n}}})
            os.write(tell, b"%d\n" % n)
    finally:
        os._exit(1)

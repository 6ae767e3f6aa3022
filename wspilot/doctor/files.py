"""Spool, owners and disks: can files go round, whose are they, and is there room?"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from wspilot.doctor.verdict import Check, Facts, fail, ok, warn
from wspilot.errors import Refused

ROUNDS = 5
SEEN_S = 2.0
SLOW_S = 0.25
FEW_MIB, NONE_MIB = 1024, 100
MAX_LOOKED = 500


def spool(facts: Facts) -> Iterator[Check]:
    """Write, rename, list, unlink as a pilot and the daemon do; and does inotify tell of it?"""
    root = facts.site.spool
    place = _prepared(root) / f"doctor-{secrets.token_hex(4)}"
    place.mkdir(mode=0o700)
    try:
        trip = max(_round(place) for _ in range(ROUNDS))
        hint = _hint(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    text = f"{root}: written, renamed, listed and removed in {trip * 1000:.1f} ms"
    if trip > SLOW_S:
        yield warn("spool", text, "slow: put it on a faster shared filesystem ([site] spool)")
    else:
        yield ok("spool", text)
    if hint is None:
        yield warn("spool", "inotify does not tell of new files: rescans see them, 1 s late",
                   "nothing to do; a local disk would tell")  # fmt: skip
    else:
        yield ok("spool", f"a new file is told of after {hint * 1000:.1f} ms (from this host)")


def owner(facts: Facts) -> Iterator[Check]:
    """Files must be ours as we write them (root squash), and as nodes wrote them (uid maps)."""
    root = facts.site.spool
    path = _prepared(root) / f"doctor-{secrets.token_hex(4)}"
    path.touch(mode=0o600)
    uid = path.stat().st_uid
    path.unlink()
    if uid != os.getuid():
        yield fail(
            "owner",
            f"{root}: what uid {os.getuid()} writes belongs to uid {uid}",
            "root squash or a uid map: run the daemon as a user whom the spool knows",
        )
        return
    seen, foreign = 0, []
    for place in islice(_written(root), MAX_LOOKED):
        info = place.lstat()
        if stat.S_ISREG(info.st_mode):
            seen += 1
            foreign += [f"{place} (uid {info.st_uid})"] if info.st_uid != os.getuid() else []
    if foreign:
        yield fail(
            "owner",
            f"not ours, as a node wrote it: {foreign[0]}; {len(foreign)} such files",
            "pilots must run with the daemon's uid on every node",
        )
    elif seen:
        yield ok("owner", f"{seen} files of jobs belong to uid {uid}, as the daemon does")
    else:
        yield ok("owner", f"uid {uid} here; no job has written yet: deploy something and ask again")


def disk(facts: Facts) -> Iterator[Check]:
    """Room where the daemon writes: a full disk refuses new leases."""
    places: dict[int, Path] = {}
    for path in (facts.home, facts.site.store, facts.site.spool):
        there = next(one for one in (path, *path.parents) if one.exists())
        places.setdefault(there.stat().st_dev, there)
    for place in places.values():
        usage = os.statvfs(place)
        free = usage.f_bavail * usage.f_frsize >> 20
        text = f"{place}: {free / 1024:.1f} GiB free"
        if free < NONE_MIB or (usage.f_files and usage.f_favail < 1000):
            yield fail("disk", text, "make room: with less than this new leases are refused")
        elif free < FEW_MIB:
            yield warn("disk", text, "make room before it is full")
        else:
            yield ok("disk", text)


def _prepared(root: Path) -> Path:
    """The spool's tmp/, made as the daemon makes it. Raises Refused or OSError in words."""
    from wspilot.daemon.spool import Spool

    try:
        Spool(root).prepare()
    except OSError as error:
        raise Refused(f"{root}: {error.strerror or error}", "set [site] spool") from None
    return root / "tmp"


def _round(place: Path) -> float:
    start = time.perf_counter()
    with (place / "a").open("wb") as file:
        file.write(b"x" * 1000)
        file.flush()
        os.fsync(file.fileno())
    (place / "a").replace(place / "b")
    if "b" not in {path.name for path in place.iterdir()}:
        raise Refused(f"{place}: a renamed file is not listed", "no filesystem for a spool")
    (place / "b").unlink()
    return time.perf_counter() - start


def _hint(place: Path) -> float | None:
    """Seconds until watchdog tells of a rename; None when it does not within SEEN_S."""
    from watchdog.events import FileSystemEvent, FileSystemEventHandler
    from watchdog.observers import Observer

    told = threading.Event()

    class Handler(FileSystemEventHandler):
        def on_any_event(self, event: FileSystemEvent) -> None:
            told.set()

    watched = place / "new"
    watched.mkdir()
    observer = Observer()
    observer.schedule(Handler(), str(watched))
    observer.start()
    try:
        (place / "a").touch()
        start = time.perf_counter()
        (place / "a").replace(watched / "a")
        return time.perf_counter() - start if told.wait(SEEN_S) else None
    finally:
        observer.stop()
        observer.join(SEEN_S)


def _written(root: Path) -> Iterator[Path]:
    """What jobs and pilots leave in the slots' directories and beside them."""
    for pattern in ("hb/*", "new/*", "slots/*/*.log", "slots/*/*.out", "slots/*/epoch.*/*"):
        yield from root.glob(pattern)

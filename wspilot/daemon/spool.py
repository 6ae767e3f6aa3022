"""The spool: the shared directory through which pilots and daemon talk (PROTOCOLS.md section 1).

inotify is a hint, the directory listing is the truth. `Spool` does the files and blocks (it runs in
a `Lane`); `Watch` only wakes the daemon. A file is unlinked after the commit that contains it, and
what is refused goes to `bad/` with a reason, bounded in number and bytes.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from watchdog.events import (
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from wspilot.daemon.drafts import Drafts
from wspilot.errors import Refused, WspilotError
from wspilot.messages import (
    HB,
    MAX_FILE,
    NEW,
    BadMessage,
    FileName,
    Notification,
    parse_beat_name,
    parse_note_name,
    read_note,
)
from wspilot.text import clean

DIRS = ("new", "tmp", "hb", "bad", "cmd", "slots", "bin")
MAX_BAD = 200
DOUBT_S = 10.0  # a torn file may still be arriving on a network filesystem
STALE_TMP_S = 86400.0


@dataclass(frozen=True)
class Received:
    """One verified message and the file it came in (none for a heartbeat: that file stays)."""

    note: Notification
    file: str = ""


@dataclass(frozen=True)
class Batch:
    """A slice of the spool: messages in order, what was refused and why, and whether more waits."""

    received: tuple[Received, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    more: bool = False
    backlog: int = 0


class Spool:
    """The files below one root. Every method blocks; none of them follows a symbolic link."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._keys: dict[str, bytes] = {}
        self._names: list[str] = []
        self._doubtful: dict[str, float] = {}
        self._beats: dict[str, tuple[int, int]] = {}
        self.drafts = Drafts(root)
        self._stuck: set[str] = set()  # in new/, refused, and not ours to remove

    def prepare(self) -> None:
        """Make the directories (0700). Raises Refused when somebody else owns one."""
        for path in (self.root, *(self.root / name for name in DIRS)):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            info = path.lstat()
            if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
                raise Refused(
                    f"{path} is not a directory of uid {os.getuid()}",
                    "choose another place: [site] spool = ... in site.toml",
                )
            if info.st_mode & 0o077:
                path.chmod(0o700)

    # -- notifications

    def read(self, limit: int = 64) -> Batch:
        """The next slice of new/. A fresh listing begins when the last one is used up."""
        if not self._names:
            with os.scandir(self.root / "new") as entries:
                names = {entry.name for entry in entries}
            self._stuck &= names
            self._names = sorted(names - self._stuck, reverse=True)
        slice_ = [self._names.pop() for _ in range(min(limit, len(self._names)))]
        received, refused = [], []
        for name in slice_:
            try:
                note = self._read_one(name)
            except FileNotFoundError:
                self._doubtful.pop(name, None)
                continue
            except BadMessage as error:
                if self._in_doubt(name, str(error)):
                    continue
                self._quarantine(name, str(error))
                refused.append((clean(name, 160), str(error)))
            else:
                if note is not None:
                    received.append(Received(note, name))
        received.sort(key=lambda item: (item.note.slot, item.note.pilot, item.note.seq))
        return Batch(tuple(received), tuple(refused), bool(self._names), len(self._names))

    def beats(self) -> Batch:
        """Heartbeats that have changed since the last call."""
        received = []
        with os.scandir(self.root / "hb") as entries:
            seen = {entry.name: entry.stat(follow_symlinks=False) for entry in entries}
        for name, info in seen.items():
            mark = (info.st_ino, info.st_mtime_ns)
            if self._beats.get(name) == mark:
                continue
            self._beats[name] = mark
            try:
                parsed = parse_beat_name(name)
                key = self._key(parsed.slot)
                if key is not None:
                    note = read_note(HB, key, read_file(self.root / "hb" / name), parsed)
                    received.append(Received(note))
            except (BadMessage, OSError):
                continue  # the next beat replaces it
        self._beats = {name: mark for name, mark in self._beats.items() if name in seen}
        return Batch(tuple(received))

    def unlink(self, names: Iterable[str]) -> None:
        """Remove notifications whose commit is on disk (moving them out stalls inotify 0.5 s)."""
        for name in names:
            (self.root / "new" / name).unlink(missing_ok=True)

    def _read_one(self, name: str) -> Notification | None:
        parsed: FileName = parse_note_name(name)
        key = self._key(parsed.slot)
        if key is None:
            if (self.root / "slots" / parsed.slot).is_dir():
                self.unlink([name])  # late word of a slot that was proved ended
                return None
            raise BadMessage(f"slot {parsed.slot} is not known here")
        note = read_note(NEW, key, read_file(self.root / "new" / name), parsed)
        self._doubtful.pop(name, None)
        return note

    def _in_doubt(self, name: str, why: str) -> bool:
        """A torn or half-visible file gets a little time before it is refused."""
        if "mac" not in why and "torn" not in why:
            return False
        first = self._doubtful.setdefault(name, time.monotonic())
        if time.monotonic() - first < DOUBT_S:
            return True
        del self._doubtful[name]
        return False

    def _quarantine(self, name: str, why: str) -> None:
        """Into bad/ with its reason; only the reason of what is too large or no file."""
        bad, source = self.root / "bad", self.root / "new" / name
        kept = os.fsdecode(os.fsencode(name)[:200])  # room for `.why` within 255 bytes
        with os.scandir(bad) as entries:
            full = sum(1 for _ in entries) >= 2 * MAX_BAD
        try:
            info = source.lstat()
            keep = stat.S_ISREG(info.st_mode) and info.st_size <= MAX_FILE and not full
            if not full:
                (bad / f"{kept}.why").write_text(why + "\n")
            if keep:
                source.rename(bad / kept)
            elif stat.S_ISDIR(info.st_mode):
                source.rmdir()
            else:
                source.unlink()
        except OSError:
            self._stuck.add(name)  # a directory that is not empty: told of once

    def _key(self, slot: str) -> bytes | None:
        if slot not in self._keys:
            try:
                self._keys[slot] = bytes.fromhex(
                    read_file(self.root / "slots" / slot / "key").decode()
                )
            except (OSError, ValueError, BadMessage):
                return None
        return self._keys[slot]

    # -- slots

    def write_slot(self, slot: str, files: Mapping[str, tuple[bytes, int]]) -> Path:
        """Write a slot's files (name -> bytes, mode); the first key stays. Returns its path."""
        place = self.root / "slots" / slot
        place.mkdir(mode=0o700, exist_ok=True)
        for name, (data, mode) in files.items():
            if name != "key" or not (place / name).exists():
                self._write(place / name, data, mode)
        self._keys.pop(slot, None)
        return place

    def key(self, slot: str) -> bytes:
        """The slot's key. Raises WspilotError when it is gone."""
        key = self._key(slot)
        if key is None:
            raise WspilotError(f"slot {slot} has no key in {self.root}/slots/{slot}")
        return key

    def claim_epoch(self, slot: str) -> bool:
        """Close the slot against launchers: True when no launcher has ever claimed it."""
        place = self.root / "slots" / slot
        place.mkdir(mode=0o700, exist_ok=True)
        try:
            (place / "epoch.1").mkdir(mode=0o700)
        except FileExistsError:
            return (place / "epoch.1" / "closed").exists()
        (place / "epoch.1" / "closed").touch()
        return True

    def close_slot(self, slot: str, proved: bool) -> None:
        """Remove its heartbeats and commands; the keys too when everything is proved."""
        self._forget(slot)
        if proved:
            shutil.rmtree(self.root / "slots" / slot / "hostkeys", ignore_errors=True)
        if proved:
            (self.root / "slots" / slot / "key").unlink(missing_ok=True)
            self._keys.pop(slot, None)

    def wipe_slot(self, slot: str) -> None:
        """`keep` is over."""
        self._forget(slot)
        remove_tree(self.root / "slots" / slot)
        self._keys.pop(slot, None)

    def _forget(self, slot: str) -> None:
        """By name: a guardian has a heartbeat of its own, and a pilot whose first word never came
        has made its directory for commands all the same."""
        for directory in ("hb", "cmd"):
            with os.scandir(self.root / directory) as entries:
                mine = [Path(one.path) for one in entries if one.name.startswith(f"{slot}_")]
            for path in mine:
                if directory == "hb":
                    path.unlink(missing_ok=True)
                else:
                    remove_tree(path)

    def install(self, zipapp: bytes, digest: str) -> Path:
        """Node code under its digest: written once, never overwritten."""
        path = self.root / "bin" / f"{digest}.pyz"
        if not path.exists():
            self._write(path, zipapp, 0o600)
        return path

    # -- commands

    def write_order(self, directory: str, name: str, raw: bytes) -> None:
        """A command's file, through tmp/ and a rename."""
        place = self.root / "cmd" / directory
        place.mkdir(mode=0o700, exist_ok=True)
        self._write(place / name, raw, 0o600)

    def remove_order(self, directory: str, name: str) -> None:
        """The command was answered."""
        (self.root / "cmd" / directory / name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what a crash left in tmp/ a day ago."""
        limit = time.time() - STALE_TMP_S
        with os.scandir(self.root / "tmp") as entries:
            for entry in entries:
                if entry.stat(follow_symlinks=False).st_mtime < limit:
                    Path(entry.path).unlink(missing_ok=True)

    def _write(self, path: Path, data: bytes, mode: int) -> None:
        temporary = self.root / "tmp" / f".{os.getpid()}.{time.monotonic_ns()}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def read_file(path: Path) -> bytes:
    """A regular file of ours, never a link, bounded. Raises BadMessage, FileNotFoundError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise BadMessage(f"cannot be opened: {error.strerror}") from None
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise BadMessage("not a regular file")
        if info.st_uid != os.getuid():
            raise BadMessage(f"owned by uid {info.st_uid}")
        return os.read(descriptor, MAX_FILE + 1)
    finally:
        os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Remove a directory of plain files (and epoch directories) without following links."""
    try:
        with os.scandir(path) as entries:
            inside = list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in inside:
        if entry.is_dir(follow_symlinks=False):
            remove_tree(Path(entry.path))
        else:
            Path(entry.path).unlink(missing_ok=True)
    path.rmdir()


class _Hint(FileSystemEventHandler):
    """Sets one flag and nothing else: a handler that raises would kill the observer in silence."""

    def __init__(self, loop: asyncio.AbstractEventLoop, flag: asyncio.Event) -> None:
        self._loop, self._flag = loop, flag

    def on_any_event(self, event: FileSystemEvent) -> None:
        try:
            self._loop.call_soon_threadsafe(self._flag.set)
        except RuntimeError:
            pass  # the loop is closed


class Watch:
    """Wakes the loop it was made in when something appears in new/. `arm` again whenever it may be
    dead, and never from the loop: a filesystem that hangs would take the daemon with it."""

    def __init__(self, path: Path, flag: asyncio.Event) -> None:
        self._path, self._hint = path, _Hint(asyncio.get_running_loop(), flag)
        self._observer: Observer | None = None  # type: ignore[valid-type]
        self._inode = 0

    def arm(self) -> None:
        """Watch, or watch again after the directory or the observer has gone."""
        inode = self._path.stat().st_ino
        observer = self._observer
        if observer is not None:
            alive = observer.is_alive() and all(one.is_alive() for one in observer.emitters)
            if alive and inode == self._inode:
                return
            self.close()
        observer = Observer()
        kinds: list[type[FileSystemEvent]] = [FileCreatedEvent, FileMovedEvent]
        observer.schedule(self._hint, str(self._path), event_filter=kinds)
        observer.start()
        self._observer, self._inode = observer, inode

    def close(self) -> None:
        """Stop its threads."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(2)
            self._observer = None

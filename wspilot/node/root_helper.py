"""wspilot-root: the steps on a node that need root, and nothing else (DESIGN.md section 7).

Installed by `make install-node` as /usr/local/libexec/wspilot-root: this frame and the verbs
(`root_*.py`) as one file, root's own, allowed by one sudo rule. It stands alone: nothing else of
wspilot is in it, and nothing that a user could write to is ever imported.

Called as `wspilot-root VERB`, with one JSON object on stdin; answers with one JSON object, exit 0,
or with `{"error", "hint"}`, exit 1. What may be done is limited by /etc/wspilot/node.conf, never by
what the caller says. One call at a time. What is on the node is made from root's own records in
/var/lib/wspilot, each written before its step; a record of another boot, or of a pilot whose
journal is gone, is a stray and is undone by whoever calls next.
"""

from __future__ import annotations

import configparser
import contextlib
import fcntl
import ipaddress
import json
import os
import pwd
import re
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from re import Pattern
from typing import Any, Optional

VERSION = 1
CONF = Path("/etc/wspilot/node.conf")
RECORDS = Path("/var/lib/wspilot")
INPUT_LIMIT, OUTPUT_LIMIT = 64 * 1024, 1024 * 1024
LOCK_S, STEP_S, WAKE_S = 20.0, 10.0, 0.5
ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


Words = Mapping[str, Any]  # what the caller said, or a record says; nothing of it is trusted
Record = dict[str, Any]
Records = dict[str, Record]  # by name
Ranges = list[ipaddress.IPv4Network]


class Refused(Exception):
    """What is wrong, and what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


# -- who asks, and what may be done here


class Caller:
    """The user for whom sudo runs this; root itself when there was no sudo."""

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise Refused("this is not run as root", "call it by sudo -n")
        self.uid = int(os.environ.get("SUDO_UID") or 0)
        self.gid = int(os.environ.get("SUDO_GID") or 0)
        try:
            self.name = pwd.getpwuid(self.uid).pw_name
        except KeyError:
            self.name = str(self.uid)

    def owns(self, uid: int) -> bool:
        """May it undo what was done for `uid`? Root may undo everything."""
        return self.uid in (0, uid)


class Limits:
    """/etc/wspilot/node.conf: what whoever may have done on this node."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._conf = configparser.ConfigParser(
            interpolation=None, strict=True, delimiters=("=",), inline_comment_prefixes=(";", "#")
        )
        try:
            with open(CONF, encoding="utf-8") as file:
                info = os.fstat(file.fileno())
                if info.st_uid != 0 or info.st_mode & 0o022:
                    raise Refused(
                        f"{CONF} can be written by others than root",
                        f"chown root {CONF}; chmod 644 {CONF}",
                    )
                self._conf.read_file(file)
        except FileNotFoundError:
            raise Refused(
                f"{CONF} is not there: nothing is allowed on this node",
                "docs/operating.md of wspilot says what stands in it",
            ) from None
        except (OSError, UnicodeDecodeError, configparser.Error) as error:
            raise Refused(f"{CONF} cannot be read: {one_line(error)}") from None

    def number(self, section: str, key: str) -> int:
        """A whole number that must be there."""
        text = self._conf.get(section, key, fallback="")
        if not text.isdecimal():
            raise Refused(f"{CONF}: [{section}] {key} is {text!r}, not a whole number")
        return int(text)

    def flag(self, section: str, key: str, default: bool) -> bool:
        """yes or no."""
        try:
            return self._conf.getboolean(section, key, fallback=default)
        except ValueError:
            raise Refused(f"{CONF}: [{section}] {key} is neither yes nor no") from None

    def text(self, section: str, key: str, default: str = "") -> str:
        """A word of the administrator's."""
        return self._conf.get(section, key, fallback=default)

    def ranges(self, bridge: str) -> Ranges:
        """The address ranges that this caller's VMs may have on a bridge."""
        section = f"bridge {bridge}"
        if not self._conf.has_section(section):
            known = [one[7:] for one in self._conf.sections() if one.startswith("bridge ")]
            raise Refused(
                f"bridge {bridge} is not one of this node's for VMs ({', '.join(known) or 'none'})",
                f"name it in {CONF}: [{section}]",
            )
        words = ""
        for name in {str(self._caller.uid), self._caller.name}:
            words += " " + self._conf.get(section, name, fallback="")
        return networks(words, f"{CONF}: [{section}] {self._caller.name}")

    def deny(self) -> Ranges:
        """What no guest may reach, whatever its network says."""
        return networks(self._conf.get("network", "deny", fallback=""), f"{CONF}: deny")


def networks(words: str, where: str) -> Ranges:
    """IPv4 ranges, from text with blanks or commas between them."""
    found = []
    for word in words.replace(",", " ").split():
        try:
            found.append(ipaddress.IPv4Network(word))
        except ValueError as error:
            raise Refused(f"{where}: {one_line(error)}") from None
    return found


# -- words and commands

WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
JOURNAL = re.compile(r"[A-Za-z0-9_-]{1,128}\.journal")


def one_line(what: object, limit: int = 300) -> str:
    """Foreign text as data: one line, nothing that a terminal would obey."""
    return "".join(c if c.isprintable() else " " for c in str(what))[:limit].strip()


def word(words: Words, key: str, pattern: Pattern[str] = WORD) -> str:
    """A word of the caller's that fits a pattern."""
    found = words.get(key)
    if not isinstance(found, str) or not pattern.fullmatch(found):
        raise Refused(f"`{key}` is {one_line(repr(found), 80)}")
    return found


def number(words: Words, key: str, low: int, high: int) -> int:
    """A whole number of the caller's within limits."""
    found = words.get(key)
    if isinstance(found, bool) or not isinstance(found, int) or not low <= found <= high:
        raise Refused(f"`{key}` is {one_line(repr(found), 80)}, not {low} to {high}")
    return found


def run(
    argv: Sequence[str], limit_s: float = STEP_S, text: str = "", fine: Sequence[int] = (0,)
) -> str:
    """A program's output. It is killed when its time is over; raises Refused then, and for exit
    codes that are not `fine`."""
    try:
        done = subprocess.run(
            argv,
            input=text.encode(),
            capture_output=True,
            timeout=limit_s,
            env=ENV,
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Refused(f"{argv[0]} took longer than {limit_s:g} s") from None
    except OSError as error:
        raise Refused(f"{argv[0]} cannot be started: {error.strerror}") from None
    if done.returncode not in fine:
        said = one_line(done.stderr.decode("utf-8", "replace") or "no word")
        raise Refused(f"{' '.join(argv[:3])}: exit {done.returncode}: {said}")
    return done.stdout[:OUTPUT_LIMIT].decode("utf-8", "replace")


def program(name: str) -> Optional[str]:
    """Where it is, or None."""
    for place in ENV["PATH"].split(":"):
        if os.access(f"{place}/{name}", os.X_OK):
            return f"{place}/{name}"
    return None


def boot_id() -> str:
    """This boot of the node: what another one left is void."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


# -- records: root's own undo journal, one file for each thing that is on the node


def save(name: str, record: Words) -> None:
    """On disk before its step is taken."""
    temp = RECORDS / f".{name}"
    with open(temp, "w", encoding="utf-8") as file:
        json.dump(record, file)
        file.flush()
        os.fsync(file.fileno())
    temp.rename(RECORDS / name)


def load(suffix: str) -> Records:
    """All records of a kind, by name. A torn one is a step that was never taken."""
    found = {}
    for path in sorted(RECORDS.glob(f"*{suffix}")):
        try:
            record = json.loads(path.read_text())
        except (OSError, ValueError):
            record = None
        if isinstance(record, dict):
            found[path.name] = record
        else:
            path.unlink()
    return found


def forget(name: str) -> None:
    """Its step has been undone."""
    with contextlib.suppress(FileNotFoundError):
        (RECORDS / name).unlink()


def journal_of(caller: Caller, words: Words) -> str:
    """The path of the pilot's journal, which the record lives as long as."""
    path = words.get("journal")
    home = f"/var/tmp/wspilot-{caller.uid}/"
    if not isinstance(path, str) or not path.startswith(home) or "\0" in path:
        raise Refused(f"`journal` is {one_line(repr(path), 120)}, not below {home}")
    # One spelling for each: what is taken, and what of it is used, is known by it.
    if path != os.path.normpath(path) or not JOURNAL.fullmatch(path.rpartition("/")[2]):
        raise Refused(f"`journal` is {one_line(repr(path), 120)}, not below {home} as a pilot's is")
    return path


def head(caller: Caller, words: Words) -> Record:
    """What every record of a pilot's begins with: whose it is, and how long it holds."""
    journal, slot = journal_of(caller, words), word(words, "slot")
    return {"uid": caller.uid, "boot": boot_id(), "journal": journal, "slot": slot}


def is_stray(record: Words) -> bool:
    """Of another boot, or of a pilot whose journal says that nothing is left of it."""
    return record.get("boot") != boot_id() or not os.path.lexists(str(record.get("journal")))


# -- the call


def about(caller: Caller, limits: Limits, words: Words) -> Record:
    """Which version this is, what it can do, and what the caller may have here."""
    bridges = [one[7:] for one in limits._conf.sections() if one.startswith("bridge ")]
    ranges = {name: [str(one) for one in limits.ranges(name)] for name in bridges}
    return {"version": VERSION, "verbs": sorted(VERBS), "user": caller.name, "bridges": ranges}


# `root_main` adds those of the network and of Xen.
VERBS: dict[str, Callable[[Caller, Limits, Words], Record]] = {"about": about}
# Verbs with a lock of their own, and how long they wait for it.
PATIENCE: dict[str, Callable[[Limits], float]] = {}
BEGINNERS: set[str] = set()  # verbs that begin something, which nobody would undo


def answer(argv: Sequence[str], text: str) -> Record:
    """Carry out one call. Raises Refused, OSError."""
    caller = Caller()
    verb = VERBS.get(argv[0]) if len(argv) == 1 else None
    if verb is None:
        raise Refused(f"usage: wspilot-root VERB, one of {', '.join(sorted(VERBS))}")
    try:
        words = json.loads(text or "{}")
    except (ValueError, RecursionError):
        words = None
    if not isinstance(words, dict):
        raise Refused("stdin is not one JSON object")
    limits = Limits(caller)
    patience = PATIENCE.get(argv[0])
    with locked("xen.lock", patience(limits)) if patience else locked():
        if argv[0] in BEGINNERS and not is_heard():
            raise Refused("whoever asked does not wait for the answer any more")
        return verb(caller, limits, words)


def is_heard() -> bool:
    """Does anybody still read the answer? Whoever gave up has undone by now what was there then,
    and this call may have waited for the lock since."""
    look = select.poll()
    look.register(1, 0)
    return not look.poll(0)


@contextlib.contextmanager
def locked(name: str = "lock", limit_s: float = LOCK_S) -> Iterator[None]:
    """One call at a time on this node."""
    RECORDS.mkdir(mode=0o700, parents=True, exist_ok=True)
    info = RECORDS.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != 0 or info.st_mode & 0o022:
        raise Refused(f"{RECORDS} is not root's own directory")
    with open(RECORDS / name, "a") as file:
        end, wake = time.monotonic() + limit_s, 0.0
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                now = time.monotonic()
                if now > end:
                    raise Refused(f"another call has been at work for {limit_s:g} s") from None
                if now > wake:
                    _wake(RECORDS / name)
                    wake = now + WAKE_S
                time.sleep(0.01)
        _name_holder(file.fileno())
        yield


def _name_holder(lock: int) -> None:
    """Who has it, for `_wake`. On a full disk nobody knows, and it is held all the same."""
    with contextlib.suppress(OSError):
        os.truncate(lock, 0)
        os.write(lock, f"{os.getpid()} {_stat(os.getpid())[19]}".encode())


def _wake(lock: Path) -> None:
    """A batch system that suspends a job stops the helper in the middle of its step, and every
    other job on the node would wait for that one: it goes on, with the programs that it runs."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid, start = map(int, lock.read_text().split())
        if int(_stat(pid)[19]) != start:
            return
        pids = [pid]
        for one in pids:  # which grows
            with contextlib.suppress(OSError):
                found = Path(f"/proc/{one}/task/{one}/children").read_text()
                pids += map(int, found.split())
                if _stat(one)[0] == "T":
                    os.kill(one, signal.SIGCONT)


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat from the state on: proc(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def main() -> int:
    """A batch system's signals go to every process of a job: a step is not left in its middle."""
    for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)
    os.umask(0o022)
    try:
        text = sys.stdin.buffer.read(INPUT_LIMIT + 1)
        if len(text) > INPUT_LIMIT:
            raise Refused(f"stdin has more than {INPUT_LIMIT} bytes")
        found = answer(sys.argv[1:], text.decode("utf-8", "replace"))
    except Refused as error:
        print(json.dumps({"error": str(error), "hint": error.hint}))
        return 1
    except OSError as error:
        print(json.dumps({"error": one_line(error), "hint": ""}))
        return 1
    print(json.dumps(found))
    return 0

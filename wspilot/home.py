"""Where things lie: the daemon's home, its control socket, and the record of who holds the home.

Clients read `lock.json` to find the socket (XDG_RUNTIME_DIR differs between shells); only the
daemon writes it. Standard library only, and cheap to import.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path

from wspilot.errors import Refused, WspilotError

SOCKET_PATH_MAX = 107  # sun_path, less its end


def home_dir() -> Path:
    """`$WSPILOT_HOME`, else `$XDG_STATE_HOME/wspilot`, else `~/.local/state/wspilot`."""
    named = os.environ.get("WSPILOT_HOME")
    if named:
        return Path(named).absolute()
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "wspilot"


def runtime_dir() -> Path:
    """Where sockets lie: a directory of ours (0700). Raises Refused when it is somebody else's."""
    xdg = os.environ.get("XDG_RUNTIME_DIR")
    place = Path(xdg) / "wspilot" if xdg else Path(f"/tmp/wspilot-{os.getuid()}")
    own_dir(place)
    return place


def own_dir(path: Path) -> None:
    """Make a directory 0700, or check that it is one of ours. Raises Refused."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    info = path.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
        raise Refused(
            f"{path} is not a directory of uid {os.getuid()}", "remove it, or ask its owner"
        )
    if info.st_mode & 0o077:
        path.chmod(0o700)


def socket_path(home: Path) -> Path:
    """The control socket of a home: a short name, since 107 bytes are the limit."""
    digest = hashlib.sha256(os.fsencode(home.absolute())).hexdigest()[:16]
    path = runtime_dir() / f"{digest}.sock"
    if len(os.fsencode(path)) > SOCKET_PATH_MAX:
        raise WspilotError(
            f"{path} is too long for a socket ({SOCKET_PATH_MAX} bytes)",
            "set XDG_RUNTIME_DIR to a shorter directory",
        )
    return path


@dataclass(frozen=True)
class LockRecord:
    """Who holds a home, and where it listens. `start` is the process's start time in ticks."""

    host: str
    boot_id: str
    pid: int
    start: int
    socket: str


def read_record(home: Path) -> LockRecord | None:
    """What `lock.json` says, or None when there is none (or it cannot be understood)."""
    try:
        doc = json.loads((home / "lock.json").read_text("utf-8"))
        return LockRecord(
            str(doc["host"]),
            str(doc["boot_id"]),
            int(doc["pid"]),
            int(doc["start"]),
            str(doc["socket"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_record(home: Path, record: LockRecord) -> None:
    """Replace `lock.json` atomically."""
    temporary = home / f".lock.json.{os.getpid()}"
    temporary.write_text(json.dumps(asdict(record)), "utf-8")
    temporary.chmod(0o600)
    temporary.replace(home / "lock.json")


def boot_id() -> str:
    """The kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """When a process began, in clock ticks since boot (proc(5), field 22); None when it is gone."""
    try:
        stat_line = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat_line.rpartition(")")[2].split()[19])

"""What is written into a guest's own disk where it reads no seed: `context = "patch"`.

Pure: the files, and the lines for `debugfs` that put them there without root and without mounting
anything (`vmm/patching.py` runs it). Contents travel as descriptors, so that no host key ever lies
in a file of the node.

Invariant: every path in a debugfs script is one of ours below; nothing of a user's or a guest's is
ever a part of a line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from wspilot.errors import UsageError
from wspilot.node import context
from wspilot.node.agent import CLOUD
from wspilot.node.values import dataclass
from wspilot.text import clean

KEYS = "/root/.ssh/authorized_keys"  # the image's own lines stay
# Parents first. `/etc` has to be there: else this is no root filesystem.
FOLDERS = (("/etc", 0), ("/etc/wspilot", 0o755), ("/etc/ssh", 0o755), ("/root", 0o700),
           ("/root/.ssh", 0o700))  # fmt: skip
_ECHO = "debugfs: "
_TYPE = re.compile(r"^Inode: \d+ +Type: (\w+) +Mode: +(\d+)", re.MULTILINE)
_SIZE = re.compile(r"^User: .* Size: (\d+)$", re.MULTILINE)
KEYS_MOST = 1 << 16  # bytes of an image's own keys


@dataclass(frozen=True)
class Entry:
    """One file of the guest: owned by root."""

    path: str
    mode: int
    data: bytes


@dataclass(frozen=True)
class Seen:
    """What debugfs shows of some paths. Kind: "" where nothing is there."""

    kinds: Mapping[str, str]
    modes: Mapping[str, int]
    sizes: Mapping[str, int]


def entries(data: Mapping[str, Any], picture: Mapping[str, Any]) -> tuple[Entry, ...]:
    """The files, from a VM's `create` command and its workspace's picture. Raises ValueError."""
    made = context.files(data, picture)
    host = made["context"].split(b"\n", 1)[0].partition(b" ")[2]
    own = "/etc/ssh/ssh_host_ed25519_key"
    found = [
        Entry("/etc/hostname", 0o644, host + b"\n"),
        Entry("/etc/hosts", 0o644, made["hosts"]),
        Entry("/etc/ssh/ssh_known_hosts", 0o644, made["known_hosts"]),
        *(Entry(f"/etc/wspilot/{name}", 0o644, made[name])
          for name in ("context", "nodefile", "roles")),
        Entry("/etc/wspilot/script", 0o700, made["script"]),
        Entry("/etc/wspilot/user-data", 0o600, str(data.get("user_data") or "").encode()),
        Entry("/etc/wspilot/report", 0o755, CLOUD.encode()),
        Entry(KEYS, 0o600, made["keys"]),
    ]  # fmt: skip
    if made["host_key"]:
        found.append(Entry(own, 0o600, made["host_key"]))
        found.append(Entry(f"{own}.pub", 0o644, made["host_key.pub"]))
    return tuple(found)


def with_keys(found: Sequence[Entry], before: bytes) -> tuple[Entry, ...]:
    """The same, the image's own keys kept before the lease's."""
    lines = before.splitlines()
    kept = []
    for one in found:
        if one.path == KEYS:
            new = [line for line in one.data.splitlines() if line not in lines]
            one = Entry(one.path, one.mode, b"".join(line + b"\n" for line in [*lines, *new]))
        kept.append(one)
    return tuple(kept)


def look(found: Sequence[Entry]) -> str:
    """The script of a first, read-only look. `/.`: a folder may be a link to one."""
    paths = [f"{folder}/." for folder, _ in FOLDERS] + [one.path for one in found]
    return "".join(f"stat {path}\n" for path in paths)


def own_keys(known: Seen, target: int) -> str:
    """The script that reads the image's own keys into a descriptor. Raises UsageError."""
    if known.kinds.get(KEYS) != "regular":
        return ""
    if known.sizes.get(KEYS, -1) not in range(KEYS_MOST + 1):  # perhaps a hole of a TiB
        raise UsageError(f"has a {KEYS} of more than {KEYS_MOST} bytes")
    return f"dump {KEYS} {_fd(target)}\n"


def seen(said: str) -> Seen:
    """What debugfs says on its stdout. A `stat` of what is not there is nothing but its echo."""
    kinds, modes, sizes = {}, {}, {}
    for part in said.split(f"{_ECHO}stat ")[1:]:
        path, _, rest = part.partition("\n")
        rest = rest.split(_ECHO, 1)[0]
        match, size = _TYPE.search(rest), _SIZE.search(rest)
        kinds[path], modes[path] = (match[1], int(match[2], 8)) if match else ("", -1)
        sizes[path] = int(size[1]) if size else -1
    return Seen(kinds, modes, sizes)


def write(found: Sequence[Entry], known: Seen, sources: Sequence[int], back: Sequence[int]) -> str:
    """The script that writes, and reads back what came of it. Raises UsageError.

    `sources` are descriptors that hold the contents (and have the modes), `back` empty ones.
    A folder is made only where there is none: debugfs (1.47) links a second one in its place and
    leaves a damaged filesystem.
    """
    if known.kinds.get("/etc/.") != "directory":
        raise UsageError("has no folder /etc: it is not a guest's root filesystem")
    lines = []
    for folder, mode in FOLDERS[1:]:
        kind = known.kinds.get(f"{folder}/.")
        if not kind:
            lines += [f"mkdir {folder}", f"set_inode_field {folder} mode 0{0o40000 | mode:o}"]
        elif kind != "directory":
            raise UsageError(f"has a {clean(kind, 20)} in the place of the folder {folder}")
    for one, source in zip(found, sources):
        kind = known.kinds.get(one.path)
        if kind == "directory":
            raise UsageError(f"has a folder in the place of the file {one.path}")
        folder, _, name = one.path.rpartition("/")
        lines.append(f"cd {folder}/.")  # `write` and `rm` do not follow a folder that is a link
        lines += [f"rm {name}"] if kind else []
        lines.append(f"write {_fd(source)} {name}")
    for one, target in zip(found, back):
        lines += [f"stat {one.path}", f"dump {one.path} {_fd(target)}"]
    return "".join(f"{line}\n" for line in lines)


def wrong(found: Sequence[Entry], known: Seen, back: Sequence[bytes]) -> str:
    """The first file that is not as it was meant; empty when all are. debugfs ends with code 0
    whatever happens, so this alone tells."""
    for one, data in zip(found, back):
        mode = known.modes.get(one.path, -1) & 0o7777
        if known.kinds.get(one.path) != "regular" or mode != one.mode or data != one.data:
            return one.path
    return ""


def _fd(number: int) -> str:
    return f"/proc/self/fd/{number}"

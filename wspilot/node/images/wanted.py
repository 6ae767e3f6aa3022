"""What an image's files are, as a `create` command says it: checked before anything is fetched."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from wspilot.errors import UsageError
from wspilot.node.values import dataclass
from wspilot.text import clean

MOST_FILES = 32
MAX_BYTES = 1 << 46
_SHA = re.compile(r"[0-9a-f]{64}")
_ROLE = re.compile(r"kernel|initrd|disk|part[0-9]{1,2}")
_FORMATS = ("qcow2", "raw")


@dataclass(frozen=True)
class Wanted:
    """One file. `form` is qcow2 or raw, empty for what is no disk."""

    role: str
    where: str  # an absolute path, or a URL
    sha256: str
    bytes: int
    form: str = ""


def wanted(image: Mapping[str, Any]) -> tuple[Wanted, ...]:
    """The files of an image. Raises UsageError naming what is wrong."""
    files = image.get("files")
    if not isinstance(files, Mapping) or len(files) > MOST_FILES:
        raise UsageError("its image's files are no table")
    return tuple(_one(str(role), data, image) for role, data in files.items())


def _one(role: str, data: Any, image: Mapping[str, Any]) -> Wanted:
    if not _ROLE.fullmatch(role) or not isinstance(data, Mapping):
        raise UsageError(f"its image has a file {clean(repr(role), 40)}, which nobody knows")
    where, sha, size = data.get("path") or data.get("url"), data.get("sha256"), data.get("bytes")
    if not isinstance(where, str) or not where or "\0" in where or "\n" in where:
        raise UsageError(f"its image's {role} lies at {clean(repr(where), 80)}")
    if not isinstance(sha, str) or not _SHA.fullmatch(sha):
        raise UsageError(f"its image's {role} has no SHA-256: {clean(repr(sha), 80)}")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_BYTES:
        raise UsageError(f"its image's {role} is {clean(repr(size), 40)} bytes")
    return Wanted(role, where, sha, size, _form(role, image))


def _form(role: str, image: Mapping[str, Any]) -> str:
    """The format of a disk, as the image says it: a probed one could be made to lie."""
    if role == "disk":
        form = image.get("format")
    elif role.startswith("part"):
        parts, number = image.get("partitions"), int(role[4:])
        one = parts[number] if isinstance(parts, list) and number < len(parts) else None
        form = one.get("format") if isinstance(one, Mapping) else None
    else:
        return ""
    if form not in _FORMATS:
        raise UsageError(f"its image's {role} has format {clean(repr(form), 40)}, not qcow2 or raw")
    return str(form)


def local(image: Mapping[str, Any], paths: Mapping[str, str]) -> Mapping[str, Any]:
    """The image with its files where they are on this node."""
    found = dict(image)
    for role in ("kernel", "initrd", "disk"):
        if role in paths:
            found[role] = paths[role]
    parts = image.get("partitions")
    found["partitions"] = [
        {**one, "path": paths[f"part{n}"]}
        for n, one in enumerate(parts if isinstance(parts, list) else ())
    ]
    return found

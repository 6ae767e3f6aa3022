"""Writing a VM's disk into the site's repository as a new image: work of a child process.

The repository lies on the shared filesystem, which may hang. Invariant: the new image's folder
appears whole, with digests, sizes and image.json, or not at all; no image is ever replaced.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

from wspilot.errors import Refused, WspilotError
from wspilot.node.values import dataclass
from wspilot.text import check_name

BLOCK, TELL = 1 << 20, 1 << 24
DRAFT_OLD_S = 86400.0
_KEPT = ("kind", "append", "pattern", "ready", "context", "console")

Say = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Saving:
    """What is written: `flat` are files by role, `image` what the VM was started from."""

    repository: Path
    name: str
    image: Mapping[str, Any]
    flat: Mapping[str, str]


def store(task: Saving, say: Say) -> Mapping[str, Any]:
    """The new image's name and bytes. Blocks, for as long as the filesystem likes.

    Raises Refused when there is an image of that name, WspilotError, OSError.
    """
    check_name(task.name, "image")
    place = task.repository / task.name
    if os.path.lexists(place):
        raise Refused(f"an image {task.name} exists already", "choose another name")
    if not task.repository.is_dir():
        raise WspilotError(f"{task.repository} is not there, as seen from this node")
    _reap(task.repository, task.name)
    draft = task.repository / f".{task.name}.{os.urandom(4).hex()}.new"
    draft.mkdir(mode=0o700)
    try:
        size = _fill(draft, task, say)
        try:
            draft.rename(place)
        except OSError:
            raise Refused(f"an image {task.name} was made meanwhile", "choose another") from None
        _sync(task.repository)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return {"image": task.name, "bytes": size}


def _fill(draft: Path, task: Saving, say: Say) -> int:
    image, names = task.image, {"kernel": "vmlinuz", "initrd": "initrd"}
    sources = {role: str(image[role]) for role in names if image.get(role)}
    sources.update(task.flat)
    sizes: dict[str, int] = {}
    sums: dict[str, str] = {}
    before = 0
    for role, path in sources.items():
        name = names.get(role) or ("root.qcow2" if role == "disk" else f"{role}.qcow2")
        sizes[name], sums[name] = _copy(Path(path), draft / name, before, say)
        before += sizes[name]
    doc: dict[str, Any] = {key: image[key] for key in _KEPT if image.get(key)}
    doc.update({role: names[role] for role in names if role in sources})
    if "disk" in sources:
        doc.update(disk="root.qcow2", format="qcow2")
    doc["partitions"] = [
        {"file": f"part{n}.qcow2", "format": "qcow2", "role": str(one.get("role", ""))}
        for n, one in enumerate(image.get("partitions") or [])
    ]
    doc["blank"] = [
        {
            "size": f"{one['size_mib']}MiB",
            "fs": one.get("fs", "none"),
            "label": one.get("label", ""),
        }
        for one in image.get("blank") or []
    ]
    doc.update(schema=1, name=task.name, sizes=sizes, sha256=sums, saved_from=image.get("name", ""))
    text = json.dumps(doc, indent=1).encode() + b"\n"
    with open(draft / "image.json", "xb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    _sync(draft)
    return before


def _copy(source: Path, target: Path, before: int, say: Say) -> tuple[int, str]:
    """Bytes and SHA-256 of what was written and is on the disk."""
    total, done, told = hashlib.sha256(), 0, 0
    with open(source, "rb", buffering=0) as one, open(target, "xb") as other:
        while data := one.read(BLOCK):
            total.update(data)
            other.write(data)
            done += len(data)
            if done - told >= TELL:
                told = done
                say({"done": before + done})
        other.flush()
        os.fsync(other.fileno())
    return done, total.hexdigest()


def _reap(repository: Path, name: str) -> None:
    """Drafts of this name that a killed pilot left, a day ago or longer."""
    for path in repository.glob(f".{name}.*.new"):
        with contextlib.suppress(OSError):
            if time.time() - path.lstat().st_mtime > DRAFT_OLD_S:
                shutil.rmtree(path, ignore_errors=True)


def _sync(place: Path) -> None:
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

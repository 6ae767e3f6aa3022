"""What may lie in the spool for nobody: listed for fsck, and removed when it says so. Blocks."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from wspilot.daemon.audit import Leftovers
from wspilot.daemon.spool import DIRS, STALE_TMP_S, Spool, read_file, remove_tree
from wspilot.messages import BadMessage


def find(root: Path) -> Leftovers:
    """Everything in the spool that has to be judged. Raises OSError."""
    slots, code = _names(root / "slots"), _names(root / "bin")
    scripts = b"".join(_content(root / "slots" / slot / "job.sh") for slot in slots)
    newest = max(code, key=lambda name: _changed(root / "bin" / name), default="")
    old = time.time() - STALE_TMP_S
    return Leftovers(
        slots=slots,
        cmd=_names(root / "cmd"),
        beats=_names(root / "hb"),
        bad=_names(root / "bad"),
        stale=tuple(name for name in _names(root / "tmp") if _changed(root / "tmp" / name) < old),
        code=tuple(name for name in code if name != newest and os.fsencode(name) not in scripts),
    )


def discard(spool: Spool, paths: Iterable[str]) -> None:
    """Remove what is named as `folder/name`, and nothing elsewhere; links are not followed."""
    for path in paths:
        folder, _, name = path.partition("/")
        if folder not in DIRS or not name or "/" in name or name in (".", ".."):
            continue
        target = spool.root / folder / name
        if folder == "slots":
            spool.wipe_slot(name)
        elif target.is_dir() and not target.is_symlink():
            remove_tree(target)
        else:
            target.unlink(missing_ok=True)


def _names(folder: Path) -> tuple[str, ...]:
    with os.scandir(folder) as entries:
        return tuple(sorted(entry.name for entry in entries))


def _content(path: Path) -> bytes:
    """A small file of ours; nothing where there is none."""
    try:
        return read_file(path)
    except (BadMessage, OSError):
        return b""


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return time.time()

"""What couriers of ended slots leave on the spool: a draft in tmp/, a heartbeat that came late.

A courier writes its file in tmp/ and renames it at once; one that was killed in between leaves it.
A file is nobody's any more when its slot's key is gone, for then every node has spoken and was
believed (`Spool.close_slot`), and it has lain unchanged for a while on our own clock. Should a
courier have hung in between for so long, its rename fails, and it writes the file again.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from wspilot.messages import HB, NEW, BadMessage, parse_beat_name, parse_note_name

REST_S = 5.0


class Drafts:
    """Below one spool's root. Blocks; touches nothing of a slot that is on the books."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen: dict[Path, tuple[int, float]] = {}  # its last change, and since when we know

    def clear(self) -> None:
        """Look again, and remove what has rested. Raises OSError."""
        now, found = time.monotonic(), {}
        for folder in ("tmp", HB):
            with os.scandir(self._root / folder) as entries:
                names = [entry.name for entry in entries]
            for name in names:
                slot = _slot(name if folder == "tmp" else f"{HB}-{name}")
                if not slot or not self._is_over(slot):
                    continue
                path = self._root / folder / name
                try:
                    changed = path.lstat().st_mtime_ns
                except FileNotFoundError:
                    continue  # it was renamed just now
                was, since = self._seen.get(path, (changed, now))
                found[path] = (changed, since if was == changed else now)
        self._seen = found
        for path, (_, since) in found.items():
            if now - since >= REST_S:
                path.unlink(missing_ok=True)

    def _is_over(self, slot: str) -> bool:
        place = self._root / "slots" / slot
        return place.is_dir() and not (place / "key").exists()


def _slot(draft: str) -> str:
    """Whose a courier's draft is; empty for what is none (the daemon's own)."""
    direction, _, name = draft.partition("-")
    try:
        if direction == NEW:
            return parse_note_name(name).slot
        return parse_beat_name(name).slot if direction == HB else ""
    except BadMessage:
        return ""

"""Room kept on the store's disk, so that an end gets through when beginnings are refused.

When the disk is full a lease cannot be put on the books, and is refused; but a user who destroys
one must be heard. Pieces of ballast lie beside the store; each is given up for one such commit, and
laid again when there is room.
"""

from __future__ import annotations

import os
from pathlib import Path

PIECES = 24
PIECE_BYTES = 128 << 10  # more than the end of a workspace of a hundred VMs takes


class Ballast:
    """The pieces in one directory."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def lay(self) -> int:
        """Lay every piece that is missing, as far as there is room; how many there are. Blocks."""
        return sum(self._lay(self._place / f"ballast.{n}") for n in range(PIECES))

    def spend(self) -> bool:
        """Give one piece up. False: none is left."""
        for piece in sorted(self._place.glob("ballast.*")):
            try:
                piece.unlink()
            except OSError:
                continue
            return True
        return False

    def _lay(self, path: Path) -> bool:
        if path.exists():
            return True
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError:
            return False
        try:
            os.posix_fallocate(descriptor, 0, PIECE_BYTES)
        except OSError:
            path.unlink(missing_ok=True)
            return False
        finally:
            os.close(descriptor)
        return True

"""Where a node keeps what is ours: run-time files below /tmp, what must outlive a job in /var/tmp.

Both are named after the uid and the LRM's name of the node (several nodes may share one host), are
0700, and are refused when somebody else made them or they are symbolic links. What is empty at the
end is removed, so that a node shows nothing of an ended lease.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from pathlib import Path

from wspilot.errors import Refused
from wspilot.node.values import dataclass

RUN_ROOT, KEEP_ROOT, HELPER_ROOT = Path("/tmp"), Path("/var/tmp"), Path("/run/wspilot")
OUTBOX_KEEP_S = 7 * 86400.0
_TRIES = 20  # a neighbour may remove an empty parent between two of our steps


@dataclass(frozen=True)
class Places:
    """The directories of one node and one user."""

    node: str
    uid: int
    run_root: Path = RUN_ROOT
    keep_root: Path = KEEP_ROOT

    @property
    def run(self) -> Path:
        """Run-time files and sockets; the root helper's place where that was made for us."""
        helper = HELPER_ROOT / self.node
        if self.run_root == RUN_ROOT and _is_ours(helper, self.uid):
            return helper
        return self.run_root / f"wspilot-{self.uid}" / self.node

    @property
    def keep(self) -> Path:
        """Journals and outbox."""
        return self.keep_root / f"wspilot-{self.uid}" / self.node

    @property
    def outbox(self) -> Path:
        """Finished, signed messages that could not be delivered."""
        return self.keep / "outbox"

    def rundir(self, pilot: str) -> Path:
        """One pilot's run-time files; short, for a socket's path has 107 bytes."""
        return self.run / pilot[:8]

    def journal(self, slot: str, pilot: str) -> Path:
        """One pilot's undo journal."""
        return self.keep / f"{slot}_{pilot[:8]}.journal"

    def journals(self) -> list[Path]:
        """All pilots' undo journals here. Raises OSError when nobody can say."""
        # No pattern: each of kill-all's processes would compile it anew.
        return [path for path in inside(self.keep) if path.name.endswith(".journal")]

    def make(self, path: Path) -> Path:
        """Make a directory at or below `run` or `keep`, and check every one of ours on the way.

        Raises Refused when one is not ours, OSError when it cannot be made.
        """
        base = self.run_root if _below(path, self.run_root) else self.keep_root
        if not _below(path, base):
            base = HELPER_ROOT
        steps = [base.joinpath(*path.relative_to(base).parts[: n + 1]) for n in range(
            len(path.relative_to(base).parts)
        )]  # fmt: skip
        for left in range(_TRIES, 0, -1):
            try:
                for step in steps:
                    private(step, self.uid)
                return path
            except FileNotFoundError:
                if left == 1:
                    raise
        return path

    def tidy(self) -> None:
        """Remove what is empty, from the leaves up, and messages that nobody ever came for.

        Their slot or spool has vanished: whatever they proved has been proved otherwise by now.
        """
        try:
            messages = inside(self.outbox)
        except OSError:
            messages = []
        for path in messages:
            with contextlib.suppress(OSError):
                if time.time() - path.lstat().st_mtime > OUTBOX_KEEP_S:
                    path.unlink()
        for path in (self.outbox, self.keep, self.keep.parent, self.run, self.run.parent):
            if path not in (HELPER_ROOT, HELPER_ROOT / self.node):
                try:
                    path.rmdir()
                except OSError:
                    pass


def private(path: Path, uid: int) -> None:
    """Make one directory, or check the one that is there. Raises Refused."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    info = path.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != uid:
        raise Refused(
            f"{path} is not a directory of uid {uid}: somebody else made it",
            "ask the node's administrator to remove it",
        )
    if info.st_mode & 0o077:
        path.chmod(0o700)


def remove_tree(path: Path) -> None:
    """A directory of ours and all in it; never through a symbolic link."""
    shutil.rmtree(path, ignore_errors=True)


def inside(place: Path) -> list[Path]:
    """What lies in a directory; nothing where there is none, or it is closed to us. Raises OSError
    else: then it is no proof that nothing is there."""
    try:
        return sorted(place.iterdir())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _is_ours(path: Path, uid: int) -> bool:
    try:
        info = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(info.st_mode) and info.st_uid == uid


def _below(path: Path, base: Path) -> bool:
    return os.path.commonpath((path, base)) == str(base)

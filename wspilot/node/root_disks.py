"""A caller's files as xl opens them, for the root helper: opened as the caller, and handed on open.

So no path can be changed in between. Disks go through loop devices that free themselves.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
from collections.abc import Iterator, Mapping

from wspilot.node.root_helper import RECORDS, Caller, Refused

LOOP_GET_FREE, LOOP_CONFIGURE, LO_READ_ONLY, LO_AUTOCLEAR = 0x4C82, 0x4C0A, 1, 4
# Instead of Xen's own script, whose sharing checks a loop device of our own does not need: dozens
# of processes, a /dev/stdin, and on a busy node more than the 40 s that libxl gives it.
BLOCK = """\
#!/bin/sh
[ "$1" = add ] || exit 0
d=$(xenstore-read "$XENBUS_PATH/params") && n=$(stat -L -c %t:%T "$d") || exit 1
exec xenstore-write "$XENBUS_PATH/physical-device" "$n" \\
  "$XENBUS_PATH/physical-device-path" "$d" "$XENBUS_PATH/hotplug-status" connected
"""


def block_script() -> str:
    """Beside the records: /run may be mounted noexec. By rename: another guest may run it now."""
    path = RECORDS / "block"
    if not path.exists() or path.read_text() != BLOCK:
        draft = RECORDS / ".block"
        draft.write_text(BLOCK)
        draft.chmod(0o755)
        draft.rename(path)
    return str(path)


@contextlib.contextmanager
def _opened(caller: Caller, path: str, access: str) -> Iterator[int]:
    """A regular file, opened with the caller's rights and none of root's."""
    groups = os.getgroups()
    try:
        if caller.uid:
            os.initgroups(caller.name, caller.gid)
            os.setegid(caller.gid)
            os.seteuid(caller.uid)
        flags = (os.O_RDWR if access == "w" else os.O_RDONLY) | os.O_CLOEXEC | os.O_NONBLOCK
        fd = os.open(path, flags)
    except OSError as error:
        raise Refused(f"{path} cannot be opened by {caller.name}: {error.strerror}") from None
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise Refused(f"{path} is not a file")
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def handed(caller: Caller, path: str, access: str) -> Iterator[str]:
    """A path by which xl opens exactly the file that was opened here."""
    with _opened(caller, path, access) as fd:
        yield f"/proc/{os.getpid()}/fd/{fd}"


@contextlib.contextmanager
def loop(caller: Caller, disk: Mapping[str, str]) -> Iterator[str]:
    """A loop device above the file, which frees itself when nobody has it open any more."""
    flags = LO_AUTOCLEAR | (LO_READ_ONLY if disk["access"] == "r" else 0)
    with _opened(caller, disk["path"], disk["access"]) as backing:
        name = os.fsencode(disk["path"])[-63:]
        config = struct.pack("=II16xQQQIIII64s64s32s16x64x", backing, 0, 0, 0, 0, 0, 0, 0, flags,
                             name, b"", b"")  # fmt: skip
        device = _free_loop(config)
    try:
        yield device[0]
    finally:
        os.close(device[1])


def _free_loop(config: bytes) -> tuple[str, int]:
    """A free loop device, configured: its path, and the descriptor that holds it."""
    with open("/dev/loop-control", "rb") as control:
        for _ in range(20):
            path = f"/dev/loop{fcntl.ioctl(control, LOOP_GET_FREE)}"
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(fd, LOOP_CONFIGURE, config)
                return path, fd
            except OSError as error:
                os.close(fd)
                if error.errno != 16:  # EBUSY: somebody else was faster
                    raise Refused(f"{path}: {error.strerror}", "Linux 5.8 or newer") from None
    raise Refused("no loop device is free")

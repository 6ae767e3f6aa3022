"""A filesystem that does not answer: a FUSE mount whose server says hello, and then nothing.

Any look into it blocks until the mount is taken away. Needs root (mount(2)) and /dev/fuse.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_FORCE_DETACH = 1 | 2
_INIT = 26


@contextmanager
def hung(place: Path) -> Iterator[None]:
    """`place` hangs for everybody inside. Raises OSError where it cannot be mounted."""
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    place.mkdir(parents=True, exist_ok=True)
    if _LIBC.mount(b"hung", os.fsencode(place), b"fuse", 0, options.encode()) != 0:
        os.close(device)
        raise OSError(ctypes.get_errno(), "mount")
    server = threading.Thread(target=_greet, args=(device,), daemon=True)
    server.start()
    try:
        server.join(5)
        yield
    finally:
        _LIBC.umount2(os.fsencode(place), _FORCE_DETACH)
        os.close(device)  # whoever waits in it is let go with an error


def _greet(device: int) -> None:
    """Answer FUSE_INIT (fuse(4), protocol 7.31), and read nothing more."""
    request = os.read(device, 1 << 17)
    _, opcode, unique = struct.unpack_from("=IIQ", request)
    assert opcode == _INIT, opcode
    body = struct.pack("=IIIIHHIIHHI7I", 7, 31, 1 << 17, 0, 12, 10, 1 << 17, 1, 32, 0, 0, *[0] * 7)
    os.write(device, struct.pack("=IiQ", 16 + len(body), 0, unique) + body)

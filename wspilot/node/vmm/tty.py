"""A Xen guest's first console (hvc0) as its pilot reads and writes it: a pty of xenconsoled's.

The root helper gives the pilot the slave side, so that no process of root's has to stay for it.
The pty goes with its domain: its end is how a guest's end is noticed. Throttled as `voice.Channel`
is, for the guest is hostile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Callable

from wspilot.node.vmm.voice import BYTES_A_SECOND, OUT_LIMIT

_CHUNK = 16 * 1024


class Tty:
    """Reads from the start; `take` gets what the guest says, `gone` is called once at its end."""

    def __init__(self, path: str, take: Callable[[bytes], None], gone: Callable[[], None]) -> None:
        """Raises OSError."""
        self._loop = asyncio.get_running_loop()
        self._take, self._gone = take, gone
        self._out = bytearray()
        flags = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
        self._fd = os.open(path, flags)
        self._loop.add_reader(self._fd, self._readable)

    def put(self, data: bytes) -> bool:
        """To the guest; False: it has not read what it was told before, this was not taken."""
        if self._fd < 0 or len(self._out) > OUT_LIMIT:
            return False
        self._out += data
        self._write()
        return True

    def close(self) -> None:
        """No more of it, and `gone` is not called any more."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _readable(self) -> None:
        data = self._read()
        if data is None:
            return
        if not data:
            self.close()
            self._gone()
            return
        self._loop.remove_reader(self._fd)  # armed again first: `take` may raise
        self._loop.call_later(len(data) / BYTES_A_SECOND, self._again)
        self._take(data)

    def _again(self) -> None:
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._readable)

    def _read(self) -> bytes | None:
        """None: nothing yet. Empty: xenconsoled has closed it, for the domain is gone."""
        try:
            return os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def _write(self) -> None:
        try:
            while self._out:
                del self._out[: os.write(self._fd, self._out)]
        except BlockingIOError:
            self._loop.add_writer(self._fd, self._write)
            return
        except OSError:
            self._out.clear()  # the reader's side sees that it is gone
        with contextlib.suppress(OSError, ValueError):
            self._loop.remove_writer(self._fd)

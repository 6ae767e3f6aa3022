"""Frames between the pilot (or guardian) and its courier: one kind byte, four of length, the rest.

To the courier: `P` put (`new|hb`, NUL, file name, NUL, bytes), `R` read a command again (its name),
`L` look for commands now, `Q` quit when all is stored. From it: `K` stored (file name), `C` a
command (name, NUL, bytes), `A` alive, `E` an error in words, `O` the outbox has been gone through.
"""

from __future__ import annotations

import struct

_HEAD = struct.Struct("!cI")
LONGEST = 1 << 20

PUT, REREAD, LOOK, QUIT = b"P", b"R", b"L", b"Q"
STORED, COMMAND, ALIVE, ERROR, OUTBOX = b"K", b"C", b"A", b"E", b"O"


def frame(kind: bytes, payload: bytes = b"") -> bytes:
    """One frame."""
    return _HEAD.pack(kind, len(payload)) + payload


class Splitter:
    """Bytes in, whole frames out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """The frames that are complete now. Raises ValueError when it is not our protocol."""
        self._buffer += data
        frames = []
        while len(self._buffer) >= _HEAD.size:
            kind, length = _HEAD.unpack_from(self._buffer)
            if length > LONGEST:
                raise ValueError(f"a frame of {length} bytes")
            if len(self._buffer) < _HEAD.size + length:
                break
            frames.append((kind, bytes(self._buffer[_HEAD.size : _HEAD.size + length])))
            del self._buffer[: _HEAD.size + length]
        return frames

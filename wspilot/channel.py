"""The live channel's wire format: what a pilot, the daemon and `wspilot console` say over TCP.

Both sides prove that they hold the slot's key before anything else is said; each direction then has
a key of its own, made from both nonces, and every frame a MAC over a counter, so that nothing can
be forged, replayed or left out. Nothing is encrypted (docs/operating.md). Bytes in, values out: no
I/O, no clock. Standard library only, Python 3.9 (nodes share it).

    server  WSPILOT-LIVE 1 NONCE             client  HELLO NONCE MAC
    server  WELCOME MAC                      then frames: length (4), kind (1), payload, MAC (16)
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import struct
from collections.abc import Mapping
from typing import Any

HELLO = len(f"HELLO {'0' * 32} {'0' * 64}\n")  # bytes of the client's line
LINE_MAX = 128  # of the server's lines
MOST = 1 << 16  # of a frame's payload
MAC = 16
HEAD = struct.Struct("!IB")
ASK, SAID, DATA, END, OVER = range(1, 6)
"""What is wanted (JSON); its answer (JSON); bytes; no more bytes from here; the end, in words."""
_GREETING = re.compile(rb"WSPILOT-LIVE ([0-9]{1,4}) ([0-9a-f]{32})\n")
_HELLO = re.compile(rb"HELLO ([0-9a-f]{32}) ([0-9a-f]{64})\n")
_WELCOME = re.compile(rb"WELCOME ([0-9a-f]{64})\n")


class BadChannel(ValueError):
    """The other side does not speak this protocol, or does not hold the key."""


def nonce() -> str:
    """Never the same again."""
    return os.urandom(16).hex()


class Parley:
    """One handshake, as either side sees it: the slot's key, the pilot's id, and both nonces."""

    def __init__(self, key: bytes, pilot: str, server: str, client: str) -> None:
        self._key, self._about = key, f"{pilot} {server} {client}"
        self.server, self.client = server, client

    def _mac(self, role: str) -> bytes:
        text = f"wspilot live {role}\0{self._about}".encode()
        return hmac.new(self._key, text, "sha256").digest()

    def hello(self) -> bytes:
        """The client's line."""
        return f"HELLO {self.client} {self._mac('client').hex()}\n".encode()

    def welcome(self) -> bytes:
        """The server's second line."""
        return f"WELCOME {self._mac('server').hex()}\n".encode()

    def check_welcome(self, line: bytes) -> None:
        """Raises BadChannel when the server does not hold the key."""
        match = _WELCOME.fullmatch(line)
        if match is None or not hmac.compare_digest(match[1], self._mac("server").hex().encode()):
            raise BadChannel("who answers there is not this slot's pilot")

    def sealer(self, server: bool) -> Sealer:
        """For what this side says."""
        return Sealer(self._mac("to client" if server else "to server"))

    def opener(self, server: bool) -> Opener:
        """For what the other side says."""
        return Opener(self._mac("to server" if server else "to client"))


def greeting(server: str) -> bytes:
    """The server's first line."""
    return f"WSPILOT-LIVE 1 {server}\n".encode()


def read_greeting(line: bytes) -> str:
    """The server's nonce. Raises BadChannel."""
    match = _GREETING.fullmatch(line)
    if match is None:
        raise BadChannel("no live channel answers there")
    if match[1] != b"1":
        raise BadChannel(f"the live channel there is of version {match[1].decode()}, this is 1")
    return match[2].decode()


def read_hello(key: bytes, pilot: str, server: str, line: bytes) -> Parley:
    """The parley of a client that holds the key. Raises BadChannel."""
    match = _HELLO.fullmatch(line)
    if match is None:
        raise BadChannel("no hello")
    parley = Parley(key, pilot, server, match[1].decode())
    if not hmac.compare_digest(parley.hello(), line):
        raise BadChannel("a wrong key")
    return parley


class Sealer:
    """Seals what one side says."""

    def __init__(self, key: bytes) -> None:
        self._key, self._count = key, 0

    def seal(self, kind: int, payload: bytes = b"") -> bytes:
        """One frame; `payload` is at most `MOST` bytes."""
        head = HEAD.pack(len(payload), kind)
        mac = _seal(self._key, self._count, head, payload)
        self._count += 1
        return head + payload + mac

    def words(self, kind: int, doc: Mapping[str, Any]) -> bytes:
        """A frame of JSON."""
        return self.seal(kind, json.dumps(doc).encode())


class Opener:
    """Opens what the other side has sealed, in order, each frame once."""

    def __init__(self, key: bytes) -> None:
        self._key, self._count = key, 0
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The frames that are complete now. Raises BadChannel; then nothing more may be read."""
        self._buffer += data
        found = []
        while len(self._buffer) >= HEAD.size:
            length, kind = HEAD.unpack_from(self._buffer)
            if length > MOST:
                raise BadChannel("a frame that is too long")
            end = HEAD.size + length + MAC
            if len(self._buffer) < end:
                break
            payload = bytes(self._buffer[HEAD.size : end - MAC])
            mac = _seal(self._key, self._count, bytes(self._buffer[: HEAD.size]), payload)
            if not hmac.compare_digest(mac, bytes(self._buffer[end - MAC : end])):
                raise BadChannel("a frame that is not the other side's")
            self._count += 1
            del self._buffer[:end]
            found.append((kind, payload))
        return found


def _seal(key: bytes, count: int, head: bytes, payload: bytes) -> bytes:
    made = hashlib.blake2s(struct.pack("!Q", count) + head, key=key, digest_size=MAC)
    made.update(payload)
    return made.digest()


def words(payload: bytes) -> Mapping[str, Any]:
    """A frame of JSON: an object. Raises BadChannel."""
    try:
        doc = json.loads(payload)
    except (ValueError, RecursionError):
        doc = None
    if not isinstance(doc, dict):
        raise BadChannel("a frame that is no JSON object")
    return doc

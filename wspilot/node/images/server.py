"""Gives this node's images to the workspace's other nodes: a process of its own, a child.

It reads nothing but the cache, by digest, for whoever proves the workspace's key; at most `FED` at
a time are sent a file, so that a tree of nodes forms by itself. A file that is only being fetched
is sent as it grows.
"""

from __future__ import annotations

import os
import selectors
import socket
import time
from typing import Optional

from wspilot.node.images import talk
from wspilot.node.images.cache import CANDIDATE, READING, SOURCE, Cache, stamp
from wspilot.node.images.talk import Answer, Question

FED = 2
MOST = 64  # connections; a stranger's are dropped after ASK_S
ASK_S = 5.0
STALL_S = 30.0  # a reader that takes nothing for so long is gone
POLL_S = 0.02
CHUNK, TURN = 1 << 18, 16
_STATES = {b"": talk.NONE, READING: talk.READING, SOURCE: talk.SOURCE,
           CANDIDATE: talk.CANDIDATE}  # fmt: skip


class Guest:
    """One connection."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel, self.nonce = channel, talk.nonce()
        self.line, self.since = b"", time.monotonic()
        self.asked: Optional[Question] = None
        self.fd, self.at = -1, 0
        self.full = False  # its socket takes no more now: select says when

    def close(self) -> None:
        """No more of it."""
        self.channel.close()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Server:
    """Serves until it is killed; `listener` was opened by the pilot."""

    def __init__(self, listener: socket.socket, cache: Cache, key: bytes) -> None:
        self._listener, self._cache, self._key = listener, cache, key
        self._guests: dict[int, Guest] = {}
        self._select = selectors.DefaultSelector()

    def run(self) -> None:
        """Never returns."""
        self._listener.setblocking(False)
        self._select.register(self._listener, selectors.EVENT_READ)
        while True:
            feeding = any(one.fd >= 0 and not one.full for one in self._guests.values())
            for key, events in self._select.select(POLL_S if feeding else 1.0):
                if key.fileobj is self._listener:
                    self._accept()
                elif events & selectors.EVENT_READ:
                    self._hear(self._guests[key.fd])
            for guest in list(self._guests.values()):
                self._feed(guest)

    def _accept(self) -> None:
        try:
            channel, _ = self._listener.accept()
        except OSError:
            return
        if len(self._guests) >= MOST:
            channel.close()
            return
        channel.setblocking(False)
        guest = Guest(channel)
        self._guests[channel.fileno()] = guest
        self._select.register(channel, selectors.EVENT_READ)
        try:
            channel.send(guest.nonce.encode() + b"\n")
        except OSError:
            self._drop(guest)

    def _drop(self, guest: Guest) -> None:
        self._guests.pop(guest.channel.fileno(), None)
        try:
            self._select.unregister(guest.channel)
        except (KeyError, ValueError):
            pass
        guest.close()

    def _hear(self, guest: Guest) -> None:
        try:
            data = guest.channel.recv(talk.LINE_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        guest.line += data
        if not data or guest.asked is not None or len(guest.line) > talk.LINE_MAX:
            self._drop(guest)
        elif b"\n" in guest.line:
            one = talk.read_question(self._key, guest.nonce, guest.line.partition(b"\n")[0])
            if one is None:
                self._drop(guest)
            else:
                self._answer(guest, one)

    def _answer(self, guest: Guest, one: Question) -> None:
        guest.asked, guest.since = one, time.monotonic()
        answer = self._state(one.sha)
        if one.verb == "GET":
            ready = answer.fed < FED and answer.bytes > one.offset
            guest.fd = self._open(one.sha) if ready else -1
            if guest.fd < 0:
                answer = Answer(talk.NONE, 0, answer.fed)
            guest.at = one.offset
        try:
            guest.channel.send(talk.answer_line(self._key, one.nonce, answer))
        except OSError:
            self._drop(guest)

    def _state(self, sha: str) -> Answer:
        fed = sum(guest.fd >= 0 for guest in self._guests.values())
        try:
            info = self._cache.path(sha).lstat()
            if info.st_mtime_ns == stamp(sha):
                return Answer(talk.HAVE, info.st_size, fed)
        except OSError:
            pass
        state = _STATES.get(self._cache.doing(sha), talk.WAITING)
        try:
            size = self._cache.part(sha).lstat().st_size if state != talk.NONE else 0
        except OSError:
            size = 0
        return Answer(state, size, fed)

    def _open(self, sha: str) -> int:
        for path in (self._cache.path(sha), self._cache.part(sha), self._cache.path(sha)):
            try:
                return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:
                continue
        return -1

    def _feed(self, guest: Guest) -> None:
        """What it takes now, and no more: others wait. A whole file that was sent is at its end."""
        now = time.monotonic()
        if guest.fd < 0:
            if now - guest.since > ASK_S:
                self._drop(guest)
            return
        try:
            full = False
            for _ in range(TURN):
                sent = os.sendfile(guest.channel.fileno(), guest.fd, guest.at, CHUNK)
                guest.at, guest.since = guest.at + sent, now
                if not sent:
                    break
            at_end = guest.at >= os.fstat(guest.fd).st_size
        except BlockingIOError:
            full, at_end = True, False
        except OSError:
            self._drop(guest)
            return
        if now - guest.since > STALL_S or (at_end and not self._grows(guest)):
            self._drop(guest)
        elif full != guest.full:
            guest.full = full
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if full else 0)
            self._select.modify(guest.channel, wanted)

    def _grows(self, guest: Guest) -> bool:
        """Is what it reads still being written? A part that was given up is nobody's."""
        assert guest.asked is not None
        part = self._cache.part(guest.asked.sha)
        try:
            same = os.path.samestat(os.fstat(guest.fd), part.lstat())
        except OSError:
            return False
        return same and self._cache.doing(guest.asked.sha) in (READING, SOURCE)

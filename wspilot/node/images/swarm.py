"""Which of a workspace's nodes reads an image from its source, and whom the others get it from.

Each node that wants a file has its lock, in which it says what it does (cache.py), and its server
tells the sisters. A node that finds nobody with more of it than itself stands as a candidate, looks
once more, and goes to the source if it is still alone: of two candidates the first in an order
drawn from the digest goes on. So one node reads the source and the others read nodes, each of which
passes on what it has got so far. Where nobody answers everybody goes to the source: no node waits
for another longer than `PATIENCE_S` without a byte.

Invariant: a node is fed only by one that has more of the file, so no two wait for each other.
"""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Mapping
from typing import Any, Optional

from wspilot.node.images import talk
from wspilot.node.images.cache import CANDIDATE, READING, SOURCE, WAITING, Lock
from wspilot.node.images.talk import Answer
from wspilot.node.values import dataclass

PATIENCE_S = 20.0
ROUND_S = 0.1
SLOW = 3  # sisters that did not answer in time
STANDS = 20  # rounds that another candidate may take to yield
MOST_ASKED = 64  # of very large workspaces the first in order: all agree on these


@dataclass(frozen=True)
class Sister:
    """Another node's server."""

    node: str
    host: str
    port: int


def sisters(peers: Mapping[str, Any], me: str) -> tuple[Sister, ...]:
    """Those of a `context` command's peers that serve images; what is no address is left out."""
    found = []
    for node, ports in peers.items():
        cache = ports.get("cache") if isinstance(ports, Mapping) else None
        if node == me or not isinstance(cache, Mapping):
            continue
        host, port = cache.get("host"), cache.get("port")
        if not isinstance(port, int) or not 0 < port < 65536:
            continue
        if isinstance(host, str) and 0 < len(host) <= 255:
            found.append(Sister(str(node), host, port))
    return tuple(found)


class Swarm:
    """One file's fetch as this node sees it."""

    def __init__(
        self, me: str, others: tuple[Sister, ...], key: bytes, sha: str, lock: Lock
    ) -> None:
        self._me, self._key, self._sha, self._lock = _rank(me, sha), key, sha, lock
        ranked = sorted((_rank(one.node, sha), one) for one in set(others))
        self._others = dict(ranked[:MOST_ASKED])
        self._slow = 0

    def feeder(self, have: int) -> Optional[socket.socket]:
        """A sister's stream from byte `have` on; None: this node goes to the source, and has said
        so. Blocks until one of the two is so."""
        most, patience = -1, 0.0
        while True:
            self._lock.say(WAITING)
            answers = self._ask()
            now, best = time.monotonic(), max((one.bytes for one in answers.values()), default=0)
            if best > most:
                most, patience = best, now + PATIENCE_S
            stream = self._stream(answers, have)
            if stream is not None:
                self._lock.say(READING)
                return stream
            if now > patience or (self._is_mine(answers, have) and self._stand(have)):
                self._lock.say(SOURCE)
                return None
            time.sleep(ROUND_S)

    def _ask(self) -> dict[str, Answer]:
        """Who answers, and what. Whoever does not is not asked again; where nobody ever answered
        and several let us wait, there is no way between the nodes."""
        answers = {}
        for rank in list(self._others):
            began = time.monotonic()
            got = talk.ask(self._where(rank), self._key, "ASK", self._sha)
            if got is not None:
                got[1].close()
                answers[rank] = got[0]
                self._slow = -len(self._others)
                continue
            del self._others[rank]
            self._slow += time.monotonic() - began > talk.ANSWER_S / 2
            if self._slow >= SLOW:
                self._others.clear()
                break
        return answers

    def _where(self, rank: str) -> tuple[str, int]:
        return self._others[rank].host, self._others[rank].port

    def _stream(self, answers: Mapping[str, Answer], have: int) -> Optional[socket.socket]:
        able = [
            (answer.state != talk.HAVE, answer.fed, rank)
            for rank, answer in answers.items()
            if answer.state != talk.NONE and answer.bytes > have
        ]
        for _, _, rank in sorted(able):
            got = talk.ask(self._where(rank), self._key, "GET", self._sha, have)
            if got is not None:
                if got[0].state != talk.NONE:
                    return got[1]
                got[1].close()
        return None

    def _is_mine(self, answers: Mapping[str, Answer], have: int) -> bool:
        """Nobody is ahead, and nobody who looks for it too, as far as this node, comes before it.

        One that is being fed and no further than this node may be fed by it, and waits for it.
        """
        for rank, answer in answers.items():
            if answer.state in (talk.HAVE, talk.SOURCE) or answer.bytes > have:
                return False
            if answer.state == talk.READING and not have:
                return False
            looks = answer.state in (talk.WAITING, talk.CANDIDATE)
            if looks and answer.bytes == have and rank < self._me:
                return False
        return True

    def _stand(self, have: int) -> bool:
        """Stand as the one who reads the source: True when it stays so."""
        self._lock.say(CANDIDATE)
        for _ in range(STANDS):
            answers = self._ask()
            if not self._is_mine(answers, have):
                return False
            if not any(answer.state == talk.CANDIDATE for answer in answers.values()):
                return True
            time.sleep(ROUND_S)  # a later one stands too, has yet to look again, and will yield
        return True


def _rank(node: str, sha: str) -> str:
    return hashlib.sha256(f"{sha} {node}".encode()).hexdigest()

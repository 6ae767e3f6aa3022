"""Ensembles that were sent and are not known to be leased: the same again is the same lease.

Whichever builder sends it, and also after a crash: a token is on the disk before it is used. The
daemon knows it for 7 days; here it is forgotten after one, for by then another lease is meant.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from pathlib import Path

from wspilot.asks import token
from wspilot.tui.habits import write_atomically

KEPT_S, MOST = 86400.0, 100


class Sent:
    """Tokens by what was sent. Blocking: called in threads. Without a path: of this session."""

    def __init__(self, path: Path | None) -> None:
        self._path, self._lock = path, threading.Lock()
        self._tokens: dict[str, tuple[str, float]] = {}

    def token(self, ensemble: str) -> str:
        """The one it was sent with before, or a new one. A disk that refuses stops nothing."""
        with self._lock:
            tokens, key = self._known(), _key(ensemble)
            found = tokens.get(key, (token(), time.time()))
            self._keep({**tokens, key: found})
            return found[0]

    def done(self, ensemble: str) -> None:
        """It is leased: the same again is another one."""
        with self._lock:
            tokens = self._known()
            tokens.pop(_key(ensemble), None)
            self._keep(tokens)

    def _known(self) -> dict[str, tuple[str, float]]:
        """Ours, and what another interface or one that has crashed has left."""
        left: dict[str, tuple[str, float]] = {}
        try:
            said = json.loads(self._path.read_text("utf-8")) if self._path else {}
            left = {str(key): (str(one), float(at)) for key, (one, at) in said.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            pass  # none yet, or a file that nobody can read
        since = time.time() - KEPT_S
        known = {key: one for key, one in {**left, **self._tokens}.items() if one[1] > since}
        return dict(list(known.items())[-MOST:])

    def _keep(self, tokens: dict[str, tuple[str, float]]) -> None:
        self._tokens = tokens
        if self._path is not None:
            write_atomically(self._path, json.dumps(tokens, indent=1))


def _key(ensemble: str) -> str:
    return hashlib.sha256(ensemble.encode("utf-8", "replace")).hexdigest()

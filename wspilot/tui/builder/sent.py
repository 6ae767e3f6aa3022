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
        self._written = True  # the disk holds what we know

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
        """What is on the disk, of other interfaces too; ours where it has refused them."""
        known = self._tokens
        if self._path is not None and self._written:
            try:
                said = json.loads(self._path.read_text("utf-8"))
                known = {str(key): (str(one), float(at)) for key, (one, at) in said.items()}
            except FileNotFoundError:
                known = {}
            except (OSError, ValueError, TypeError, AttributeError):
                pass  # a file that nobody can read
        since = time.time() - KEPT_S
        return dict([one for one in known.items() if one[1][1] > since][-MOST:])

    def _keep(self, tokens: dict[str, tuple[str, float]]) -> None:
        self._tokens = tokens
        if self._path is not None:
            self._written = write_atomically(self._path, json.dumps(tokens, indent=1))


def _key(ensemble: str) -> str:
    return hashlib.sha256(ensemble.encode("utf-8", "replace")).hexdigest()

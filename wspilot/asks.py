"""The requests that act, made in one place: the command line and the interface send the same."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any


def token() -> str:
    """A client token, made once a request: a repeated one is answered, not done twice."""
    return os.urandom(16).hex()


def act(verb: str, ids: Sequence[str] | None, **more: Any) -> dict[str, Any]:
    """What a verb sends for these; None: for all. `more`: by, image, abandon."""
    if verb == "extend":
        whom: dict[str, Any] = {"id": (ids or ("",))[0]}
    else:
        whom = {"all": True} if ids is None else {"ids": list(ids)}
    return {**whom, **more, "token": token()}

"""Sites for tests: the built-in one, or one from a few lines of TOML, with no file read.

And documents shaken out of shape, as no table of mistakes would think of.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from tomli import loads

from wspilot.config import Site, check

HOME = Path("/home/ann/.local/state/wspilot")
ROOT = Path(__file__).parents[2]


def site(toml: str = "", source: str = "site.toml") -> Site:
    """Raises UsageError like `load` does."""
    return check(loads(toml), HOME, source)


WORDS: tuple[Any, ...] = (0, -1, True, 1.5, float("nan"), "", "x", "1h", "2GiB", "10.0.0.0/24", [],
                          [1], [[]], {}, {"a": 1}, "\x1b[0m", "é" * 300, None, 10**30)  # fmt: skip


def shaken(doc: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """The document with a few of its values, anywhere in it, replaced by others."""
    return {key: _shaken(item, rng) for key, item in doc.items()}


def _shaken(value: Any, rng: random.Random) -> Any:
    if rng.random() < 0.03:
        return rng.choice(WORDS)
    if isinstance(value, dict):
        return shaken(value, rng)
    return [_shaken(item, rng) for item in value] if isinstance(value, list) else value

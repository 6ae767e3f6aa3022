"""What is left of a crash: a file with the version, the traceback and the last events; and words.

The terminal is Textual's to restore; a traceback over somebody's shell helps nobody.
"""

from __future__ import annotations

import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from wspilot import __version__
from wspilot.text import clean
from wspilot.tui.habits import write_atomically

MOST_EVENTS = 50


def keep(place: Path, error: BaseException, events: Iterable[Mapping[str, Any]]) -> str:
    """Write `place`/crash.log; what to tell the user."""
    text = "\n".join((
        f"wspilot {__version__}, Python {platform.python_version()}, {sys.platform}, "
        f"{time.strftime('%Y-%m-%d %H:%M:%S %z')}",
        "", "".join(traceback.format_exception(error)),
        "The last events:", *map(_line, list(events)[-MOST_EVENTS:]), "",
    ))  # fmt: skip
    text = clean(text, 400_000, lines=True)  # it will be read in a terminal
    said = f"the interface has crashed: {type(error).__name__}: {clean(str(error), 300)}"
    path = _written(place, text)
    if path is None:
        return f"{said}\n{text}"
    return f"{said}\n  what happened stands in {path}: report it with that file\n" \
           "  leases go on; without it: wspilot list --watch"  # fmt: skip


def _written(place: Path, text: str) -> Path | None:
    """Where; a new directory where the home cannot be written, None where nothing can."""
    if write_atomically(place / "crash.log", text):
        return place / "crash.log"
    try:
        path = Path(tempfile.mkdtemp(prefix="wspilot-")) / "crash.log"
    except OSError:
        return None
    return path if write_atomically(path, text) else None


def _line(event: Mapping[str, Any]) -> str:
    return " ".join(clean(str(event.get(one, "")), 500) for one in ("at", "level", "kind", "text"))

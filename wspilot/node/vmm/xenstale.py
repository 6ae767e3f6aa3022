"""Ends Xen guests that may have lost their pilot, by the root helper: see `stale.py` for QEMUs.

Works from the journal's `identity` alone: {"uuid", "files"}. Invariant: a guest's files go only
after the helper has seen that no domain has the uuid any more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wspilot.errors import WspilotError
from wspilot.node import root


def end_all(identities: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Which of these guests are gone (or never were), their files with them. Blocks."""
    if not identities:
        return []
    uuids = [str(one["uuid"]) for one in identities]
    try:
        root.ask("xen-end", {"uuids": uuids}, root.XEN_S)
    except WspilotError:
        gone = [_end_one(uuid) for uuid in uuids] if len(uuids) > 1 else [False]
    else:
        gone = [True] * len(uuids)
    for one, is_gone in zip(identities, gone):
        for name in one.get("files", ()) if is_gone else ():
            with contextlib.suppress(OSError):
                Path(name).unlink()
    return gone


def _end_one(uuid: str) -> bool:
    """One that does not go must not keep its sisters on the books."""
    try:
        root.ask("xen-end", {"uuids": [uuid]}, root.XEN_S)
    except WspilotError:
        return False
    return True

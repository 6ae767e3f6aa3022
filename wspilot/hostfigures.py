"""What a node's bench may be asked, its figures, and how people read them. Node and headnode.

Standard library only; Python 3.9.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from wspilot.text import clean

MOST_ROUNDS, MOST_MIB, MOST_GUESTS = 1000, 1 << 20, 64  # of what is asked
MOST_ROWS, MOST_S = 16, 1e6
_NUMBERS = ("n", "mean", "sd", "median")
_RATIOS = ("over_bare", "over_bare_and_start")
# Which bare steps do the same, and which starts of the helper it takes: kill-all looks at what is
# left, too, and its first step with guests is beside guests, which have the processors then. Its
# last start goes on beside the undoing, and is counted whole.
BARES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "reduce": (("bare reduce",), ("helper",)),
    "restore": (("bare restore",), ("helper",)),
    "kill-all": (("bare restore", "bare list"), ("helper", "helper")),
    "kill-all, VMs": (("bare end",), ("helper, VMs", "helper", "helper")),
}


def figures(seconds: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """n, mean, SD, median of each; and what wspilot takes over bare xl and the helper's start."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    found = []
    for name, values in seconds.items():
        row: dict[str, Any] = {"what": name, "n": len(values)}
        row["mean"] = round(statistics.mean(values), 3)
        row["sd"] = round(statistics.stdev(values), 3) if len(values) > 1 else 0.0
        row["median"] = round(medians[name], 3)
        bares, starts = BARES.get(name, ((), ()))
        if bares and all(one in seconds for one in (*bares, *starts)):
            base = sum(medians[one] for one in bares)
            row["over_bare"] = round(row["median"] / base, 2)
            row["over_bare_and_start"] = round(
                row["median"] / (base + sum(medians[one] for one in starts)), 2
            )
        found.append(row)
    return found


def table(document: Mapping[str, Any]) -> str:
    """As people read it."""
    lines = [f"{document['mib']} MiB of domain 0; seconds"]
    if document.get("note"):
        lines.append(str(document["note"]))
    lines.append(f"{'':14}{'n':>4}{'mean':>8}{'SD':>8}{'median':>8}  over bare xl (+ helper)")
    for row in document["figures"]:
        line = f"{row['what']:14}{row['n']:>4}"
        line += "".join(f"{row[key]:>8.2f}" for key in ("mean", "sd", "median"))
        if "over_bare" in row:
            line += f"  {row['over_bare']:.2f} ({row['over_bare_and_start']:.2f})"
        lines.append(line)
    return "\n".join(lines)


def checked(found: object) -> Optional[dict[str, Any]]:
    """A document as a node has sent it; None for anything else."""
    rows = found.get("figures") if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping) or not isinstance(rows, list) or len(rows) > MOST_ROWS:
        return None
    told = [_row(one) for one in rows]
    if any(one is None for one in told) or not _is_number(found.get("mib")):
        return None
    note = clean(str(found.get("note") or ""), 200)
    return {"schema": 1, "mib": int(found["mib"]), "note": note, "figures": told}


def _row(one: object) -> Optional[dict[str, Any]]:
    if not isinstance(one, Mapping) or not all(_is_number(one.get(key)) for key in _NUMBERS):
        return None
    row = {"what": clean(str(one.get("what")), 40), **{key: one[key] for key in _NUMBERS}}
    if all(_is_number(one.get(key)) for key in _RATIOS):
        row.update({key: one[key] for key in _RATIOS})
    return row


def _is_number(value: object) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0 <= value < MOST_S  # type: ignore[operator]

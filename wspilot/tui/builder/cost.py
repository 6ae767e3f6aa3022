"""What a request would cost, when it may start, and what is wrong with it: in words. Pure."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wspilot.text import clean, format_duration
from wspilot.tui.live import LiveModel
from wspilot.tui.words import brief, plural, size_about

_PLACE = re.compile(r"(?:group\[(?P<n>\d+)\]|(?P<ws>workspace)|group)(?:\.(?P<key>[a-z_.]+))?: ")
_NEXT = re.compile(r"; (?=(?:group\[\d+\]|workspace|group)[.:])")


@dataclass(frozen=True)
class Fault:
    """One fault; `group` is None for the workspace, `key` empty where the whole is meant."""

    text: str
    group: int | None = None
    key: str = ""


def faults(message: str) -> list[Fault]:
    """The faults that a refusal names, each with its place."""
    _, _, rest = message.partition(": ") if message.startswith("ensemble: ") else ("", "", message)
    found = []
    for part in _NEXT.split(rest):
        match = _PLACE.match(part)
        n = int(match["n"]) if match and match["n"] else None
        key = (match["key"] or "").rpartition(".")[2] if match else ""
        found.append(Fault(clean(part, 300), n, key))
    return found


def cost(plan: Mapping[str, Any]) -> list[str]:
    """Nodes, memory, node hours, and the walltime's sum."""
    slots = plan["slots"]
    nodes = sum(slot["nodes"] for slot in slots)
    vms = sum(slot["vms"] for slot in slots)
    memory = sum(slot["nodes"] * slot["memory_mib"] for slot in slots)
    most = max((slot["memory_mib"] for slot in slots), default=0)
    whole = " whole" if any(slot.get("whole_node") for slot in slots) else ""
    held = sum(slot["nodes"] for slot in slots if slot.get("held"))
    ready = f" ({held} held ready)" if held else ""
    lines = [
        f"{plural(vms, 'VM')} on {plural(nodes, f'{whole} node'.strip())}{ready} in "
        f"{plural(len(slots), 'slot')}; memory {size_about(memory)} in all, up to "
        f"{size_about(most)} a node",
        f"{plan['node_hours']:g} node hours: lease {format_duration(plan['lease_s'])}, "
        f"asked of the batch system {format_duration(plan['walltime_s'])}",
    ]
    terms = [f"{one['term']} {brief(one['seconds'])}" for one in plan["walltime"] if one["seconds"]]
    return [*lines, "walltime = " + " + ".join(terms)] if terms else lines


def start(model: LiveModel) -> str:
    """When it may start, as far as anybody can know here."""
    waited = model.waited()
    queued = sum(
        slot["state"] in ("queued", "submitting") for slot in model.items["slots"].values()
    )
    said = "The batch system decides when it starts"
    if waited:
        some = [brief(one) for one in (min(waited), statistics.median(waited), max(waited))]
        said += f"; the last {plural(len(waited), 'slot')} waited "
        said += " to ".join(dict.fromkeys(some[::2]))
        said += f", mostly {some[1]}" if some[0] != some[2] else ""
    if queued:
        said += f"; {queued} of ours {'is' if queued == 1 else 'are'} waiting now"
    return f"{said}."

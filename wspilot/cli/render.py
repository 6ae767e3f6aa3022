"""Documents as tables for people: aligned, no wider than the terminal, no control characters."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wspilot.text import clean, format_duration, format_size

Row = Sequence[str]
_COLOURS = {"green": "32", "yellow": "33", "red": "31", "dim": "2", "bold": "1"}
_STATE = {
    "running": "green", "active": "green", "ready": "green", "clean": "green",
    "failed": "red", "preempted": "red", "dirty": "red", "unknown": "yellow",
    "degraded": "yellow", "ended": "dim", "terminated": "dim", "released": "dim",
}  # fmt: skip


def table(head: Row, rows: Iterable[Row], empty: str = "") -> str:
    """Columns two blanks apart, cut at the terminal's edge; a last column of blanks is left out."""
    lines = [[clean(cell, 400) for cell in row] for row in rows]
    if not lines:
        return empty
    if not any(row[-1] for row in lines):  # no reasons: room for the others
        head, lines = head[:-1], [row[:-1] for row in lines]
    wide = [max(width(row[n]) for row in [list(head), *lines]) for n in range(len(head))]
    edge = shutil.get_terminal_size((200, 24)).columns if sys.stdout.isatty() else 10_000
    out = [paint(_line(head, wide, edge), "bold")]
    out += [_paint_states(_line(row, wide, edge), row) for row in lines]
    return "\n".join(out)


def _line(row: Row, wide: Sequence[int], edge: int) -> str:
    text = "  ".join(cell + " " * (wide[n] - width(cell)) for n, cell in enumerate(row)).rstrip()
    if width(text) <= edge:
        return text
    while width(text) > max(1, edge - 1):
        text = text[: min(len(text) - 1, edge)]
    return text + "…"


def _paint_states(line: str, row: Row) -> str:
    for cell in row:
        if cell in _STATE and (at := line.find(f"  {cell}")) >= 0:
            end = at + 2 + len(cell)
            return line[: at + 2] + paint(cell, _STATE[cell]) + line[end:]
    return line


def paint(text: str, colour: str) -> str:
    """Coloured on a terminal that wants colour; plain everywhere else."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def width(text: str) -> int:
    """Columns that a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def ago(time_text: str | None, now: float) -> str:
    """`5m` since an RFC 3339 time."""
    return format_duration(now - seconds_of(time_text)) if time_text else "-"


def seconds_of(time_text: str) -> float:
    """Seconds since 1970 of an RFC 3339 time in UTC."""
    import calendar
    import time

    return calendar.timegm(time.strptime(time_text[:19], "%Y-%m-%dT%H:%M:%S"))


def left(ends: str | None, now: float) -> str:
    """Lease time left."""
    return format_duration(max(0.0, seconds_of(ends) - now)) if ends else "-"


# -- one table a document


def workspaces(docs: Iterable[Mapping[str, Any]], now: float) -> str:
    """`list`."""
    rows = [
        (ws["name"], ws["state"], str(len(ws["vms"])), ago(ws["since"], now),
         left(ws["ends"] if ws["wanted"] == "active" else None, now), _why(ws))
        for ws in docs
    ]  # fmt: skip
    return table(("NAME", "STATE", "VMS", "SINCE", "LEFT", "WHY"), rows,
                 "no workspaces: wspilot deploy --type small --duration 1h")  # fmt: skip


def _why(ws: Mapping[str, Any]) -> str:
    if ws["state"] == "ended":
        return f"{ws['outcome']}" + (f": {ws['cause']}" if ws["cause"] else "")
    parts = [ws["cause"], f"waits for {ws['waits_for']}" if ws["waits_for"] else ""]
    return "; ".join(part for part in parts if part)


def show(ws: Mapping[str, Any], now: float) -> str:
    """`show`: the workspace, its VMs, its slots."""
    name, since = paint(clean(ws["name"]), "bold"), ago(ws["since"], now)
    lines = [f"{name} ({ws['id']}) is {ws['state']} since {since}"]
    for label, value in (("waits for", ws["waits_for"]), ("outcome", ws["outcome"]),
                         ("cause", ws["cause"])):  # fmt: skip
        if value:
            lines.append(f"  {label}: {clean(value, 1000)}")
    lines += [f"    because: {clean(cause, 500)}" for cause in ws["causes"] if cause != ws["cause"]]
    lines += _context(ws["vms"])
    lease = format_duration(ws["lease_s"])
    lines.append(f"  lease: {lease}, left {left(ws['ends'], now)}")
    return "\n".join([*lines, "", vms(ws["vms"]), "", slots(ws["slots"], now)])


def _context(docs: Iterable[Mapping[str, Any]]) -> list[str]:
    """What the guests have said of their context, and who has not answered."""
    asked = [vm for vm in docs if vm["context"]]
    if not asked:
        return []
    ok = sum(1 for vm in asked if vm["context"] == "ok")
    lines = [f"  context: {ok} of {len(asked)} members say ok"]
    lines += [
        f"    {clean(vm['name'])} reports an error: {clean(vm['said'], 300)}"
        for vm in asked
        if vm["context"] == "error"
    ]
    silent = [clean(vm["name"]) for vm in asked if vm["context"] in ("waits", "late")]
    if silent:
        more = f" and {len(silent) - 8} more" if len(silent) > 8 else ""
        lines.append(f"    no answer yet from {', '.join(silent[:8])}{more}")
    return lines


def vms(docs: Iterable[Mapping[str, Any]]) -> str:
    """The VMs of a workspace with their phase times in seconds."""
    rows = []
    for vm in docs:
        spans = {span["name"]: span["seconds"] for span in vm["spans"]}
        phases = [f"{spans[name]:.1f}" if spans.get(name) is not None else "-" for name in PHASES]
        why = vm["cause"] or (f"waits for {vm['waits_for']}" if vm["waits_for"] else "")
        state = vm["state"] + (" (unproven)" if vm["unproven"] else "")
        if vm["progress"] is not None:
            state += f" {vm['progress'] * 100:.0f} %"
        address = ",".join(nic["ip"] for nic in vm["nics"]) or "-"
        rows.append((vm["name"], state, vm["node"] or "-", *phases, address, why))
    head = ("VM", "STATE", "NODE", "INVOKE", "PROP", "CREATE", "BOOT", "ADDRESS", "WHY")
    return table(head, rows)


PHASES = ("invoke", "propagate", "create", "boot")


def slots(docs: Iterable[Mapping[str, Any]], now: float) -> str:
    """Slots with what the batch system says of their jobs."""
    rows = [
        (slot["id"], slot["state"], slot["job"] or "-", slot["lrm"]["state"] or "-",
         ",".join(slot["nodes"]) or f"{slot['count']} asked for", ago(slot["since"], now),
         _slot_why(slot))
        for slot in docs
    ]  # fmt: skip
    return table(("SLOT", "STATE", "JOB", "LRM", "NODES", "SINCE", "WHY"), rows, "no slots")


def _slot_why(slot: Mapping[str, Any]) -> str:
    """All that a person should know of a slot beside its state."""
    said = [slot["cause"], f"waits for {slot['waits_for']}" if slot["waits_for"] else ""]
    if slot["repair_of"]:
        said.insert(0, f"repairs {slot['repair_of']}")
    if slot["measures"]:
        said.insert(0, f"measures {slot['measures']}")
    if slot["again"]:
        said.append(f"slot {slot['again']} was asked for in its place")
    if slot["tries"] > 1:
        said.append(f"{slot['tries']} tries to submit")
    if slot["cancel_tries"] > 1:
        said.append(f"{slot['cancel_tries']} tries of qdel")
    return "; ".join(text for text in said if text)


def _node_why(node: Mapping[str, Any], now: float) -> str:
    said = [node["cause"]]
    if node["owes"]:
        said.append(f"owes its word for {len(node['owes'])} slots: {', '.join(node['owes'][:3])}")
        if node["repair_at"] and node["state"] == "dirty":
            due = left(node["repair_at"], now)
            said.append(f"repair job {node['repair_tries'] + 1} in {due}")
    return "; ".join(text for text in said if text)


def nodes(docs: Iterable[Mapping[str, Any]], now: float) -> str:
    """Nodes as wspilot knows them."""
    rows = [
        (node["name"], node["state"], str(node["cpus"] or "-"),
         format_size(node["memory_mib"]) if node["memory_mib"] else "-",
         {True: "yes", False: "no", None: "-"}[node["kvm"]],
         "-" if node["skew_s"] is None else f"{node['skew_s']:+.2f}", ago(node["seen"], now),
         _node_why(node, now))
        for node in docs
    ]  # fmt: skip
    return table(("NODE", "STATE", "CPUS", "MEMORY", "KVM", "SKEW", "SEEN", "WHY"), rows,
                 "no node has been used yet")  # fmt: skip


def types(docs: Iterable[Mapping[str, Any]]) -> str:
    """The catalogue."""
    rows = [
        (kind["name"], str(kind["cpus"]), format_size(kind["memory_mib"]),
         format_size(kind["disk_mib"]), format_duration(kind["max_duration_s"]))
        for kind in docs
    ]  # fmt: skip
    return table(("TYPE", "CPUS", "MEMORY", "DISK", "AT MOST"), rows)


def images(docs: Iterable[Mapping[str, Any]]) -> str:
    """The image repository."""
    rows = [(one["name"], one["kind"], one["ready"], one["digest"][:12] or "-", one["fault"])
            for one in docs]  # fmt: skip
    return table(("IMAGE", "KIND", "READY", "DIGEST", "FAULT"), rows, "no images")


def event(doc: Mapping[str, Any]) -> str:
    """One line of the event stream."""
    where = clean(doc["node"] or doc["slot"], 80)
    text = f"{doc['at'][11:19]} {doc['level']:7} {doc['kind']:9} {clean(doc['text'], 1000)}"
    return f"{text}  [{where}]" if where else text


def plan(doc: Mapping[str, Any]) -> str:
    """`deploy --dry-run`."""
    rows = [
        (str(slot["nodes"]), str(slot["ppn"]), format_size(slot["memory_mib"]),
         "yes" if slot["whole_node"] else "no", str(slot["vms"]))
        for slot in doc["slots"]
    ]  # fmt: skip
    sum_ = " + ".join(
        f"{one['term']} {one['seconds']}" for one in doc["walltime"] if one["seconds"]
    )
    return "\n".join([
        table(("NODES", "CORES", "MEMORY", "WHOLE", "VMS"), rows),
        f"walltime {format_duration(doc['walltime_s'])} = {sum_} (s, whole minutes)",
        f"{doc['node_hours']} node hours; nothing was asked for",
    ])  # fmt: skip

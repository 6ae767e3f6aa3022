"""`wspilot fsck`: of the running daemon, or of the files where none runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wspilot.cli import render
from wspilot.cli.parse import Args
from wspilot.cli.verbs import emit, home_of
from wspilot.client import call
from wspilot.errors import NoDaemon
from wspilot.home import read_record
from wspilot.text import clean

ASK_S = 120.0  # a batch system may take its whole time limit to answer


def fsck(args: Args) -> int:
    """0: all agrees, or was put in order; 1: something is left."""
    if args.prove is not None:
        params = {"prove": True, **({"id": args.prove} if args.prove else {})}
        doc = call(home_of(args), "fsck", params, timeout_s=ASK_S)
        emit(args, doc, _proofs(doc["proofs"]))
        return 0 if all(row["proved"] for row in doc["proofs"]) else 1
    doc = _checked(args)
    emit(args, doc, _told(doc, args.yes))
    return 0 if all(step["done"] for step in doc["steps"]) else 1


def _checked(args: Args) -> dict[str, Any]:
    home = home_of(args)
    try:
        if read_record(home) is None or args.take_over:
            raise NoDaemon("none")
        return call(home, "fsck", {"yes": args.yes}, timeout_s=ASK_S)
    except NoDaemon:
        from wspilot.daemon.fsck import offline

        config = Path(args.config).absolute() if args.config else None
        return offline(home, config, args.yes, args.take_over)


def _told(doc: Mapping[str, Any], yes: bool) -> str:
    store = doc.get("store")
    lines = _store(store) if store else []
    for n, step in enumerate(doc["steps"], 1):
        lines += [f"{n}. {clean(step['what'], 400)}", f"   why: {clean(step['why'], 400)}"]
        if step["done"] is None:
            lines.append(f"   then: {clean(step['command'], 300)}")
        else:
            failed = f"failed: {clean(step['said'], 300)}"
            lines.append(f"   {'done' if step['done'] else failed}: {clean(step['command'], 300)}")
    open_ = [step for step in doc["steps"] if not step["done"]]
    if not doc["steps"]:
        agree = "the store is sound; " if store else ""
        return "\n".join([*lines, f"{agree}books, batch system, nodes and spool agree"])
    automatic = [step for step in open_ if step["automatic"]]
    if store and store["sound"] and automatic:
        lines.append("no daemon runs: start one, and it can carry this out: wspilot fsck --yes")
    elif automatic and not yes:
        lines.append(f"{len(automatic)} of these it can do itself: wspilot fsck --yes")
    return "\n".join(lines)


def _store(store: Mapping[str, Any]) -> list[str]:
    if store["sound"]:
        return []
    rows = [
        (one["name"], *(str(one[key]) for key in ("readable", "before", "after", "unproved",
                                                  "unread")))
        for one in store["tables"]
    ]  # fmt: skip
    head = ("TABLE", "SAVED", "BEFORE", "AFTER", "UNPROVED", "LOST")
    lines = [f"the store at {store['path']} is damaged; of its documents can be read:",
             render.table(head, rows, "none"),
             "before, after: as written around the damage; unproved: the checksum is wrong",
             ""]  # fmt: skip
    if store["aside"]:
        lines.append(f"saved; the damaged files lie in {store['aside']}")
        lines.append("start the daemon, then: wspilot fsck")
    return lines


def _proofs(docs: list[dict[str, Any]]) -> str:
    rows = [
        (one["kind"], one["name"], one["of"], one["node"] or "-",
         one["by"] or "NOT PROVED", (one["at"] or "-")[:19], one["text"])
        for one in docs
    ]  # fmt: skip
    table = render.table(("WHAT", "NAME", "OF", "NODE", "BY", "AT", "PROOF"), rows,
                         "no lease has ended yet")  # fmt: skip
    left = sum(1 for one in docs if not one["proved"])
    return f"{table}\n{len(docs) - left} proved, {left} not"

"""The other pages of a selection: what happened, what the batch system was told, all fields."""

from __future__ import annotations

import json
import shlex

from wspilot.tui.live import LiveModel
from wspilot.tui.pages.page import Page
from wspilot.tui.words import clock

MOST = 200


def happened(page: Page, model: LiveModel, key: str | None) -> None:
    """Every event about it, newest first."""
    events = model.events_of(key or "", MOST)[::-1]
    if not events:
        page.add("Nothing is known to have happened to it.", "secondary")
    page.events(events, "What happened, newest first")


def commands(page: Page, model: LiveModel, key: str | None) -> None:
    """The exact commands that the batch system was given for it."""
    found = model.events_of(key or "", MOST, "lrm")[::-1]
    ran = [one for one in found if isinstance(one["data"].get("argv"), list)]
    page.add("What the batch system was told", "foreground", bold=True)
    if not ran:
        page.add("No command was run for it (as far back as events are kept).", "secondary")
    for event in ran:
        data = event["data"]
        bad = data.get("timed_out") or data.get("rc") != 0
        how = "hit its time limit" if data.get("timed_out") else f"exit {data.get('rc')}"
        page.text.append("\n")
        said = f"{clock(event['at'])}  {how}, {data.get('seconds')} s"
        page.add(said, "warning" if bad else "secondary")
        page.add("$ " + shlex.join(str(word) for word in data["argv"]))
        _, _, answer = event["text"].partition(" s): ")
        if answer:
            page.add(answer, "secondary")


def fields(page: Page, model: LiveModel, key: str | None) -> None:
    """The item as the daemon sent it."""
    doc = model.doc(key or "")
    if doc is None:
        page.add("There is no item of its own for this line.", "secondary")
        return
    for line in json.dumps(doc, indent=1, ensure_ascii=False, default=str).split("\n"):
        page.text.append(f"{line}\n")

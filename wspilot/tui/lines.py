"""What the first and the last line of the screen say. Pure: from the model to styled text."""

from __future__ import annotations

from collections.abc import Callable

from rich.text import Text

from wspilot.text import format_duration
from wspilot.tui import look
from wspilot.tui.live import LiveModel, plural, seconds_of

Colour = Callable[[str], str]


def summary(model: LiveModel, read_only: bool, colour: Colour) -> Text:
    """How many workspaces are in each state."""
    text = Text("wspilot", style="bold")
    for state, number in model.counts():
        style = f"not bold {colour(look.colour(state))}"
        text.append(f"  {look.glyph(state)} {number} {state}", style=style)
    if read_only:
        text.append("  read-only", style=colour("warning"))
    return text


def site(model: LiveModel, colour: Colour) -> Text:
    """How many VMs run, and whether a node needs somebody."""
    up, of = model.running()
    text = Text(f"{up} of {plural(of, 'VM')} running" if of else "")
    if sick := model.sick_nodes():
        said = f"  {look.glyph('degraded')} {plural(sick, 'node')} not clean"
        text.append(said, style=colour("warning"))
    return text


def daemon(model: LiveModel, now: float, colour: Colour) -> Text:
    """Who is asked, how old its word is, what lies in the spool; amber when it is not well."""
    status, text, warn = model.status(), Text(), colour("warning")
    if status is None:
        return text
    poll, spool = status["poll"], status["spool"]
    at = poll.get("at")
    ago = f"{format_duration(now - seconds_of(at))} ago" if at else "not yet"
    failing = poll.get("ok") is False
    text.append(f"{status['lrm']} asked {ago}", style=warn if failing else "")
    if failing:
        text.append(f", failing: {poll.get('text', '')}", style=warn)
    if backlog := spool.get("backlog"):
        text.append(f"  spool {backlog} behind")
    if bad := spool.get("bad"):
        text.append(f"  {bad} refused", style=warn)
    if spool.get("text"):
        text.append(f"  spool: {spool['text']}", style=warn)
    return text

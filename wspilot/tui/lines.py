"""What the first and the last lines of the screen say. Pure: from the model to styled text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from rich.text import Text

from wspilot.text import format_duration
from wspilot.tui import look
from wspilot.tui.live import LiveModel
from wspilot.tui.tree import Arrangement
from wspilot.tui.views import VIEWS
from wspilot.tui.words import brief, plural, seconds_of

Colour = Callable[[str], str]


def summary(model: LiveModel, badges: Iterable[str], colour: Colour) -> Text:
    """How many workspaces are in each state."""
    text = Text("wspilot", style="bold")
    for badge in badges:
        text.append(f"  {badge}", style=f"bold {colour('warning')}")
    for state, number in model.counts():
        style = f"not bold {colour(look.colour(state))}"
        text.append(f"  {look.glyph(state)} {number} {state}", style=style)
    return text


def site(model: LiveModel, colour: Colour, room: int) -> Text:
    """Nodes that need somebody, how many VMs run, how long the batch system lets us wait: as much
    of it, in this order, as there is room for (in cells); the first stands last."""
    text = Text("")
    for part in _site(model, colour):
        if part.cell_len + text.cell_len > room:
            break
        text = Text.assemble(part, text)
    return text


def _site(model: LiveModel, colour: Colour) -> Iterator[Text]:
    up, of = model.running()
    if sick := model.sick_nodes():
        said = f"  {look.glyph('degraded')} {plural(sick, 'node')} not clean"
        yield Text(said, style=colour("warning"))
    if of:
        yield Text(f"{up} of {plural(of, 'VM')} running")
        yield Text(look.gauge(up / of, 8) + " ", style=colour("success"))
    if waited := model.waited():
        yield Text.assemble(("queue wait ", colour("secondary")),
                            (look.spark(waited), colour("primary")),
                            (f" {sorted(waited)[len(waited) // 2]:.1f} s   ",
                             colour("secondary")))  # fmt: skip


def views(
    how: Arrangement, marks: int, width: int, colour: Colour
) -> tuple[Text, list[tuple[int, str]]]:
    """The views with their keys, and at which cell each one ends."""
    text, edges = Text(no_wrap=True, overflow="ellipsis"), []
    short = width < 76
    for view in VIEWS.values():
        here = view.name == how.view
        title = view.title if here or not short else view.title[:4]
        text.append(
            f" {view.key} ", style=f"bold {colour('primary')}" if here else colour("accent")
        )
        text.append(title, style=f"bold underline {colour('primary')}" if here else "")
        text.append(" ")
        edges.append((text.cell_len + 1, view.name))
    if marks:
        text.append(f"   {marks} marked", style=f"bold {colour('accent')}")
    if how.filter:
        text.append(f"   / {how.filter.text}", style=colour("warning"))
    if how.about:
        text.append("   only the selection's events", style=colour("warning"))
    return text, edges


def keys(
    shown: Iterable[tuple[str, str, str]], colour: Colour
) -> tuple[Text, list[tuple[int, str]]]:
    """The footer: keys and what they do; and at which cell each one's action ends."""
    text, edges = Text(no_wrap=True, overflow="ellipsis"), []
    for key, what, action in shown:
        text.append(key, f"bold {colour('accent')}")
        text.append(f" {what}  ")
        edges.append((text.cell_len + 1, action))
    return text, edges


def daemon(model: LiveModel, now: float, colour: Colour, wide: bool = False) -> Text:
    """Who is asked, how old its word is, what lies in the spool; amber when it is not well."""
    status, text, warn = model.status(), Text(), colour("warning")
    if status is None:
        return text
    poll, spool = status["poll"], status["spool"]
    at = poll.get("at")
    ago = f"{format_duration(now - seconds_of(at))} ago" if at else "not yet"
    failing = poll.get("ok") is False
    if wide and status["pid"]:
        up = brief(now - seconds_of(status["since"])) if status["since"] else "?"
        text.append(f"daemon {status['pid']}, up {up}   ")
    text.append(f"{status['lrm']}{' asked' if wide else ''} {ago}", style=warn if failing else "")
    if failing:
        text.append(f", failing: {poll.get('text', '')}", style=warn)
    if backlog := spool.get("backlog"):
        text.append(f"  spool {backlog} behind")
    if bad := spool.get("bad"):
        text.append(f"  {bad} refused", style=warn)
    if spool.get("text"):
        text.append(f"  spool: {spool['text']}", style=warn)
    return text

"""What the first and the last lines of the screen say. Pure: from the model to styled text."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rich.text import Text

from wspilot.text import clean
from wspilot.tui import look
from wspilot.tui.live import LiveModel
from wspilot.tui.tree import Arrangement
from wspilot.tui.views import VIEWS
from wspilot.tui.words import age, plural, seconds_of

Colour = Callable[[str], str]
NARROW = 110
STALE_S = 180.0  # three times what a quiet daemon waits between two polls
ERRORS_S = 3600.0  # errors of the last hour are counted


def summary(model: LiveModel, badges: Iterable[str], colour: Colour, room: int = 999) -> Text:
    """How many workspaces are in each state; in words where there is room, else by their signs."""
    badges, counts = list(badges), model.counts()
    living = [one for one in counts if one[0] != "ended"]
    text = _summary(badges, counts, colour, True)
    for shown, words in ((living, True), (living, False)):
        if text.cell_len > room:
            text = _summary(badges, shown, colour, words)
    return text


def _summary(badges: list[str], counts: list[tuple[str, int]], colour: Colour, words: bool) -> Text:
    text = Text("wspilot", style="bold")
    for badge in badges:
        text.append(f"  {badge}", style=f"bold {colour('warning')}")
    for state, number in counts:
        style = f"not bold {colour(look.colour(state))}"
        text.append(f"  {look.glyph(state)} {number}{f' {state}' if words else ''}", style=style)
    return text


def site(model: LiveModel, colour: Colour, width: int = 110) -> Text:
    """How many VMs run, how long the batch system lets us wait, and nodes that need somebody."""
    up, of = model.running()
    text = Text("")
    short, sick = width < NARROW, model.sick_nodes()
    if short:
        if of:
            text.append(look.gauge(up / of, 6 if width >= 60 else 0), style=colour("success"))
            text.append(f" {up}/{of} up")
        if sick and width >= 40:
            style = colour("warning")
            text.append(f"  {look.glyph('degraded')} {plural(sick, 'node')}", style=style)
        return text
    waited = model.waited() if width >= 150 else []
    if waited:
        text.append("queue wait ", style=colour("secondary"))
        text.append(look.spark(waited), style=colour("primary"))
        text.append(f" {sorted(waited)[len(waited) // 2]:.1f} s   ", style=colour("secondary"))
    if of:
        text.append(look.gauge(up / of, 8) + " ", style=colour("success"))
        text.append(f"{up} of {plural(of, 'VM')} running")
    if sick:
        said = f"  {look.glyph('degraded')} {plural(sick, 'node')} not clean"
        text.append(said, style=colour("warning"))
    return text


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


def strip(how: Arrangement, about: str, colour: Colour) -> Text:
    """The title of the events below: whose they are; beside the timeline also what its signs say.

    All of it has its place in 80 columns."""
    chart = how.view == "timeline"
    name = clean(about, 8 if chart else 40)
    whose = f"Of {name}" if name and chart else f"Events of {name}" if name else "Events"
    text = Text(f" {whose} ")
    for kind, word, shade in look.LEGEND if chart else ():
        text.append(f" {look.chart(kind)}", colour(shade)).append(f" {word}")
    return text.append(" ") if chart else text


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
    """Who is asked, how old its word is, what lies in the spool; amber when that is old, red when
    something fails."""
    status, text = model.status(), Text()
    if status is None:
        return text
    poll, spool, amber, red = status["poll"], status["spool"], colour("warning"), colour("error")
    failing, stale = poll.get("ok") is False, model.overdue(now, STALE_S)
    if wide and status["pid"]:
        up = age(now - seconds_of(status["since"])) if status["since"] else "?"
        text.append(f"daemon {status['pid']}, up {up}   ")
    said = f"{status['lrm']}{' asked' if wide else ''} {_ago(poll.get('at'), now)}"
    text.append(f"{said}, long ago" if stale else said, red if failing else amber if stale else "")
    if failing:
        text.append(f", failing: {poll.get('text', '')}", style=red)
    if wide and spool.get("at") and not spool.get("text"):
        text.append(f"  spool read {_ago(spool['at'], now)}", style=amber if stale else "")
    if backlog := spool.get("backlog"):
        text.append(f"  spool {backlog} behind")
    if bad := spool.get("bad"):
        text.append(f"  {bad} refused", style=amber)
    if spool.get("text"):
        text.append(f"  spool: {spool['text']}", style=red)
    if errors := model.errors(now - ERRORS_S):
        text.append(f"  {look.glyph('error')} {plural(errors, 'error')}", style=red)
    return text


def _ago(at: str | None, now: float) -> str:
    return f"{age(now - seconds_of(at))} ago" if at else "not yet"

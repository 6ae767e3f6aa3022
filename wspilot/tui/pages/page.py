"""A page being written: titles, fields, and phases as stacked bars on one scale."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from textwrap import wrap
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from wspilot.tui import look
from wspilot.tui.live import Doc
from wspilot.tui.words import clock, since, told

LABEL = 10
SPAN_COLOURS = ("secondary", "primary", "accent", "success", "foreground", "error")
Colour = Callable[[str], str]


class Page:
    """One drawing, `width` cells wide, as of `now` (seconds since 1970)."""

    def __init__(self, colour: Colour, width: int, now: float) -> None:
        self.colour, self.width, self.now = colour, width, now
        self.text = Text(no_wrap=False, overflow="fold")

    def add(self, text: str, colour: str = "", bold: bool = False) -> None:
        """A line, wrapped by words."""
        style = self.colour(colour) if colour else ""
        for line in wrap(text, self.width) or [""]:
            self.text.append(f"{line}\n", f"bold {style}" if bold else style)

    def head(self, text: str) -> None:
        """The title of a part."""
        self.text.append("\n")
        self.add(text, "foreground", bold=True)

    def title(self, name: str, doc: Doc) -> None:
        """A record's name and state."""
        self.add(name, "foreground", bold=True)
        state = doc["state"]
        self.add(f"{look.glyph(state)} {state} for {since(doc, self.now)}", look.colour(state))

    def why(self, doc: Doc) -> None:
        """What it waits for, and the chain of causes, nearest first."""
        if doc["waits_for"]:
            self.field("waits for", f"{doc['waits_for']}, for {since(doc, self.now)}")
        bad = "error" if doc["state"] in ("failed", "ended") else "warning"
        self.field("cause", doc["cause"], bad)
        for n, cause in enumerate(one for one in doc["causes"] if one != doc["cause"]):
            self.field("because" if n == 0 else "", cause)

    def field(self, label: str, value: Any, colour: str = "") -> None:
        """A label and its value; what is too long goes on below the value."""
        if not value:
            return
        room = max(8, self.width - LABEL - 1)
        for n, line in enumerate(wrap(str(value), room, break_long_words=True)):
            head = set_cell_size(label if n == 0 else "", LABEL)
            self.text.append(f"{head} ", self.colour("secondary"))
            self.text.append(f"{line}\n", self.colour(colour) if colour else "")

    def gauge(self, label: str, done: int, of: int, what: str) -> None:
        """How much of something is there: a bar and its words."""
        if of <= 0:
            return
        room = max(6, min(24, self.width - LABEL - 12))
        full = done >= of
        self.text.append(set_cell_size(label, LABEL) + " ", self.colour("secondary"))
        bar = look.gauge(done / of, room)
        self.text.append(bar, self.colour("success" if full else "primary"))
        self.text.append(f" {done}/{of} {what}\n")

    def events(self, events: list[Doc], title: str = "Events") -> None:
        """Some lines of the stream."""
        if not events:
            return
        self.head(title)
        for event in events:
            colour = {"warning": "warning", "error": "error"}.get(event["level"], "")
            for n, line in enumerate(wrap(told(event), max(8, self.width - 9)) or [""]):
                time = clock(event["at"]) if n == 0 else " " * 8
                self.text.append(f"{time} ", self.colour("secondary"))
                self.text.append(f"{line}\n", self.colour(colour) if colour else "")

    # -- phases

    def phases(self, title: str, lines: Iterable[tuple[str, list[Doc]]]) -> None:
        """Stacked bars on one scale, like the paper's figures 2 to 5."""
        drawn = [
            (name, [span for span in spans if span["seconds"] is not None]) for name, spans in lines
        ]
        drawn = [(name, spans) for name, spans in drawn if spans]
        if not drawn:
            return
        self.head(title)
        longest = max(sum(span["seconds"] for span in spans) for _, spans in drawn)
        label = min(14, max(cell_len(name) for name, _ in drawn))
        room = max(8, self.width - label - 9)
        names = list(dict.fromkeys(span["name"] for _, spans in drawn for span in spans))
        for name, spans in drawn:
            head = set_cell_size(name, label) + " " if label else ""
            self._bar(head, spans, names, room / max(longest, 0.001))
        self._legend(names, drawn)

    def _bar(self, label: str, spans: list[Doc], names: list[str], scale: float) -> None:
        self.text.append(label, self.colour("secondary"))
        done, drawn = 0.0, 0
        for span in spans:
            done += span["seconds"]
            cells = round(done * scale) - drawn
            drawn += cells
            bar = look.bar(names.index(span["name"]))
            self.text.append(bar * cells, self._span_colour(names, span["name"]))
        self.text.append(f" {done:.1f} s\n")

    def _legend(self, names: list[str], drawn: list[tuple[str, list[Doc]]]) -> None:
        """One line a phase: its colour, its name, its mean."""
        mean_of = f"   mean of {len(drawn)}" if len(drawn) > 1 else ""
        for name in names:
            values = [
                span["seconds"] for _, spans in drawn for span in spans if span["name"] == name
            ]
            mean = sum(values) / len(values)
            self.text.append(f"{look.bar(names.index(name))} ", self._span_colour(names, name))
            self.text.append(f"{name:10} {mean:7.2f} s{mean_of}\n", self.colour("secondary"))

    def _span_colour(self, names: list[str], name: str) -> str:
        return self.colour(SPAN_COLOURS[names.index(name) % len(SPAN_COLOURS)])

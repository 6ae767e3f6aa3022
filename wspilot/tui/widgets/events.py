"""The event stream: newest below, bounded, never interpreted."""

from __future__ import annotations

from typing import Any

from textual.widgets import Log

from wspilot.tui import look

Doc = dict[str, Any]


class Events(Log, can_focus=True):
    """One line an event."""

    DEFAULT_CSS = """
    Events { height: 1fr; background: $surface; padding: 0 1; overflow-x: hidden;
             scrollbar-size-vertical: 1; scrollbar-background: $surface; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(max_lines=1000, highlight=False, id=id)

    def add(self, events: list[Doc]) -> None:
        """Append; the view follows unless somebody has scrolled up."""
        lines = [self.line(event) for event in events]
        if lines:
            self.write_lines(lines, scroll_end=self.is_vertical_scroll_end)

    @staticmethod
    def line(event: Doc) -> str:
        """`16:09:47   vm  osg/ce/1 running  [node03]`."""
        where = event["node"] or event["slot"]
        text = (
            f"{event['at'][11:19]} {look.level(event['level'])} {event['kind']:9} {event['text']}"
        )
        return f"{text}  [{where}]" if where else text

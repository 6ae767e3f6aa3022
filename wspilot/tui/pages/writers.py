"""Which page is written by whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from wspilot.tui.live import LiveModel
from wspilot.tui.pages.overview import overview
from wspilot.tui.pages.page import Page
from wspilot.tui.pages.trail import commands, fields, happened

Writer = Callable[[Page, LiveModel, "str | None"], None]
WRITERS: Mapping[str, Writer] = {
    "Overview": overview, "Events": happened, "Commands": commands, "Raw": fields,
}  # fmt: skip

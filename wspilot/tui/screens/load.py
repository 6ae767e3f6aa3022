"""An ensemble from the examples, the user's own or a file, seen before it is taken."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Input, OptionList, Static

from wspilot.text import clean
from wspilot.tui.builder import files
from wspilot.tui.screens.dialog import Dialog
from wspilot.tui.widgets.field import Field


class Load(Dialog[str]):
    """The text that was taken, or None."""

    DEFAULT_CSS = """
    Load > Vertical { width: 100; height: 90%; }
    Load Input { margin-bottom: 1; border: none; height: 1; padding: 0 1; background: $surface; }
    Load Input:focus { border: none; background: $primary-muted; }
    Load #middle { height: 1fr; }
    Load OptionList { width: 24; height: 1fr; max-height: 100%; margin-right: 2; }
    Load VerticalScroll { height: 1fr; background: $surface; padding: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        own = files.own()
        self._files = [*own, *files.examples()]
        self._names = [f"{clean(path.stem, 40)}{' (yours)' if path in own else ''}"
                       for path in self._files]  # fmt: skip

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static("Load an ensemble", classes="title", markup=False)
            yield Field(placeholder="a path and enter, or an example from below", id="path")
            with Horizontal(id="middle"):
                yield OptionList(*(Text(name) for name in self._names), id="files")
                with VerticalScroll(can_focus=False):
                    yield Static("", id="text", markup=False)

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()

    @on(OptionList.OptionHighlighted)
    def _shown(self, event: OptionList.OptionHighlighted) -> None:
        self._look(self._files[event.option_index], False)

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self._look(self._files[event.option_index], True)

    @on(Input.Submitted)
    def _named(self, event: Input.Submitted) -> None:
        self._look(Path(event.value), True)

    @work(exclusive=True, exit_on_error=False, group="look")
    async def _look(self, path: Path, take: bool) -> None:
        page = self.query_one("#text", Static)
        try:
            text = await asyncio.to_thread(files.read, path)
        except (OSError, ValueError, RuntimeError) as error:
            page.set_classes("fault")
            page.update(clean(f"{path}: {error}", 400))
            return
        if take:
            self.dismiss(text)
        else:
            page.set_classes("")
            page.update(_coloured(text))


def _coloured(text: str) -> Content:
    """Comments dim, tables bold, in whatever theme."""
    styles = {"#": "$secondary", "[": "bold"}
    lines = clean(text, 20_000, lines=True).split("\n")
    return Content.assemble(*((f"{line}\n", styles.get(line[:1], "")) for line in lines))

"""Deploy an ensemble file: choose one, see what it would ask for, and lease it."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, ClassVar

import tomllib
from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, OptionList, Static

from wspilot.errors import WspilotError
from wspilot.text import clean, format_duration, format_size
from wspilot.tui.source import Source


def examples() -> list[Path]:
    """The ensembles that come with wspilot."""
    package = Path(__file__).resolve().parents[2]
    packed = package / "_data" / "examples"
    return sorted((packed if packed.is_dir() else package.parent / "examples").glob("*.toml"))


class Deploy(ModalScreen[str | None]):
    """The id of the new workspace, or None."""

    DEFAULT_CSS = """
    Deploy { align: center middle; background: $background 60%; }
    Deploy > Vertical { width: 100; max-width: 96%; height: 90%; background: $panel;
                        border: round $primary; padding: 1 2; }
    Deploy #files { width: 26; height: 1fr; margin-right: 2; background: $surface; }
    Deploy #middle { height: 1fr; margin-bottom: 1; }
    Deploy VerticalScroll { height: 1fr; background: $surface; padding: 0 1; }
    Deploy Static { width: 1fr; height: auto; }
    Deploy Input { margin-bottom: 1; }
    Deploy #buttons { height: auto; align-horizontal: right; }
    Deploy Button { margin-left: 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel", id="deploy.cancel"),
        Binding("ctrl+s", "deploy", "Deploy", id="deploy.deploy"),
    ]

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source
        self._files = examples()
        self._doc: dict[str, Any] | None = None

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Input(
                placeholder="path of an ensemble file, or choose an example below", id="path"
            )
            with Horizontal(id="middle"):
                yield OptionList(*(Text(path.stem) for path in self._files), id="files")
                with VerticalScroll():
                    yield Static("", id="plan", markup=False)
            with Horizontal(id="buttons"):
                yield Button("Cancel", id="cancel")
                yield Button("Deploy", id="deploy", variant="primary", disabled=True)

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()

    @on(OptionList.OptionHighlighted)
    def _chosen(self, event: OptionList.OptionHighlighted) -> None:
        self._look(self._files[event.option_index])

    @on(OptionList.OptionSelected)
    def _selected(self) -> None:
        self.query_one("#deploy", Button).focus()

    @on(Input.Submitted)
    def _named(self, event: Input.Submitted) -> None:
        self._look(Path(event.value).expanduser())

    @work(exclusive=True, exit_on_error=False)
    async def _look(self, path: Path) -> None:
        """Show the file and what the daemon says of it; only a good one can be deployed."""
        self._ready(None)
        plan = self.query_one("#plan", Static)
        try:
            text = path.read_text("utf-8")
            doc = tomllib.loads(text)
            answer = await self._source.call("deploy", ensemble=doc, dry_run=True)
        except (OSError, ValueError) as error:
            plan.update(
                Text(clean(f"{path}: {error}", 500), style=self.app.theme_variables["error"])
            )
            return
        except WspilotError as error:
            said = f"{error.message}\n{error.hint}"
            plan.update(
                Text(clean(said, 3000, lines=True), style=self.app.theme_variables["error"])
            )
            return
        plan.update(Text(f"{_words(answer['plan'])}\n\n{clean(text, 4000, lines=True)}"))
        self._ready(doc)

    def _ready(self, doc: dict[str, Any] | None) -> None:
        self._doc = doc
        self.query_one("#deploy", Button).disabled = doc is None

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)

    @on(Button.Pressed, "#deploy")
    def action_deploy(self) -> None:
        """Lease it."""
        if self._doc is not None:
            self._send(self._doc)

    @work(exclusive=True, exit_on_error=False)
    async def _send(self, doc: dict[str, Any]) -> None:
        try:
            answer = await self._source.call("deploy", ensemble=doc, token=uuid.uuid4().hex)
        except WspilotError as error:
            self.notify(
                clean(f"{error.message} {error.hint}", 400),
                title="not deployed",
                severity="error",
                markup=False,
            )
            return
        self.dismiss(str(answer["workspace"]["id"]))


def _words(plan: dict[str, Any]) -> str:
    nodes = sum(slot["nodes"] for slot in plan["slots"])
    vms = sum(slot["vms"] for slot in plan["slots"])
    memory = max(slot["memory_mib"] for slot in plan["slots"])
    return (
        f"{vms} VMs on {nodes} nodes in {len(plan['slots'])} slots, up to {format_size(memory)} "
        f"a node\nlease {format_duration(plan['lease_s'])}, asked of the batch system: "
        f"{format_duration(plan['walltime_s'])}, {plan['node_hours']} node hours"
    )

"""Deploy an ensemble file: choose one, see what it would ask for, and lease it."""

from __future__ import annotations

import asyncio
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
from wspilot.tui import look
from wspilot.tui.live import plural
from wspilot.tui.source import Source

MOST_BYTES = 256 * 1024


def examples() -> list[Path]:
    """The ensembles that come with wspilot."""
    package = Path(__file__).resolve().parents[2]
    packed = package / "_data" / "examples"
    return sorted((packed if packed.is_dir() else package.parent / "examples").glob("*.toml"))


class Deploy(ModalScreen[str | None]):
    """The id of the new workspace, or None. What is sent is the text that was shown and checked."""

    DEFAULT_CSS = """
    Deploy { align: center middle; background: $background 60%; }
    Deploy > Vertical { width: 100; max-width: 96%; height: 90%; background: $panel;
                        border: round $primary; padding: 1 2; border-title-style: bold; }
    Deploy #files { width: 26; border: none; padding: 0 1; height: 1fr; margin-right: 2;
                    background: $surface; }
    Deploy #middle { height: 1fr; margin-bottom: 1; }
    Deploy VerticalScroll { height: 1fr; background: $surface; padding: 0 1; }
    Deploy Static { width: 1fr; height: auto; }
    Deploy Input { margin-bottom: 1; }
    Deploy.-narrow > Vertical { padding: 0 1; height: 96%; }
    Deploy.-narrow #files { width: 19; margin-right: 1; }
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
        self._token = ""  # one a checked text: a second press cannot lease twice
        self._sending = False

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = "Deploy an ensemble"
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
        self._look(Path(event.value))

    @work(exclusive=True, exit_on_error=False, group="look")
    async def _look(self, path: Path) -> None:
        """Show the file and what the daemon says of it; only a good one can be deployed."""
        self._ready(None)
        text = ""
        try:
            text = await asyncio.to_thread(_read, path)
            doc = tomllib.loads(text)
            answer = await self._source.call("deploy", ensemble=doc, dry_run=True)
        except (OSError, ValueError, RuntimeError) as error:
            self._show(f"{path}: {error}", "error", text)
        except WspilotError as error:
            self._show(f"{error.message}\n{error.hint}", "error", text)
        else:
            self._show(_words(answer["plan"]), "success", text)
            self._ready(doc)

    def _show(self, said: str, colour: str, text: str) -> None:
        """What is said of a file, and the file: its comments dim, its tables bold."""
        colours = self.app.theme_variables
        page = Text()
        page.append(
            clean(said, 3000, lines=True) + "\n\n", look.style(colours.get(colour, "")) or None
        )
        dim = look.style(colours.get("secondary", ""))
        for line in clean(text, 20_000, lines=True).split("\n"):
            style = dim if line.startswith("#") else "bold" if line.startswith("[") else ""
            page.append(f"{line}\n", style=style or None)
        self.query_one("#plan", Static).update(page)

    def _ready(self, doc: dict[str, Any] | None) -> None:
        self._doc, self._token = doc, uuid.uuid4().hex
        self.query_one("#deploy", Button).disabled = doc is None

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)

    @on(Button.Pressed, "#deploy")
    def action_deploy(self) -> None:
        """Lease it, once."""
        if self._doc is not None and not self._sending:
            self._sending = True
            self.query_one("#deploy", Button).disabled = True
            self._send(self._doc, self._token)

    @work(exit_on_error=False, group="send")
    async def _send(self, doc: dict[str, Any], token: str) -> None:
        try:
            answer = await self._source.call("deploy", ensemble=doc, token=token)
        except WspilotError as error:
            self.notify(
                clean(f"{error.message} {error.hint}", 400),
                title="not deployed",
                severity="error",
                markup=False,
            )
            self.query_one("#deploy", Button).disabled = self._doc is None
        else:
            self.dismiss(str(answer["workspace"]["id"]))
        finally:
            self._sending = False


def _read(path: Path) -> str:
    """A small ordinary file. Anything else (a pipe, a disk) could hold the screen for ever."""
    path = path.expanduser()
    if not path.is_file():
        raise OSError("there is no such file")
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise OSError("too large for an ensemble")
    return data.decode("utf-8")


def _words(plan: dict[str, Any]) -> str:
    nodes = sum(slot["nodes"] for slot in plan["slots"])
    vms = sum(slot["vms"] for slot in plan["slots"])
    memory = max(slot["memory_mib"] for slot in plan["slots"])
    return (
        f"{plural(vms, 'VM')} on {plural(nodes, 'node')} in {plural(len(plan['slots']), 'slot')}, "
        f"up to {format_size(memory)} a node.\nLease {format_duration(plan['lease_s'])}; asked of "
        f"the batch system: {format_duration(plan['walltime_s'])}, "
        f"{plan['node_hours']:g} node hours."
    )

"""What can be asked of living VMs: one list, a letter each, for what stands under the cursor.

Nothing here loses anything (destroying asks in `confirm.py`): one choice is enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option


@dataclass(frozen=True)
class Target:
    """Whom a verb is for, captured when the key was pressed."""

    id: str  # what is sent to the daemon: an id, or WORKSPACE/GROUP
    title: str


VERBS = {
    "pause": ("p", "stand still, in memory"),
    "resume": ("r", "go on, from memory or from disk"),
    "suspend": ("s", "sleep on the node's disk"),
    "stop": ("o", "shut down; the disk stays"),
    "start": ("a", "boot again"),
    "reboot": ("b", "shut down and boot again"),
}


class Act(ModalScreen[str]):
    """The verb that was chosen; empty for none."""

    DEFAULT_CSS = """
    Act { align: center middle; background: $background 60%; }
    Act > Vertical { width: 54; max-width: 95%; height: auto; max-height: 95%;
                     background: $panel; border: round $primary; padding: 1 2; }
    Act Static { height: auto; width: 1fr; margin-bottom: 1; }
    Act OptionList { height: auto; max-height: 10; border: none; padding: 0; }
    Act OptionList:focus { border: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss('')", "Cancel", id="act.cancel"),
        *(Binding(key, f"dismiss('{verb}')", verb, show=False, id=f"act.{verb}")
          for verb, (key, _) in VERBS.items()),
    ]  # fmt: skip

    def __init__(self, target: Target) -> None:
        super().__init__()
        self._target = target

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Text(self._target.title, style="bold"))
            yield OptionList(
                *(
                    Option(
                        Text.assemble((f" {key} ", "bold"), f"{verb:8} ", (text, "dim")), id=verb
                    )
                    for verb, (key, text) in VERBS.items()
                )
            )

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_id or "")


def _line(verb: str, key: str, text: str) -> Text:
    return Text.assemble((f" {key} ", "bold"), f"{verb:8} ", (text, "dim"))

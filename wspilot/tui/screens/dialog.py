"""What all small dialogs share: their box, and that escape closes them without a result."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

Result = TypeVar("Result")


class Dialog(ModalScreen[Result]):
    """A box in the middle of the screen; its content stands in one Vertical."""

    DEFAULT_CSS = """
    Dialog { align: center middle; background: $background 60%; }
    Dialog > Vertical { width: 66; max-width: 95%; height: auto; max-height: 95%;
                        background: $panel; border: round $primary; padding: 1 2; }
    Dialog Static { height: auto; width: 1fr; }
    Dialog .title { text-style: bold; margin-bottom: 1; }
    Dialog .hint { color: $secondary; margin-top: 1; }
    Dialog .fault { color: $error; }
    Dialog OptionList, Dialog SelectionList { height: auto; max-height: 16; border: none;
        padding: 0; background: $panel; }
    Dialog OptionList:focus, Dialog SelectionList:focus { border: none; }
    Dialog #buttons { height: auto; align-horizontal: right; margin-top: 1; }
    Dialog Button { margin-left: 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "Cancel", id="dialog.cancel")
    ]

    def action_cancel(self) -> None:
        """Nothing was meant."""
        self.dismiss(None)

"""The form of an ensemble: its name and duration, its groups as a list, and one group's fields.

It only shows the document and says what was changed; the screen owns the document. What it has put
into a field itself is remembered: only what differs from that was typed by somebody, and is told
before anything else takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Input, Label, OptionList, Select, Static
from textual.widgets.option_list import Option

from wspilot.tui import look
from wspilot.tui.builder import draft
from wspilot.tui.builder.cost import Fault
from wspilot.tui.widgets.columns import fit
from wspilot.tui.widgets.field import Field

WORKSPACE = {"name": "a name for it", "duration": "2h"}
INPUTS = {"name": "its name", "count": "1", "min": "all", "nics": "the site's first",
          "provides": "ce, se, ...", "requires": "roles of others"}  # fmt: skip
SELECTS = ("type", "image", "placement", "ready")
ROWS = (("name", "type"), ("count", "min"), ("image", "nics"), ("placement", "ready"),
        ("provides", "requires"))  # fmt: skip
FIXED = {"placement": ("its type's", ("spread", "pack")),
         "ready": ("its image's", ("agent", "address", "console", "process"))}  # fmt: skip
DEFAULT, UNSET = " ", "  "  # values of a choice: nothing is said; and before it is known
LABELS = {"nics": "networks", "min": "at least"}
MOST_CHARS = 1000
Heard = Callable[[int | None, str, str], None]
"""A field of the workspace (None) or of a group has another text: (group, field, text)."""


class Groups(OptionList):
    """The groups; their order is changed here, too."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "screen.add", "Add", show=False, id="groups.add", tooltip="a group more"),
        Binding("c", "screen.copy", "Copy", show=False, id="groups.copy",
                tooltip="the group once more, with another name"),
        Binding("x,delete", "screen.remove", "Remove", show=False, id="groups.remove",
                key_display="x del", tooltip="without the group; u brings it back"),
        Binding("K,alt+up", "screen.move(-1)", "Group up", show=False, id="groups.up",
                key_display="K alt+up", tooltip="the group further up"),
        Binding("J,alt+down", "screen.move(1)", "Group down", show=False, id="groups.down",
                key_display="J alt+down", tooltip="the group further down"),
        Binding("u", "screen.undo", "Undo", show=False, id="groups.undo",
                tooltip="the last change goes (in the TOML: ctrl+z)"),
        Binding("j", "cursor_down", "Next", show=False, id="groups.next"),
        Binding("k", "cursor_up", "Previous", show=False, id="groups.previous"),
    ]  # fmt: skip


class Form(VerticalScroll, can_focus=False):
    """Fields for everything but scripts (`user_data`) and keys, which are written in the TOML."""

    DEFAULT_CSS = """
    Form { scrollbar-size-vertical: 1; }
    Form .row { height: 1; margin-bottom: 1; }
    Form .pair { width: 1fr; height: 1; margin-right: 2; }
    Form Label { width: 10; color: $secondary; }
    Form Input, Form Select { width: 1fr; height: 1; }
    Form Input { border: none; padding: 0 1; background: $panel; height: 1; }
    Form Input:focus { background: $primary-muted; border: none; }
    Form Input:disabled { color: $secondary; }
    Form Select.-textual-compact > SelectCurrent { background: $panel; padding: 0 1; }
    Form Select:focus SelectCurrent { background: $primary-muted; }
    Form Select > SelectOverlay { border: none; padding: 0; min-width: 24; max-height: 12;
                                 background: $panel; }
    Form Select > SelectOverlay > .option-list--option { padding: 0 1; }
    Form #catalogue { width: 1fr; height: auto; color: $secondary; }
    Form .-bad Label { color: $error; text-style: bold; }
    Form Groups { height: auto; max-height: 8; min-height: 3; border: none; padding: 0;
                  background: $surface; margin-bottom: 1; }
    Form Groups:focus { border: none; }
    Form Groups { text-wrap: nowrap; text-overflow: ellipsis; }
    Form .head { width: 1fr; height: 1; color: $secondary; }
    .-low Form .row, .-low Form Groups { margin-bottom: 0; }
    .-low Form Groups { max-height: 5; }
    .-low Form #row-name { margin-top: 1; }
    """

    def __init__(self, heard: Heard) -> None:
        super().__init__(id="form")
        self._tell = heard  # a call, not a message: what is typed is never behind what is shown
        self.group = 0
        self._choices: Mapping[str, Sequence[tuple[str, str]]] = {}
        self._doc: draft.Doc = {}
        self._faults: Sequence[Fault] = ()
        self._shown: dict[str, str] = {}  # by the id of a field: what stands there
        self._options: dict[str, list[tuple[Text, str]]] = {}
        self._lines: list[Text] = []

    def compose(self) -> ComposeResult:
        with Horizontal(classes="row"):
            for name, hint in WORKSPACE.items():
                yield self._pair(f"w-{name}", name, self._input(f"w-{name}", hint))
        yield Static("Groups: a add, c copy, x remove, K J move", classes="head")
        yield Groups(id="groups")
        for row in ROWS:
            with Horizontal(id=f"row-{row[0]}", classes="row"):
                for name in row:
                    field = self._choice(name) if name in SELECTS else self._input(
                        f"g-{name}", INPUTS[name])  # fmt: skip
                    yield self._pair(f"g-{name}", LABELS.get(name, name), field)
        yield Static("", id="catalogue", markup=False)

    @staticmethod
    def _input(id: str, hint: str) -> Field:
        return Field(id=id, placeholder=hint, max_length=MOST_CHARS, select_on_focus=False)

    @staticmethod
    def _choice(name: str) -> Select[str]:
        return Select([("", UNSET)], id=f"g-{name}", allow_blank=False, compact=True)

    @staticmethod
    def _pair(name: str, label: str, field: Any) -> Horizontal:
        return Horizontal(Label(label), field, classes="pair", id=f"pair-{name}")

    # -- showing

    def offer(
        self, choices: Mapping[str, Sequence[tuple[str, str]]], catalogue: Sequence[str]
    ) -> None:
        """What the site has: by field (value, words); and the same to be read."""
        self.query_one("#catalogue", Static).update("\n".join(catalogue))
        self._choices = choices
        self.show(self._doc, self.group)

    def show(self, doc: draft.Doc, group: int, but: str = "") -> None:
        """The document, standing on a group; `but` is the field in which somebody types it."""
        self._doc, self.group = doc, group
        for name in WORKSPACE:
            self._set(f"w-{name}", draft.field(draft.workspace(doc), name), but)
        self._list()
        found = draft.groups(doc)
        one = found[group] if group < len(found) else {}
        for name in INPUTS:
            self._set(f"g-{name}", draft.field(one, name), but)
        for name in SELECTS:
            self._select(name, draft.field(one, name))
        odd = bool(draft.odd(doc))
        for pair in self.query(".pair"):
            pair.disabled = odd or (not found and (pair.id or "").startswith("pair-g-"))
        self._mark()

    def blame(self, faults: Sequence[Fault]) -> None:
        """What the validator found."""
        self._faults = faults
        self._list()
        self._mark()

    def _set(self, id: str, text: str, but: str) -> None:
        field = self.query_one(f"#{id}", Input)
        text = text[:MOST_CHARS]
        if id != but and field.value == self._shown.get(id, ""):  # else typed, and not heard yet
            self._shown[id] = text
            if field.value != text:
                field.value = text

    def _select(self, name: str, value: str) -> None:
        select = self.query_one(f"#g-{name}", Select)
        value = value or DEFAULT
        if name in FIXED:
            first, words = FIXED[name]
            offered = [(DEFAULT, first), *((word, word) for word in words)]
        else:
            first = "choose one" if name == "type" else "the default"
            offered = [(DEFAULT, first), *self._choices.get(name, ())]
        if value not in {one for one, _ in offered}:
            strange = name in FIXED or name in self._choices
            offered.append((value, f"{value} (not here)" if strange else value))
        options = [(Text(words), one) for one, words in offered]
        if isinstance(select.value, str) and self._is_new(f"g-{name}", select.value):
            value = select.value  # chosen, and not heard yet
        else:
            self._shown[f"g-{name}"] = value
        if options != self._options.get(name):
            self._options[name] = options
            select.set_options(options)
        if select.value != value:
            select.value = value

    def _list(self) -> None:
        groups = self.query_one(Groups)
        bad = {fault.group for fault in self._faults}
        found = draft.groups(self._doc)
        lines = [self._line(one, n in bad) for n, one in enumerate(found)]
        if not lines:
            why = draft.odd(self._doc) or "no group yet: a adds one"
            lines = [Text(f"  {why}", style="italic")]
        if len(lines) != len(self._lines):
            groups.clear_options()
            groups.add_options([Option(line) for line in lines])
        else:
            for n, line in enumerate(lines):
                if line != self._lines[n] or line.spans != self._lines[n].spans:
                    groups.replace_option_prompt_at_index(n, line)
        self._lines = lines
        if found and groups.highlighted != self.group:
            groups.highlighted = self.group

    @staticmethod
    def _line(one: Mapping[str, Any], bad: bool) -> Text:
        count, kind = draft.field(one, "count") or "1", draft.field(one, "type") or "?"
        text = Text(f"{look.glyph('failed') if bad else ' '} ")
        text.append(fit(draft.field(one, "name") or "?", 14), "bold")
        text.append(f" {fit(f'{count} x {kind}', 14)}")
        text.append(f" {fit(draft.field(one, 'image') or 'default image', 14)}")
        text.append(f" {draft.field(one, 'nics')[:200]}")
        return text

    def _mark(self) -> None:
        bad = {(f"w-{one.key}" if one.group is None else f"g-{one.key}") for one in self._faults
               if one.group is None or one.group == self.group}  # fmt: skip
        for pair in self.query(".pair"):
            pair.set_class((pair.id or "").removeprefix("pair-") in bad, "-bad")

    # -- hearing

    def hear(self) -> None:
        """Tell what was typed and is not told yet: it belongs to the group that is shown."""
        for id in [*(f"w-{name}" for name in WORKSPACE), *(f"g-{name}" for name in INPUTS)]:
            self._heard(id, self.query_one(f"#{id}", Input).value)
        for name in SELECTS:
            value = self.query_one(f"#g-{name}", Select).value
            self._heard(f"g-{name}", value if isinstance(value, str) else UNSET)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._heard(event.input.id or "", event.input.value)  # what it is by now

    @on(Select.Changed)
    def _selected(self, event: Select.Changed) -> None:
        event.stop()
        value = event.select.value
        self._heard(event.select.id or "", value if isinstance(value, str) else DEFAULT)

    def _heard(self, id: str, text: str) -> None:
        if self._is_new(id, text):
            self._shown[id] = text
            where, _, name = id.partition("-")
            self._tell(None if where == "w" else self.group, name, text)

    def _is_new(self, id: str, text: str) -> bool:
        """Typed or chosen; not our own doing."""
        return text not in (self._shown.get(id, ""), UNSET)

    @on(OptionList.OptionHighlighted, "#groups")
    def _other(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        now = event.option_list.highlighted  # not what it was on the way
        if now is not None and now != self.group and now < len(draft.groups(self._doc)):
            self.hear()
            self.show(self._doc, now)

    @on(OptionList.OptionSelected, "#groups")
    def _opened(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.query_one("#g-name").focus()

"""The form of an ensemble: its name and duration, its groups as a list, and one group's fields.

It only shows the document and says what was changed; the screen owns the document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.message import Message
from textual.widgets import Input, Label, OptionList, Select, Static
from textual.widgets.option_list import Option

from wspilot.tui import look
from wspilot.tui.builder import draft
from wspilot.tui.builder.cost import Fault

INPUTS = {"name": "its name", "count": "1", "min": "all", "nics": "the site's first",
          "provides": "roles: ce, se, ...", "requires": "roles of others"}  # fmt: skip
SELECTS = ("type", "image", "placement", "ready")
PLACEMENTS = ("spread", "pack")
READY = ("agent", "address", "console", "process")
DEFAULT, UNSET = " ", "  "  # values of a choice: nothing is said; and before it is known
LABELS = {"nics": "networks", "min": "at least"}


class Groups(OptionList):
    """The groups; their order is changed here, too."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "screen.add", "Add", show=False, id="groups.add"),
        Binding("c", "screen.copy", "Copy", show=False, id="groups.copy"),
        Binding("x,delete", "screen.remove", "Remove", show=False, id="groups.remove"),
        Binding("K,alt+up", "screen.move(-1)", "Up", show=False, id="groups.up"),
        Binding("J,alt+down", "screen.move(1)", "Down", show=False, id="groups.down"),
    ]


class Form(VerticalScroll, can_focus=False):
    """Fields for everything but scripts (`user_data`), which are written in the TOML."""

    DEFAULT_CSS = """
    Form { scrollbar-size-vertical: 1; }
    Form Horizontal { height: 1; margin-bottom: 1; }
    Form .pair { width: 1fr; height: 1; margin-right: 2; }
    Form Label { width: 10; color: $secondary; }
    Form Input, Form Select { width: 1fr; height: 1; }
    Form Input { border: none; padding: 0 1; background: $panel; height: 1; }
    Form Input:focus { background: $primary-muted; border: none; }
    Form #catalogue { width: 1fr; height: auto; color: $secondary; margin-top: 1; }
    Form .-bad Label { color: $error; text-style: bold; }
    Form Groups { height: auto; max-height: 8; min-height: 3; border: none; padding: 0;
                  background: $surface; margin-bottom: 1; }
    Form Groups:focus { border: none; }
    Form .head { width: 1fr; text-style: bold; color: $foreground; }
    """

    class Changed(Message):
        """A field of the workspace (`group` is None) or of a group has another text."""

        def __init__(self, group: int | None, name: str, text: str) -> None:
            super().__init__()
            self.group, self.field_name, self.text = group, name, text

    class Chosen(Message):
        """Another group is shown."""

    def __init__(self) -> None:
        super().__init__(id="form")
        self.group = 0
        self._choices: Mapping[str, Sequence[tuple[str, str]]] = {}
        self._doc: draft.Doc = {}
        self._faults: Sequence[Fault] = ()

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield self._pair("w-name", "name", Input(id="w-name", placeholder="a name for it"))
            yield self._pair("w-duration", "duration",
                             Input(id="w-duration", placeholder="2h"))  # fmt: skip
        yield Label("Groups: a adds, c copies, x removes, K and J move", classes="head")
        yield Groups(id="groups")
        for left, right in (("name", "type"), ("count", "min"), ("image", "nics"),
                            ("placement", "ready"), ("provides", "requires")):  # fmt: skip
            with Horizontal():
                yield self._field(left)
                yield self._field(right)

        yield Static("", id="catalogue", markup=False)

    def _field(self, name: str) -> Horizontal:
        if name in SELECTS:
            select: Select[str] = Select([("", UNSET)], id=f"g-{name}", allow_blank=False,
                                         compact=True)  # fmt: skip
            return self._pair(f"g-{name}", LABELS.get(name, name), select)
        field = Input(id=f"g-{name}", placeholder=INPUTS[name])
        return self._pair(f"g-{name}", LABELS.get(name, name), field)

    @staticmethod
    def _pair(name: str, label: str, field: Any) -> Horizontal:
        return Horizontal(Label(label), field, classes="pair", id=f"pair-{name}")

    # -- showing

    def offer(
        self, choices: Mapping[str, Sequence[tuple[str, str]]], catalogue: Sequence[str]
    ) -> None:
        """What the site has: by field (value, words); and the lease types in full."""
        self.query_one("#catalogue", Static).update("\n".join(("Lease types here", *catalogue)))
        self._choices = choices
        self.show(self._doc, self.group)

    def show(self, doc: draft.Doc, group: int) -> None:
        """The document, standing on a group."""
        self._doc, self.group = doc, group
        table = doc.get("workspace")
        table = table if isinstance(table, Mapping) else {}
        for name in ("name", "duration"):
            self._set(f"#w-{name}", draft.field(table, name))
        self._list()
        found = draft.groups(doc)
        one = found[group] if group < len(found) else {}
        for name in INPUTS:
            self._set(f"#g-{name}", draft.field(one, name))
        for name in SELECTS:
            self._select(name, draft.field(one, name))
        for field in self.query(".pair"):
            if (field.id or "").startswith("pair-g-"):
                field.disabled = not found
        self._mark()

    def blame(self, faults: Sequence[Fault]) -> None:
        """What the validator found."""
        self._faults = faults
        self._list()
        self._mark()

    def _set(self, where: str, text: str) -> None:
        field = self.query_one(where, Input)
        if field.value.strip() != text and not self._same_list(where, field.value, text):
            field.value = text

    @staticmethod
    def _same_list(where: str, typed: str, text: str) -> bool:
        """`a,b` is what stands there while somebody types `a, b`."""
        if where.rpartition("-")[2] not in draft.LISTS:
            return False
        return typed.replace(",", " ").split() == text.replace(",", " ").split()

    def _select(self, name: str, value: str) -> None:
        value = value or DEFAULT
        select = self.query_one(f"#g-{name}", Select)
        if name == "placement":
            offered = [(DEFAULT, "its type's"), *((one, one) for one in PLACEMENTS)]
        elif name == "ready":
            offered = [(DEFAULT, "its image's"), *((one, one) for one in READY)]
        else:
            first = "choose one" if name == "type" else "the default"
            offered = [(DEFAULT, first), *self._choices.get(name, ())]
        if value not in {one for one, _ in offered}:
            offered.append((value, f"{value} (not here)"))
        options = [(Text(words), one) for one, words in offered]
        if options != getattr(self, f"_options_{name}", None):
            setattr(self, f"_options_{name}", options)
            select.set_options(options)
        if select.value != value:
            select.value = value

    def _list(self) -> None:
        groups = self.query_one(Groups)
        bad = {fault.group for fault in self._faults}
        found = draft.groups(self._doc)
        lines = [self._line(n, one, n in bad) for n, one in enumerate(found)]
        if not lines:
            lines = [Text("no group yet: a adds one", style="italic")]
        if len(lines) != groups.option_count:
            groups.clear_options()
            groups.add_options([Option(line) for line in lines])
        else:
            for n, line in enumerate(lines):
                groups.replace_option_prompt_at_index(n, line)
        if found and groups.highlighted != self.group:
            groups.highlighted = self.group

    @staticmethod
    def _line(n: int, one: Mapping[str, Any], bad: bool) -> Text:
        sign = look.glyph("failed") if bad else " "
        count = draft.field(one, "count") or "1"
        name, image = draft.field(one, "name") or "?", draft.field(one, "image") or "default image"
        text = Text(f"{sign} ")
        text.append(f"{name:14} ", "bold")
        text.append(f"{count} x {draft.field(one, 'type') or '?'}  ")
        text.append(image, "dim")
        if nics := draft.field(one, "nics"):
            text.append(f"  {nics}", "dim")
        return text

    def _mark(self) -> None:
        bad = {(f"w-{one.key}" if one.group is None else f"g-{one.key}") for one in self._faults
               if one.group is None or one.group == self.group}  # fmt: skip
        for pair in self.query(".pair"):
            pair.set_class((pair.id or "").removeprefix("pair-") in bad, "-bad")

    # -- hearing

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._tell(event.input.id or "", event.input.value)

    @on(Select.Changed)
    def _selected(self, event: Select.Changed) -> None:
        event.stop()
        if event.select.has_focus or event.select.has_focus_within:  # else it is our own doing
            value = event.select.value  # what it is by now, not what it was on the way
            self._tell(event.select.id or "", value.strip() if isinstance(value, str) else "")

    def _tell(self, id: str, text: str) -> None:
        where, _, name = id.partition("-")
        self.post_message(self.Changed(None if where == "w" else self.group, name, text))

    @on(OptionList.OptionHighlighted)
    def _other(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        if event.option_index != self.group and draft.groups(self._doc):
            self.show(self._doc, event.option_index)
            self.post_message(self.Chosen())

"""`:` and ctrl+p: everything that can be done now, by name. From the keys, so nothing is missed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from textual.binding import Binding, BindingType
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content
from textual.screen import Screen

from wspilot.text import clean
from wspilot.tui import look
from wspilot.tui.acting import VERBS, fitting
from wspilot.tui.screens.main import MainScreen

if TYPE_CHECKING:
    from wspilot.tui.app import WspilotApp

MOST_PLACES = 500
_OWN = ("open", "close", "back", "mark", "palette", "help")  # nobody looks for these by name
Command = tuple[str, str, Callable[[], object]]


class Everything(Provider):
    """Keys of the place, verbs on the selection, workspaces to go to, themes."""

    async def discover(self) -> Hits:
        """What is shown before anything is typed."""
        for title, text, act in self._commands():
            if not title.startswith(("Theme: ", "Go to ")):
                yield DiscoveryHit(Content(title), act, text=title, help=text)  # never markup

    async def search(self, query: str) -> Hits:
        """What fits the words."""
        matcher = self.matcher(query)
        for title, text, act in self._commands():
            if (score := matcher.match(title)) > 0:
                yield Hit(score, matcher.highlight(title), act, help=text)

    def _commands(self) -> Iterator[Command]:
        app: WspilotApp = self.app  # type: ignore[assignment]
        here = self.screen
        yield from self._keys(here, here.BINDINGS)
        if isinstance(here, MainScreen):
            yield from self._verbs(here)
            yield from self._arranging(here)
            yield from self._places(app, here)
        else:
            yield from self._building(here)
        for name in sorted(app.available_themes):
            yield f"Theme: {name}", "the colours of this screen", partial(app.use_theme, name)

    @staticmethod
    def _keys(here: Screen[Any], bindings: Sequence[BindingType]) -> Iterator[Command]:
        for one in bindings:
            if isinstance(one, Binding) and not one.action.startswith(_OWN):
                name, *rest = one.action.removeprefix("app.").replace(")", "").split("(")
                given = tuple(word.strip("'") for word in rest)
                if here.check_action(name, given):
                    key = look.key(one.key_display or one.key.split(",")[0])
                    title = f"{one.description}  ({key})"
                    yield title, one.tooltip or "", partial(here.run_action, one.action)

    def _building(self, here: Screen[Any]) -> Iterator[Command]:
        """What the builder's list of groups knows besides, and the groups to go to."""
        from wspilot.tui.builder.form import Groups
        from wspilot.tui.screens.build import Build

        if isinstance(here, Build):
            known = {one.action for one in here.BINDINGS if isinstance(one, Binding)}
            more = [one for one in Groups.BINDINGS if isinstance(one, Binding) and one.tooltip
                    and one.action.removeprefix("screen.") not in known]  # fmt: skip
            yield from self._keys(here, more)
            for n, name in enumerate(here.group_names[:MOST_PLACES]):
                act = partial(here.action_group, n)
                yield f"Group: {clean(name, 60)}", "go to this group", act

    def _verbs(self, main: MainScreen) -> Iterator[Command]:
        targets = main.targets()
        if not targets or not main.check_action("act", ()):
            return
        what = targets[0].title if len(targets) == 1 else f"{len(targets)} marked"
        for verb in VERBS.values():
            if not fitting(verb, targets):
                yield (f"{verb.name.capitalize()} {what}", verb.text,
                       partial(main.action_verb, verb.name))  # fmt: skip

    def _arranging(self, main: MainScreen) -> Iterator[Command]:
        """What is set once and kept: no key is spent on it."""
        if main.has_class("-compact"):
            yield "Density: standard", "views above, room for events", partial(
                main.use_density, False)  # fmt: skip
        else:
            yield "Density: compact", "more lines of the table", partial(main.use_density, True)
        ws = main.model.workspace_of(main.table.cursor_key or "")
        if ws is not None:
            act = partial(main.show_script, ws)
            yield f"Job script for {ws['name']}", "as submitted; else, as it would be", act

    def _places(self, app: WspilotApp, main: MainScreen) -> Iterator[Command]:
        spaces = list(app.model.items["workspaces"].values())[-MOST_PLACES:]
        for ws in spaces:
            view = "history" if ws["state"] == "ended" else "leases"
            act = partial(main.go_to, f"workspaces/{ws['id']}", view)
            yield f"Go to {ws['name']}", f"{ws['state']}", act

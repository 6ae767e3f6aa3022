"""`:` and ctrl+p: everything that can be done now, by name. From the keys, so nothing is missed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from textual.binding import Binding
from textual.command import DiscoveryHit, Hit, Hits, Provider

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
                yield DiscoveryHit(title, act, help=text)

    async def search(self, query: str) -> Hits:
        """What fits the words."""
        matcher = self.matcher(query)
        for title, text, act in self._commands():
            if (score := matcher.match(title)) > 0:
                yield Hit(score, matcher.highlight(title), act, help=text)

    def _commands(self) -> Iterator[Command]:
        app: WspilotApp = self.app  # type: ignore[assignment]
        main = self.screen
        if isinstance(main, MainScreen):
            yield from self._keys(main)
            yield from self._verbs(main)
            yield from self._places(app, main)
        for name in sorted(app.available_themes):
            yield f"Theme: {name}", "the colours of this screen", partial(app.use_theme, name)

    def _keys(self, main: MainScreen) -> Iterator[Command]:
        for one in main.BINDINGS:
            if isinstance(one, Binding) and not one.action.startswith(_OWN):
                name, *rest = one.action.removeprefix("app.").replace(")", "").split("(")
                given = tuple(word.strip("'") for word in rest)
                if main.check_action(name, given):
                    title = (
                        f"{one.description}  ({look.key(one.key_display or one.key.split(',')[0])})"
                    )
                    yield title, one.tooltip, partial(main.run_action, one.action)

    def _verbs(self, main: MainScreen) -> Iterator[Command]:
        targets = main.targets()
        if not targets or not main.check_action("act", ()):
            return
        what = targets[0].title if len(targets) == 1 else f"{len(targets)} marked"
        for verb in VERBS.values():
            if not fitting(verb, targets):
                yield (f"{verb.name.capitalize()} {what}", verb.text,
                       partial(main.action_verb, verb.name))  # fmt: skip

    def _places(self, app: WspilotApp, main: MainScreen) -> Iterator[Command]:
        spaces = list(app.model.items["workspaces"].values())[-MOST_PLACES:]
        for ws in spaces:
            view = "history" if ws["state"] == "ended" else "leases"
            act = partial(main.go_to, f"workspaces/{ws['id']}", view)
            yield f"Go to {ws['name']}", f"{ws['state']}", act

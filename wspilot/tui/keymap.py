"""The user's keymap against all bindings: what is unknown or clashes is said, the rest holds.

A key may stand for two things in two places (a dialog, the builder), never for two in one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from textual.app import App
from textual.binding import Binding

from wspilot.text import clean, did_you_mean

Keys = Mapping[str, str]


def places() -> list[dict[str, str]]:
    """The keys by id, of each place where they hold together."""
    from wspilot.tui.screens.build import Build
    from wspilot.tui.screens.columns import Columns
    from wspilot.tui.screens.confirm import Confirm
    from wspilot.tui.screens.dialog import Dialog
    from wspilot.tui.screens.help import Help
    from wspilot.tui.screens.main import MainScreen
    from wspilot.tui.screens.paper import Paper
    from wspilot.tui.widgets.lineview import LineView
    from wspilot.tui.widgets.treetable import TreeTable

    together: tuple[tuple[Any, ...], ...] = (
        (MainScreen, TreeTable), (LineView,), (Paper,), (Build,), (Help,), (Columns, Dialog),
        (Confirm, Dialog),
    )  # fmt: skip
    return [dict(_keys(one for owner in owners for one in owner.BINDINGS)) for owners in together]


def _keys(bindings: Iterator[Any]) -> Iterator[tuple[str, str]]:
    for one in bindings:
        if isinstance(one, Binding) and one.id:
            yield one.id, one.key


def judged(keys: Keys, known: list[dict[str, str]]) -> tuple[dict[str, str], list[str]]:
    """(what of a keymap can be used, what cannot be and why)."""
    ids = {id for place in known for id in place}
    good = {id: key for id, key in keys.items() if id in ids and key.strip()}
    faults = [f"tui.toml: no key is called {clean(id, 60)!r}; {did_you_mean(id, ids)}"
              for id in keys if id not in ids]  # fmt: skip
    faults += [f"tui.toml: {id} has no key" for id, key in keys.items()
               if id in ids and not key.strip()]  # fmt: skip
    while found := _clash(good, known):
        id, other, key = found
        faults.append(f"tui.toml: the key {clean(key, 20)} of {id} is {other}'s: {id} keeps its "
                      "own")  # fmt: skip
        del good[id]
    return good, faults


def _clash(good: Keys, known: list[dict[str, str]]) -> tuple[str, str, str] | None:
    """(what of the user's has to go, what holds its key, that key)."""
    for place in known:
        owners: dict[str, str] = {}
        for id, key in _long({**place, **{id: good[id] for id in good if id in place}}):
            other = owners.setdefault(key, id)
            if other != id and (id in good or other in good):
                return (id, other, key) if id in good else (other, id, key)
    return None


def _long(keys: Keys) -> Iterator[tuple[str, str]]:
    """One key each, by Textual's long names (`?` is `question_mark`)."""
    for id, names in App._normalize_keymap(dict(keys)).items():
        for name in names.split(","):
            yield id, name

"""The order of the lines: which keys stand below each other in a view, sorted and filtered.

The same list object is given again until the order changes, so that a table knows at a glance that
nothing moved. A sort or filter looks at every line, so one that takes long is done less often.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from wspilot.tui.filters import Filter
from wspilot.tui.live import SICK, SICK_NODES, Doc, LiveModel
from wspilot.tui.rows import Rows
from wspilot.tui.words import natural

SHOWN_ENDED = 6  # ended workspaces on the first view; the history has all
EASE = 12  # a new order takes at most this share of the time (1/12)


@dataclass(frozen=True)
class Arrangement:
    """How a view is to be shown."""

    view: str = "leases"
    sort: str = ""
    reverse: bool = False
    filter: Filter = field(default_factory=Filter)
    about: str = ""  # events: only those about this key

    def sorted_by(self, column: str) -> Arrangement:
        """By a column; the same again turns it round, once more takes it off."""
        if column != self.sort:
            return replace(self, sort=column, reverse=False)
        if not self.reverse:
            return replace(self, reverse=True)
        return replace(self, sort="", reverse=False)


class Tree:
    """The order of one model's lines, and what is folded."""

    def __init__(self, model: LiveModel, rows: Rows) -> None:
        self._model, self._rows = model, rows
        self.folded: set[str] = set()
        self._known: set[str] = set()
        self.folds = 0
        self._keys: list[str] = []
        self._stamp: tuple[object, ...] = ()
        self._again, self._cost = 0.0, 0.0
        self.found, self.all = 0, 0  # by the filter

    def order(self, how: Arrangement, now: float) -> list[str]:
        """The view's lines from the top."""
        looks = bool(how.sort or how.filter or how.view == "events")
        fixed = (how, self.folds, self._model.shape if how.view != "events" else 0)
        stamp = (*fixed, self._model.changes if looks else 0)
        same = self._stamp[:-1] == fixed
        if stamp == self._stamp or (same and looks and time.monotonic() < self._again):
            return self._keys
        begun = time.monotonic()
        self._fold_ended()
        keys = list(self._walk(how, now))
        if keys != self._keys or not same:
            self._keys = keys
        self._stamp = stamp
        self._cost = time.monotonic() - begun
        self._again = begun + self._cost * EASE if self._cost > 0.02 else 0.0
        return self._keys

    def _fold_ended(self) -> None:
        for ws in self._model.items["workspaces"].values():
            if ws["state"] == "ended" and ws["id"] not in self._known:
                self._known.add(ws["id"])
                self.folded.add(f"workspaces/{ws['id']}")

    # -- views

    def _walk(self, how: Arrangement, now: float) -> Iterator[str]:
        self.found = self.all = 0
        items = self._model.items
        if how.view == "slots":
            slots = (f"slots/{id}" for id in reversed(items["slots"]))
            return iter(self._flat(slots, how, now))
        if how.view == "nodes":
            nodes = sorted(items["nodes"], key=natural)
            return iter(self._flat((f"nodes/{id}" for id in nodes), how, now))
        if how.view == "events":
            return iter(self._flat(self._events(how), how, now))
        spaces = sorted(
            items["workspaces"].values(),
            key=lambda ws: (ws["state"] != "ended", ws["created"]),
            reverse=True,
        )
        living = [ws for ws in spaces if ws["state"] != "ended"]
        ended = spaces[len(living) :]
        if how.view == "history":
            return self._leases(ended, how, now)
        return self._first(living, ended[:SHOWN_ENDED], how, now)

    def _first(
        self, living: list[Doc], ended: list[Doc], how: Arrangement, now: float
    ) -> Iterator[str]:
        """What lives, nodes that need somebody, and what ended lately."""
        yield from self._leases(living, how, now)
        if how.view == "leases":
            sick = [
                one["id"] for one in self._model.items["nodes"].values() if one["state"] in SICK
            ]
            keys = list(self._flat((f"nodes/{id}" for id in sorted(sick, key=natural)), how, now))
            if keys:
                yield SICK_NODES
                if SICK_NODES not in self.folded:
                    yield from keys
        yield from self._leases(ended, how, now)

    def _events(self, how: Arrangement) -> Iterable[str]:
        events = self._model.items["events"]
        if not how.about:
            return [f"events/{id}" for id in events]
        about = self._model.about(how.about)
        return [f"events/{id}" for id, event in events.items() if about(event)]

    def _flat(self, keys: Iterable[str], how: Arrangement, now: float) -> list[str]:
        every = list(keys)
        shown = [key for key in every if self._meets(key, how, now)] if how.filter else every
        self.all += len(every)
        self.found += len(shown)
        return self._sorted(shown, how, now)

    def _sorted(self, keys: list[str], how: Arrangement, now: float) -> list[str]:
        if not how.sort:
            return keys
        by, rows = how.sort, self._rows
        return sorted(keys, key=lambda key: rows.value(key, by, now), reverse=how.reverse)

    def _meets(self, key: str, how: Arrangement, now: float) -> bool:
        return how.filter.meets(self._rows.fields(key, now))

    # -- the tree of leases

    def _leases(self, spaces: Iterable[Doc], how: Arrangement, now: float) -> Iterator[str]:
        keys = [f"workspaces/{ws['id']}" for ws in spaces]
        for key in self._sorted(keys, how, now):
            yield from self._lease(key, how, now)

    def _lease(self, key: str, how: Arrangement, now: float) -> Iterator[str]:
        ws = self._model.items["workspaces"][key.partition("/")[2]]
        members: dict[str, list[str]] = {}
        for id in ws["vms"]:
            if vm := self._model.items["vms"].get(id):
                members.setdefault(vm["group"], []).append(f"vms/{id}")
        slots = [f"slots/{slot['id']}" for slot in self._model.slots_of(ws)]
        leaves = sum(map(len, members.values()))
        self.all += leaves
        closed = key in self.folded
        if how.filter:
            itself = self._meets(key, how, now) and not (how.filter.excludes and leaves)
            if not itself:
                members, slots = self._those(members, slots, how, now)
                closed = False
                if not members and not slots:
                    return
        self.found += sum(map(len, members.values()))
        yield key
        if closed:
            return
        for group in ws["groups"]:
            below = members.get(group["name"])
            if below is None and how.filter:
                continue
            name = f"groups/{ws['id']}/{group['name']}"
            yield name
            if name not in self.folded:
                yield from self._sorted(below or [], how, now)
        yield from slots

    def _those(
        self, members: dict[str, list[str]], slots: list[str], how: Arrangement, now: float
    ) -> tuple[dict[str, list[str]], list[str]]:
        """Only the leaves that the filter lets through."""
        kept = {
            group: found
            for group, keys in members.items()
            if (found := [key for key in keys if self._meets(key, how, now)])
        }
        return kept, [key for key in slots if self._meets(key, how, now)]

    # -- folding

    def fold(self, key: str, folded: bool | None = None) -> None:
        """Fold or unfold (or turn over) a line that has others below it."""
        if not key.startswith(("workspaces/", "groups/", SICK_NODES)):
            return
        fold = key not in self.folded if folded is None else folded
        (self.folded.add if fold else self.folded.discard)(key)
        self.folds += 1

    def fold_all(self, folded: bool) -> None:
        """All workspaces at once."""
        for id in self._model.items["workspaces"]:
            (self.folded.add if folded else self.folded.discard)(f"workspaces/{id}")
        self.folds += 1

    def parent(self, key: str) -> str | None:
        """The line that a line hangs below."""
        table, _, id = key.partition("/")
        doc = self._model.doc(key)
        if table == "groups":
            return f"workspaces/{id.split('/')[0]}"
        if table == "nodes":
            return SICK_NODES
        if doc is None or table in ("workspaces", "events"):
            return None
        if table == "vms":
            return f"groups/{doc['workspace']}/{doc['group']}"
        return f"workspaces/{doc['workspace']}"

    def is_open(self, key: str) -> bool:
        """True for a line that shows what is below it."""
        return key not in self.folded

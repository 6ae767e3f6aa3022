"""Which transition was seen under which fault: what was never tried proves nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from tests.sim.faults import FAMILIES, Chance, Fault
from tests.sim.impossible import impossible
from wspilot.daemon.core import Books
from wspilot.model import SLOT_MOVES, VM_MOVES, WORKSPACE_MOVES

Cell = tuple[str, str]  # "slot queued>starting", "pilot killed"
TABLES: Mapping[str, str] = {"slots": "slot", "vms": "vm", "workspaces": "workspace"}


class Moves:
    """Counts of one play (or, added up, of many)."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self.counts: Counter[Cell] = Counter()

    def look(self, books: Books) -> None:
        """The moves of one turn, those in the middle of it included."""
        last: dict[tuple[str, str], str] = {}
        for table, id, old in books.undo_log():
            if table not in TABLES:
                continue
            state = old.state.value if old is not None else ""
            self._moved(table, last.get((table, id), ""), state)
            last[table, id] = state
        for (table, id), state in last.items():
            record = books.get(table, id)
            self._moved(table, state, record.state.value if record is not None else "")

    def _moved(self, table: str, old: str, new: str) -> None:
        if old and new and old != new:
            row = f"{TABLES[table]} {old}>{new}"
            for fault in self._chance.struck:
                self.counts[row, fault.value] += 1
            for family, faults in FAMILIES.items():
                if not self._chance.struck.keys().isdisjoint(faults):
                    self.counts[row, family] += 1
            self.counts[row, ""] += 1


def rows() -> list[str]:
    """Every transition of the move tables."""
    found = []
    for kind, moves in (("slot", SLOT_MOVES), ("vm", VM_MOVES), ("workspace", WORKSPACE_MOVES)):
        for old, news in moves.items():
            found += [
                f"{kind} {old.value}>{new.value}" for new in sorted(news, key=lambda s: s.value)
            ]
    return found


def cells() -> Iterable[Cell]:
    """The table that is judged: every transition under every family of faults."""
    return ((row, family) for row in rows() for family in FAMILIES)


ENOUGH = 10_000  # seeds, before a cell that was never hit is a failure


def show(counts: Mapping[Cell, int], *, whole: bool) -> list[Cell]:
    """Print the table; the cells that were never hit though they can be, or hit though not.

    `whole`: with a column for every single fault.
    """
    columns = [fault.value for fault in Fault] if whole else list(FAMILIES)
    if whole:
        print("columns: " + ", ".join(f"{n} {fault}" for n, fault in enumerate(columns)))
    heads = [str(n) for n in range(len(columns))] if whole else columns
    print(f"{'transition':34}{'all':>8}" + "".join(f"{head:>11}" for head in heads))
    reasons: dict[str, list[str]] = {}
    for row in rows():
        if why := impossible(row, ""):
            reasons.setdefault(why, []).append(row)
            continue
        line = "".join(f"{counts.get((row, one), 0):>11}" for one in columns)
        print(f"{row:34}{counts.get((row, ''), 0):>8}{line}")
    for why, named in reasons.items():
        print(f"impossible ({why}): {', '.join(named)}")
    unhit = [cell for cell in cells() if not counts.get(cell) and not impossible(*cell)]
    wrong = [cell for cell in cells() if counts.get(cell) and impossible(*cell)]
    for row, family in wrong:
        print(f"listed as impossible, and seen: {row} under {family}")
    possible = sum(1 for cell in cells() if not impossible(*cell))
    print(f"transition x fault: {possible - len(unhit)} of {possible} possible cells hit")
    return [*unhit, *wrong]

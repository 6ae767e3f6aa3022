"""The books: every record the daemon owns, in memory, with the changes since the last commit.

The core reads and writes records here and nowhere else. A commit takes `changes()`, makes them
durable, and calls `settle()`; when it cannot, `rollback()` puts every record back as it was. So
memory never runs ahead of the disk. No I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from wspilot.model import (
    FINAL_SLOT,
    TABLES,
    EventRecord,
    Node,
    PendingOrder,
    PilotRecord,
    Slot,
    TokenRecord,
    Vm,
    Workspace,
    WorkspaceState,
    from_doc,
    to_doc,
)

Record = Any  # one of the frozen records of model.TABLES
R = TypeVar("R")

_TABLE_OF: Mapping[type, str] = {kind: table for table, kind in TABLES.items()}


class Books:
    """All records by table and id, and the few indices that keep a step cheap.

    Not stored: `listened`, the seconds of good spool listings since this daemon began, and
    `heard_at`, its value at each pilot's last word. Silence is counted in those, so that neither a
    daemon's absence nor a blind spool makes a pilot look dead (PROTOCOLS.md section 1). Nor
    `asking`: slots whose qsub this daemon has under way; nobody looks for its job meanwhile. Nor
    `next_submit`: the batch system is not asked for a job before then (the rate limit). Nor
    `next_refill`: when the number of warm slots is looked at again.
    """

    def __init__(self) -> None:
        self._tables: dict[str, dict[str, Record]] = {table: {} for table in TABLES}
        self._undo: list[tuple[str, str, Record | None]] = []
        self.open_slots: set[str] = set()
        self.loose_jobs: set[str] = set()  # ended slots whose job may still be there
        self.open_workspaces: set[str] = set()
        self.held: dict[str, str] = {}  # ip -> VM id
        self.orders_of: dict[str, set[str]] = {}  # pilot -> command ids
        self.unproved: dict[str, set[str]] = {}  # node -> pilots whose node has not come back
        self.dirty_nodes: set[str] = set()
        self.repairs: dict[str, set[str]] = {}  # node -> its open repair slot
        self.spared: set[str] = set()  # slots that stand, or have stood, for nobody
        self.last_event = 0
        self.listened = 0.0
        self.heard_at: dict[str, float] = {}
        self.asking: set[str] = set()
        self.next_submit = 0.0
        self.next_refill = 0.0

    @classmethod
    def load(cls, tables: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Books:
        """Books from the store's documents. Raises TypeError or ValueError on a broken one."""
        books = cls()
        for table, kind in TABLES.items():
            for doc in tables.get(table, {}).values():
                books._set(table, from_doc(kind, doc))
        return books

    # -- reading

    def get(self, table: str, id: str) -> Record | None:
        """Any record, by its table's name."""
        return self._tables[table].get(id)

    def all(self, table: str) -> Iterator[Record]:
        """Every record of a table."""
        return iter(tuple(self._tables[table].values()))

    def workspace(self, id: str) -> Workspace | None:
        return self._tables["workspaces"].get(id)

    def vm(self, id: str) -> Vm | None:
        return self._tables["vms"].get(id)

    def slot(self, id: str) -> Slot | None:
        return self._tables["slots"].get(id)

    def pilot(self, id: str) -> PilotRecord | None:
        return self._tables["pilots"].get(id)

    def order(self, id: str) -> PendingOrder | None:
        return self._tables["orders"].get(id)

    def node(self, id: str) -> Node | None:
        return self._tables["nodes"].get(id)

    def token(self, id: str) -> TokenRecord | None:
        return self._tables["tokens"].get(id)

    def workspaces(self) -> Iterator[Workspace]:
        return self.all("workspaces")

    def slots(self) -> Iterator[Slot]:
        return self.all("slots")

    def vms(self) -> Iterator[Vm]:
        return self.all("vms")

    def nodes(self) -> Iterator[Node]:
        return self.all("nodes")

    def orders(self) -> Iterator[PendingOrder]:
        return self.all("orders")

    def tokens(self) -> Iterator[TokenRecord]:
        return self.all("tokens")

    def events(self) -> Iterator[EventRecord]:
        return self.all("events")

    def latest(self) -> float:
        """The latest moment on record."""
        return max((event.at for event in self.events()), default=0.0)

    def vms_of(self, workspace: Workspace) -> list[Vm]:
        """Its VMs, in the order of their groups."""
        table = self._tables["vms"]
        return [table[id] for id in workspace.vms if id in table]

    def slots_of(self, workspace: Workspace) -> list[Slot]:
        """Its slots, oldest first."""
        table = self._tables["slots"]
        return [table[id] for id in workspace.slots if id in table]

    def current_slots(self, workspace: Workspace) -> list[Slot]:
        """The slots that its VMs stand on: without those that another was asked for in place of."""
        return [slot for slot in self.slots_of(workspace) if not slot.again]

    def unproved_on(self, node: str) -> list[PilotRecord]:
        """Pilots of first epochs of whose end on that node nobody has given proof."""
        table = self._tables["pilots"]
        return [table[id] for id in sorted(self.unproved.get(node, ()))]

    def pilots_of(self, slot: Slot) -> list[PilotRecord]:
        """The pilots of the slot's first epoch."""
        table = self._tables["pilots"]
        return [table[id] for id in slot.pilots if id in table]

    # -- writing

    def put(self, record: Record) -> None:
        """Add or replace a record."""
        table = _TABLE_OF[type(record)]
        old = self._tables[table].get(record.id)
        if old is record:
            return
        self._undo.append((table, record.id, old))
        self._set(table, record)

    def drop(self, kind: type, id: str) -> None:
        """Remove a record if it is there."""
        table = _TABLE_OF[kind]
        old = self._tables[table].get(id)
        if old is not None:
            self._undo.append((table, id, old))
            self._unset(table, old)

    def mark(self) -> int:
        """A point to roll back to."""
        return len(self._undo)

    def rollback(self, mark: int = 0) -> None:
        """Put back every record changed since `mark`."""
        while len(self._undo) > mark:
            table, id, old = self._undo.pop()
            if old is None:
                self._unset(table, self._tables[table][id])
            else:
                self._set(table, old)

    def changed(self) -> set[tuple[str, str]]:
        """(table, id) of every record touched since the last commit."""
        return {(table, id) for table, id, _ in self._undo}

    def undo_log(self) -> tuple[tuple[str, str, Record | None], ...]:
        """(table, id, the record before) of every change since the last commit, in order."""
        return tuple(self._undo)

    def changes(self) -> dict[str, dict[str, dict[str, Any] | None]]:
        """What to commit: documents by table and id, None for those that are gone."""
        out: dict[str, dict[str, dict[str, Any] | None]] = {}
        for table, id in self.changed():
            record = self._tables[table].get(id)
            out.setdefault(table, {})[id] = None if record is None else to_doc(record)
        return out

    def settle(self) -> None:
        """The changes are durable."""
        self._undo.clear()

    # -- the one place where tables and indices change

    def _set(self, table: str, record: Record) -> None:
        old = self._tables[table].get(record.id)
        if old is not None and table == "vms":
            self._index(table, old, False)
        self._tables[table][record.id] = record
        self._index(table, record, True)

    def _unset(self, table: str, record: Record) -> None:
        self._index(table, record, False)
        del self._tables[table][record.id]

    def _index(self, table: str, record: Record, there: bool) -> None:
        if table == "slots":
            open_ = there and record.state not in FINAL_SLOT
            _member(self.open_slots, record.id, open_)
            unsure = record.unclear or (bool(record.job) and record.lrm.state != "gone")
            loose = there and not open_ and unsure
            _member(self.loose_jobs, record.id, loose)
            idle = record.warm or record.idle_at is not None or record.idle_s > 0
            _member(self.spared, record.id, there and idle)
            if record.repair_of:
                _member(self.repairs.setdefault(record.repair_of, set()), record.id, open_)
        elif table == "workspaces":
            open_ = there and record.state is not WorkspaceState.ENDED
            _member(self.open_workspaces, record.id, open_)
        elif table == "orders":
            _member(self.orders_of.setdefault(record.pilot, set()), record.id, there)
        elif table == "events":
            self.last_event = max(self.last_event, int(record.id))
        elif table == "pilots":
            open_ = there and record.clean is not True and record.epoch == 1 and not record.of
            _member(self.unproved.setdefault(record.node, set()), record.id, open_)
        elif table == "nodes":
            _member(self.dirty_nodes, record.id, there and bool(record.owes))
        elif table == "vms":
            self._index_addresses(record, there)

    def _index_addresses(self, vm: Vm, there: bool) -> None:
        for nic in vm.nics:
            if there and vm.held:
                self.held[nic.ip] = vm.id
            elif self.held.get(nic.ip) == vm.id:
                del self.held[nic.ip]


def _member(group: set[str], id: str, inside: bool) -> None:
    if inside:
        group.add(id)
    else:
        group.discard(id)

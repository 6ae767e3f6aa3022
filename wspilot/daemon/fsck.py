"""`wspilot fsck`: asked of a daemon, which compares and carries out; or with none running, of the
files alone, under the home's lock, which is the way out of a damaged store.
"""

from __future__ import annotations

import logging
import os
import pwd
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wspilot.daemon import audit, leftovers, storerepair
from wspilot.daemon.audit import Leftovers, Step
from wspilot.daemon.core.books import Books
from wspilot.daemon.core.events import Cancel, Repair
from wspilot.daemon.lock import HomeLock
from wspilot.daemon.storerepair import Salvage
from wspilot.errors import NotFound, TimedOut, WspilotError
from wspilot.model import TABLES, Workspace, from_doc
from wspilot.text import clean

if TYPE_CHECKING:
    from wspilot.config import Site
    from wspilot.daemon.service import Service

log = logging.getLogger("wspilot")
Doc = dict[str, Any]
SCHEMA = 1


# -- in the daemon


async def check(service: Service, yes: bool) -> Doc:
    """The plan, carried out when `yes`. Asks the batch system once."""
    result = await service.runner.run(service.driver.find(service.rules.owner))
    listing = service.driver.polled(result, ())
    try:
        spool: Leftovers | None = await service.papers.run(leftovers.find, service.spool.root)
    except (OSError, TimedOut):
        spool = None
    steps = audit.plan(service.books, listing, spool, service.rules.owner)
    return {"schema": SCHEMA, "steps": [await _step(service, step, yes) for step in steps]}


async def _step(service: Service, step: Step, yes: bool) -> Doc:
    if not yes or not step.act:
        return step.document()
    try:
        if step.act == "cancel":
            service.effects.ask([Cancel(*step.subject)])
        elif step.act == "poll":
            service.polling.wake()
        elif step.act == "repair":
            service.turn([Repair(step.subject[0])])
        elif step.act == "remove":
            await service.lane.run(leftovers.discard, service.spool, step.subject)
    except (WspilotError, OSError) as error:
        return step.document(False, clean(str(error), 300))
    log.info("fsck: %s %s: %s", step.act, step.what, step.why)
    return step.document(True)


def prove(books: Books, found: Iterable[Workspace], repairs: bool) -> Doc:
    """Where the proof lies that everything of ended leases came back."""
    return {"schema": SCHEMA, "proofs": audit.proofs(books, found, repairs)}


# -- without a daemon


def offline(home: Path, config: Path | None, yes: bool, take_over: bool) -> Doc:
    """Check the store, and mend it when `yes`; compare what can be compared. Holds the lock.

    Raises Refused when a daemon holds the home, NotFound when there are no books.
    """
    from wspilot.config import load

    site = load(config, home)
    if not site.store.is_dir():
        raise NotFound(f"no store at {site.store}", "no daemon has ever run on this home")
    lock = HomeLock(home)
    lock.acquire(take_over=take_over)
    try:
        found = storerepair.examine(site.store, lambda table, doc: from_doc(TABLES[table], doc))
        if not found.sound:
            return _mend(found, yes)
        steps = _compare(site, home, found)
        return {"schema": SCHEMA, "steps": [step.document() for step in steps],
                "store": _store(found)}  # fmt: skip
    finally:
        lock.release()


def _mend(found: Salvage, yes: bool) -> Doc:
    aside = storerepair.save(found) if yes else None
    command = "wspilot fsck --yes: keep these files aside, and go on with what can be read"
    steps = [
        Step("store", str(found.place), damage, command, "save").document(True if aside else None)
        for damage in found.damage
    ]
    return {"schema": SCHEMA, "steps": steps, "store": _store(found, aside)}


def _store(found: Salvage, aside: Path | None = None) -> Doc:
    names = sorted({*found.tables, *found.before, *found.after, *found.unread})
    tables = [
        {"name": name, "readable": len(found.tables.get(name, ())),
         "before": found.before.get(name, 0), "after": found.after.get(name, 0),
         "unproved": found.unproved.get(name, 0), "unread": found.unread.get(name, 0)}
        for name in names
    ]  # fmt: skip
    return {"path": str(found.place), "sound": found.sound, "damage": list(found.damage),
            "tables": tables, "aside": str(aside) if aside else None}  # fmt: skip


def _compare(site: Site, home: Path, found: Salvage) -> list[Step]:
    """The same plan as the daemon's; carrying it out needs the daemon."""
    from wspilot.daemon.lrm import open_driver
    from wspilot.daemon.lrm.runner import run_blocking

    books = Books.load(found.tables)
    owner = pwd.getpwuid(os.getuid()).pw_name
    driver = open_driver(site.lrm, site.lrm_settings, home)
    listing = driver.polled(run_blocking(driver.find(owner)), ())
    try:
        spool: Leftovers | None = leftovers.find(site.spool)
    except OSError:
        spool = None
    return audit.plan(books, listing, spool, owner)

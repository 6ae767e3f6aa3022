"""Carries out what the core asks for, each effect with a time limit, and posts what came of it.

Two queues, each in order: `files` for the spool, `lrm` for the batch system (one command at a
time). An effect may be carried out twice (after a crash); all of them are harmless then.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wspilot.daemon import hostkeys, slotfiles
from wspilot.daemon.core import picture
from wspilot.daemon.core.events import (
    Cancel,
    Cancelled,
    Claim,
    Claimed,
    CloseSlot,
    Effect,
    Poll,
    Ran,
    Send,
    Submit,
    Submitted,
    Unsend,
    Wipe,
)
from wspilot.daemon.core.slots import job_name
from wspilot.daemon.headnode import own_addresses
from wspilot.daemon.hints import Hints
from wspilot.daemon.lrm.base import Answer, Command, Result, Verdict
from wspilot.errors import TimedOut, WspilotError
from wspilot.messages import CMD, Order, Verb, cmd_dir, rfc3339, seal
from wspilot.model import PendingOrder, Slot
from wspilot.nodecode import node_zipapp
from wspilot.text import clean

if TYPE_CHECKING:
    from wspilot.daemon.service import Service

log = logging.getLogger("wspilot")


class Effects:
    """The hands of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._files: asyncio.Queue[Effect] = asyncio.Queue()
        self._lrm: asyncio.Queue[Effect] = asyncio.Queue()
        self._zipapp: Path | None = None
        self._hints = Hints()

    def ask(self, effects: Iterable[Effect]) -> None:
        """Queue effects; the commit that contains them is on disk."""
        for effect in effects:
            if isinstance(effect, Poll):
                self._service.polling.wake()
            elif isinstance(effect, (Submit, Cancel)):
                self._lrm.put_nowait(effect)
            else:
                self._files.put_nowait(effect)

    # -- the spool

    async def work_files(self) -> None:
        """Write and remove files, in order. A failed one is repeated until the spool is back."""
        while True:
            effect = await self._files.get()
            wait = 0.2
            while not await self._try_file(effect):
                await asyncio.sleep(wait)
                wait = min(wait * 2, 10.0)

    async def _try_file(self, effect: Effect) -> bool:
        try:
            await self._file(effect)
        except OSError as error:
            log.warning("spool: %s failed: %s; tried again", type(effect).__name__, error)
            return False
        except WspilotError as error:
            log.warning("spool: %s given up: %s", type(effect).__name__, error)
        return True

    async def _file(self, effect: Effect) -> None:
        spool, run = self._service.spool, self._service.lane.run
        if isinstance(effect, Send):
            order = self._service.books.order(effect.order)
            if order is not None:
                images = await self._images() if order.kind == Verb.CREATE.value else {}
                name, raw = await run(self._sealed, order, images)
                await run(
                    spool.write_order, cmd_dir(order.slot, order.node, order.pilot), name, raw
                )
                await self._hint(order)
        elif isinstance(effect, Unsend):
            directory = cmd_dir(effect.slot, effect.node, effect.pilot)
            await run(spool.remove_order, directory, f"{effect.ns:020d}_{effect.seq}.json")
        elif isinstance(effect, Claim):
            self._service.post(Claimed(effect.slot, await run(spool.claim_epoch, effect.slot)))
        elif isinstance(effect, CloseSlot):
            await run(spool.close_slot, effect.slot, effect.proved)
        elif isinstance(effect, Wipe):
            await run(spool.wipe_slot, effect.slot)

    async def _hint(self, order: PendingOrder) -> None:
        """Its pilot need not wait for its next look."""
        pilot = self._service.books.pilot(order.pilot)
        if pilot is not None and pilot.facts.get("live"):
            key = await self._service.lane.run(self._service.spool.key, order.slot)
            self._hints.tell(pilot.id, pilot.facts["live"], key)

    async def _images(self) -> dict[str, Any]:
        try:
            return await self._service.images()
        except TimedOut as error:
            raise OSError(str(error)) from None  # tried again

    def _sealed(self, record: PendingOrder, images: dict[str, Any]) -> tuple[str, bytes]:
        data = dict(record.data)
        if record.kind == Verb.CREATE.value:
            data = self._create_data(data, images)
            place = self._service.spool.root / "slots" / record.slot
            data["host_key"] = hostkeys.private(place, record.vm)
        elif record.kind == Verb.CONTEXT.value:
            data = self._picture(data)
        order = Order(
            record.slot,
            record.node,
            record.pilot,
            record.epoch,
            record.seq,
            Verb(record.kind),
            record.id,
            record.ttl_s,
            rfc3339(record.issued),
            0.0,
            data,
        )
        raw = seal(CMD, self._service.spool.key(record.slot), order.body())
        return order.file_name(record.ns), raw

    def _create_data(self, data: dict[str, Any], images: dict[str, Any]) -> dict[str, Any]:
        """Fill in what the site knows: where the image lies, what the networks are like."""
        site = self._service.site
        image = images.get(data["image"]["name"])
        if image is not None:
            data["image"] = image.spec()
            data["ready"] = data["ready"] or image.ready
        own = own_addresses()
        node_too = site.lrm == "local" and not site.lrm_settings.get("via")
        nics = []
        for nic in data["nics"]:
            network = site.networks.get(nic["network"])
            known = {**network.spec(), "deny": network.denied(own, node_too)} if network else {}
            nics.append({**nic, **known})
        return {**data, "nics": nics}

    def _picture(self, data: dict[str, Any]) -> dict[str, Any]:
        """A part of the workspace's picture, as it is now."""
        books = self._service.books
        ws = books.workspace(str(data.get("workspace")))
        if ws is None:
            return {}
        keys = hostkeys.public(self._service.spool.root / "slots", ws.slots)
        return picture.part(books, ws, int(data["part"]), keys)

    # -- the batch system

    async def work_lrm(self) -> None:
        """Submit and cancel, in order, one at a time."""
        while True:
            effect = await self._lrm.get()
            if isinstance(effect, Submit):
                await self._submit(effect)
            elif isinstance(effect, Cancel):
                await self._cancel(effect)

    async def _submit(self, effect: Submit) -> None:
        service = self._service
        slot = service.books.slot(effect.slot)
        if slot is None or slot.job or slot.calls != effect.calls:
            service.books.asking.discard(effect.slot)
            return
        if slot.claimed:
            answer = Answer(Verdict.RETRY, text="never asked: the slot was closed before")
            service.post(Submitted(slot.id, effect.calls, answer))
            return
        try:
            place = await service.lane.run(self.write_slot, effect.slot)
        except (OSError, WspilotError) as error:
            text = clean(f"the slot's files could not be written: {error}", 300)
            service.post(Submitted(slot.id, effect.calls, Answer(Verdict.RETRY, text=text)))
            return
        dirty = () if slotfiles.pinned(slot) else tuple(sorted(service.books.dirty_nodes))
        answer = await self._ask(slot, place, dirty)
        if answer.verdict is Verdict.REFUSED and dirty:
            # Without its dirty nodes the site may be too small: then a pilot that lands on one
            # repairs it first (DESIGN.md section 8).
            answer = await self._ask(slot, place, ())
        service.post(Submitted(slot.id, effect.calls, answer))

    async def _ask(self, slot: Slot, place: Path, exclude: tuple[str, ...]) -> Answer:
        service = self._service
        request = slotfiles.job_request(slot, job_name(slot.id, slot.calls), place, exclude)
        return service.driver.submitted(await self._run(service.driver.submit(request), slot.id))

    def write_slot(self, id: str) -> Path:
        """Write slots/<slot>/ and make sure that the node code is there. Blocks."""
        service = self._service
        slot = service.books.slot(id)
        ws = service.books.workspace(slot.workspace) if slot else None
        alone = slot is not None and (slot.repair_of or slot.bench or slot.idle_at is not None)
        if slot is None or (ws is None and not alone):
            raise WspilotError(f"slot {id} is not on the books")
        zipapp = self._node_code()
        place = service.spool.root / "slots" / id
        request = slotfiles.job_request(slot, job_name(id, slot.calls), place, ())
        launch = slotfiles.launch_argv(service.site, service.spool.root, zipapp, id)
        files = slotfiles.slot_files(
            slotfiles.pilot_settings(
                service.site, service.driver, ws, slot, service.secret, service.books.nodes()
            ),
            service.driver.script(request, launch),
            service.driver.shell(request, launch),
            secrets.token_bytes(32),
        )
        there = service.spool.write_slot(id, files)
        if ws is not None and service.site.vmm != "sim":
            vms = [vm for one in slot.vms if (vm := service.books.vm(one))]
            hostkeys.make(there, {vm.id: picture.host_name(vm) for vm in vms})
        return there

    def _node_code(self) -> Path:
        if self._zipapp is None or not self._zipapp.exists():
            path, digest = node_zipapp(self._service.home)
            self._zipapp = self._service.spool.install(path.read_bytes(), digest)
        return self._zipapp

    async def _cancel(self, effect: Cancel) -> None:
        result = await self._run(self._service.driver.cancel(effect.job), effect.slot)
        answer = self._service.driver.cancelled(result)
        self._service.post(Cancelled(effect.slot, effect.job, answer))

    async def _run(self, command: Command, slot: str) -> Result:
        result = await self._service.runner.run(command)
        text = clean((result.err or result.out) if result.rc != 0 else b"", 300)
        self._service.post(
            Ran(slot, result.argv, result.rc, result.elapsed_s, result.timed_out, text)
        )
        return result

"""The verbs that act on what is leased: destroy, start, stop, pause, extend, ... and wait.

Each changes the books in one turn and returns; whoever wants to see it confirmed waits (`wait`,
which also knows the goal `done`: no verb is under way on these VMs any more).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from wspilot.daemon import documents
from wspilot.daemon.core import acting
from wspilot.daemon.core.events import Act, Destroy, Extend
from wspilot.daemon.core.turn import Turn
from wspilot.daemon.requests import Handler, Params, Requests, flag, seconds, text
from wspilot.daemon.service import Service
from wspilot.errors import Code, NotFound, Refused, TimedOut, UsageError, WspilotError
from wspilot.messages import Verb
from wspilot.model import Vm, VmState, Workspace, WorkspaceState
from wspilot.text import check_name, clean, format_duration, parse_duration

GOALS = ("active", "ended", "done")
_COMING = frozenset({VmState.STARTING, VmState.BOOTING, VmState.REBOOTING})


class Acting:
    """The acting verbs of one service."""

    def __init__(self, service: Service, requests: Requests) -> None:
        self._service, self._requests = service, requests

    def handlers(self) -> Mapping[str, Handler]:
        """By method."""
        verbs = {verb.value: partial(self._act, verb) for verb in acting.VERBS}
        return {
            "destroy": self._destroy,
            "wait": self._wait,
            "extend": self._extend,
            **verbs,
        }

    async def _act(self, verb: Verb, params: Params, uid: int) -> dict[str, Any]:
        """start, stop, pause, resume, reboot, suspend (params: ids), save (ids: one VM; image)."""
        if before := self._requests.repeated(verb.value, params):
            return before
        vms = self._members(verb.value, params)
        data: dict[str, Any] = {}
        if verb is Verb.SAVE:
            if len(vms) != 1:
                raise UsageError("save: one VM at a time", "wspilot save WORKSPACE/GROUP/N IMAGE")
            data["image"] = await self._new_image(check_name(text(params, "image"), "image"))
        for vm in vms:
            if vm.wanted == "gone" or vm.state is VmState.TERMINATED:
                raise Refused(f"{vm.name} is being ended", f"wspilot show {vm.name}")
            if not vm.pilot:
                raise Refused(
                    f"{vm.name} is {vm.state.value}: it has no node yet",
                    f"wspilot wait {vm.name} --for active",
                )
            if vm.doing:
                raise Refused(f"{vm.name} is busy: {vm.doing}", "wait until that is done")
        touched = dict.fromkeys(vm.workspace for vm in vms)
        event = Act(verb, tuple(vm.id for vm in vms), data)
        return self._requests.turn(verb.value, params, event, touched)

    async def _new_image(self, name: str) -> str:
        """A name that no image has and no save is about to take: known before a disk is made one
        file, which takes minutes. The node looks again at the end. Raises Refused."""
        service = self._service
        if name in await service.images() or (service.site.images_dir / name).exists():
            raise Refused(f"an image {name} exists already", "choose another name")
        for order in service.books.orders():
            if order.kind == Verb.SAVE.value and order.data.get("image") == name:
                raise Refused(f"another VM's disk is being saved as {name}", "choose another name")
        return name

    def _members(self, verb: str, params: Params) -> list[Vm]:
        """The VMs that are meant: of workspaces those that are not given up."""
        ids = params.get("ids")
        if not isinstance(ids, list) or not ids:
            raise UsageError(f"{verb}: no ids", "name workspaces, groups or VMs")
        vms: dict[str, Vm] = {}
        for id in ids:
            ws, members = self._requests.find(str(id))
            if not members:
                members = [vm for vm in self._service.books.vms_of(ws) if vm.wanted == "running"]
            if not members:
                raise Refused(f"{ws.name} is {ws.state.value}: it has no VMs to {verb}")
            vms.update({vm.id: vm for vm in members})
        return list(vms.values())

    async def _extend(self, params: Params, uid: int) -> dict[str, Any]:
        """Make an active lease longer: `id`, `by` (a duration)."""
        if before := self._requests.repeated("extend", params):
            return before
        ws, _ = self._requests.find(text(params, "id"))
        by_s = parse_duration(params.get("by"), "by")
        service = self._service
        if ws.wanted != "active" or ws.ends is None:
            raise Refused(f"{ws.name} is {ws.state.value}: only an active lease is extended")
        site = service.site
        limits = [
            site.types[one.type].max_duration_s for one in ws.groups if one.type in site.types
        ]
        most = min([site.max_duration_s, *limits])
        if ws.lease_s + by_s > most:
            raise Refused(
                f"{ws.name} would last {format_duration(ws.lease_s + by_s)}: "
                f"the site allows {format_duration(most)}"
            )
        turn = Turn(service.books, service.now(), service.rules)
        spare = int(max(0.0, acting.possible_s(turn, ws) - (ws.ends - service.now())))
        if by_s > spare:
            raise Refused(
                f"{ws.name} cannot last {format_duration(by_s)} longer: its jobs' walltime allows "
                f"{format_duration(spare)} more",
                f"wspilot extend {ws.name} --by {spare}s"
                if spare
                else "deploy it again; a site that wants longer extensions sets [budget] pad",
            )
        return self._requests.turn("extend", params, Extend(ws.id, by_s), [ws.id])

    async def _destroy(self, params: Params, uid: int) -> dict[str, Any]:
        if before := self._requests.repeated("destroy", params):
            return before
        books = self._service.books
        workspaces: dict[str, Workspace] = {}
        vms: dict[str, Vm] = {}
        if flag(params, "all"):
            found = [books.workspace(id) for id in sorted(books.open_workspaces)]
            workspaces = {ws.id: ws for ws in found if ws is not None}
        else:
            ids = params.get("ids")
            if not isinstance(ids, list) or not ids:
                raise UsageError("destroy: no ids", "name workspaces, groups or VMs, or say --all")
            for id in ids:
                ws, members = self._requests.find(str(id))
                workspaces.update({} if members else {ws.id: ws})
                vms.update({vm.id: vm for vm in members})
        touched = dict.fromkeys([*workspaces, *(vm.workspace for vm in vms.values())])
        event = Destroy(tuple(workspaces), tuple(vms), flag(params, "abandon"))
        return self._requests.turn("destroy", params, event, touched)

    async def _wait(self, params: Params, uid: int) -> dict[str, Any]:
        ws, vms = self._requests.find(text(params, "id"))
        goal = params.get("for", "active")
        if goal not in GOALS:
            raise UsageError(f"wait: cannot wait for {clean(repr(goal), 40)}", ", ".join(GOALS))
        limit = seconds(params, "timeout_s")
        try:
            async with asyncio.timeout(limit):
                await self._until(ws.id, [vm.id for vm in vms], goal)
        except TimeoutError:
            now = self._service.books.workspace(ws.id) or ws
            raise TimedOut(
                f"{ws.name} is {now.state.value} after {format_duration(limit or 0)}"
                + (f", waiting for {now.waits_for}" if now.waits_for else ""),
                f"it goes on: wspilot show {ws.name}",
            ) from None
        return documents.workspace(self._service.books, self._service.books.workspace(ws.id) or ws)

    async def _until(self, id: str, vms: list[str], goal: str) -> None:
        woken = asyncio.Event()
        stop = self._service.listen(lambda *_: woken.set())
        try:
            while not self._reached(id, vms, goal):
                await woken.wait()
                woken.clear()
        finally:
            stop()

    def _reached(self, id: str, vms: list[str], goal: str) -> bool:
        ws = self._service.books.workspace(id)
        if ws is None:
            raise NotFound(f"workspace {id} is no longer on the books")
        members = [vm for one in vms if (vm := self._service.books.vm(one))]
        if goal == "done":
            return self._done(members or self._service.books.vms_of(ws))
        if goal == "ended":
            gone = members and all(vm.state is VmState.TERMINATED for vm in members)
            return bool(gone) or ws.state is WorkspaceState.ENDED
        if (ws.wanted == "ended" and ws.active_at is None) or ws.state is WorkspaceState.ENDED:
            why = f": {ws.cause}" if ws.cause else ""
            raise WspilotError(
                f"{ws.name} can no longer become active{why}", f"see why: wspilot show {ws.name}"
            )
        up = members and all(vm.state is VmState.RUNNING for vm in members)
        return bool(up) or (ws.active_at is not None and ws.wanted == "active")

    def _done(self, members: list[Vm]) -> bool:
        """No verb is under way, and what was started is up. Raises WspilotError naming what was
        refused."""
        if any(vm.doing or vm.state in _COMING for vm in members):
            return False
        refused = [f"{vm.name}: {vm.refused}" for vm in members if vm.refused]
        if refused:
            more = f" (and {len(refused) - 5} more)" if len(refused) > 5 else ""
            codes = {vm.refused_code for vm in members if vm.refused}
            code = Code(codes.pop() or Code.FAILED) if len(codes) == 1 else Code.FAILED
            raise WspilotError("; ".join(refused[:5]) + more, "see: wspilot events", code)
        return True

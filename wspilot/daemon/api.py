"""The verbs of the control socket: each checks its parameters, then asks the core.

A request is refused before anything changes, in words, or it is on the books when the answer goes
out. The documents are PROTOCOLS.md section 6's.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from wspilot import __version__, ensemble
from wspilot.daemon import documents, fsck, hostkeys, slotfiles
from wspilot.daemon.acting import Acting
from wspilot.daemon.addresses import Pools
from wspilot.daemon.benching import Benching
from wspilot.daemon.core import spares
from wspilot.daemon.core.events import Deploy, Forget, Repair
from wspilot.daemon.core.turn import derive_id
from wspilot.daemon.policy import SlotPlan, choose, jobs_of, overhead_mib, walltime
from wspilot.daemon.reach import Reach
from wspilot.daemon.requests import Handler, Params, Requests, count, flag, text
from wspilot.daemon.service import Listener, Service
from wspilot.errors import NotFound, Refused, UsageError
from wspilot.model import Nic, Slot, WorkspaceState
from wspilot.text import clean, did_you_mean, parse_duration

MAX_EVENTS = 1000


class ServiceApi:
    """What the control socket may call."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._requests = Requests(service)
        self._handlers: Mapping[str, Handler] = {
            "ping": self._ping,
            "types": self._types,
            "images": self._images,
            "nodes": self._nodes,
            "slots": self._slots,
            "list": self._list,
            "show": self._show,
            "events": self._events,
            "logs": self._logs,
            "deploy": self._deploy,
            "forget": self._forget,
            "repair": self._repair,
            "fsck": self._fsck,
            "config": self._config,
            "status": self._status,
            "shutdown": self._shutdown,
            **Benching(service, self._requests).handlers(),
            **Acting(service, self._requests).handlers(),
            **Reach(service, self._requests).handlers(),
        }

    async def call(self, method: str, params: Params, uid: int) -> dict[str, Any]:
        """Run one verb. Raises WspilotError; NotFound for an unknown method."""
        handler = self._handlers.get(method)
        if handler is None:
            raise NotFound(f"no method {clean(method, 60)!r}", did_you_mean(method, self._handlers))
        return await handler(params, uid)

    def snapshot(self) -> tuple[int, list[dict[str, Any]]]:
        """(revision, all items)."""
        return self._service.snapshot()

    def listen(self, callback: Listener) -> Callable[[], None]:
        """Deltas, until the returned function is called."""
        return self._service.listen(callback)

    # -- read

    async def _ping(self, params: Params, uid: int) -> dict[str, Any]:
        return {"schema": 1, "version": __version__}

    async def _status(self, params: Params, uid: int) -> dict[str, Any]:
        return {"schema": 1, "status": self._service.status()}

    async def _types(self, params: Params, uid: int) -> dict[str, Any]:
        return documents.types(self._service.site)

    async def _images(self, params: Params, uid: int) -> dict[str, Any]:
        return documents.images((await self._service.images()).values())

    async def _config(self, params: Params, uid: int) -> dict[str, Any]:
        return documents.config(self._service.site)

    async def _nodes(self, params: Params, uid: int) -> dict[str, Any]:
        return documents.listing("nodes", self._service.books, self._service.books.nodes())

    async def _slots(self, params: Params, uid: int) -> dict[str, Any]:
        return documents.listing("slots", self._service.books, self._service.books.slots())

    async def _list(self, params: Params, uid: int) -> dict[str, Any]:
        found = self._service.books.workspaces()
        everything = flag(params, "all")
        shown = [ws for ws in found if everything or ws.state is not WorkspaceState.ENDED]
        return documents.listing("workspaces", self._service.books, shown)

    async def _show(self, params: Params, uid: int) -> dict[str, Any]:
        ws, _ = self._requests.find(text(params, "id"))
        return documents.workspace(self._service.books, ws)

    async def _events(self, params: Params, uid: int) -> dict[str, Any]:
        after, limit = count(params, "after", 0), count(params, "limit", MAX_EVENTS)
        ws = self._requests.find(text(params, "id"))[0] if params.get("id") else None
        found = [
            event
            for event in self._service.books.events()
            if int(event.id) > after and (ws is None or event.workspace == ws.id)
        ]
        shown = found[-min(limit, MAX_EVENTS) :] if limit else []
        return documents.listing("events", self._service.books, shown)

    async def _logs(self, params: Params, uid: int) -> dict[str, Any]:
        ws, vms = self._requests.find(text(params, "id"))
        root = self._service.spool.root / "slots"
        slots = ws.slots if not vms else tuple(dict.fromkeys(vm.slot for vm in vms))
        names = tuple(vm.id for vm in vms)
        logs = await self._service.papers.run(_tails, root, slots, names)
        return {"schema": 1, "logs": logs}

    # -- act

    async def _deploy(self, params: Params, uid: int) -> dict[str, Any]:
        service = self._service
        keys = await service.papers.run(hostkeys.users)
        images = await service.images()  # both first: from here on nothing may come between
        if before := self._requests.repeated("deploy", params):
            return before
        request = self._request(params, images)
        self._check_name(request.name)
        site = service.site
        plans = choose(
            request,
            site,
            lambda group: overhead_mib(site.vmm, group.memory_mib),
            service.driver.grace_s,
            spares.offers(service.books, service.rules, service.now()),
        )
        sum_ = walltime(site, request.duration_s, len(plans))
        if flag(params, "dry_run") or flag(params, "show_script"):
            answer = documents.dry_run(request, plans, sum_)
            if params.get("show_script"):
                answer["script"] = self._script(plans, sum_.total_s, request)
            return answer
        id = derive_id(secrets.token_hex(16))
        event = Deploy(
            id,
            uid,
            request.name or f"ws-{id}",
            request,
            plans,
            sum_.total_s,
            jobs_of(site, service.driver.grace_s),
            self._addresses(request),
            keys,
        )
        return self._requests.turn("deploy", params, event, [id])

    def _request(self, params: Params, images: dict[str, Any]) -> ensemble.Request:
        site = self._service.site
        if "ensemble" in params:
            doc = params["ensemble"]
            if not isinstance(doc, dict):
                raise UsageError("ensemble: not a table", "give the TOML file's content")
            doc = ensemble.override(doc, params.get("name"), params.get("duration"))
            return ensemble.parse_ensemble(doc, site, images)
        return ensemble.from_type(
            type=text(params, "type"),
            image=str(params.get("image") or ""),
            count=count(params, "count", 1),
            duration=parse_duration(params.get("duration"), "duration"),
            name=str(params.get("name") or ""),
            site=site,
            images=images,
        )

    def _check_name(self, name: str) -> None:
        for id in self._service.books.open_workspaces:
            ws = self._service.books.workspace(id)
            if ws is not None and name and ws.name == name:
                raise Refused(
                    f"a workspace named {name!r} is {ws.state.value}",
                    f"give another --name, or `wspilot destroy {name}` first",
                )

    def _addresses(self, request: ensemble.Request) -> tuple[tuple[Nic, ...], ...]:
        pools, held = Pools(self._service.site.networks), set(self._service.books.held)
        out = []
        for group in request.groups:
            for _ in range(group.count):
                nics = []
                for network in group.nics:
                    nic = pools.assign(network, held)
                    held.add(nic.ip)
                    nics.append(nic)
                out.append(tuple(nics))
        return tuple(out)

    def _script(self, plans: Iterable[SlotPlan], walltime_s: int, request: Any) -> str:
        """The job scripts as they would be submitted, one after the other."""
        service, texts = self._service, []
        for n, one in enumerate(one for one in plans if not one.held):
            slot = Slot(
                f"{'x' * 7}{n % 10}",
                "",
                one.nodes,
                one.ppn,
                one.memory_mib,
                walltime_s,
                0.0,
                whole_node=one.whole_node,
            )
            place = service.spool.root / "slots" / slot.id
            job = slotfiles.job_request(slot, f"ws-{slot.id}-01", place, ())
            launch = slotfiles.launch_argv(
                service.site, service.spool.root, service.spool.root / "bin" / "NODE.pyz", slot.id
            )
            argv = " ".join(service.driver.submit(job).argv)
            texts.append(f"# submitted by: {argv}\n{service.driver.script(job, launch)}")
        return "\n".join(texts)

    async def _forget(self, params: Params, uid: int) -> dict[str, Any]:
        self._requests.turn("forget", params, Forget(self._known_node(params)), [])
        return await self._nodes(params, uid)

    async def _repair(self, params: Params, uid: int) -> dict[str, Any]:
        node = self._known_node(params)
        if node not in self._service.books.dirty_nodes:
            raise Refused(f"{node} is not dirty: there is nothing to repair", "wspilot nodes")
        self._requests.turn("repair", params, Repair(node), [])
        return await self._nodes(params, uid)

    async def _fsck(self, params: Params, uid: int) -> dict[str, Any]:
        """Its token is not kept: every step is harmless twice."""
        if not flag(params, "prove"):
            return await fsck.check(self._service, flag(params, "yes"))
        books = self._service.books
        if params.get("id"):
            return fsck.prove(books, [self._requests.find(text(params, "id"))[0]], repairs=False)
        return fsck.prove(books, books.workspaces(), repairs=True)

    def _known_node(self, params: Params) -> str:
        node = text(params, "node")
        known = [one.id for one in self._service.books.nodes()]
        if node not in known:
            raise NotFound(f"no node {clean(node, 80)!r}", did_you_mean(node, known))
        return node

    async def _shutdown(self, params: Params, uid: int) -> dict[str, Any]:
        self._service.stopping.set()
        return {"schema": 1, "stopping": True}


def _unwaiting(path: str, flags: int) -> int:
    """A pipe that somebody put there is not waited for, nor a link followed."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)


def _tails(root: Path, slots: Iterable[str], vms: tuple[str, ...]) -> list[dict[str, str]]:
    """The last 64 KiB of each log below the slots' directories, and of what was submitted."""
    out = []
    for slot in slots:
        place = root / slot
        names = [path for kind in ("job.sh", "*.log", "*.out") for path in sorted(place.glob(kind))]
        for path in names:
            if vms and path.name.startswith("console-") and not any(id in path.name for id in vms):
                continue
            with open(path, "rb", opener=_unwaiting) as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(max(0, size - 65536) if file.seekable() else 0)
                text = clean(file.read(65536) or b"", 65536, lines=True)
            out.append({"slot": slot, "name": path.name, "text": text})
    return out

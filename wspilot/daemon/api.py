"""The verbs of the control socket: each checks its parameters, then asks the core.

A request is refused before anything changes, in words, or it is on the books when the answer goes
out. The documents are PROTOCOLS.md section 6's.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from wspilot import __version__, ensemble
from wspilot.daemon import documents, fsck, slotfiles
from wspilot.daemon.addresses import Pools
from wspilot.daemon.core.events import Deploy, Destroy, Forget, Repair
from wspilot.daemon.core.turn import derive_id
from wspilot.daemon.policy import SlotPlan, jobs_of, plan, walltime
from wspilot.daemon.service import Listener, Service
from wspilot.daemon.store import StoreFull
from wspilot.errors import NotFound, Refused, TimedOut, UsageError, WspilotError
from wspilot.model import Nic, Slot, TokenRecord, Vm, VmState, Workspace, WorkspaceState
from wspilot.text import clean, did_you_mean, format_duration, parse_duration

Params = Mapping[str, Any]
Handler = Callable[[Params, int], Awaitable[dict[str, Any]]]
MAX_EVENTS = 1000


class ServiceApi:
    """What the control socket may call."""

    def __init__(self, service: Service) -> None:
        self._service = service
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
            "wait": self._wait,
            "destroy": self._destroy,
            "forget": self._forget,
            "repair": self._repair,
            "fsck": self._fsck,
            "config": self._config,
            "status": self._status,
            "stop": self._stop,
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
        everything = _flag(params, "all")
        shown = [ws for ws in found if everything or ws.state is not WorkspaceState.ENDED]
        return documents.listing("workspaces", self._service.books, shown)

    async def _show(self, params: Params, uid: int) -> dict[str, Any]:
        ws, _ = self._find(_text(params, "id"))
        return documents.workspace(self._service.books, ws)

    async def _events(self, params: Params, uid: int) -> dict[str, Any]:
        after, limit = _count(params, "after", 0), _count(params, "limit", MAX_EVENTS)
        ws = self._find(_text(params, "id"))[0] if params.get("id") else None
        found = [
            event
            for event in self._service.books.events()
            if int(event.id) > after and (ws is None or event.workspace == ws.id)
        ]
        shown = found[-min(limit, MAX_EVENTS) :] if limit else []
        return documents.listing("events", self._service.books, shown)

    async def _logs(self, params: Params, uid: int) -> dict[str, Any]:
        ws, vms = self._find(_text(params, "id"))
        root = self._service.spool.root / "slots"
        slots = ws.slots if not vms else tuple(dict.fromkeys(vm.slot for vm in vms))
        names = tuple(vm.id for vm in vms)
        logs = await self._service.papers.run(_tails, root, slots, names)
        return {"schema": 1, "logs": logs}

    # -- act

    async def _deploy(self, params: Params, uid: int) -> dict[str, Any]:
        service = self._service
        images = await service.images()  # first: from here on nothing else may come between
        if before := self._repeated("deploy", params):
            return before
        request = self._request(params, images)
        self._check_name(request.name)
        site = service.site
        plans = plan(
            request, site, lambda group: _overhead(site.vmm, group), service.driver.grace_s
        )
        sum_ = walltime(site, request.duration_s, len(plans))
        if _flag(params, "dry_run") or _flag(params, "show_script"):
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
        )
        return self._turn("deploy", params, event, [id])

    def _request(self, params: Params, images: dict[str, Any]) -> ensemble.Request:
        site = self._service.site
        if "ensemble" in params:
            doc = params["ensemble"]
            if not isinstance(doc, dict):
                raise UsageError("ensemble: not a table", "give the TOML file's content")
            doc = ensemble.override(doc, params.get("name"), params.get("duration"))
            return ensemble.parse_ensemble(doc, site, images)
        return ensemble.from_type(
            type=_text(params, "type"),
            image=str(params.get("image") or ""),
            count=_count(params, "count", 1),
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
        for n, one in enumerate(plans):
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

    async def _destroy(self, params: Params, uid: int) -> dict[str, Any]:
        if before := self._repeated("destroy", params):
            return before
        books = self._service.books
        workspaces: dict[str, Workspace] = {}
        vms: dict[str, Vm] = {}
        if _flag(params, "all"):
            found = [books.workspace(id) for id in sorted(books.open_workspaces)]
            workspaces = {ws.id: ws for ws in found if ws is not None}
        else:
            ids = params.get("ids")
            if not isinstance(ids, list) or not ids:
                raise UsageError("destroy: no ids", "name workspaces, groups or VMs, or say --all")
            for id in ids:
                ws, members = self._find(str(id))
                workspaces.update({} if members else {ws.id: ws})
                vms.update({vm.id: vm for vm in members})
        touched = dict.fromkeys([*workspaces, *(vm.workspace for vm in vms.values())])
        event = Destroy(tuple(workspaces), tuple(vms), _flag(params, "abandon"))
        return self._turn("destroy", params, event, touched)

    async def _forget(self, params: Params, uid: int) -> dict[str, Any]:
        self._turn("forget", params, Forget(self._known_node(params)), [])
        return await self._nodes(params, uid)

    async def _repair(self, params: Params, uid: int) -> dict[str, Any]:
        node = self._known_node(params)
        if node not in self._service.books.dirty_nodes:
            raise Refused(f"{node} is not dirty: there is nothing to repair", "wspilot nodes")
        self._turn("repair", params, Repair(node), [])
        return await self._nodes(params, uid)

    async def _fsck(self, params: Params, uid: int) -> dict[str, Any]:
        """Its token is not kept: every step is harmless twice."""
        if not _flag(params, "prove"):
            return await fsck.check(self._service, _flag(params, "yes"))
        books = self._service.books
        if params.get("id"):
            return fsck.prove(books, [self._find(_text(params, "id"))[0]], repairs=False)
        return fsck.prove(books, books.workspaces(), repairs=True)

    def _known_node(self, params: Params) -> str:
        node = _text(params, "node")
        known = [one.id for one in self._service.books.nodes()]
        if node not in known:
            raise NotFound(f"no node {clean(node, 80)!r}", did_you_mean(node, known))
        return node

    async def _stop(self, params: Params, uid: int) -> dict[str, Any]:
        self._service.stopping.set()
        return {"schema": 1, "stopping": True}

    # -- wait

    async def _wait(self, params: Params, uid: int) -> dict[str, Any]:
        ws, vms = self._find(_text(params, "id"))
        goal = params.get("for", "active")
        if goal not in ("active", "ended"):
            raise UsageError(f"wait: cannot wait for {goal!r}", "active or ended")
        limit = _seconds(params, "timeout_s")
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

    # -- names and tokens

    def _find(self, id: str) -> tuple[Workspace, list[Vm]]:
        """A workspace, and its VMs that are meant (none: the whole workspace). Raises NotFound.

        An id, a unique prefix of one, or a name: WORKSPACE, WORKSPACE/GROUP, WORKSPACE/GROUP/N.
        """
        head, _, rest = id.partition("/")
        books = self._service.books
        if not rest and (vm := books.vm(id)) is not None:
            ws = books.workspace(vm.workspace)
            if ws is not None:
                return ws, [vm]
        ws = self._find_workspace(head)
        if not rest:
            return ws, []
        members = [vm for vm in books.vms_of(ws) if rest in (vm.group, f"{vm.group}/{vm.index}")]
        if not members:
            names = {vm.group for vm in books.vms_of(ws)}
            raise NotFound(
                f"{clean(ws.name, 40)} has no group or VM {clean(rest, 60)!r}",
                did_you_mean(rest, names),
            )
        return ws, members

    def _find_workspace(self, word: str) -> Workspace:
        exact = self._service.books.workspace(word)
        if exact is not None:  # before any name: what is sent by id must hit what it was meant for
            return exact
        found = list(self._service.books.workspaces())
        named = [ws for ws in found if ws.name == word]
        open_ = [ws for ws in named if ws.state is not WorkspaceState.ENDED]
        if open_ or named:
            return max(open_ or named, key=lambda ws: ws.created)
        prefixed = [ws for ws in found if word and ws.id.startswith(word)]
        if len(prefixed) == 1:
            return prefixed[0]
        if prefixed:
            raise NotFound(
                f"{clean(word, 60)!r} fits {len(prefixed)} workspaces",
                "give more of the id, or the name",
            )
        raise NotFound(
            f"no workspace {clean(word, 60)!r}",
            did_you_mean(word, (ws.name for ws in found)) or "none yet: wspilot deploy",
        )

    def _repeated(self, method: str, params: Params) -> dict[str, Any] | None:
        """What a token that was seen before stands for. Raises Refused for another body."""
        token = params.get("token")
        record = self._service.books.token(str(token)) if token else None
        if record is None:
            return None
        if record.body != _digest(method, params):
            raise Refused("this token was used for another request", "make a new token a request")
        return self._answer(method, record.answer["workspaces"])

    def _answer(self, method: str, ids: Iterable[str]) -> dict[str, Any]:
        books = self._service.books
        found = [ws for id in ids if (ws := books.workspace(id)) is not None]
        if method == "deploy" and found:
            return documents.workspace(books, found[0])
        return documents.listing("workspaces", books, found)

    def _turn(
        self,
        method: str,
        params: Params,
        event: Deploy | Destroy | Forget | Repair,
        ids: Iterable[str],
    ) -> dict[str, Any]:
        """Apply a user's request and its token in one commit. Raises Refused on a full disk."""
        service, token = self._service, params.get("token")
        if token:
            service.books.put(
                TokenRecord(
                    str(token)[:128],
                    service.now(),
                    _digest(method, params),
                    {"workspaces": list(ids)},
                )
            )
        try:
            service.turn([event])
        except StoreFull as error:
            raise Refused(
                f"nothing was changed: {error}", "make room on the disk that holds the store"
            ) from None
        return self._answer(method, ids)


def _digest(method: str, params: Params) -> str:
    body = {key: value for key, value in params.items() if key != "token"}
    return hashlib.sha256(json.dumps([method, body], sort_keys=True).encode()).hexdigest()


def _overhead(vmm: str, group: Any) -> int:
    """MiB a VM needs on its node beside the guest's memory (measured: docs/decisions.md)."""
    overhead: dict[str, int] = {"qemu": 128 + group.memory_mib // 16, "xen": 16}
    return overhead.get(vmm, 0)


def _text(params: Params, key: str) -> str:
    value = params.get(key)
    if not isinstance(value, str) or not value or len(value) > 256:
        raise UsageError(f"{key}: a text is needed")
    return value


def _flag(params: Params, key: str) -> bool:
    """True only for true: `"all": "false"` must not destroy everything."""
    value = params.get(key)
    if value is not None and not isinstance(value, bool):
        raise UsageError(f"{key}: {clean(repr(value), 40)} is neither true nor false")
    return bool(value)


def _seconds(params: Params, key: str) -> float | None:
    value = params.get(key)
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 1e9:
        raise UsageError(f"{key}: {clean(repr(value), 40)} is not a number of seconds")
    return float(value)


def _count(params: Params, key: str, default: int) -> int:
    value = params.get(key, default)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 100_000:
        raise UsageError(f"{key}: {clean(repr(value), 40)} is not a count")
    return value


def _unwaiting(path: str, flags: int) -> int:
    """A pipe that somebody put there is not waited for, nor a link followed."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)


def _tails(root: Path, slots: Iterable[str], vms: tuple[str, ...]) -> list[dict[str, str]]:
    """The last 64 KiB of each log below the slots' directories."""
    out = []
    for slot in slots:
        place = root / slot
        names = sorted(place.glob("*.log")) + sorted(place.glob("*.out"))
        for path in names:
            if vms and path.name.startswith("console-") and not any(id in path.name for id in vms):
                continue
            with open(path, "rb", opener=_unwaiting) as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(max(0, size - 65536) if file.seekable() else 0)
                text = clean(file.read(65536) or b"", 65536, lines=True)
            out.append({"slot": slot, "name": path.name, "text": text})
    return out

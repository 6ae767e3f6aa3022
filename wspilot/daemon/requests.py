"""What every verb of the control socket needs: its parameters, whom it names, its token.

A request's turn and its token are one commit: the same token with the same body gives the first
answer, with another body an error (PROTOCOLS.md section 4).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from wspilot.daemon import documents
from wspilot.daemon.core.events import (
    Act,
    Bench,
    Deploy,
    Destroy,
    EndBench,
    Extend,
    Forget,
    Repair,
)
from wspilot.daemon.service import Service
from wspilot.daemon.store import StoreFull
from wspilot.errors import NotFound, Refused, UsageError
from wspilot.model import TokenRecord, Vm, Workspace, WorkspaceState
from wspilot.text import clean, did_you_mean

Params = Mapping[str, Any]
Handler = Callable[[Params, int], Awaitable[dict[str, Any]]]
Request = Deploy | Destroy | Act | Extend | Forget | Repair | Bench | EndBench


class Requests:
    """Names and tokens over one service's books."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def find(self, id: str) -> tuple[Workspace, list[Vm]]:
        """A workspace, and its VMs that are meant (none: the whole workspace). Raises NotFound.

        An id, a unique prefix of one, or a name: WORKSPACE, WORKSPACE/GROUP, WORKSPACE/GROUP/N.
        """
        head, _, rest = id.partition("/")
        books = self._service.books
        if not rest and (vm := books.vm(id)) is not None:
            ws = books.workspace(vm.workspace)
            if ws is not None:
                return ws, [vm]
        ws = self.find_workspace(head)
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

    def find_workspace(self, word: str) -> Workspace:
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

    def repeated(self, method: str, params: Params) -> dict[str, Any] | None:
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

    def turn(
        self,
        method: str,
        params: Params,
        event: Request,
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


def text(params: Params, key: str) -> str:
    value = params.get(key)
    if not isinstance(value, str) or not value or len(value) > 256:
        raise UsageError(f"{key}: a text is needed")
    return value


def flag(params: Params, key: str) -> bool:
    """True only for true: `"all": "false"` must not destroy everything."""
    value = params.get(key)
    if value is not None and not isinstance(value, bool):
        raise UsageError(f"{key}: {clean(repr(value), 40)} is neither true nor false")
    return bool(value)


def seconds(params: Params, key: str) -> float | None:
    value = params.get(key)
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 1e9:
        raise UsageError(f"{key}: {clean(repr(value), 40)} is not a number of seconds")
    return float(value)


def count(params: Params, key: str, default: int) -> int:
    value = params.get(key, default)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 100_000:
        raise UsageError(f"{key}: {clean(repr(value), 40)} is not a count")
    return value

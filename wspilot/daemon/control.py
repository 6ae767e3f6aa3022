"""The control socket: JSON-RPC 2.0, one object a line, for the daemon's own user (or root).

A bad line gets an error and costs nobody else anything; a client that reads too slowly is given a
fresh snapshot instead of an endless queue (PROTOCOLS.md section 4).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from wspilot.errors import Code, NotFound, WspilotError
from wspilot.home import own_dir
from wspilot.text import clean

MAX_LINE = 1 << 20
MAX_QUEUED = 4096  # items a subscriber may be behind before it gets a snapshot
MAX_CALLS = 64  # calls of one client at a time
MAX_CLIENTS = 512
MAX_METHOD = 64
CLOSE_S = 1.0
HANG_UP_S = 0.25
PARSE, REQUEST, METHOD, PARAMS, INTERNAL = -32700, -32600, -32601, -32602, -32603


class Api(Protocol):
    """What the socket gives access to."""

    async def call(self, method: str, params: Mapping[str, Any], uid: int) -> dict[str, Any]:
        """One verb. Raises WspilotError."""
        ...

    def snapshot(self) -> tuple[int, list[dict[str, Any]]]:
        """(revision, items)."""
        ...

    def listen(
        self, callback: Callable[[int, list[dict[str, Any]], list[str]], None]
    ) -> Callable[[], None]:
        """Deltas; the result stops them."""
        ...


class ControlServer:
    """Serves one API on one unix socket."""

    def __init__(self, path: Path, api: Api) -> None:
        self._path, self._api = path, api
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. A socket left by a dead daemon is replaced: the home's lock is ours."""
        own_dir(self._path.parent)
        self._path.unlink(missing_ok=True)
        old = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(
                self._accept, str(self._path), limit=MAX_LINE
            )
        finally:
            os.umask(old)

    async def close(self) -> None:
        """End every connection and remove the socket."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty: another home's socket, or a pilot's files
            self._path.parent.rmdir()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= MAX_CLIENTS:
            writer.write(_line(_error(None, Code.REFUSED, f"over {MAX_CLIENTS} clients")))
            writer.close()
            return
        task = asyncio.ensure_future(_Client(self._api, reader, writer).run())
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)


class _Client:
    """One connection: calls run side by side, deltas flow between their answers.

    A client that does not read costs bounded memory and nobody's time: at most MAX_CALLS answers,
    MAX_QUEUED items and one snapshot wait for it, for as long as it stays connected.
    """

    def __init__(
        self, api: Api, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._api, self._reader, self._writer = api, reader, writer
        self._calls: set[asyncio.Task[None]] = set()
        self._feed: _Feed | None = None
        self._write = asyncio.Lock()

    async def run(self) -> None:
        """Serve until the peer goes away. Never raises."""
        try:
            uid = _peer_uid(self._writer)
            if uid not in (os.getuid(), 0):
                await self._send(_error(None, REQUEST, f"uid {uid} is not the daemon's user"))
                return
            while (line := await self._next_line()) is not None:
                await self._take(line, uid)
            await self._half_closed()
        except OSError:
            pass
        finally:
            await self._end()

    async def _half_closed(self) -> None:
        """The peer says no more, but may still read: `echo ... | socat - UNIX:...` does."""
        link = self._writer.get_extra_info("socket")
        while (self._calls or self._feed) and not _hung_up(link.fileno()):
            await asyncio.wait([*self._calls, asyncio.ensure_future(asyncio.sleep(HANG_UP_S))],
                               return_when=asyncio.FIRST_COMPLETED)  # fmt: skip

    async def _end(self) -> None:
        if self._feed is not None:
            self._feed.close()
        for task in tuple(self._calls):
            task.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        self._writer.close()
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            await asyncio.wait_for(self._writer.wait_closed(), CLOSE_S)
        self._writer.transport.abort()  # what was never read is not waited for

    async def _next_line(self) -> bytes | None:
        """The next line; None at the end. One that is too long is skipped with an error."""
        skipping = False
        while True:
            try:
                line = await self._reader.readuntil(b"\n")
            except asyncio.IncompleteReadError:
                return None
            except asyncio.LimitOverrunError as error:
                await self._reader.read(max(1, error.consumed))
                skipping = True
                continue
            if not skipping:
                return line
            await self._send(_error(None, REQUEST, f"a line is over {MAX_LINE} bytes",
                                    "send one request a line"))  # fmt: skip
            skipping = False

    async def _take(self, line: bytes, uid: int) -> None:
        try:
            request = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            await self._send(_error(None, PARSE, "not a line of UTF-8 JSON"))
            return
        id = request.get("id") if isinstance(request, dict) else None
        fault = _fault(request)
        if fault:
            await self._send(_error(id if isinstance(id, (int, str)) else None, REQUEST, fault))
        elif request["method"] == "subscribe":
            await self._subscribe(id)
        elif len(self._calls) >= MAX_CALLS:
            await self._send(_error(id, Code.REFUSED, f"{MAX_CALLS} calls are already under way",
                                    "wait for their answers"))  # fmt: skip
        else:
            task = asyncio.ensure_future(self._call(request, id, uid))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)

    async def _call(self, request: Mapping[str, Any], id: Any, uid: int) -> None:
        with contextlib.suppress(OSError):
            await self._write_line(await self._answer(request, id, uid))

    async def _answer(self, request: Mapping[str, Any], id: Any, uid: int) -> bytes:
        """The line that answers a request. Raises nothing but CancelledError."""
        try:
            result = await self._api.call(request["method"], request.get("params") or {}, uid)
            return _line({"jsonrpc": "2.0", "id": id, "result": result})
        except NotFound as error:
            unknown = error.message.startswith("no method")
            code = METHOD if unknown else int(error.code)
            return _line(_error(id, code, error.message, error.hint))
        except WspilotError as error:
            return _line(_error(id, int(error.code), error.message, error.hint))
        except Exception as error:  # a bug must not cost the client its connection
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"control: {clean(request['method'], 60)} failed", "exception": error}
            )
            return _line(_error(id, INTERNAL, f"a bug in the daemon: {clean(repr(error), 300)}",
                                "the daemon's log has the details"))  # fmt: skip

    async def _subscribe(self, id: Any) -> None:
        if self._feed is None:
            self._feed = _Feed(self._api, self._send, id)
        else:
            await self._send(_error(id, Code.REFUSED, "this connection has a subscription already"))

    async def _send(self, message: Mapping[str, Any]) -> None:
        await self._write_line(_line(message))

    async def _write_line(self, data: bytes) -> None:
        async with self._write:
            self._writer.write(data)
            await self._writer.drain()


class _Feed:
    """The deltas of one subscriber: a bounded queue, then a snapshot.

    It waits without a limit for a client that does not read (one stopped by Ctrl-Z, say): when that
    reads again it finds a snapshot, not a dead connection.
    """

    def __init__(
        self, api: Api, send: Callable[[Mapping[str, Any]], Awaitable[None]], id: Any
    ) -> None:
        self._api, self._send = api, send
        self._waiting: deque[dict[str, Any]] = deque()
        self._items = 0
        self._behind = False
        self._wake = asyncio.Event()
        self._stop = api.listen(self._changed)
        self._task = asyncio.ensure_future(self._work(id))

    def close(self) -> None:
        """No more deltas."""
        self._stop()
        self._task.cancel()

    def _changed(self, revision: int, items: list[dict[str, Any]], gone: list[str]) -> None:
        self._items += len(items) + len(gone)
        if self._items > MAX_QUEUED:
            self._behind = True
            self._waiting.clear()
        if not self._behind:
            self._waiting.append({"revision": revision, "changed": items, "gone": gone})
        self._wake.set()

    async def _work(self, id: Any) -> None:
        try:
            await self._send({"jsonrpc": "2.0", "id": id, "result": self._everything()})
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._flush()
        except OSError:
            pass  # the peer has gone: its reader ends the connection

    async def _flush(self) -> None:
        while self._waiting or self._behind:
            if self._behind:
                await self._send(_notice("snapshot", self._everything()))
                continue
            delta = self._waiting.popleft()
            self._items -= len(delta["changed"]) + len(delta["gone"])
            await self._send(_notice("delta", delta))

    def _everything(self) -> dict[str, Any]:
        """A snapshot; deltas that it contains are dropped, so that nothing goes backwards."""
        self._waiting.clear()
        self._items, self._behind = 0, False
        revision, items = self._api.snapshot()
        return {"revision": revision, "items": items}


def _fault(request: Any) -> str:
    """What is wrong with a request's shape; empty when nothing is."""
    if isinstance(request, list):
        return "batches are not served: send one object a line"
    if not isinstance(request, dict) or request.get("jsonrpc") != "2.0":
        return 'not a JSON-RPC 2.0 object ("jsonrpc": "2.0")'
    if not isinstance(request.get("method"), str) or len(request["method"]) > MAX_METHOD:
        return f"method is missing, not a text, or longer than {MAX_METHOD} characters"
    if not isinstance(request.get("id"), (int, str)) or isinstance(request["id"], bool):
        return "id is missing: every request here has an answer"
    if not isinstance(request.get("params", {}), (dict, type(None))):
        return "params must be an object"
    return ""


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def _notice(method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params}


def _error(id: Any, code: int, message: str, hint: str = "") -> dict[str, Any]:
    error = {"code": code, "message": message, "data": {"hint": hint}}
    return {"jsonrpc": "2.0", "id": id, "error": error}


def _hung_up(descriptor: int) -> bool:
    """Has the peer closed both ways (unix(7))?"""
    if descriptor < 0:
        return True
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(mask & (select.POLLHUP | select.POLLERR) for _, mask in poll.poll(0))


def _peer_uid(writer: asyncio.StreamWriter) -> int:
    """Who is at the other end (unix(7), SO_PEERCRED)."""
    link = writer.get_extra_info("socket")
    _, uid, _ = struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(uid)

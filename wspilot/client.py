"""Clients of the control socket: `call` for one answer, `Client` for calls and the subscription.

The plain call imports neither asyncio nor anything else that would slow the command line down.
"""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wspilot.errors import Code, NoDaemon, NotFound, Refused, TimedOut, UsageError, WspilotError
from wspilot.home import LockRecord, read_record

if TYPE_CHECKING:
    import asyncio

CALL_S = 30.0
SCHEMA = 1  # of the documents (PROTOCOLS.md section 6)
NO_METHOD, BAD_PARAMS = -32601, -32602
_KINDS = {kind.code: kind for kind in (UsageError, NoDaemon, NotFound, Refused, TimedOut)}
_OTHER = "is it another release? end it and start this one: wspilot daemon --detach"


@dataclass(frozen=True)
class Update:
    """What the daemon said: everything (`snapshot`), or what has changed since."""

    revision: int
    snapshot: bool
    changed: tuple[dict[str, Any], ...] = ()
    gone: tuple[str, ...] = ()


def call(
    home: Path, method: str, params: dict[str, Any], timeout_s: float | None = CALL_S
) -> dict[str, Any]:
    """One request, one answer. Raises NoDaemon, TimedOut, or the daemon's own WspilotError."""
    record = _record(home)
    line = _request(1, method, params)
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(timeout_s)
            link.connect(record.socket)
            link.sendall(line)
            with link.makefile("rb") as answers:
                answer = answers.readline()
                if not answer.endswith(b"\n"):
                    raise NoDaemon("the daemon ended in mid-call",
                                   "start it again: wspilot daemon --detach")  # fmt: skip
    except TimeoutError:
        raise TimedOut(f"the daemon did not answer {method} within {timeout_s:g} s",
                       "see its log: it may be waiting for a disk") from None  # fmt: skip
    except OSError as error:
        raise _gone(home, record, error) from None
    return _result(_parsed(answer))


class Client:
    """One connection of an asyncio program."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        import asyncio

        self._reader, self._writer = reader, writer
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._updates: asyncio.Queue[Update | None] = asyncio.Queue()
        self._last = 0
        self._task = asyncio.ensure_future(self._read())

    @classmethod
    async def open(cls, home: Path) -> Client:
        """Connect to the daemon of a home. Raises NoDaemon."""
        import asyncio

        record = _record(home)
        try:
            return cls(*await asyncio.open_unix_connection(record.socket, limit=1 << 28))
        except OSError as error:
            raise _gone(home, record, error) from None

    async def call(
        self, method: str, timeout_s: float | None = CALL_S, **params: Any
    ) -> dict[str, Any]:
        """One answer. Raises NoDaemon, TimedOut, or the daemon's own WspilotError."""
        return await self.request(method, params, timeout_s)

    async def request(
        self, method: str, params: dict[str, Any], timeout_s: float | None = CALL_S
    ) -> dict[str, Any]:
        """The same for any params, also for one that is called `timeout_s` (of `wait`)."""
        import asyncio

        if self._task.done():
            raise NoDaemon("the connection to the daemon has ended", "is it still running?")
        id = self._last = self._last + 1
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[id] = future
        try:
            self._writer.write(_request(id, method, params))
            return _result(await asyncio.wait_for(future, timeout_s))
        except TimeoutError:
            raise TimedOut(f"the daemon did not answer {method} within {timeout_s:g} s") from None
        finally:
            self._waiting.pop(id, None)

    async def subscribe(self) -> AsyncIterator[Update]:
        """A snapshot, then deltas. Raises NoDaemon when the connection ends."""
        first = await self.call("subscribe")
        yield Update(first["revision"], True, tuple(first["items"]))
        while (update := await self._updates.get()) is not None:
            yield update
        raise NoDaemon("the connection to the daemon has ended", "is it still running?")

    async def close(self) -> None:
        """End the connection."""
        import asyncio

        self._task.cancel()
        self._writer.close()
        await asyncio.wait([self._task], timeout=1)

    async def _read(self) -> None:
        try:
            while line := await self._reader.readline():
                message = _parsed(line)
                if "method" in message:
                    self._updates.put_nowait(_update(message))
                elif (future := self._waiting.get(message.get("id", 0))) and not future.done():
                    future.set_result(message)
        except (OSError, ValueError, WspilotError):
            pass
        finally:
            self._updates.put_nowait(None)
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(NoDaemon("the connection to the daemon has ended"))


def _update(message: dict[str, Any]) -> Update:
    params = message["params"]
    if message["method"] == "snapshot":
        return Update(params["revision"], True, tuple(params["items"]))
    return Update(params["revision"], False, tuple(params["changed"]), tuple(params["gone"]))


def _record(home: Path) -> LockRecord:
    record = read_record(home)
    if record is None:
        raise NoDaemon(f"no daemon runs on {home}", "start one: wspilot daemon --detach")
    return record


def _gone(home: Path, record: LockRecord, error: OSError) -> NoDaemon:
    here = socket.gethostname()
    if record.host != here:
        return NoDaemon(f"the daemon of {home} runs on {record.host}, not on {here}",
                        f"go there: ssh {record.host} wspilot ...")  # fmt: skip
    return NoDaemon(
        f"the daemon of {home} (pid {record.pid}) does not answer: {error.strerror or error}",
        "start it again: wspilot daemon --detach",
    )


def _request(id: int, method: str, params: dict[str, Any]) -> bytes:
    return (
        json.dumps(
            {"jsonrpc": "2.0", "id": id, "method": method, "params": params}, default=str
        ).encode()
        + b"\n"
    )


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise WspilotError("the daemon's answer is not JSON-RPC", _OTHER)
    return message


def _result(message: dict[str, Any]) -> dict[str, Any]:
    error = message.get("error")
    if error is None:
        result = message.get("result")
        schema = result.get("schema", SCHEMA) if isinstance(result, dict) else None
        if schema != SCHEMA or not isinstance(result, dict):
            raise WspilotError(
                f"the daemon speaks version {schema} of the documents, this wspilot {SCHEMA}",
                _OTHER,
            )
        return result
    code, text = error.get("code", 1), str(error.get("message"))
    hint = str((error.get("data") or {}).get("hint", ""))
    if code == NO_METHOD:
        raise UsageError(f"the daemon does not know this: {text}", _OTHER)
    known = code if code in set(Code) else Code.USAGE if code == BAD_PARAMS else Code.FAILED
    raise _KINDS.get(Code(known), WspilotError)(text, hint)

"""The control socket: whatever one client sends, or does not read, costs the others nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.unit.fake_daemon import FakeApi
from wspilot.daemon import control
from wspilot.daemon.control import MAX_LINE, ControlServer
from wspilot.errors import Refused, TimedOut, UsageError

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Site:
    """A server, its Api, and the connections that a test opened."""

    def __init__(self, path: Path) -> None:
        self.path, self.api = path, FakeApi({"ping": {"schema": 1}})
        self.server = ControlServer(path, self.api)
        self._open: list[asyncio.StreamWriter] = []

    async def connect(self) -> Streams:
        reader, writer = await asyncio.open_unix_connection(str(self.path), limit=1 << 28)
        self._open.append(writer)
        return reader, writer

    async def ask(self, streams: Streams, data: bytes) -> dict[str, Any]:
        streams[1].write(data)
        return await answer(streams)

    async def close(self) -> None:
        for writer in self._open:
            writer.close()
        await self.server.close()


async def answer(streams: Streams) -> dict[str, Any]:
    line = await asyncio.wait_for(streams[0].readline(), 10)
    assert line.endswith(b"\n"), "the server closed the connection"
    doc: dict[str, Any] = json.loads(line)
    return doc


def request(method: str, id: Any = 1, **params: Any) -> bytes:
    doc = {"jsonrpc": "2.0", "id": id, "method": method, "params": params}
    return json.dumps(doc).encode() + b"\n"


PING = request("ping")


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path / "s")
    await made.server.start()
    yield made
    await asyncio.wait_for(made.close(), 10)


async def test_the_socket_is_private_and_removed_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "s").touch()  # left by a dead daemon
    server = ControlServer(tmp_path / "s", FakeApi())
    await server.start()
    info = (tmp_path / "s").stat()
    assert stat.S_ISSOCK(info.st_mode) and stat.S_IMODE(info.st_mode) == 0o600
    await server.close()
    assert not (tmp_path / "s").exists()


async def test_a_call_is_answered_with_its_id(site: Site) -> None:
    streams = await site.connect()
    got = await site.ask(streams, request("ping", id="x"))
    assert got == {"jsonrpc": "2.0", "id": "x", "result": {"schema": 1}}


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"\n", -32700),
        (b"rubbish\n", -32700),
        (b"\x00\xff\xfe\x80\n", -32700),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "p\xff"}\n', -32700),
        (b"[" * 100_000 + b"\n", -32700),
        (b"1" * 10_000 + b"\n", -32700),  # an integer too long for Python's own limit
        (b"3\n", -32600),
        (b'"ping"\n', -32600),
        (b"[" + PING.strip() + b"]\n", -32600),
        (b'{"id": 1, "method": "ping"}\n', -32600),
        (b'{"jsonrpc": "2.0", "method": "ping"}\n', -32600),
        (b'{"jsonrpc": "2.0", "id": true, "method": "ping"}\n', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": 7}\n', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "' + b"m" * 65 + b'"}\n', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": [1]}\n', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "pong"}\n', -32601),
    ],
)
async def test_a_bad_line_gets_an_error_and_the_next_is_served(
    site: Site, line: bytes, code: int
) -> None:
    streams = await site.connect()
    got = await site.ask(streams, line)
    assert got["error"]["code"] == code and got["error"]["message"]
    assert (await site.ask(streams, PING))["result"] == {"schema": 1}


@pytest.mark.parametrize("size", [MAX_LINE + 1, 3 * MAX_LINE + 17])
async def test_a_line_over_the_limit_is_skipped_whole(site: Site, size: int) -> None:
    streams = await site.connect()
    got = await site.ask(streams, b"x" * size + b"\n")
    assert got["error"]["code"] == -32600 and str(MAX_LINE) in got["error"]["message"]
    assert (await site.ask(streams, PING))["result"] == {"schema": 1}


async def test_a_line_of_just_the_limit_is_served(site: Site) -> None:
    empty = request("ping", pad="")
    line = request("ping", pad="x" * (MAX_LINE - len(empty)))
    assert (await site.ask(await site.connect(), line))["result"] == {"schema": 1}


async def test_half_lines_wait_for_their_other_half(site: Site) -> None:
    slow, other = await site.connect(), await site.connect()
    slow[1].write(PING[:9])
    await slow[1].drain()
    assert "result" in await site.ask(other, PING)
    assert "result" in await site.ask(slow, PING[9:])


async def test_errors_carry_exit_codes_and_hints(site: Site) -> None:
    streams = await site.connect()
    for error, code in ((UsageError("a", "b"), 2), (Refused("a", "b"), 5), (TimedOut("a", "b"), 6)):
        site.api.answers["fail"] = error
        got = (await site.ask(streams, request("fail")))["error"]
        assert got == {"code": code, "message": "a", "data": {"hint": "b"}}


@pytest.mark.parametrize("bug", [KeyError("x"), {"result": {1, 2}}])
async def test_a_bug_costs_one_answer_not_the_connection(site: Site, bug: Any) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    site.api.answers["bug"] = bug
    streams = await site.connect()
    assert (await site.ask(streams, request("bug")))["error"]["code"] == -32603
    assert "result" in await site.ask(streams, PING)


async def test_fifty_clients_at_once(site: Site) -> None:
    async def one(n: int) -> int:
        streams = await site.connect()
        for k in range(20):
            assert (await site.ask(streams, request("ping", id=k)))["id"] == k
        return n

    done = await asyncio.wait_for(asyncio.gather(*map(one, range(50))), 30)
    assert done == list(range(50)) and len(site.api.calls) == 1000


async def test_a_long_call_does_not_hold_up_the_others(site: Site) -> None:
    streams = await site.connect()
    streams[1].write(request("hang", id=1))
    assert (await site.ask(streams, request("ping", id=2)))["id"] == 2


async def test_a_client_that_goes_in_mid_call_costs_nothing(site: Site) -> None:
    streams = await site.connect()
    streams[1].write(request("hang"))
    await until(lambda: site.api.calls)
    streams[1].close()
    await until(lambda: site.api.cancelled == 1)
    assert "result" in await site.ask(await site.connect(), PING)


async def test_a_half_closed_client_still_gets_its_answer(site: Site) -> None:
    async def late() -> dict[str, Any]:
        await asyncio.sleep(0.05)
        return {"schema": 1}

    async def call(*_: Any) -> dict[str, Any]:
        return await late()

    site.api.call = call  # type: ignore[method-assign]
    streams = await site.connect()
    streams[1].write(PING)
    streams[1].write_eof()
    assert (await answer(streams))["result"] == {"schema": 1}
    assert await asyncio.wait_for(streams[0].read(), 5) == b""


async def test_too_many_calls_of_one_client_are_refused(site: Site) -> None:
    streams = await site.connect()
    streams[1].write(b"".join(request("hang", id=n) for n in range(control.MAX_CALLS)))
    assert (await site.ask(streams, request("ping", id="more")))["error"]["code"] == 5
    assert "result" in await site.ask(await site.connect(), PING)


async def test_another_user_is_sent_away(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_peer_uid", lambda _: os.getuid() + 12345)
    streams = await site.connect()
    got = await site.ask(streams, PING)
    assert str(os.getuid() + 12345) in got["error"]["message"]
    with contextlib.suppress(ConnectionResetError):  # it was closed with our line unread
        assert await streams[0].read() == b""
    assert not site.api.calls


async def test_the_kernel_says_who_the_peer_is(site: Site) -> None:
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(site.path))
        _, uid, _ = struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    assert uid == os.getuid()


async def test_subscribe_gives_a_snapshot_then_deltas(site: Site) -> None:
    site.api.revision, site.api.items = 7, [{"id": "a"}]
    streams = await site.connect()
    first = await site.ask(streams, request("subscribe"))
    assert first["result"] == {"revision": 7, "items": [{"id": "a"}]}
    site.api.tell({"id": "b"}, gone=("vms/a",))
    got = await answer(streams)
    assert got["method"] == "delta" and "id" not in got
    assert got["params"] == {"revision": 8, "changed": [{"id": "b"}], "gone": ["vms/a"]}
    assert (await site.ask(streams, request("subscribe")))["error"]["code"] == 5


async def test_a_subscriber_that_leaves_is_forgotten(site: Site) -> None:
    streams = await site.connect()
    await site.ask(streams, request("subscribe"))
    assert len(site.api.listeners) == 1
    streams[1].close()
    await until(lambda: not site.api.listeners)


async def test_a_slow_reader_gets_a_fresh_snapshot_not_an_endless_queue(site: Site) -> None:
    with socket.socket(socket.AF_UNIX) as link:  # a bare socket: asyncio would read ahead
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.connect(str(site.path))
        link.sendall(request("subscribe"))
        await until(lambda: site.api.listeners)
        for n in range(3000):
            site.api.tell({"id": "x", "n": n, "pad": "p" * 1000}, {"id": "y"})
            if n % 100 == 0:
                await asyncio.sleep(0)
        fast = await site.connect()
        assert "result" in await asyncio.wait_for(site.ask(fast, PING), 10)
        link.setblocking(False)
        messages = await _read_until(link, 3000)
    kinds = [one.get("method", "answer") for one in messages]
    assert "snapshot" in kinds and len(messages) < 2500
    revisions = [_revision(one) for one in messages]
    assert revisions == sorted(set(revisions)) and revisions[-1] == 3000


async def test_deltas_that_a_snapshot_contains_are_not_sent_again() -> None:
    api, sent = FakeApi(), []

    async def send(message: Any) -> None:
        sent.append(_revision(message))

    feed = control._Feed(api, send, 1)
    api.tell({"id": "a"})  # after it listens, before its first snapshot is made
    await until(lambda: sent)
    api.tell({"id": "b"})
    await until(lambda: len(sent) > 1)
    feed.close()
    assert sent == [1, 2]


async def test_close_ends_every_connection(tmp_path: Path) -> None:
    made = Site(tmp_path / "s")
    await made.server.start()
    streams = [await made.connect() for _ in range(5)]
    for one in streams:
        one[1].write(request("subscribe") + request("hang"))
    await until(lambda: len(made.api.listeners) == 5)
    await asyncio.wait_for(made.close(), 5)
    assert not made.api.listeners
    for one in streams:
        await asyncio.wait_for(one[0].read(), 5)


async def until(true: Any) -> None:
    """Wait until something holds, at most 5 s."""
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def _read_until(link: socket.socket, revision: int) -> list[dict[str, Any]]:
    loop, data = asyncio.get_running_loop(), b""
    async with asyncio.timeout(20):
        while True:
            data += await loop.sock_recv(link, 1 << 20)
            if data.endswith(b"\n"):
                messages = [json.loads(line) for line in data.splitlines()]
                if _revision(messages[-1]) == revision:
                    return messages


def _revision(message: dict[str, Any]) -> int:
    return int((message.get("params") or message.get("result"))["revision"])

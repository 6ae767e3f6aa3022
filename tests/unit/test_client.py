"""Clients of the control socket: an answer, or words about why there is none."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.fake_daemon import FakeApi, record_for, served
from wspilot.client import Client, Update, call
from wspilot.errors import Code, NoDaemon, NotFound, Refused, TimedOut, UsageError, WspilotError
from wspilot.home import LockRecord, write_record


@contextmanager
def saying(home: Path, reply: bytes) -> Iterator[None]:
    """A peer that reads one line and says `reply`, whatever was asked."""
    record_for(home, home / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home / "s"))
        listener.listen()

        def serve() -> None:
            link, _ = listener.accept()
            with link, link.makefile("rb") as lines:
                lines.readline()
                link.sendall(reply)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        thread.join(5)


def test_a_call_gives_the_document(tmp_path: Path) -> None:
    with served(tmp_path, FakeApi({"ping": lambda params: {"schema": 1, **params}})):
        assert call(tmp_path, "ping", {"a": "\ud800\x00é"}) == {"schema": 1, "a": "\ud800\x00é"}


@pytest.mark.parametrize("kind", [UsageError, NotFound, Refused, TimedOut])
def test_errors_arrive_with_code_message_and_hint(tmp_path: Path, kind: type[WspilotError]) -> None:
    with served(tmp_path, FakeApi({"ping": kind("what", "do this")})):
        with pytest.raises(kind) as caught:
            call(tmp_path, "ping", {})
    assert (caught.value.code, caught.value.message, caught.value.hint) == (
        kind.code, "what", "do this",
    )  # fmt: skip


def test_no_daemon_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(NoDaemon) as caught:
        call(tmp_path, "ping", {})
    assert str(tmp_path) in caught.value.message and "wspilot daemon" in caught.value.hint


@pytest.mark.parametrize("garbage", ["", "{", "[]", '{"host": 1}', '{"pid": "x"}', "\0"])
def test_an_unreadable_record_is_no_daemon(tmp_path: Path, garbage: str) -> None:
    (tmp_path / "lock.json").write_text(garbage)
    with pytest.raises(NoDaemon):
        call(tmp_path, "ping", {})


def test_a_dead_daemon_is_named(tmp_path: Path) -> None:
    record_for(tmp_path, tmp_path / "gone.sock")
    with pytest.raises(NoDaemon, match=r"pid 1\b.*No such file"):
        call(tmp_path, "ping", {})


def test_a_daemon_on_another_host_is_named(tmp_path: Path) -> None:
    write_record(tmp_path, LockRecord("otherhead", "b", 7, 1, str(tmp_path / "s")))
    with pytest.raises(NoDaemon, match="otherhead") as caught:
        call(tmp_path, "ping", {})
    assert "ssh otherhead" in caught.value.hint


def test_a_daemon_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    with served(tmp_path, FakeApi()), pytest.raises(TimedOut, match=r"hang.*0\.1 s"):
        call(tmp_path, "hang", {}, timeout_s=0.1)


@pytest.mark.parametrize("reply", [b"", b'{"jsonrpc": "2.0", "id": 1, "resu'])
def test_a_daemon_that_dies_in_mid_call(tmp_path: Path, reply: bytes) -> None:
    with saying(tmp_path, reply), pytest.raises(NoDaemon, match="mid-call"):
        call(tmp_path, "ping", {})


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400\n", b"[]\n", b"\xff\n", b'{"id": 1}\n'])
def test_a_peer_that_speaks_something_else(tmp_path: Path, reply: bytes) -> None:
    with saying(tmp_path, reply), pytest.raises(WspilotError) as caught:
        call(tmp_path, "ping", {})
    assert caught.value.code is Code.FAILED and "another release" in caught.value.hint


def test_another_release_of_the_documents_is_said_in_words(tmp_path: Path) -> None:
    reply = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"schema": 2}}).encode() + b"\n"
    with saying(tmp_path, reply), pytest.raises(WspilotError, match=r"version 2.*this wspilot 1"):
        call(tmp_path, "list", {})


def test_a_method_of_another_release_is_a_usage_error(tmp_path: Path) -> None:
    with served(tmp_path, FakeApi()), pytest.raises(UsageError, match="does not know") as caught:
        call(tmp_path, "teleport", {})
    assert "another release" in caught.value.hint


async def test_calls_side_by_side_and_the_subscription(tmp_path: Path) -> None:
    api = FakeApi({"ping": lambda params: {"schema": 1, "n": params["n"]}})
    with served(tmp_path, api):
        client = await Client.open(tmp_path)
        updates = client.subscribe()
        assert await _next(updates) == Update(0, True)
        got = await asyncio.gather(*(client.call("ping", n=n) for n in range(30)))
        assert [one["n"] for one in got] == list(range(30))
        api.tell({"id": "a"}, gone=("vms/b",))
        assert await _next(updates) == Update(1, False, ({"id": "a"},), ("vms/b",))
        with pytest.raises(TimedOut):
            await client.call("hang", timeout_s=0.05)
        await client.close()


async def test_the_end_of_the_daemon_ends_calls_and_the_subscription(tmp_path: Path) -> None:
    with served(tmp_path, FakeApi()):
        client = await Client.open(tmp_path)
        updates = client.subscribe()
        await _next(updates)
        waiting = asyncio.ensure_future(client.call("hang"))
        await asyncio.sleep(0.05)
    with pytest.raises(NoDaemon):
        await asyncio.wait_for(waiting, 5)
    with pytest.raises(NoDaemon):
        await _next(updates)
    with pytest.raises(NoDaemon):  # at once, not after its time limit
        await asyncio.wait_for(client.call("ping"), 10)
    await client.close()


async def test_open_without_a_daemon(tmp_path: Path) -> None:
    with pytest.raises(NoDaemon):
        await Client.open(tmp_path)
    record_for(tmp_path, tmp_path / "gone")
    with pytest.raises(NoDaemon, match="pid 1"):
        await Client.open(tmp_path)


async def _next(updates: AsyncIterator[Update]) -> Update:
    return await asyncio.wait_for(updates.__anext__(), 5)

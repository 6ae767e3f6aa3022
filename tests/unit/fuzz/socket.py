"""The control socket: a real unix socket, the real server, the daemon's real verbs and store.

Whatever a client sends, the answers are JSON-RPC with a documented code (never -32603, which is a
bug in the daemon), and both it and another client are then served at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import strategies as st

from tests.unit.fuzz.harness import Check, Target, bent, bent_doc
from wspilot.config import load
from wspilot.daemon.api import ServiceApi
from wspilot.daemon.control import MAX_LINE, ControlServer
from wspilot.daemon.core.books import Books
from wspilot.daemon.service import Service
from wspilot.daemon.store import Store

CODES = {-32700, -32600, -32601, -32602, 1, 2, 3, 4, 5, 6}
AT_ONCE_S = 1.0
GROUP = {"name": "g", "type": "small", "count": 1, "nics": ["private"], "min": 1,
         "roles": {"provides": ["a"], "requires": ["a"]}, "placement": "pack"}  # fmt: skip
PARAMS: list[tuple[str, dict[str, Any]]] = [
    ("deploy", {"type": "small", "count": 2, "duration": "1h", "name": "w", "token": "t1"}),
    ("deploy", {"type": "small", "duration": "1h", "dry_run": True}),
    ("deploy", {"ensemble": {"workspace": {"name": "e", "duration": "2h"}, "group": [GROUP]},
                "show_script": True}),
    ("wait", {"id": "w", "for": "active", "timeout_s": 0.0}),
    ("destroy", {"ids": ["w"], "abandon": False, "token": "t2"}), ("destroy", {"all": True}),
    ("forget", {"node": "n", "token": "t3"}), ("repair", {"node": "n"}), ("show", {"id": "w/g/1"}),
    ("events", {"id": "w", "after": 1, "limit": 5}), ("logs", {"id": "w"}), ("list", {"all": True}),
    ("fsck", {}), ("fsck", {"prove": True, "id": "w"}),
    *((name, {}) for name in ("ping", "types", "images", "nodes", "slots", "config", "status",
                              "subscribe", "nonsense")),
]  # fmt: skip
REQUESTS = [{"jsonrpc": "2.0", "id": 1, "method": m, "params": p} for m, p in PARAMS]
LINES = [json.dumps(one).encode() + b"\n" for one in REQUESTS]
_deep = st.sampled_from([
    b'{"jsonrpc":"2.0","id":1,"method":"list","params":{"all":' + b"[" * depth + b"]" * depth
    + b"}}\n" for depth in (500, 900, 990, 1100, 100_000)
] + [
    b'{"jsonrpc":"2.0","id":1,"method":"destroy","params":{"ids":[' + b"[" * depth + b"]" * depth
    + b'],"token":' + b"[" * depth + b"]" * depth + b"}}\n" for depth in (300, 900)
])  # fmt: skip
_huge = st.sampled_from([
    b"x" * (MAX_LINE + 5) + b"\n",
    b'{"jsonrpc":"2.0","id":1,"method":"' + b"m" * 900_000 + b'"}\n',
    b'{"jsonrpc":"2.0","id":"' + b"i" * 900_000 + b'","method":"ping"}\n',
    b'{"jsonrpc":"2.0","id":1,"method":"deploy","params":{"type":"' + b"t" * 900_000 + b'"}}\n',
    b'{"jsonrpc":"2.0","id":1,"method":"deploy","params":{"type":"small","duration":"'
    + b"1h" * 400_000 + b'"}}\n',
])  # fmt: skip
_line = st.one_of(
    bent_doc(REQUESTS).map(lambda doc: json.dumps(doc).encode() + b"\n"),
    bent_doc(REQUESTS).map(lambda doc: json.dumps(doc).encode() + b"\n"),
    bent(LINES), st.sampled_from(LINES), st.binary(max_size=200),
)  # fmt: skip
_costly = st.integers(0, 60).flatmap(lambda n: _deep if n == 0 else _huge if n == 1 else _line)
_inputs = st.tuples(st.lists(_costly, min_size=1, max_size=4), st.sampled_from([0, 0, 0, 1, 2]))


class _Site:
    """A daemon's verbs behind its socket, without its loops."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.loop = asyncio.new_event_loop()
        self.errors: list[Any] = []
        self.loop.set_exception_handler(lambda _, context: self.errors.append(context))
        self.home = place / "home"
        self.service = Service(load(None, self.home), self.home)
        self.service.spool.prepare()
        self.renew(0)
        self.server = ControlServer(place / "s", ServiceApi(self.service))
        self.loop.run_until_complete(self.server.start())

    def renew(self, number: int) -> None:
        """Empty books, as one input in twenty fills them."""
        if self.service._store is not None:
            self.service._store.close()
        self.service._store = Store(self.place / f"store{number}", sync=False)
        self.service._store.load()
        self.service.books = Books()

    def close(self) -> None:
        self.loop.run_until_complete(self.server.close())
        self.service.lane.close()
        self.loop.close()


@contextmanager
def _open() -> Iterator[Check]:
    logging.getLogger("wspilot").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="wspilot-fuzz-") as place:
        with mock.patch.dict(os.environ, {"XDG_RUNTIME_DIR": place}):
            site = _Site(Path(place))
            try:
                yield lambda value: _check(site, *value)
            finally:
                site.close()


def _check(site: _Site, lines: list[bytes], manner: int) -> None:
    site.loop.run_until_complete(asyncio.wait_for(_talk(site, lines, manner), 8 * AT_ONCE_S))
    assert not site.errors, site.errors.pop()
    for queue in (site.service.effects._files, site.service.effects._lrm):
        while not queue.empty():
            queue.get_nowait()
    site.service.books.asking.clear()
    site.service.stopping.clear()
    if len(list(site.service.books.workspaces())) > 20:
        site.renew(site.service.books.last_event)


async def _talk(site: _Site, lines: list[bytes], manner: int) -> None:
    """`manner` 0: read every answer; 1: half a line, then gone; 2: never read."""
    reader, writer = await asyncio.open_unix_connection(str(site.place / "s"), limit=1 << 26)
    try:
        data = b"".join(lines)
        if manner == 2:
            data *= 8
        with contextlib.suppress(ConnectionError):
            writer.write(data[: len(data) // 2] if manner == 1 else data + b"\n" + PING)
            if manner == 0:
                await asyncio.wait_for(_answers(reader), 4 * AT_ONCE_S)
        await asyncio.wait_for(_another(site), AT_ONCE_S)
    finally:
        writer.transport.abort()  # what the server would not take is not waited for


PING = b'{"jsonrpc":"2.0","id":"the last","method":"ping"}\n'


async def _answers(reader: asyncio.StreamReader) -> None:
    while True:
        line = await reader.readline()
        assert line, "the server hung up"
        answer = json.loads(line, parse_constant=_no_number)
        assert answer["jsonrpc"] == "2.0"
        if "error" in answer:
            assert answer["error"]["code"] in CODES, answer
        if answer.get("id") == "the last":
            return


def _no_number(text: str) -> float:
    raise AssertionError(f"{text} in an answer")


async def _another(site: _Site) -> None:
    reader, writer = await asyncio.open_unix_connection(str(site.place / "s"))
    writer.write(PING)
    assert b"result" in await reader.readline()
    writer.close()


TARGETS = (Target("socket", _inputs, _open, share=0.5, shrink=False),)

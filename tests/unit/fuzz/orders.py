"""The command reader of the node: a real courier over real files, and what the pilot's core makes
of signed ones. Nothing that was not signed for this pilot is carried out.
"""

from __future__ import annotations

import hmac
import json
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.unit.fuzz.harness import Check, Target, bent, bent_doc
from tests.unit.node.dialogue import PILOT, Talk
from wspilot.messages import CMD, BadMessage, Order, Verb, parse_order_name, read_order, seal
from wspilot.node.core import events as e
from wspilot.node.core import step
from wspilot.node.courier import Courier, Round
from wspilot.node.post import _command
from wspilot.node.wire import COMMAND, Splitter

KEY = bytes(range(32))
SLOT, NODE = "a" * 8, "n1"
UUID = "12345678-1234-4234-8234-123456789012"
SPEC = {"id": "v2", "name": "ws/vm/2", "uuid": UUID, "cpus": 1, "memory_mib": 64, "boot_s": 20,
        "image": {"name": "small"}, "ready": "agent",
        "nics": [{"network": "p", "mac": "02:00:00:00:00:01", "ip": "10.0.0.2"}]}  # fmt: skip
_DATA: dict[Verb, dict[str, Any]] = {
    Verb.CREATE: SPEC, Verb.DESTROY: {"vm": "v1", "grace_s": 2.0}, Verb.STOP: {"vm": "v1"},
    Verb.RELEASE: {"cause": "c"}, Verb.LEASE: {"seconds": 60}, Verb.PING: {},
}  # fmt: skip
ORDERS = [
    Order(SLOT, NODE, PILOT, 1, n, verb, f"o{n}x", 600.0, "t", 0.0, data)
    for n, (verb, data) in enumerate(_DATA.items(), 2)
]
FILES = {order.file_name(order.seq): seal(CMD, KEY, order.body()) for order in ORDERS}
_names = st.one_of(
    st.sampled_from([*FILES]),
    bent([name.encode() for name in FILES]).map(lambda raw: raw.decode("utf-8", "replace")),
)


@contextmanager
def _courier() -> Iterator[Check]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with tempfile.TemporaryDirectory(prefix="wspilot-fuzz-") as place, ours, theirs:
        (Path(place) / "cmd" / "d").mkdir(parents=True)
        courier = Courier(theirs, Round(Path(place), "d"))
        courier._open = True
        yield lambda value: _seen(courier, ours, Path(place) / "cmd" / "d", *value)


def _seen(courier: Courier, pipe: socket.socket, place: Path, name: str, raw: bytes) -> None:
    name = name.replace("/", "_").replace("\0", "_")
    name = name.encode("utf-8", "replace")[:250].decode("utf-8", "ignore")
    if name in ("", ".", ".."):
        return
    (place / name).write_bytes(raw)
    courier._list_at = 0.0
    courier._said.clear()
    courier._look()
    (place / name).unlink()
    for kind, payload in Splitter().feed(pipe.recv(1 << 20)):
        if kind == COMMAND:
            given, content = _command(payload)
            try:
                _, seq = parse_order_name(given)
                order = read_order(KEY, content, SLOT, NODE, PILOT, seq)
            except BadMessage:
                continue
            assert content == raw and raw in FILES.values(), "taken, and never signed"
            assert order in ORDERS and order.seq == seq
    courier._list_at = 0.0
    courier._look()  # the directory is empty again: what was seen is forgotten
    assert not courier._seen


READY = Talk().ready()
READY.create("v1")


def _signed(body: dict[str, Any] | bytes) -> None:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    mac = hmac.new(KEY, CMD.encode() + b"\0" + text, "sha256").hexdigest().encode()
    seq = body.get("seq") if isinstance(body, dict) else 2
    try:
        order = read_order(KEY, mac + b"\n" + text, SLOT, NODE, PILOT,
                           seq if isinstance(seq, int) else 2)  # fmt: skip
    except BadMessage:
        return
    state, effects = step(READY.state, e.Ordered(READY.now, order))
    state, more = step(state, e.Tick(READY.now + 10))
    for letter in (one for one in (*effects, *more) if isinstance(one, e.Letter)):
        json.dumps(dict(letter.data), allow_nan=False)
    step(state, e.Tick(READY.now + 10_000))


@contextmanager
def _core() -> Iterator[Check]:
    yield _signed


_BODIES = [order.body() for order in ORDERS]
TARGETS = (
    Target("courier", st.tuples(_names, st.one_of(bent([*FILES.values()]),
                                                  st.binary(max_size=300))), _courier),
    Target("signed orders", st.one_of(bent_doc(_BODIES),
                                      bent([json.dumps(b).encode() for b in _BODIES])), _core),
)  # fmt: skip

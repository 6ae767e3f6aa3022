"""What a frame costs the two switches on its way from guest to guest, in processor time, so that
what else this machine does counts little; against two forwarders of datagrams, which pin and seal
nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import socket
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.measure import machine
from wspilot.node import forks
from wspilot.node.network import frames, switch

ROUNDS, FRAMES, FLIGHT = 8, 20_000, 8  # a unix socket holds ten datagrams
MACS = "02:57:0a:4d:00:02", "02:57:0a:4d:00:03"
IPS = "10.77.0.2", "10.77.0.3"
SESSIONS = b"a" * 16, b"b" * 16
KEY = bytes(range(32))


def run() -> None:
    """Print the table: full frames, and those of a TCP acknowledgement."""
    print(f"\na frame through two switches, processor time of both [{machine()}]")
    for name, length in (("full", frames.MTU), ("small", 52)):
        one = frame(length)
        costs = [(_cost(False, one), _cost(True, one)) for _ in range(ROUNDS)]
        plain, ours = (statistics.median(each) for each in zip(*costs))
        print(f"{name:5} {len(one):5} bytes: forwarders {plain:5.1f} us, switches {ours:5.1f} us, "
              f"ratio {ours / plain:4.2f}")  # fmt: skip


def frame(length: int, back: bool = False) -> bytes:
    """A TCP segment in IPv4 of that length from one guest to the other."""
    step = -1 if back else 1
    ends = b"".join(socket.inet_aton(ip) for ip in IPS[::step])
    macs = b"".join(bytes.fromhex(mac.replace(":", "")) for mac in MACS[::-step])
    head = b"\x45\0" + length.to_bytes(2, "big") + b"\0\0\0\0\x40\x06\0\0" + ends
    return macs + frames.IPV4 + head + bytes(length - 20)


def _cost(ours: bool, one: bytes) -> float:
    """Microseconds a frame, by what the reaped children have used."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        place = Path(name)
        nics = [stack.enter_context(_nic(ours, place / f"nic{at}")) for at in (0, 1)]
        with _two(ours, place):
            ends = [Cable(nic) if ours else Box(nic, place / f"sw{at}")
                    for at, nic in enumerate(nics)]  # fmt: skip
            _through(*ends, one)
            for end in ends:
                end.close()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent / FRAMES * 1e6


def _through(here: Box | Cable, there: Box | Cable, one: bytes) -> None:
    back = frame(52, back=True)
    there.send(back, 1)  # so that it is known where it lives
    here.fetch(back, 1)
    for _ in range(FRAMES // FLIGHT):
        here.send(one, FLIGHT)
        there.fetch(one, FLIGHT)


def _nic(ours: bool, path: Path) -> socket.socket:
    nic = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM if ours else socket.SOCK_DGRAM)
    nic.settimeout(60.0)
    nic.bind(str(path))
    if ours:
        nic.listen()
    return nic


class Box:
    """A guest on datagrams."""

    def __init__(self, nic: socket.socket, to: Path) -> None:
        self._nic, self._to = nic, str(to)

    def send(self, one: bytes, times: int) -> None:
        for _ in range(times):
            self._nic.sendto(one, self._to)

    def fetch(self, one: bytes, times: int) -> None:
        for _ in range(times):
            assert self._nic.recv(65600) == one

    def close(self) -> None:
        pass


class Cable:
    """A guest on a stream, as QEMU: a system call for each frame that goes."""

    def __init__(self, nic: socket.socket) -> None:
        self._wire = nic.accept()[0]
        self._file = self._wire.makefile("rb")

    def send(self, one: bytes, times: int) -> None:
        for _ in range(times):
            self._wire.sendall(len(one).to_bytes(4, "big") + one)

    def fetch(self, one: bytes, times: int) -> None:
        for _ in range(times):
            assert self._file.read(4 + len(one))[4:] == one

    def close(self) -> None:
        self._file.close()
        self._wire.close()


@contextlib.contextmanager
def _two(ours: bool, place: Path) -> Iterator[None]:
    """Two nodes' processes, joined by their trunks; reaped at the end."""
    trunks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in (0, 1)]
    started = []
    try:
        for trunk in trunks:
            trunk.bind(("127.0.0.1", 0))
        for at in (0, 1):
            start = _switch if ours else _forwarder
            started.append(start(place, at, trunks[at], trunks[1 - at].getsockname()))
        yield
    finally:
        for pipe, pid in started:
            pipe.close()  # at the pipe's end it ends
            os.waitpid(pid, 0)
        for trunk in trunks:
            trunk.close()


def _switch(
    place: Path, at: int, trunk: socket.socket, to: tuple[str, int]
) -> tuple[socket.socket, int]:
    pipe, theirs = socket.socketpair()

    def main() -> None:
        switch.Switch(theirs, trunk, KEY, SESSIONS[at]).run()

    pid = forks.fork(main, [theirs.fileno(), trunk.fileno()])
    theirs.close()
    nic = {"network": "private", "mac": MACS[at], "ip": IPS[at], "deny": ["169.254.0.0/16"]}
    peer = {"session": SESSIONS[1 - at].hex(), "host": to[0], "port": to[1]}
    words: list[dict[str, Any]] = [
        {"attach": {"name": str(place / f"nic{at}"), "nic": nic, "mtu": frames.MTU}}
    ]
    for word in [*words, {"peers": {"other": peer}}]:
        pipe.sendall(json.dumps(word).encode() + b"\n")
        assert json.loads(pipe.recv(4096)) == {}
    return pipe, pid


def _forwarder(
    place: Path, at: int, trunk: socket.socket, to: tuple[str, int]
) -> tuple[socket.socket, int]:
    """The least that Python can do: each frame is received and sent on as it is."""
    pipe, theirs = socket.socketpair()
    box = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    box.bind(str(place / f"sw{at}"))

    def main() -> None:
        box.connect(str(place / f"nic{at}"))
        trunk.connect(to)
        poll = select.epoll()
        for one in (theirs, box, trunk):
            one.setblocking(False)
            poll.register(one, select.EPOLLIN)
        ways = {box.fileno(): (box, trunk), trunk.fileno(): (trunk, box)}
        while True:
            for number, _ in poll.poll():
                if number == theirs.fileno():
                    return
                source, target = ways[number]
                with contextlib.suppress(BlockingIOError):
                    while True:
                        target.send(source.recv(65600))

    pid = forks.fork(main, [theirs.fileno(), box.fileno(), trunk.fileno()])
    theirs.close()
    box.close()
    return pipe, pid

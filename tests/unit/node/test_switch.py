"""Two nodes' switches as real processes, with plain sockets in the place of QEMU."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.node.test_frames import OTHER_MAC, PORT, arp, ask, ipv4
from wspilot.node import journal
from wspilot.node.core.settings import Settings
from wspilot.node.network import dhcp, frames, switch, user, way
from wspilot.node.places import Places

KEY = bytes(range(32))
SETTINGS = Settings("s" * 8, 100, 200, {}, workspace_key=KEY.hex())
WAIT_S = 5.0
QUIET_S = 0.3
HANG_S = 20.0


class Side:
    """One node: its way, and one guest's end of a port."""

    def __init__(self, place: Path, name: str) -> None:
        place.mkdir()
        self.name = name
        self.journal = journal.create(place / "j", {"v": 1, "slot": "s" * 8})
        ground = way.Ground(SETTINGS, name, Places(name, os.getuid()), self.journal, place)
        self.way = user.User(ground)
        self.place = place
        self.box = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.box.setblocking(False)

    async def plug(self, ip: str, mac: str, network: str = "private") -> None:
        nic = {"network": network, "mac": mac, "ip": ip, "prefix": 24, "deny": ["169.254.0.0/16"]}
        await self.way.attach("v1", 0, nic)
        with contextlib.suppress(FileNotFoundError):
            (self.place / "v1.0.nic").unlink()
        self.box.bind(str(self.place / "v1.0.nic"))

    def send(self, frame: bytes) -> None:
        self.box.sendto(frame, str(self.place / "v1.0.sw"))

    async def got(self, limit_s: float = WAIT_S) -> bytes | None:
        loop = asyncio.get_running_loop()
        try:
            return await asyncio.wait_for(loop.sock_recv(self.box, 65600), limit_s)
        except asyncio.TimeoutError:
            return None


Pair = tuple[Side, Side]


def _switches() -> bytes:
    argv = ["pgrep", "-P", str(os.getpid()), "-f", "wspilot-switch slot=ssssssss"]
    return subprocess.run(argv, capture_output=True).stdout


@contextlib.asynccontextmanager
async def _pair(tmp_path: Path) -> AsyncIterator[Pair]:
    a, b = Side(tmp_path / "a", "a"), Side(tmp_path / "b", "b")
    for side in (a, b):
        await side.way.start()
    await a.plug("10.77.0.2", "02:57:0a:4d:00:02")
    await b.plug("10.77.0.3", "02:57:0a:4d:00:03")
    peers: dict[str, Any] = {side.name: side.way.facts() for side in (a, b)}
    for side in (a, b):
        await side.way.peers(peers)
    try:
        yield a, b
    finally:
        for side in (a, b):
            await side.way.close()
            side.box.close()
    for side in (a, b):
        assert not [path.name for path in side.place.iterdir() if path.name != "j"]
        assert not side.journal.entries
    assert not _switches()


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with _pair(tmp_path) as two:
        yield two


NOBODYS_MAC = bytes.fromhex("02570a4d0009")
BROADCAST = b"\xff" * 6
TAIL = ipv4()[12:]
BAD = {
    "mac": ipv4(mac=NOBODYS_MAC),
    "ip": ipv4(src="10.77.0.9"),
    "arp mac": arp(mac=NOBODYS_MAC),
    "arp ip": arp(ip="10.77.0.9"),
    "ipv6": ipv4(kind=b"\x86\xdd"),
    "vlan": OTHER_MAC + PORT.mac + b"\x81\0\0\5" + TAIL,
    "qinq": OTHER_MAC + PORT.mac + b"\x88\xa8\0\5\x81\0\0\5" + TAIL,
    "denied": ipv4(dst="169.254.1.1"),
    "arp denied": arp(asked="169.254.1.1"),
    "dhcp server": ipv4(ports=(67, 68)),
    "dhcp server to all": BROADCAST + ipv4(dst="255.255.255.255", ports=(67, 68))[6:],
    "rebind": ask(3, mine=PORT.ip),
}


@pytest.mark.parametrize("bad", BAD)
async def test_only_honest_frames_reach_the_sister_node(pair: Pair, bad: str) -> None:
    a, b = pair
    for honest in (ipv4(), arp(), BROADCAST + ipv4()[6:]):
        a.send(BAD[bad])
        a.send(honest)
        assert await b.got() == honest, "the honest one, and nothing before it"


async def test_without_the_list_they_would_all_reach_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The negative control: nothing but the list holds them back."""
    monkeypatch.setattr(frames, "allowed", lambda frame, port: True)  # the switch is a fork of us
    async with _pair(tmp_path) as (a, b):
        for name, bad in BAD.items():
            a.send(bad)
            assert await b.got() == bad, name


def test_what_is_for_a_guests_own_door_stays_on_its_node() -> None:
    """QEMU's own network hangs on the guest's hub (vmm/door.py): its answers are nobody else's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trunk:
        one = switch.Switch(trunk, trunk, KEY, b"s" * 16)
        nic = {"ip": "10.77.0.2"}
        guest = switch.Guest(trunk, "", 7, PORT, dhcp.answers(nic, 1400))
        one._buckets["port"] = switch.Bucket()
        one._peers[b"sister"] = (("127.0.0.1", 9), frames.Opener(KEY, b"t" * 16))
        carried: list[bytes] = []
        one._carry = lambda id, network, frame: carried.append(frame)  # type: ignore[method-assign]
        door = bytes.fromhex("52550a4d0001") + ipv4()[6:]
        one._switch(guest, "port", door)
        assert carried == []
        one._switch(guest, "port", ipv4())  # the negative control: unknown, and so for everybody
        assert carried == [ipv4()]


async def test_a_guest_is_told_its_address_and_the_question_stays_here(pair: Pair) -> None:
    a, b = pair
    a.send(ask(1))
    answer = await a.got()
    assert answer is not None and PORT.ip in answer
    a.send(ask(3, mine=PORT.ip))
    again = await a.got()
    assert again is not None and again[:6] == PORT.mac and PORT.ip in again, "a renewal too"
    a.send(ipv4())
    assert await b.got() == ipv4(), "and nothing before it"


async def answered(side: Side) -> None:
    """Its guest's answer, which is under way, has come."""
    end = asyncio.get_running_loop().time() + HANG_S
    while not await side.way.answers("v1"):
        assert asyncio.get_running_loop().time() < end
        await asyncio.sleep(0.01)


def arp_answer(question: bytes, mac: str = "02:57:0a:4d:00:02", ip: str = "10.77.0.2") -> bytes:
    """What a guest says to an ARP question."""
    mine, asker = bytes.fromhex(mac.replace(":", "")), question[22:28]
    body = mine + socket.inet_aton(ip) + question[22:32]
    return asker + mine + b"\x08\x06\0\x01\x08\0\x06\4\0\2" + body + bytes(18)


async def test_a_guest_is_up_when_it_answers_and_only_since_it_was_last_asked(pair: Pair) -> None:
    a, b = pair
    assert not await a.way.answers("v1")
    question = await a.got()
    assert question is not None and question[12:14] == frames.ARP and question[38:42] == PORT.ip
    assert question[28:32] not in (bytes(4), PORT.ip), "neither a probe nor a claim (RFC 5227)"
    assert not await a.way.answers("v1"), "it was asked, and has not answered"
    a.send(arp_answer(question))
    await answered(a)
    assert not await a.way.answers("v1"), "an answer counts once"
    a.send(ipv4())
    assert await b.got() == ipv4(), "and nothing before it: questions and answers stay on the node"


async def test_a_frame_to_the_switch_is_an_answer_only_if_it_is_one(pair: Pair) -> None:
    a, b = pair
    await a.way.answers("v1")
    question = await a.got()
    assert question is not None
    lies = [
        arp_answer(question, ip="10.77.0.3"),
        arp_answer(question, mac="02:57:0a:4d:00:03"),
        arp_answer(question)[:20] + b"\0\1" + arp_answer(question)[22:],  # a question of its own
        question[22:28] + ipv4()[6:],
    ]
    for frame in lies:
        a.send(frame)
    a.send(ipv4())
    assert await b.got() == ipv4(), "all of them were seen"
    assert not await a.way.answers("v1")
    b.send(arp_answer(question, "02:57:0a:4d:00:03", "10.77.0.3"))
    await answered(b)
    assert not await a.way.answers("v1"), "nor does its sister answer for it"
    assert not await a.way.answers("gone")


def stranger(port: int, host: str, datagrams: list[bytes]) -> None:
    """Another uid sends these to the trunk."""
    code = (
        "import socket,sys\n"
        "s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
        f"for line in sys.stdin: s.sendto(bytes.fromhex(line), ({host!r}, {port}))\n"
    )
    argv = [sys.executable, "-I", "-c", code]
    if os.getuid() == 0:
        argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", *argv]
    lines = "".join(one.hex() + "\n" for one in datagrams)
    subprocess.run(argv, input=lines.encode(), check=True, timeout=20)


async def test_strangers_frames_and_replays_do_not_arrive_but_the_keys_holder_does(
    pair: Pair,
) -> None:
    a, b = pair
    told = a.way.facts()["trunk"], b.way.facts()["trunk"]
    session = bytes.fromhex(told[0]["session"])
    mine = frames.Sealer(KEY, session, 1)
    network = frames.network_id("private")
    good = mine.seal(network, ipv4())
    foreign = frames.Sealer(b"x" * 32, session, 1).seal(network, ipv4())
    where = told[1]["port"], told[1]["host"]
    stranger(*where, [ipv4(), foreign, bytes(100), good[:-1], b"", b"x" * 60000])
    assert await b.got(QUIET_S) is None
    stranger(*where, [good])
    assert await b.got() == ipv4(), "the negative control: with the key it arrives"
    stranger(*where, [good, good])
    assert await b.got(QUIET_S) is None, "but not twice"
    other = frames.Sealer(KEY, session, 10).seal(frames.network_id("public"), ipv4())
    stranger(*where, [other])
    assert await b.got(QUIET_S) is None, "nor in another network"


async def test_a_switch_that_dies_is_replaced_and_goes_on(pair: Pair) -> None:
    a, b = pair
    os.kill(a.way._pid, signal.SIGKILL)
    end = asyncio.get_running_loop().time() + 20
    got = None
    while got is None and asyncio.get_running_loop().time() < end:
        with contextlib.suppress(OSError):
            a.send(ipv4())
        got = await b.got(0.2)
    assert got == ipv4()


def test_a_flood_to_everybody_is_limited_and_what_is_for_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trunk:
        one = switch.Switch(trunk, trunk, KEY, b"s" * 16)
        guest = switch.Guest(trunk, "", 7, PORT, dhcp.answers({"ip": "10.77.0.2"}, 1400))
        one._buckets["port"] = switch.Bucket()
        one._peers[b"sister"] = (("127.0.0.1", 9), frames.Opener(KEY, b"t" * 16))
        one._learned[7, OTHER_MAC] = b"sister"
        carried: list[bytes] = []
        one._carry = lambda id, network, frame: carried.append(frame)  # type: ignore[method-assign]
        flood = BROADCAST + ipv4()[6:]
        for _ in range(20_000):
            one._switch(guest, "port", flood)
        assert len(carried) == switch.FLOOD_BURST
        for _ in range(20_000):
            one._switch(guest, "port", ipv4())
        assert len(carried) == switch.FLOOD_BURST + 20_000


async def test_a_flood_shuts_nobody_out(pair: Pair) -> None:
    a, b = pair
    a.box.setblocking(True)
    for _ in range(20_000):
        a.send(BROADCAST + ipv4()[6:])
    a.box.setblocking(False)
    end, got = time.monotonic() + HANG_S, None
    while got != ipv4():
        assert time.monotonic() < end
        if got is None:  # all of it has come, or nothing yet
            a.send(ipv4())
        got = await b.got(QUIET_S)


def test_what_a_guest_sends_to_everybody_is_counted_by_the_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    bucket = switch.Bucket()
    many = range(100_000)
    assert sum(bucket.take() for _ in many) == switch.FLOOD_BURST
    now[0] += 0.5
    assert sum(bucket.take() for _ in many) == switch.FLOOD_A_SECOND / 2


async def test_a_sister_cannot_speak_as_a_guest_that_lives_here(pair: Pair) -> None:
    a, b = pair
    sealer = frames.Sealer(KEY, bytes.fromhex(a.way.facts()["trunk"]["session"]), time.time_ns())
    where, network = b.way.facts()["trunk"], frames.network_id("private")
    own = b"\xff" * 6 + bytes.fromhex("02570a4d0003") + ipv4()[12:]
    foreign = b"\xff" * 6 + bytes.fromhex("02570a4d0009") + ipv4()[12:]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trunk:
        for frame in (own, foreign):
            trunk.sendto(sealer.seal(network, frame), (where["host"], where["port"]))
    assert await b.got() == foreign, "the negative control, and nothing before it"


def test_what_is_learned_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch, "MOST_LEARNED", 8)
    session = b"t" * 16
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trunk:
        trunk.bind(("127.0.0.1", 0))
        trunk.setblocking(False)
        one = switch.Switch(trunk, trunk, KEY, b"s" * 16)
        one._peers[session[: frames.ID]] = (("127.0.0.1", 9), frames.Opener(KEY, session))
        sealer = frames.Sealer(KEY, session, 1)
        for number in range(20):
            frame = b"\xff" * 6 + bytes([2, 0, 0, 0, 0, number]) + ipv4()[12:]
            trunk.sendto(sealer.seal(7, frame), trunk.getsockname())
            one._from_trunk()
            assert 0 < len(one._learned) <= 8


async def test_what_is_left_of_a_killed_pilot_is_undone_by_its_journal(tmp_path: Path) -> None:
    side = Side(tmp_path / "x", "x")
    await side.way.start()
    await side.plug("10.77.0.2", "02:57:0a:4d:00:02")
    ((key, entry),) = side.journal.entries.items()
    assert key == "nic:v1:0"
    side.way._end()
    user.undo(entry)
    assert not (side.place / "v1.0.sw").exists() and not (side.place / "v1.0.nic").exists()
    user.undo(entry)
    await side.way.close()
    side.box.close()

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
from wspilot.node.network import dhcp, frames, link, switch, user, way
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
        self.nic: socket.socket | None = None
        self.wire: socket.socket | None = None
        self.read = b""

    async def plug(self, ip: str, mac: str, network: str = "private") -> None:
        nic = {"network": network, "mac": mac, "ip": ip, "prefix": 24, "deny": ["169.254.0.0/16"]}
        await self.way.attach("v1", 0, nic)
        await self.listen()

    async def listen(self) -> None:
        """As QEMU does when it starts, also over what one that was killed has left."""
        path = self.place / "v1.0.nic"
        path.unlink(missing_ok=True)
        self.nic = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.nic.bind(str(path))
        self.nic.listen(1)
        self.nic.setblocking(False)
        await self.accept()

    async def accept(self) -> None:
        """The switch has joined."""
        assert self.nic is not None
        joined = asyncio.get_running_loop().sock_accept(self.nic)
        self.wire, self.read = (await asyncio.wait_for(joined, HANG_S))[0], b""
        self.wire.setblocking(False)

    def unplug(self) -> None:
        for one in (self.wire, self.nic):
            if one is not None:
                one.close()

    async def send(self, *several: bytes) -> None:
        assert self.wire is not None
        data = b"".join(len(frame).to_bytes(4, "big") + frame for frame in several)
        await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(self.wire, data), HANG_S)

    async def got(self, limit_s: float = WAIT_S) -> bytes | None:
        assert self.wire is not None
        loop = asyncio.get_running_loop()
        end = loop.time() + limit_s
        while len(self.read) < 4 or len(self.read) < 4 + int.from_bytes(self.read[:4], "big"):
            part = loop.sock_recv(self.wire, 65600)
            try:
                more = await asyncio.wait_for(part, max(0.0, end - loop.time()))
            except asyncio.TimeoutError:
                return None
            assert more, "the switch went"
            self.read += more
        length = 4 + int.from_bytes(self.read[:4], "big")
        frame, self.read = self.read[4:length], self.read[length:]
        return frame


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
            side.unplug()
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


def from_b() -> bytes:
    """What the second guest may say to the first one."""
    return PORT.mac + bytes.fromhex("02570a4d0003") + ipv4("10.77.0.3", "10.77.0.2")[12:]


def numbered(number: int) -> bytes:
    """A full frame."""
    return ipv4()[:34] + number.to_bytes(4, "big") + bytes(1380)


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
        await a.send(BAD[bad])
        await a.send(honest)
        assert await b.got() == honest, "the honest one, and nothing before it"


async def test_without_the_list_they_would_all_reach_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The negative control: nothing but the list holds them back."""
    monkeypatch.setattr(frames, "allowed", lambda frame, port: True)  # the switch is a fork of us
    async with _pair(tmp_path) as (a, b):
        for name, bad in BAD.items():
            await a.send(bad)
            assert await b.got() == bad, name


def test_what_is_for_a_guests_own_door_stays_on_its_node() -> None:
    """QEMU's own network hangs on the guest's hub (vmm/door.py): its answers are nobody else's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trunk:
        one = switch.Switch(trunk, trunk, KEY, b"s" * 16)
        nic = {"ip": "10.77.0.2"}
        guest = switch.Guest("port", link.Link(""), 7, PORT, dhcp.answers(nic, 1400))
        one._buckets["port"] = switch.Bucket()
        one._peers[b"sister"] = (("127.0.0.1", 9), frames.Opener(KEY, b"t" * 16))
        carried: list[bytes] = []
        one._carry = lambda id, network, frame: carried.append(frame)  # type: ignore[method-assign]
        door = bytes.fromhex("52550a4d0001") + ipv4()[6:]
        one._switch(guest, door)
        assert carried == []
        one._switch(guest, ipv4())  # the negative control: unknown, and so for everybody
        assert carried == [ipv4()]


async def test_a_guest_is_told_its_address_and_the_question_stays_here(pair: Pair) -> None:
    a, b = pair
    await a.send(ask(1))
    answer = await a.got()
    assert answer is not None and PORT.ip in answer
    await a.send(ask(3, mine=PORT.ip))
    again = await a.got()
    assert again is not None and again[:6] == PORT.mac and PORT.ip in again, "a renewal too"
    await a.send(ipv4())
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
    await a.send(arp_answer(question))
    await answered(a)
    assert not await a.way.answers("v1"), "an answer counts once"
    await a.send(ipv4())
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
        await a.send(frame)
    await a.send(ipv4())
    assert await b.got() == ipv4(), "all of them were seen"
    assert not await a.way.answers("v1")
    await b.send(arp_answer(question, "02:57:0a:4d:00:03", "10.77.0.3"))
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
    await a.accept()  # the next one has found the guest's cable
    got, end = None, time.monotonic() + HANG_S
    while got is None and time.monotonic() < end:
        await a.send(ipv4())  # until it has been told of its sister again
        got = await b.got(0.2)
    assert got == ipv4()


async def test_a_guest_that_starts_again_is_joined_again(pair: Pair) -> None:
    a, b = pair
    for _ in range(3):
        b.unplug()
        await a.send(ipv4())  # nobody is there
        await b.listen()
        await b.send(from_b())
        assert await a.got() == from_b()
        await a.send(arp())
        while (got := await b.got()) != arp():
            assert got == ipv4()


async def test_a_guest_that_does_not_fetch_loses_whole_frames_and_holds_up_nobody(
    pair: Pair,
) -> None:
    a, b = pair
    await b.send(from_b())
    assert await a.got() == from_b()
    count = 4 * link.MOST_WAITING // 1400
    for number in range(count):
        await a.send(numbered(number))
        if number % 16 == 0:
            await b.send(from_b())
            assert await a.got() == from_b(), "the other way is open"
    came = []
    while (frame := await b.got(QUIET_S)) is not None:
        came.append(int.from_bytes(frame[34:38], "big"))
        assert frame == numbered(came[-1])
    assert came == sorted(came) and link.MOST_WAITING // 1400 < len(came) < count
    await a.send(arp())
    assert await b.got() == arp(), "and it goes on"


async def test_a_cable_that_speaks_nonsense_is_pulled_out_and_put_in_again(pair: Pair) -> None:
    a, b = pair
    assert a.wire is not None
    for nonsense in (b"\xff" * 4, (link.MOST_FRAME + 1).to_bytes(4, "big")):
        a.wire.send(nonsense)
        await a.accept()
        await a.send(ipv4())
        assert await b.got() == ipv4()


async def test_frames_may_come_in_pieces(pair: Pair) -> None:
    a, b = pair
    assert a.wire is not None
    for byte in b"".join(len(one).to_bytes(4, "big") + one for one in (b"", ipv4(), b"x", arp())):
        a.wire.send(bytes([byte]))
    assert await b.got() == ipv4() and await b.got() == arp()


def test_a_flood_to_everybody_is_limited_and_what_is_for_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trunk:
        one = switch.Switch(trunk, trunk, KEY, b"s" * 16)
        guest = switch.Guest(
            "port", link.Link(""), 7, PORT, dhcp.answers({"ip": "10.77.0.2"}, 1400)
        )
        one._buckets["port"] = switch.Bucket()
        one._peers[b"sister"] = (("127.0.0.1", 9), frames.Opener(KEY, b"t" * 16))
        one._learned[7, OTHER_MAC] = b"sister"
        carried: list[bytes] = []
        one._carry = lambda id, network, frame: carried.append(frame)  # type: ignore[method-assign]
        flood = BROADCAST + ipv4()[6:]
        for _ in range(20_000):
            one._switch(guest, flood)
        assert len(carried) == switch.FLOOD_BURST
        for _ in range(20_000):
            one._switch(guest, ipv4())
        assert len(carried) == switch.FLOOD_BURST + 20_000


async def test_a_flood_shuts_nobody_out(pair: Pair) -> None:
    a, b = pair
    for _ in range(200):
        await a.send(*[BROADCAST + ipv4()[6:]] * 100)
    end, got = time.monotonic() + HANG_S, None
    while got != ipv4():
        assert time.monotonic() < end
        if got is None:  # all of it has come, or nothing yet
            await a.send(ipv4())
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


def test_a_vm_that_stands_still_is_not_looked_for_with_every_frame(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now, looks = [100.0], list[float]()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(link.Link, "join", lambda self: bool(looks.append(now[0])))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trunk:
        one = switch.Switch(trunk, trunk, KEY, b"s" * 16)
        nic = {"network": "private", "mac": "02:57:0a:4d:00:02", "ip": "10.77.0.2", "prefix": 24}
        one._attach(str(tmp_path / "nic"), nic, 1400)
        for _ in range(1000):
            now[0] += 0.001
            one._look()
    assert 0.9 < len(looks) * switch.JOIN_S <= 1.1, looks


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
    assert (side.place / "v1.0.nic").exists()
    user.undo(entry)
    assert not (side.place / "v1.0.nic").exists()
    user.undo(entry)
    await side.way.close()
    side.unplug()

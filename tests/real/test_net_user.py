"""The network without rights across two nodes: network namespaces, real guests, an ordinary uid."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.real import usernode
from tests.real.meeting import Meeting, guests_meet, meeting
from tests.real.stranger import Heard, Stranger, stranger
from tests.real.wire import IPV4, ether, udp
from wspilot.node.network import frames

pytestmark = pytest.mark.real


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=20)


@pytest.fixture
def nodes() -> Iterator[list[str]]:
    """Two namespaces joined by a veth pair."""
    names = [f"wsu{os.getpid()}{n}" for n in "ab"]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "wsu0", "netns", names[0], "type", "veth",
           "peer", "name", "wsu0", "netns", names[1])  # fmt: skip
        for number, name in enumerate(names, 1):
            ip("-n", name, "addr", "add", f"192.168.77.{number}/24", "dev", "wsu0")
            ip("-n", name, "link", "set", "wsu0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, timeout=20)


def test_guests_of_two_nodes_reach_each_other_without_any_rights(nodes: list[str]) -> None:
    words = guests_meet("user", [["ip", "netns", "exec", name] for name in nodes])
    assert {one["trunk"]["host"] for one in words.facts} == {"192.168.77.1", "192.168.77.2"}
    for said in words.said:
        assert "5 packets transmitted, 5 packets received, 0% packet loss" in said


HANG_S = 60.0
TRUNK = 8 + frames.SEAL  # where a datagram's counter begins
MACS, IPS = ("02:57:0a:4d:00:02", "02:57:0a:4d:00:03"), ("10.77.0.2", "10.77.0.3")
TO_GUEST = udp(MACS[1], MACS[0], IPS, (5000, 7777), b"from a stranger")


def stamp() -> bytes:
    """A question that the guest counts apart (ICMP's timestamp): what came before it has come."""
    body = struct.pack("!BBHHHIII", 13, 0, 0, 0, 0, 0, 0, 0)
    body = body[:2] + struct.pack("!H", 0xFFFF - (13 << 8)) + body[4:]
    packet = bytearray(udp(MACS[1], MACS[0], IPS, (0, 0), b"x" * 12)[14:34] + body)
    packet[9] = 1  # ICMP in the place of UDP, and the header's sum follows
    packet[10:12] = struct.pack("!H", int.from_bytes(packet[10:12], "big") + 16)
    return ether(MACS[1], MACS[0], IPV4, bytes(packet))


class Trunk:
    """The way from the first node to the second one, as one sees it who has the key."""

    def __init__(self, met: Meeting, heard: list[Heard]) -> None:
        mine, self.theirs = (one["trunk"] for one in met.facts)
        self.to = str(self.theirs["host"]), int(self.theirs["port"])
        self.hear(met, heard)
        newest = max(int.from_bytes(one[TRUNK : TRUNK + 8], "big") for one in self.carried)
        key, session = bytes.fromhex(usernode.KEY), bytes.fromhex(mine["session"])
        # within the window of what was heard, so that a replay is refused for having been seen
        self.rightful = frames.Sealer(key, session, newest + frames.WINDOW // 2)
        self.network = frames.network_id("private")
        self.strange = [
            frames.Sealer(b"x" * 32, session, newest + 1).seal(self.network, TO_GUEST),
            frames.Sealer(key, b"x" * 16, newest + 1).seal(self.network, TO_GUEST),
        ]
        self._met, self._stamps = met, 0

    def hear(self, met: Meeting, heard: list[Heard]) -> None:
        """What has gone over the trunk by now, in either direction."""
        mine = met.facts[0]["trunk"]
        back = mine["host"], mine["port"]
        self.carried = [one.data for one in heard if (one.host, one.port) == self.to]
        self.back = [one.data for one in heard if (one.host, one.port) == back]

    def forged(self) -> list[bytes]:
        """What somebody can make of what he has heard: nothing of it may arrive."""
        bent = []
        for one in self.carried:
            where = (0, 8, TRUNK + 7, TRUNK + 11, len(one) - 1)  # id, seal, counter, network, frame
            bent += [one[:at] + bytes([one[at] ^ 1]) + one[at + 1 :] for at in where]
            bent += [one[:-1], one + b"x", one[: TRUNK + frames.HEADER.size] + TO_GUEST]
        return [TO_GUEST, b"", bytes(100), *self.strange, *bent]

    def counted(self, who: Stranger) -> dict[str, int]:
        """What the guest has counted once it has seen our next stamp, which has the seal."""
        self._stamps += 1
        who.send(*self.to, [self.rightful.seal(self.network, stamp())])
        while True:
            words = self._met.next_said(1).split()
            found = dict(zip(words[::2], map(int, words[1::2])))
            if found["stamps"] >= self._stamps:
                return found


def test_what_another_user_sends_into_a_trunk_reaches_no_guest(nodes: list[str]) -> None:
    with stranger(nodes[0], "wsu0") as here, stranger(nodes[1], "wsu0") as there:
        argv = [["ip", "netns", "exec", name] for name in nodes]
        with meeting("user", argv) as met:
            trunk = Trunk(met, here.send("127.0.0.1", 9, []))
            told = [one[TRUNK + frames.HEADER.size :] for one in trunk.carried]
            to_7777 = [one for one in told if one[23] == 17 and one[36:38] == b"\x1e\x61"]
            assert len(trunk.carried) > 10 and len(trunk.back) > 10
            before = trunk.counted(here)
            assert before["udp"] == len(to_7777) > 0, "from its rightful sender it did arrive"
            assert before["pings"] >= 5 and before["replies"] >= 5
            for who in (here, there):
                for bad in (trunk.forged(), trunk.carried, trunk.back):
                    who.send(*trunk.to, bad)
                    after = trunk.counted(who)
                    assert {**after, "stamps": 0} == {**before, "stamps": 0}
            good = trunk.rightful.seal(trunk.network, TO_GUEST)
            here.send(*trunk.to, [good])
            assert trunk.counted(here)["udp"] == before["udp"] + 1, "the control: with the key"
            there.send(*trunk.to, [good] * 3)
            here.send(*trunk.to, [good] * 3)
            assert trunk.counted(here)["udp"] == before["udp"] + 1, "but not twice"


def switch_of(node: subprocess.Popen[str]) -> int:
    argv = ["pgrep", "-P", str(node.pid), "-f", "wspilot-switch slot="]
    return int(subprocess.run(argv, capture_output=True, check=True, timeout=20).stdout)


def test_a_guest_is_reached_again_when_its_switch_was_killed(nodes: list[str]) -> None:
    with stranger(nodes[0], "wsu0") as here:
        with meeting("user", [["ip", "netns", "exec", name] for name in nodes]) as met:
            trunk = Trunk(met, here.send("127.0.0.1", 9, []))

            def replies(asked: list[bytes]) -> int:
                """How often the guest has answered a stamp, the way back over the trunk."""
                trunk.hear(met, here.send(*trunk.to, asked))
                told = [one[TRUNK + frames.HEADER.size :] for one in trunk.back]
                return sum(one[23] == 1 and one[34] == 14 for one in told)

            for _ in range(2):
                os.kill(switch_of(met.nodes[1]), signal.SIGKILL)
                before, end = replies([]), time.monotonic() + HANG_S
                while replies([trunk.rightful.seal(trunk.network, stamp())]) == before:
                    assert time.monotonic() < end
                    time.sleep(0.2)

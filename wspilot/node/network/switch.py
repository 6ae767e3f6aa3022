"""The switch of a node's rootless networks: a process of its own, since it moves every frame.

Guests on a stream each (`link.py`), the sister nodes on one UDP socket. It trusts no guest
(`frames.allowed`) and no stranger on the wire (`frames.Opener`). Local MACs are known, not learned;
those behind the trunk are learned from sealed frames alone, in a table that is bounded. Told what
to do by JSON lines on a pipe; at the pipe's end it ends.
"""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Mapping
from typing import Any, Optional, Union

from wspilot.node.network import dhcp, frames
from wspilot.node.network.link import Link
from wspilot.node.values import dataclass

BUFFER = 4 << 20
ROUND = 32  # datagrams before the guests have their turn
JOIN_S = 0.03  # between two looks whether a guest's QEMU listens
MOST_LEARNED = 8192
SLIRP = b"\x52\x55"  # how MACs of QEMU's own network begin: a guest's own door (vmm/door.py)
FLOOD_A_SECOND, FLOOD_BURST = 2000.0, 4000.0  # frames of one guest that go to everybody
MOST_LINE = 1 << 20

Address = tuple[str, int]


@dataclass(frozen=True)
class Guest:
    """One guest's port: its cable, and what it is pinned to."""

    name: str
    link: Link
    network: int
    port: frames.Port
    told: dhcp.Answers


class Bucket:
    """How many frames a guest may still send to everybody."""

    def __init__(self) -> None:
        self._left, self._at = FLOOD_BURST, time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        self._left = min(FLOOD_BURST, self._left + (now - self._at) * FLOOD_A_SECOND)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Switch:
    """Runs until its pilot closes the pipe."""

    def __init__(
        self, pipe: socket.socket, trunk: socket.socket, key: bytes, session: bytes
    ) -> None:
        self._pipe, self._trunk, self._key = pipe, trunk, key
        self._sealer = frames.Sealer(key, session, time.time_ns())
        self._session = session
        self._guests: dict[str, Guest] = {}
        self._buckets: dict[str, Bucket] = {}
        self._local: dict[tuple[int, bytes], Guest] = {}
        self._peers: dict[bytes, tuple[Address, frames.Opener]] = {}
        self._learned: dict[tuple[int, bytes], bytes] = {}
        self._answered: set[str] = set()  # guests' ports, since they were last asked
        self._loose: dict[str, Guest] = {}  # whose QEMU does not listen: not yet, or while stopped
        self._look_at = 0.0  # when to look again whether one does
        self._given: set[str] = set()  # ports with frames to be flushed
        self._selector = selectors.DefaultSelector()
        self._line = b""

    def run(self) -> None:
        """The whole life of the process."""
        for one in (self._pipe, self._trunk):
            one.setblocking(False)
        self._selector.register(self._pipe, selectors.EVENT_READ, "pipe")
        self._selector.register(self._trunk, selectors.EVENT_READ, "trunk")
        while True:
            for key, events in self._selector.select(JOIN_S if self._loose else None):
                if key.data == "pipe":
                    if not self._told():
                        return
                elif key.data == "trunk":
                    self._from_trunk()
                elif events & selectors.EVENT_READ:
                    self._from_guest(key.data)
                else:
                    self._given.add(key.data)
            for name in self._given:
                self._flush(name)
            self._given.clear()
            self._look()

    # -- the guests' cables

    def _look(self) -> None:
        """Whether those listen that did not: not at every turn, for a stopped VM's port stays."""
        now = time.monotonic()
        if self._loose and now >= self._look_at:
            self._look_at = now + JOIN_S
            for name in list(self._loose):
                self._join(name)

    def _join(self, name: str) -> None:
        guest = self._loose[name]
        if guest.link.join():
            del self._loose[name]
            assert guest.link.socket is not None
            self._selector.register(guest.link.socket, selectors.EVENT_READ, name)

    def _part(self, guest: Guest) -> None:
        if guest.link.socket is not None:
            self._selector.unregister(guest.link.socket)
        guest.link.part()
        self._loose[guest.name] = guest

    def _flush(self, name: str) -> None:
        guest = self._guests.get(name)
        if guest is None or guest.link.socket is None:
            return
        try:
            gone = guest.link.flush()
        except EOFError:
            self._part(guest)
            return
        events = selectors.EVENT_READ | (0 if gone else selectors.EVENT_WRITE)
        if self._selector.get_key(guest.link.socket).events != events:
            self._selector.modify(guest.link.socket, events, name)

    # -- what the pilot says

    def _told(self) -> bool:
        try:
            data = self._pipe.recv(1 << 16)
        except BlockingIOError:
            return True
        if not data or len(self._line) > MOST_LINE:
            return False
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            words = json.loads(line)
            try:
                answer = self._obey(words)
            except (OSError, ValueError, KeyError, TypeError) as error:
                answer = {"error": str(error)}
            self._pipe.setblocking(True)
            self._pipe.sendall(json.dumps(answer).encode() + b"\n")
            self._pipe.setblocking(False)
        return True

    def _obey(self, words: Mapping[str, Any]) -> Mapping[str, Any]:
        if "attach" in words:
            self._attach(**words["attach"])
        elif "detach" in words:
            self._detach(str(words["detach"]))
        elif "ask" in words:
            return {"answered": self._ask(str(words["ask"]))}
        elif "peers" in words:
            self._meet(words["peers"])
        return {}

    def _ask(self, name: str) -> bool:
        """Has the guest answered since it was last asked? It is asked again."""
        guest, answered = self._guests[name], name in self._answered
        self._answered.discard(name)
        self._give(guest, frames.question(guest.port, dhcp.SERVER_MAC, guest.told.server))
        return answered

    def _attach(self, name: str, nic: Mapping[str, Any], mtu: int) -> None:
        """`name` is where its QEMU will listen."""
        self._detach(name)
        port = frames.port(nic["mac"], nic["ip"], nic.get("deny", ()))
        network = frames.network_id(str(nic["network"]))
        guest = Guest(name, Link(name), network, port, dhcp.answers(nic, mtu))
        self._guests[name], self._buckets[name] = guest, Bucket()
        self._local[network, port.mac] = guest
        self._loose[name] = guest

    def _detach(self, name: str) -> None:
        guest = self._guests.pop(name, None)
        if guest is not None:
            self._part(guest)
            del self._loose[name], self._buckets[name]
            self._answered.discard(name)
            self._local.pop((guest.network, guest.port.mac), None)

    def _meet(self, peers: Mapping[str, Any]) -> None:
        """The sisters as they are now; one that is known keeps its window."""
        now: dict[bytes, tuple[Address, frames.Opener]] = {}
        for one in peers.values():
            session = bytes.fromhex(str(one["session"]))
            if session != self._session:
                address = (str(one["host"]), int(one["port"]))
                known = self._peers.get(session[: frames.ID])
                opener = known[1] if known else frames.Opener(self._key, session)
                now[session[: frames.ID]] = (address, opener)
        self._peers = now
        self._learned.clear()

    # -- frames

    def _from_guest(self, name: str) -> None:
        guest = self._guests.get(name)
        if guest is None or guest.link.socket is None:
            return
        try:
            taken = guest.link.take()
        except EOFError:
            self._part(guest)
            return
        for frame in taken:
            if frames.allowed(frame, guest.port):
                self._switch(guest, frame)
            elif frames.is_dhcp(frame, guest.port):
                answer = dhcp.reply(frame, guest.port, guest.told)
                if answer is not None:
                    self._give(guest, answer)

    def _switch(self, guest: Guest, frame: bytes) -> None:
        if frame[:2] == SLIRP:
            return
        if frame[:6] == dhcp.SERVER_MAC:  # to us
            if frames.is_answer(frame, guest.port):
                self._answered.add(guest.name)
            return
        where = None if frame[0] & 1 else self._find(guest.network, frame[:6])
        if isinstance(where, Guest):
            if where is not guest:
                self._give(where, frame)
        elif where is not None:
            self._carry(where, guest.network, frame)
        elif self._buckets[guest.name].take():
            self._to_all_here(guest.network, frame, guest)
            for id in self._peers:
                self._carry(id, guest.network, frame)

    def _find(self, network: int, mac: bytes) -> Optional[Union[Guest, bytes]]:
        return self._local.get((network, mac)) or self._learned.get((network, mac))

    def _from_trunk(self) -> None:
        for _ in range(ROUND):
            try:
                data = self._trunk.recv(65600)
            except OSError:
                return
            id = data[: frames.ID]
            peer = self._peers.get(id)
            opened = peer[1].open(data) if peer else None
            if opened is None:
                continue
            network, frame = opened
            source = (network, frame[6:12])
            if source in self._local:
                continue  # our own guest's MAC does not live elsewhere
            if self._learned.get(source) != id:
                if len(self._learned) >= MOST_LEARNED:
                    self._learned.clear()
                self._learned[source] = id
            target = None if frame[0] & 1 else self._local.get((network, frame[:6]))
            if target is not None:
                self._give(target, frame)
            elif frame[0] & 1:
                self._to_all_here(network, frame, None)

    def _to_all_here(self, network: int, frame: bytes, but: Optional[Guest]) -> None:
        for guest in self._guests.values():
            if guest is not but and guest.network == network:
                self._give(guest, frame)

    def _give(self, guest: Guest, frame: bytes) -> None:
        guest.link.put(frame)
        self._given.add(guest.name)

    def _carry(self, id: bytes, network: int, frame: bytes) -> None:
        peer = self._peers.get(id)
        if peer is not None:
            try:
                self._trunk.sendto(self._sealer.seal(network, frame), peer[0])
            except OSError:
                pass  # an Ethernet drops frames

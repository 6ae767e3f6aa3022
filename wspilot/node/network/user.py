"""The way `user`: a private network among a workspace's VMs across nodes, without any rights.

This is the pilot's end of the switch (`switch.py`): it opens the trunk before anything else, so
that its port can be told in `started`, starts the switch again when it dies, and speaks to it in
lines. Sealed frames are authenticated, not encrypted (DESIGN.md section 7).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import secrets
import signal
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from wspilot.errors import TimedOut, WspilotError
from wspilot.node import forks
from wspilot.node.network import way
from wspilot.node.network.frames import MTU
from wspilot.node.network.switch import BUFFER, Switch
from wspilot.node.proc import now
from wspilot.node.vmm.door import HUB, hubbed

ANSWER_S = 5.0
AGAIN_S = 1.0  # between two switches that die at once
_SIOCGIFADDR = 0x8915


class User:
    """Implements `Way`."""

    def __init__(self, ground: way.Ground) -> None:
        self._ground = ground
        self._key = bytes.fromhex(ground.settings.workspace_key)
        self._session = secrets.token_bytes(16)
        self._host = own_address()
        self._trunk = _open_trunk(self._host)
        self._ports: dict[str, Mapping[str, Any]] = {}  # QEMU's socket -> its `attach`
        self._vms: dict[str, list[tuple[int, str]]] = {}
        self._peers: Mapping[str, Any] = {}
        self._pid, self._born = 0, 0.0
        self._pipe: Optional[socket.socket] = None
        self._turn = asyncio.Lock()
        self._watching: Optional[asyncio.Future[None]] = None

    def facts(self) -> Mapping[str, Any]:
        """Where sisters reach this node's trunk, and by which session its frames are known."""
        port = self._trunk.getsockname()[1]
        return {"trunk": {"host": self._host, "port": port, "session": self._session.hex()}}

    async def start(self) -> None:
        """See `Way`."""
        self._fork()
        self._watching = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        """A switch that died without being asked for anything is replaced too."""
        while True:
            await asyncio.sleep(AGAIN_S)
            async with self._turn:
                if self._pid and os.waitpid(self._pid, os.WNOHANG)[0]:  # noqa: ASYNC222 (WNOHANG)
                    self._pid = 0
                    with contextlib.suppress(OSError, EOFError, WspilotError):
                        await self._again()

    async def attach(self, vm: str, number: int, nic: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `Way`. Some 2 ms."""
        path = str(self._ground.rundir / f"{vm}.{number}.nic")
        entry = {"way": "user", "files": [path]}
        self._ground.journal.intend(way.key(vm, number), entry)
        self._vms.setdefault(vm, []).append((number, path))
        words = {"name": path, "nic": dict(nic), "mtu": MTU}
        self._ports[path] = words
        await self._ask({"attach": words})
        listens = f"stream,id=net{number},server=on,addr.type=unix,addr.path={path}"
        netdevs = hubbed(number, [listens])
        return {**nic, "mtu": MTU, "netdev": netdevs, HUB: True}

    async def detach(self, vm: str) -> None:
        """See `Way`."""
        for number, path in self._vms.pop(vm, []):
            self._ports.pop(path, None)
            with contextlib.suppress(WspilotError):
                await self._ask({"detach": path})
            entry = self._ground.journal.entries.get(way.key(vm, number))
            if entry is not None:
                undo(entry)
                self._ground.journal.settle(way.key(vm, number))

    async def answers(self, vm: str) -> bool:
        """See `Way`. The switch asks by ARP."""
        told = [await self._ask({"ask": path}) for _, path in self._vms.get(vm, ())]
        return any(one.get("answered") for one in told)

    async def peers(self, peers: Mapping[str, Any]) -> None:
        """See `Way`."""
        self._peers = {
            node: one["trunk"]
            for node, one in peers.items()
            if isinstance(one, Mapping) and isinstance(one.get("trunk"), Mapping)
        }
        await self._ask({"peers": self._peers})

    async def close(self) -> None:
        """See `Way`."""
        for vm in list(self._vms):
            await self.detach(vm)
        if self._watching is not None:
            self._watching.cancel()
        self._end()
        self._trunk.close()

    # -- the process

    def _fork(self) -> None:
        ours, theirs = socket.socketpair()
        trunk, key, session, parent = self._trunk, self._key, self._session, os.getpid()

        def main() -> None:
            forks.die_with(parent)
            Switch(theirs, trunk, key, session).run()

        title = f"wspilot-switch slot={self._ground.settings.slot}"
        try:
            self._pid = forks.fork(main, [theirs.fileno(), trunk.fileno()], title)
        except OSError as error:
            ours.close()
            raise WspilotError(f"the network's switch cannot be started: {error}") from error
        finally:
            theirs.close()
        ours.setblocking(False)
        self._pipe, self._born = ours, now()

    async def _ask(self, words: Mapping[str, Any]) -> Mapping[str, Any]:
        """Tell the switch, and wait for its answer; a dead one is replaced. Raises WspilotError."""
        async with self._turn:
            for last in (False, True):
                try:
                    return await asyncio.wait_for(self._exchange(words), ANSWER_S)
                except (OSError, EOFError) as error:
                    if last:
                        raise WspilotError(f"the network's switch died: {error}") from error
                    await self._again()
                except asyncio.TimeoutError:
                    self._end()
                    raise TimedOut("the network's switch does not answer") from None
        raise AssertionError("unreachable")

    async def _again(self) -> None:
        """Another switch, with every port and peer of the one that died."""
        self._end()
        await asyncio.sleep(max(0.0, self._born + AGAIN_S - now()))
        self._fork()
        for words in self._ports.values():
            await self._exchange({"attach": words})
        await self._exchange({"peers": self._peers})

    async def _exchange(self, words: Mapping[str, Any]) -> Mapping[str, Any]:
        pipe, loop = self._pipe, asyncio.get_running_loop()
        if pipe is None:
            raise EOFError("it is not there")
        await loop.sock_sendall(pipe, json.dumps(words).encode() + b"\n")
        line = b""
        while not line.endswith(b"\n"):
            part = await loop.sock_recv(pipe, 1 << 16)
            if not part:
                raise EOFError("it ended")
            line += part
        told: Mapping[str, Any] = json.loads(line)
        if told.get("error"):
            raise WspilotError(f"the network's switch refuses: {told['error']}")
        return told

    def _end(self) -> None:
        """Kill and reap it: our own child, so the pid cannot be anybody else's."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        if self._pid:
            with contextlib.suppress(OSError):
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
            self._pid = 0


def undo(entry: Mapping[str, Any]) -> str:
    """The sockets' files (QEMU made them); the switch itself ended with its pilot."""
    for name in entry.get("files", ()):
        Path(str(name)).unlink(missing_ok=True)
    return ""


def _open_trunk(host: str) -> socket.socket:
    trunk = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        trunk.setsockopt(socket.SOL_SOCKET, option, BUFFER)
    trunk.bind((host, 0))
    return trunk


def own_address() -> str:
    """This host's IPv4 address as its sisters see it: that of the default route, else the first
    interface's, else loopback. No name is looked up: that may hang."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # no packet is sent
            return str(probe.getsockname()[0])
        except OSError as error:
            if error.errno not in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES):
                raise
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            with contextlib.suppress(OSError):
                address = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)[20:24]
                if address[0] != 127:
                    return socket.inet_ntoa(address)
    return "127.0.0.1"

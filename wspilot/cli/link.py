"""A client's end of a pilot's live channel: one connection, one wish. Blocking, no asyncio.

The key is read from the slot's directory at the last moment and goes nowhere else.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wspilot import channel
from wspilot.client import call
from wspilot.errors import NotFound, Refused, WspilotError
from wspilot.text import clean

CONNECT_S = 5.0
ANSWER_S = 15.0  # a guest's port is connected to before it is given
CHUNK = 1 << 15


class Link:
    """Frames both ways. Raises OSError, or BadChannel for what is not the pilot's."""

    def __init__(self, link: socket.socket, parley: channel.Parley) -> None:
        self._link = link
        self._sealer, self._opener = parley.sealer(server=False), parley.opener(server=False)

    def fileno(self) -> int:
        """For select."""
        return self._link.fileno()

    def send(self, kind: int, payload: bytes = b"") -> None:
        """Waits while the pilot does not read."""
        for at in range(0, max(1, len(payload)), CHUNK):
            self._link.sendall(self._sealer.seal(kind, payload[at : at + CHUNK]))

    def seal(self, payload: bytes) -> bytes:
        """Bytes for `send_some`, in this order only."""
        return self._sealer.seal(channel.DATA, payload)

    def send_some(self, raw: bytes) -> int:
        """How many sealed bytes went out; never waits."""
        try:
            return self._link.send(raw, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def receive(self) -> list[tuple[int, bytes]]:
        """What has come; waits for something. Raises EOFError at the end."""
        data = self._link.recv(CHUNK)
        if not data:
            raise EOFError
        return self._opener.feed(data)

    def close(self) -> None:
        """The end."""
        self._link.close()


def reach(home: Path, vm: str) -> dict[str, Any]:
    """Where a VM's console and ports are. Raises the daemon's WspilotError."""
    found: dict[str, Any] = call(home, "reach", {"id": vm})["reach"]
    return found


def open_link(
    where: Mapping[str, Any], wish: Mapping[str, Any]
) -> tuple[Link, Mapping[str, Any], list[tuple[int, bytes]]]:
    """(connection, the pilot's answer, what came with it). Raises WspilotError in words."""
    key = _key(Path(where["key"]))
    try:
        link = socket.create_connection((where["host"], where["port"]), CONNECT_S)
    except OSError as error:
        raise _no_way(where, error) from None
    try:
        link.settimeout(ANSWER_S)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        server = channel.read_greeting(_line(link))
        parley = channel.Parley(key, where["pilot"], server, channel.nonce())
        link.sendall(parley.hello())
        parley.check_welcome(_line(link))
        made = Link(link, parley)
        made.send(channel.ASK, json.dumps(dict(wish)).encode())
        frames: list[tuple[int, bytes]] = []
        while not frames:
            frames = made.receive()
        answer = channel.words(frames[0][1])
        link.settimeout(None)
    except (OSError, EOFError, channel.BadChannel) as error:
        link.close()
        raise _no_way(where, error) from None
    if answer.get("error"):
        link.close()
        raise Refused(f"{where['name']}: {clean(str(answer['error']), 400)}")
    return made, answer, frames[1:]


def _line(link: socket.socket) -> bytes:
    """One line of the handshake, byte by byte: what follows are frames."""
    line = b""
    while not line.endswith(b"\n") and len(line) < channel.LINE_MAX:
        part = link.recv(1)
        if not part:
            raise EOFError
        line += part
    return line


def _key(path: Path) -> bytes:
    try:
        return bytes.fromhex(path.read_text("ascii"))
    except FileNotFoundError:
        raise NotFound(f"{path} is not there: the lease has ended", "wspilot list") from None
    except (OSError, ValueError) as error:
        raise WspilotError(
            f"{path} cannot be read here: {clean(str(error), 200)}",
            "go to the daemon's host: the key lies in its spool",
        ) from None


def _no_way(where: Mapping[str, Any], error: BaseException) -> WspilotError:
    """People forward the control socket to other machines, where no node can be reached."""
    why = getattr(error, "strerror", "") or str(error) or "it hung up"
    return WspilotError(
        f"node {where['node']} cannot be reached at {where['host']}:{where['port']}: "
        f"{clean(str(why), 200)}",
        "console and ssh connect to the node itself: go to a host that has a way to it (the "
        "daemon's), or set [site] live_network and live_ports to what the firewall lets through",
    )

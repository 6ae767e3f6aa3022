"""Another user on a node: may hear the site's wire and send to any port, and has no key."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

UID = 65533  # neither root nor whose pilots run
LIMIT_S = 30.0
_CAPS = "-all,+net_raw"  # what a sniffer needs, and nothing else
_CODE = """
import json, select, socket, sys, time
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.bind((sys.argv[1], 0))
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
heard = []
print("listening", flush=True)
while True:
    ready = select.select([wire, sys.stdin], [], [])[0]
    if wire in ready:
        frame = wire.recv(65600)
        if frame[12:14] == b"\\x08\\0" and frame[14] == 0x45 and frame[23] == 17:
            host = socket.inet_ntoa(frame[30:34])
            end = 34 + int.from_bytes(frame[38:40], "big")
            heard.append([host, int.from_bytes(frame[36:38], "big"), frame[42:end].hex()])
    elif sys.stdin in ready:
        words = json.loads(sys.stdin.readline() or "null")
        if words is None:
            break
        for host, port, data in words:
            out.sendto(bytes.fromhex(data), (host, port))
            time.sleep(0.0005)  # what its buffer has no room for proves nothing
        print(json.dumps(heard), flush=True)
"""


@dataclass(frozen=True)
class Heard:
    """One UDP datagram on the wire, and where it went."""

    host: str
    port: int
    data: bytes


class Stranger:
    """See `stranger`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert self._line() == "listening\n"

    def send(self, host: str, port: int, datagrams: Sequence[bytes]) -> list[Heard]:
        """Send these; what has been heard so far, the oldest first."""
        assert self._process.stdin is not None
        words = [(host, port, one.hex()) for one in datagrams]
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return [Heard(*ends, bytes.fromhex(data)) for *ends, data in json.loads(self._line())]

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the stranger ended"
        return line


@contextlib.contextmanager
def stranger(node: str, device: str) -> Iterator[Stranger]:
    """In a network namespace; heard from now on is what passes `device`."""
    argv = ["ip", "netns", "exec", node,
            "setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups",
            f"--inh-caps={_CAPS}", f"--ambient-caps={_CAPS}", f"--bounding-set={_CAPS}", "--",
            "/usr/bin/python3", "-I", "-c", _CODE, device]  # fmt: skip
    with subprocess.Popen(argv, stdin=-1, stdout=-1, text=True) as process:
        try:
            yield Stranger(process)
        finally:
            process.kill()

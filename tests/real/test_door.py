"""A guest's door on a real QEMU that is busy: what its kernel took for it is not hung up on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from wspilot.errors import WspilotError
from wspilot.node.vmm.door import HUB, Door

pytestmark = pytest.mark.real
NIC = {"ip": "10.77.0.2", "prefix": 16, HUB: True}
ROUNDS = 150  # 12 of them were hung up on
LIMIT_S = 60.0


class Qemu:
    """Without a guest; from `info usernet` to the next command it is stopped, as when its loop has
    other work: connection and command then wait for it side by side."""

    def __init__(self, place: Path) -> None:
        self._socket, self._stopped = place / "qmp", False
        argv = ["qemu-system-x86_64", "-S", "-nodefaults", "-display", "none", "-M", "q35"]
        argv += ["-m", "64", "-netdev", "hubport,id=net0,hubid=0"]
        argv += ["-device", "virtio-net-pci,netdev=net0"]
        argv += ["-qmp", f"unix:{self._socket},server=on,wait=off"]
        self.process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)

    async def connect(self) -> None:
        while not self._socket.exists():  # noqa: ASYNC110 (QEMU makes it)
            await asyncio.sleep(0.05)
        self._reader, self._writer = await asyncio.open_unix_connection(self._socket)
        await self._reader.readline()
        await self.do("qmp_capabilities", {})

    async def do(self, command: str, data: Mapping[str, Any]) -> Any:
        words = {"execute": command, "arguments": dict(data)}
        self._writer.write(json.dumps(words).encode() + b"\n")
        if self._stopped:
            await asyncio.sleep(0.002)  # both are there
            self.process.send_signal(signal.SIGCONT)
            self._stopped = False
        while True:
            said = json.loads(await self._reader.readline())
            if "error" in said:
                raise WspilotError(said["error"]["desc"])
            if "return" in said:
                break
        if data.get("command-line") == "info usernet":
            self.process.send_signal(signal.SIGSTOP)
            self._stopped = True
        return said["return"]


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[Qemu]:
    one = Qemu(tmp_path)
    yield one
    one.process.kill()
    one.process.wait(20)


async def test_nobody_is_hung_up_on_because_qemu_is_busy(qemu: Qemu) -> None:
    async def rounds() -> int:
        await qemu.connect()
        lost = 0
        for _ in range(ROUNDS):
            link, leave = await Door(qemu.do, (NIC,)).dial(22)
            await asyncio.sleep(0.01)
            try:
                lost += not os.read(link.fileno(), 1)
            except BlockingIOError:
                pass  # it stands: there is no guest that could say anything
            except ConnectionResetError:
                lost += 1
            await leave()
            link.close()
        return lost

    assert await asyncio.wait_for(rounds(), LIMIT_S) == 0

"""A stock Debian guest with cloud-init: it takes our seed, and is reached by ssh with the host key
that was made before it booted."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.real import cloud_image
from wspilot.daemon import hostkeys
from wspilot.guest import default_cache
from wspilot.node.context import make_seed
from wspilot.node.vmm.base import VmEvent, parse_spec
from wspilot.node.vmm.qemu import Qemu

pytestmark = pytest.mark.real
BOOT_S = 420.0  # 100 s under TCG on a quiet machine
SCRIPT = """#!/bin/sh
echo "$(hostname) knows $(getent hosts se-1 | cut -d' ' -f1) and $(cat /etc/wspilot/roles | xargs)"
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def test_a_stock_guest_takes_its_seed_and_is_reached_by_its_known_key(tmp_path: Path) -> None:
    image = await asyncio.to_thread(cloud_image.build, default_cache())
    hostkeys.make(tmp_path, {"v1": "ce-1"})
    public = hostkeys.public(tmp_path.parent, [tmp_path.name])["v1"]
    user = tmp_path / "id"
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(user))
    port = free_port()
    nic = {"network": "private", "mac": "02:57:0a:00:02:0f", "ip": "10.0.2.15", "prefix": 24}
    way = f"user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:22"
    data: dict[str, Any] = {
        "id": "v1", "name": "osg/ce/1", "uuid": str(uuid.uuid4()), "cpus": 2, "memory_mib": 512,
        "image": image, "nics": [{**nic, "netdev": [way]}], "host": "ce-1", "user_data": SCRIPT,
        "host_key": hostkeys.private(tmp_path, "v1"),
    }  # fmt: skip
    members = [
        {"host": "ce-1", "networks": ["private"], "ips": ["10.0.2.15"], "provides": ["ce"],
         "host_key": public},
        {"host": "se-1", "networks": ["private"], "ips": ["10.0.2.77"], "provides": ["se"]},
    ]  # fmt: skip
    picture = {"members": members, "keys": [user.with_suffix(".pub").read_text().strip()]}
    make_seed(tmp_path / "seed", data, picture)
    said: list[VmEvent] = []
    vmm = Qemu()
    spec = replace(parse_spec(data), seed=str(tmp_path / "seed"))
    try:
        await vmm.create(spec, tmp_path, tmp_path / "console", said.append)
        end = time.monotonic() + BOOT_S
        while not {"said", "error", "exited"} & {one.kind.value for one in said}:
            assert time.monotonic() < end, (tmp_path / "console").read_text(errors="replace")[
                -4000:
            ]
            await asyncio.sleep(0.5)
        assert [one.kind.value for one in said] == ["started", "booting", "ready", "said"]
        assert said[-1].text == "ce-1 knows 10.0.2.77 and ce ce-1 se se-1"

        known = tmp_path / "known_hosts"
        known.write_text(f"[127.0.0.1]:{port} {public}\n")
        ssh = ["ssh", "-F", "none", "-i", str(user), "-p", str(port), "-o", "BatchMode=yes",
               "-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={known}",
               "-o", "ConnectTimeout=30", "debian@127.0.0.1"]  # fmt: skip
        look = "hostname; cat /etc/wspilot/nodefile /etc/hosts"
        told = await asyncio.to_thread(_run, *ssh, look)
        assert told.splitlines()[:3] == ["ce-1", "ce-1", "se-1"] and "10.0.2.77 se-1" in told
        # The negative control: another host key is not believed.
        known.write_text(f"[127.0.0.1]:{port} {user.with_suffix('.pub').read_text()}")
        with pytest.raises(subprocess.CalledProcessError):
            await asyncio.to_thread(_run, *ssh, "true")
    finally:
        await vmm.close()
    left = [path.name for path in tmp_path.iterdir() if path.suffix in (".qmp", ".qcow2")]
    assert left == []


def _run(*argv: str) -> str:
    env = {key: value for key, value in os.environ.items() if key != "SSH_AUTH_SOCK"}
    return subprocess.run(argv, env=env, check=True, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=120).stdout  # fmt: skip

"""Whole leases on a node's bridge: the members meet, and nothing of them is left on the node."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.bridgelab import Node, Site
from tests.real.lab import Lab
from wspilot.guest import build_guest, default_cache

pytestmark = pytest.mark.real
WAY = 'way = "bridge"\nbridge = "wbr"\ngateway = "10.77.0.254"'
ENSEMBLE = """\
[workspace]
name = "{name}"
duration = "10m"
[[group]]
name = "w"
count = 2
type = "small"
nics = ["private"]
roles = {{ provides = ["worker"], requires = ["worker"] }}
user_data = '''#!/bin/sh
for h in $(cat /etc/wspilot/nodefile); do
  n=0
  until ping -c 1 -W 1 $h >/dev/null; do n=$((n+1)); [ $n -gt 40 ] && exit 1; sleep 1; done
done
ping -c 1 -W 5 10.77.0.254 >/dev/null || {{ echo "the gateway is not reached"; exit 1; }}
for h in 192.168.77.1 192.168.77.9; do  # the headnode, and what node.conf denies
  ping -c 1 -W 1 $h >/dev/null && echo "reached $h, which is denied" && exit 1
done
echo "$(hostname) met all"
'''
"""
UNDONE_S = 20.0


@pytest.fixture
def node() -> Iterator[Node]:
    with Site(1) as site:
        [one] = site.nodes
        one.run("ip", "address", "add", "10.77.0.254/24", "dev", "wbr")  # the guests' gateway
        one.run("ip", "address", "add", "192.168.77.9/24", "dev", "wbr")  # which node.conf denies
        yield one


@pytest.fixture
def lab(node: Node, tmp_path: Path) -> Iterator[Lab]:
    guest = build_guest(default_cache() / "guest", default_cache() / "deb", disk=True)
    one = Lab(tmp_path, guest, way=WAY, prefix=node.argv())
    yield one
    one.close()
    assert node.left() == []


def deploy(lab: Lab, tmp_path: Path, name: str) -> dict[str, Any]:
    path = tmp_path / f"{name}.toml"
    path.write_text(ENSEMBLE.format(name=name))
    lab.cli("deploy", str(path), "--wait", "--timeout", "200")
    return lab.until(name, lambda ws: all(vm["context"] in ("ok", "error") for vm in ws["vms"]))


def test_a_lease_on_the_bridge_leaves_nothing_even_when_its_pilot_is_killed(
    node: Node, lab: Lab, tmp_path: Path
) -> None:
    ws = deploy(lab, tmp_path, "first")
    said = {vm["name"]: (vm["context"], vm["said"]) for vm in ws["vms"]}
    assert said == {f"first/w/{n}": ("ok", f"w-{n} met all") for n in (1, 2)}
    taps = [one for one in node.left() if one.startswith("ws")]
    assert len(taps) == 2
    lab.cli("suspend", "first/w/1", "--timeout", "60")
    lab.cli("resume", "first/w/1", "--timeout", "60")
    address = next(vm["nics"][0]["ip"] for vm in ws["vms"] if vm["name"] == "first/w/1")
    with node.inside(), pytest.raises(ConnectionRefusedError):  # by the guest itself
        socket.create_connection((address, 9), 10)
    lab.cli("stop", "first/w/2", "--timeout", "60")
    lab.cli("start", "first/w/2", "--timeout", "200")
    lab.cli("destroy", "first", "--yes", "--timeout", "60")
    assert node.left() == []

    deploy(lab, tmp_path, "second")
    guests = [pid for pid, name in node.processes().items() if name.startswith("qemu")]
    pilot = int(Path(f"/proc/{guests[0]}/stat").read_text().rsplit(")")[1].split()[1])
    os.kill(pilot, signal.SIGKILL)
    lab.until("second", lambda ws: ws["state"] != "active")
    end = time.monotonic() + UNDONE_S
    while left := node.left():
        assert time.monotonic() < end, left
        time.sleep(0.2)
    lab.cli("destroy", "second", "--yes", "--timeout", "60")

"""A guest that reads no seed: its own disk is written to before it boots, and it says what it found
there. Its address comes by DHCP."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.lab import Lab
from tests.real.test_ctx_osg import toml
from wspilot.guest import build_guest, default_cache
from wspilot.node.places import Places

pytestmark = pytest.mark.real
READS = """#!/bin/sh
n=0
until ping -c 1 -W 1 se-1 >/dev/null 2>&1; do n=$((n+1)); [ $n -gt 60 ] && exit 1; sleep 1; done
[ -z "$(ls /run/seed 2>/dev/null)" ] || exit 2
grep -q '^ssh-ed25519 .* ce-1$' /etc/ssh/ssh_host_ed25519_key.pub || exit 3
[ "$(stat -c %a /etc/ssh/ssh_host_ed25519_key)" = 600 ] || exit 4
grep -q 'OPENSSH PRIVATE' /etc/ssh/ssh_host_ed25519_key || exit 5
grep -q '^se-1,' /etc/ssh/ssh_known_hosts || exit 6
[ "$(cat /root/.ssh/authorized_keys)" = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA me" ] || exit 7
touch /etc/it-is-mine || exit 8
echo "$(hostname): $(xargs </etc/wspilot/nodefile): $(xargs </etc/wspilot/roles)"
"""
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA me"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    guest = build_guest(default_cache() / "guest", default_cache() / "deb", disk=True)
    one = Lab(tmp_path, guest)
    try:
        one.add_patched(guest)
        yield one
    finally:
        one.close()


def test_a_guest_without_a_seed_reader_finds_its_context_on_its_own_disk(
    lab: Lab, tmp_path: Path
) -> None:
    one: dict[str, Any] = {"type": "small", "nics": ["private"]}
    doc = {
        "workspace": {"name": "w", "duration": "10m", "ssh_keys": [KEY]},
        "group": [
            {**one, "name": "ce", "image": "patched", "user_data": READS,
             "roles": {"provides": ["ce"], "requires": ["se"]}},
            {**one, "name": "se", "roles": {"provides": ["se"]}},
        ],
    }  # fmt: skip
    lab.cli("deploy", toml(doc, tmp_path / "w.toml"), "--wait", "--timeout", "280")
    ws = lab.until("w", lambda ws: all(vm["context"] in ("ok", "error") for vm in ws["vms"]))
    assert ws["vms"][0]["said"] == "ce-1: ce-1 se-1: ce ce-1 se se-1"

    # The node's image, which others use, is as it was; the VM's own copy goes with it.
    reach = lab.cli("console", "w/ce/1")["reach"]
    places = Places(reach["node"], os.getuid())
    digest = json.loads((lab.images / "patched" / "image.json").read_text())["sha256"]
    cached = (places.keep / "images" / digest["root.qcow2"]).read_bytes()
    assert hashlib.sha256(cached).hexdigest() == digest["root.qcow2"]
    copy = places.rundir(reach["pilot"]) / f"{reach['id']}.copy"
    assert copy.stat().st_mode & 0o777 == 0o600 and copy.stat().st_size == 16 << 20
    lab.cli("destroy", "w", "--yes", "--timeout", "60")
    assert not copy.exists()

"""A stock Debian with cloud-init and sshd, leased beside our small guest: it takes our seed, says
ok, runs its user's `runcmd`, and is reached by `wspilot ssh` with the host key made before it was.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real import cloud_image
from tests.real.lab import Lab
from wspilot.guest import build_guest, default_cache

pytestmark = pytest.mark.real
BOOT_S = 420  # 130 s under TCG on two cores that do nothing else
TYPE = '[[type]]\nname = "cloud"\ncpus = 2\nmemory = "512MiB"\n'
ENSEMBLE = """[workspace]
name = "w"
duration = "20m"
ssh_keys = ["{key}"]
[[group]]
name = "ce"
type = "cloud"
image = "debian"
nics = ["private"]
roles = {{ provides = ["ce"], requires = ["se"] }}
user_data = '''#cloud-config
runcmd:
 - [sh, -c, 'ping -c 3 -W 5 se-1 >/root/ran']
'''
[[group]]
name = "se"
type = "small"
nics = ["private"]
roles = {{ provides = ["se"] }}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    stock = cloud_image.build(default_cache())
    guest = build_guest(default_cache() / "guest", default_cache() / "deb")
    one = Lab(tmp_path, guest, boot=f"{BOOT_S}s", more=TYPE)
    try:
        files = ("--kernel", str(stock / "kernel"), "--initrd", str(stock / "initrd"))
        more = ("--context", "cloud-init", "--memory", "512MiB", "--append", cloud_image.APPEND)
        one.cli("images", "add", "debian", str(stock / "disk.qcow2"), *files, *more)
        yield one
    finally:
        one.close()


def new_key(path: Path) -> str:
    """The public half."""
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(argv, check=True, timeout=20)
    return path.with_suffix(".pub").read_text().strip()


def ssh(lab: Lab, key: Path, command: str) -> subprocess.CompletedProcess[str]:
    """What `wspilot ssh` says and returns."""
    env = {name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"}
    env.update(WSPILOT_HOME=str(lab.home), XDG_RUNTIME_DIR="")
    words = ("-F", "none", "-i", str(key), "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes")
    argv = [sys.executable, "-m", "wspilot", "ssh", "w/ce/1", "--", *words, command]
    return subprocess.run(
        argv, env=env, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
    )


def test_a_stock_debian_takes_its_context_and_is_reached_by_ssh(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "w.toml").write_text(ENSEMBLE.format(key=new_key(tmp_path / "id")))
    lab.cli("deploy", str(tmp_path / "w.toml"), "--wait", timeout=BOOT_S + 60)
    ws = lab.until("w", lambda ws: all(vm["context"] == "ok" for vm in ws["vms"]))
    assert [vm["said"] for vm in ws["vms"]] == ["the context is there"] * 2
    addresses = {vm["group"]: vm["nics"][0]["ip"] for vm in ws["vms"]}

    def says(command: str) -> str:
        done = ssh(lab, tmp_path / "id", command)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    state: dict[str, Any] = json.loads(says("cloud-init status --wait --format json"))
    assert (state["status"], state["errors"]) == ("done", [])
    assert " 3 received" in says("cat /root/ran"), "its runcmd met the other member"
    assert says("hostname; id -un").split() == ["ce-1", "root"]
    assert f"{addresses['ce']}/24" in says("ip -o -4 address show eth0")
    assert says("getent hosts se-1").split()[:2] == [addresses["se"], "se-1"]
    assert says("cat /etc/wspilot/roles /etc/wspilot/nodefile").splitlines() == [
        "ce ce-1", "se se-1", "ce-1", "se-1"]  # fmt: skip
    keys = says("cat /etc/ssh/ssh_known_hosts")
    reach = lab.cli("console", "w/ce/1")["reach"]
    assert reach["host_key"] in keys and "se-1," in keys
    assert says("ls /etc/ssh/ssh_host_*_key").split() == ["/etc/ssh/ssh_host_ed25519_key"]

    # The negative control: another key opens nothing.
    new_key(tmp_path / "other")
    stranger = ssh(lab, tmp_path / "other", "true")
    assert stranger.returncode == 255 and "Permission denied" in stranger.stderr

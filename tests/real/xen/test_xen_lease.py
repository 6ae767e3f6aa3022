"""A whole lease: daemon, batch system and user outside, the pilot in domain 0 of a real Xen.

Home and spool lie in a directory that both sides see under the same path, as on a cluster.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.testuser import TestUser
from tests.real.user_install import UserInstall, make_user_install
from tests.real.xen.machine import DOM0_MIB, XenHost, cache_dir
from tests.real.xen.xenslot import BRIDGE, HELPER

pytestmark = pytest.mark.real
SITE = """\
[site]
lrm = "local"
vmm = "xen"
node_python = "/usr/bin/python3"
images = "{images}"
default_image = "small"
[lrm.local]
nodes = ["xenhost"]
cores = 2
memory = "900MiB"
grace = "60s"
via = ["{python}", "{via}", "{ctl}", "carol", "{{node}}", "{{command}}"]
[budget]
launch = "2m"
propagate = "3m"
reserve = "3m"
boot = "4m"
stop = "90s"
restore = "4m"
[[type]]
name = "small"
cpus = 1
memory = "96MiB"
[network.private]
way = "bridge"
bridge = "{bridge}"
cidr = "10.9.0.0/24"
"""
IMAGE = {"kind": "kernel", "kernel": "guest.vmlinux", "initrd": "guest.initrd", "ready": "agent",
         "append": "quiet mitigations=off console=hvc0"}  # fmt: skip
LIMIT_S = 420
CURRENT = "/sys/devices/system/xen_memory/xen_memory0/info/current_kb"


@pytest.fixture
def user(host: XenHost) -> Iterator[TestUser]:
    """One user outside and `carol` inside: the same number, as on a cluster."""
    one = TestUser()
    one.create(host.share / "carol")
    try:
        host.run(f"""set -e
        useradd -o -m -u {one.uid} carol
        sed -i 's/^users = .*/& carol/; s/^alice = .*/&\\ncarol = 10.9.0.0\\/24/' \\
          /etc/wspilot/node.conf
        echo 'carol ALL=(root) NOPASSWD: {HELPER}' >/etc/sudoers.d/carol
        mkdir -p {host.share.parent}; ln -sfn /share {host.share}""").ok()
        yield one
    finally:
        kept = f"/var/tmp/wspilot-{one.uid}"  # whole images outlive a lease: they are a cache
        host.run(f"rm -rf {kept}/*/images; find {kept} -type d -empty -delete")
        host.run("pkill -9 -u carol; userdel -rf carol; rm -f /etc/sudoers.d/carol; "
                 f"cp /share/node.conf /etc/wspilot/; rm {host.share}")  # fmt: skip
        one.remove()
        shutil.rmtree(host.share / "carol", ignore_errors=True)  # the next test's carol is another


@pytest.fixture
def install() -> Iterator[UserInstall]:
    one = make_user_install()
    yield one
    one.remove()


class Site:
    """The user's command line."""

    def __init__(self, host: XenHost, user: TestUser, install: UserInstall) -> None:
        self.user, self.install, self.home = user, install, user.home / "home"
        image = user.home / "images" / "small"
        image.mkdir(parents=True)
        for name, made in (("guest.vmlinux", "dom0-vmlinux"), ("guest.initrd", "guest.initrd")):
            shutil.copyfile(cache_dir() / made, image / name)
        (image / "image.json").write_text(json.dumps(IMAGE))
        via = Path(shutil.copy(Path(__file__).with_name("via.py"), user.home))
        site = user.home / "site.toml"
        site.write_text(SITE.format(images=image.parent, python=install.python, via=via,
                                    ctl=host.open_to_all(), bridge=BRIDGE))  # fmt: skip
        self.home.mkdir(mode=0o700)
        for path in (user.home, *user.home.rglob("*")):
            shutil.chown(path, user.uid, user.gid)
        self.cli("daemon", "--detach", "--config", str(site))

    def argv(self, *words: str) -> list[str]:
        argv = ["setpriv", f"--reuid={self.user.uid}", f"--regid={self.user.gid}", "--clear-groups"]
        argv += ["env", "-i", f"HOME={self.user.home}", "PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"]
        return [*argv, f"WSPILOT_HOME={self.home}", str(self.install.wspilot), *words, "--json"]

    def cli(self, *words: str, limit_s: float = LIMIT_S) -> dict[str, Any]:
        done = subprocess.run(
            self.argv(*words), capture_output=True, text=True, timeout=limit_s, check=False
        )
        if done.returncode:
            for log in self.home.glob("log/daemon.log"):
                print(log.read_text()[-3000:], file=sys.stderr)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def test_a_lease_from_the_users_word_to_its_confirmed_end(
    host: XenHost, user: TestUser, install: UserInstall
) -> None:
    site = Site(host, user, install)
    ws = site.cli("deploy", "--type", "small", "--duration", "30m", "--name", "one", "--wait",
                  "--timeout", str(LIMIT_S - 20))["workspace"]  # fmt: skip
    try:
        assert ws["state"] == "active"
        (vm,) = ws["vms"]
        address = vm["nics"][0]["ip"]
        host.run(f"ping -c 3 -W 5 {address}").ok()
        listed = host.run("xl list").ok()
        assert f"ws-{user.uid}-" in listed
        assert int(listed.splitlines()[1].split()[2]) < DOM0_MIB
    finally:
        site.cli("destroy", "one", "--yes", "--timeout", "300")
    ended = site.cli("show", "one")["workspace"]
    assert (ended["state"], ended["outcome"]) == ("ended", "destroyed")
    node = site.cli("nodes")["nodes"][0]
    assert (node["name"], node["state"]) == ("xenhost", "clean")


def test_a_slot_measures_its_node_and_one_that_is_interrupted_gives_the_memory_back(
    host: XenHost, user: TestUser, install: UserInstall
) -> None:
    site = Site(host, user, install)
    words = ("bench", "host", "xenhost", "--mib", "128", "--duration", "40m")
    found = site.cli(*words, "--rounds", "1", limit_s=2 * LIMIT_S)["bench"]
    assert (found["node"], found["state"]) == ("xenhost", "released")
    rows = {row["what"]: row for row in found["figures"]["figures"]}
    assert set(rows) == {
        "helper",
        "bare reduce",
        "bare restore",
        "bare list",
        "reduce",
        "restore",
        "kill-all",
    }
    assert all(row["median"] > 0 for row in rows.values()) and rows["kill-all"]["over_bare"] > 0

    bench = subprocess.Popen(site.argv(*words, "--rounds", "100"))
    try:
        host.until(f"[ $(cat {CURRENT}) -lt {(DOM0_MIB - 64) * 1024} ]", LIMIT_S)
        bench.send_signal(signal.SIGINT)
        assert bench.wait(LIMIT_S) == 130
    finally:
        bench.kill()
        bench.wait()
    end = time.monotonic() + LIMIT_S
    while (slot := site.cli("slots")["slots"][-1])["state"] not in ("released", "preempted"):
        assert time.monotonic() < end, slot
        time.sleep(1)
    (node,) = site.cli("nodes")["nodes"]
    assert (node["name"], node["state"], node["owes"]) == ("xenhost", "clean", [])
    assert host.run(f"cat {CURRENT}").ok().strip() == str(DOM0_MIB * 1024)

"""One booted Xen host for all tests here; and nothing may be left of any of them."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.xen.machine import DOM0_MIB, XenHost, xen_host
from tests.real.xen.xenslot import BRIDGE, HELPER, ZIPAPP, XenSlot
from wspilot.nodecode import build, build_root

SETTLE_S = 45
CONF = f"""\
[network]
deny = 192.168.77.9/32
[bridge {BRIDGE}]
alice = 10.9.0.0/25
bob = 10.9.0.128/25
[xen]
users = alice bob
dom0_min_mib = 400
reserve_mib = 96
settle_s = {SETTLE_S}
create_s = 240
"""
SETUP = f"""\
set -e
install -D -m 755 /share/wspilot-root {HELPER}
install -D -m 755 /share/wspilot-node.pyz {ZIPAPP}
install -D -m 644 /share/node.conf /etc/wspilot/node.conf
echo 'alice, bob ALL=(root) NOPASSWD: {HELPER}' >/etc/sudoers.d/wspilot
chmod 440 /etc/sudoers.d/wspilot
ip link add {BRIDGE} type bridge forward_delay 0
ip addr add 10.9.0.1/24 dev {BRIDGE}
ip link set {BRIDGE} up
"""
LOOK = """\
cat /sys/devices/system/xen_memory/xen_memory0/info/current_kb
xl list | tail -n +3
ls /var/lib/wspilot | grep -vw -e lock -e xen.lock -e block
find /tmp/wspilot-* /var/tmp/wspilot-* /run/wspilot-xen/* 2>/dev/null
ls /sys/class/net | grep ^ws
losetup -a
ps -eo uid=,args= | awk '$1 >= 1000 && $1 < 60000'
true
"""
CLEAN = [str(DOM0_MIB * 1024)]
CLEAR = f"""\
kill -9 $(ps -eo uid=,pid= | awk '$1 >= 1000 && $1 < 60000 {{print $2}}')
rm -f /dev/shm/full; cp /share/node.conf /etc/wspilot/node.conf
python3 {ZIPAPP} kill-all --everyone --all --yes
rm -rf /tmp/wspilot-* /var/tmp/wspilot-*; {HELPER} xen-list </dev/null
"""
LAST_S, CLEAR_S = 30.0, 120.0  # a guardian ends after its pilot


@pytest.fixture(scope="session")
def host() -> Iterator[XenHost]:
    """Booted, with the node code, the helper, its node.conf and the sudo rule."""
    share = Path(tempfile.mkdtemp(prefix="wsxen-share-"))  # pytest's own are root's alone
    share.chmod(0o755)
    build(share / "wspilot-node.pyz")
    build_root(share / "wspilot-root")
    (share / "node.conf").write_text(CONF)
    try:
        with xen_host(share) as one:
            one.run(SETUP).ok()
            print(f"the Xen host was up after {one.boot_s:.1f} s")
            yield one
    finally:
        shutil.rmtree(share, ignore_errors=True)


@pytest.fixture(autouse=True)
def whole(request: pytest.FixtureRequest) -> Iterator[None]:
    """Domain 0 has its memory to the KiB, and nothing of ours is left: no guest, record, file,
    device or process."""
    yield
    if "host" not in request.fixturenames:
        return
    host: XenHost = request.getfixturevalue("host")
    end = time.monotonic() + LAST_S
    while (found := left(host)) != CLEAN:
        if time.monotonic() > end:
            clear(host)
            pytest.fail("left behind:\n" + "\n".join(found))


def left(host: XenHost) -> list[str]:
    """`CLEAN`, or what is not as it was."""
    return host.run(LOOK).ok().split("\n")[:-1]


def clear(host: XenHost) -> None:
    """The next test shall not suffer for this one: clean, or a host that was booted anew."""
    end = time.monotonic() + CLEAR_S
    host.run(CLEAR)
    while left(host) != CLEAN:
        if time.monotonic() > end:
            host.stop()
            host.boot()
            host.run(SETUP).ok()
            return
        host.run(CLEAR)


@pytest.fixture
def slots(host: XenHost) -> Iterator[list[XenSlot]]:
    """Slots of a test; ended with it."""
    made: list[XenSlot] = []
    yield made
    for one in made:
        one.close()

"""Compute nodes with bridges, on this machine alone: network and mount namespaces, a site's wire.

Each node has its own root helper, node.conf, sudo rule and /var/lib/wspilot, on tmpfs: nothing of
the host is touched, and all of it is gone with the node's one process.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wspilot.nodecode import build_root

HELPER = "/usr/local/libexec/wspilot-root"
LIMIT_S = 30.0
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
CONF = """\
[network]
deny = 192.168.77.9/32
[bridge wbr]
nobody = 10.77.0.0/24, 10.78.0.0/28
root = 10.77.0.0/24
"""
SETUP = """\
set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /dev/net  # as udev makes it: everybody's, for taps of their own
mknod -m 666 /dev/net/tun c 10 200
for place in etc var/lib usr/local; do
    mkdir -p /run/over/$place/up /run/over/$place/work
    over=/run/over/$place
    mount -t overlay -o lowerdir=/$place,upperdir=$over/up,workdir=$over/work overlay /$place
done
install -D -m 755 "$1" /usr/local/libexec/wspilot-root
mkdir -p /etc/wspilot
printf '%s' "$2" >/etc/wspilot/node.conf
echo 'nobody ALL=(root) NOPASSWD: /usr/local/libexec/wspilot-root' >/etc/sudoers.d/wspilot
chmod 440 /etc/sudoers.d/wspilot
echo up
exec sleep infinity
"""


@functools.cache
def _packed() -> Path:
    """The root helper as `make install-node` installs it."""
    target = Path(tempfile.mkdtemp(prefix="wsb")) / "wspilot-root"
    atexit.register(shutil.rmtree, target.parent)
    build_root(target)
    return target


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=LIMIT_S)


class Node:
    """One compute node; `number` is the last byte of its address on the site's wire."""

    def __init__(self, site: str, number: int, conf: str = CONF) -> None:
        self.number, self.name = number, f"{site}{number}"
        ip("netns", "add", self.name)
        argv = ["ip", "netns", "exec", self.name, "unshare", "-m", "--propagation", "slave"]
        setup = ["sh", "-c", SETUP, "sh", str(_packed()), conf]
        self._process = subprocess.Popen([*argv, *setup], stdout=-1, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "up\n"
        self.plug(site, "sbr", "wbr", f"192.168.77.{number}/24")
        ip("-n", self.name, "link", "set", "lo", "up")

    def plug(self, site: str, wire: str, bridge: str, address: str) -> None:
        """A bridge of the node's own, on one of the site's wires."""
        far, near = f"{wire}{self.number}", "up0" if wire == "sbr" else f"up-{wire}"
        ip("-n", self.name, "link", "add", near, "type", "veth",
           "peer", "name", far, "netns", site)  # fmt: skip
        ip("-n", site, "link", "set", far, "master", wire, "up")
        ip("-n", self.name, "link", "add", bridge, "type", "bridge", "forward_delay", "0")
        ip("-n", self.name, "link", "set", near, "master", bridge, "up")
        ip("-n", self.name, "addr", "add", address, "dev", bridge)
        ip("-n", self.name, "link", "set", bridge, "up")

    def argv(self, *words: str) -> list[str]:
        """A command line that runs in the node."""
        return ["nsenter", "-t", str(self._process.pid), "-m", "-n", "--", *words]

    def run(self, *words: str, text: str = "") -> str:
        """A command in the node that must succeed."""
        done = subprocess.run(
            self.argv(*words), input=text, capture_output=True, text=True, timeout=LIMIT_S
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def host(self, *words: str) -> str:
        """A command of this machine's in the node's network: its own may be hidden from it."""
        argv = ["ip", "netns", "exec", self.name, *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_S)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ask(self, verb: str, words: Any, user: str = "nobody") -> dict[str, Any]:
        """The root helper's answer to a user, by sudo."""
        text = words if isinstance(words, str) else json.dumps(words)
        done = subprocess.run(
            self.argv("setpriv", "--reuid", user, "--regid=65534", "--clear-groups", "--",
                      "sudo", "-n", HELPER, verb),
            input=text, capture_output=True, text=True, timeout=LIMIT_S,
        )  # fmt: skip
        assert done.stdout, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == ("error" in found)
        return found

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """What opens sockets and devices here does so in the node. No threads, please."""
        with open("/proc/self/ns/net") as back, open(f"/run/netns/{self.name}") as there:
            _setns(there.fileno())
            try:
                yield
            finally:
                _setns(back.fileno())

    def left(self) -> list[str]:
        """What of wspilot is on the node: devices, rules, processes, files."""
        links = json.loads(self.run("ip", "-j", "link"))
        found = [one["ifname"] for one in links if one["ifname"].startswith("ws")]
        rules = self.host("nft", "list", "ruleset").splitlines()
        found += [line for line in rules if "wspilot" in line]
        found += [f"{comm} {pid}" for pid, comm in self.processes().items() if comm == "dnsmasq"]
        files = "find /run/wspilot-root /var/lib/wspilot ! -name lock -type f 2>/dev/null || true"
        return found + self.run("sh", "-c", files).splitlines()

    def processes(self) -> dict[int, str]:
        """What runs in the node, by pid."""
        pids = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True)
        found = {}
        for pid in map(int, pids.stdout.split()):
            with contextlib.suppress(OSError):
                found[pid] = Path(f"/proc/{pid}/comm").read_text().strip()
        return found

    def close(self) -> None:
        """The node is gone, and everything in it."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(LIMIT_S)
        subprocess.run(["ip", "netns", "del", self.name], check=False, timeout=LIMIT_S)


class Site:
    """The site's wire, and its nodes; a context manager."""

    def __init__(self, nodes: int, conf: str = CONF) -> None:
        self.name, self.nodes = f"wsb{os.getpid() % 100000}", list[Node]()
        self._spaces: list[str] = []
        self._wanted, self._conf = nodes, conf

    def __enter__(self) -> Site:
        self.host()
        try:
            self.wire("sbr")
            for number in range(1, self._wanted + 1):
                self.nodes.append(Node(self.name, number, self._conf))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wire(self, name: str, *addresses: str) -> None:
        """One that nodes can be plugged into. With an address the site itself is a host on it."""
        ip("-n", self.name, "link", "add", name, "type", "bridge", "forward_delay", "0")
        for address in addresses:
            ip("-n", self.name, "addr", "add", address, "dev", name)
        ip("-n", self.name, "link", "set", name, "up")

    def host(self, name: str = "") -> None:
        """A host that is no node; the site's own has no name."""
        ip("netns", "add", self.name + name)
        self._spaces.append(self.name + name)

    def argv(self, *words: str) -> list[str]:
        """A command line that runs on the site's own host."""
        return ["ip", "netns", "exec", self.name, *words]

    def run(self, *words: str) -> None:
        subprocess.run(self.argv(*words), check=True, timeout=LIMIT_S)

    def close(self) -> None:
        """Nothing of it is left."""
        for node in self.nodes:
            node.close()
        for name in self._spaces:
            subprocess.run(["ip", "netns", "del", name], check=False, timeout=LIMIT_S)


@contextlib.contextmanager
def journals(uid: int) -> Iterator[Path]:
    """A place for the journals of a user's pilots, on every node of this machine."""
    home = Path(f"/var/tmp/wspilot-{uid}/wsb{os.getpid()}")
    for path in (home.parent, home):
        path.mkdir(mode=0o700, exist_ok=True)
        os.chown(path, uid, uid)
    try:
        yield home
    finally:
        shutil.rmtree(home)
        with contextlib.suppress(OSError):  # a pilot of another lab
            home.parent.rmdir()


def _setns(fd: int) -> None:
    if _LIBC.setns(fd, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")

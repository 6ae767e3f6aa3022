"""A slot whose pilot runs in domain 0 of a Xen host, and whose daemon's part is played outside.

Both see the spool in a shared directory (9p), as a cluster's nodes and headnode do on NFS.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from tests.real.slotyard import Slot
from tests.real.xen.machine import XenHost
from wspilot.messages import Kind

USER, UID = "alice", 1500
UIDS = {USER: UID, "bob": 1501}
NODE = "xenhost"
ZIPAPP, HELPER = "/usr/local/libexec/wspilot-node.pyz", "/usr/local/libexec/wspilot-root"
KEEP = f"/var/tmp/wspilot-{UID}"
BRIDGE = "xenbr0"
# Every step is several times slower than on hardware: the node is emulated, by two busy cores.
BUDGET = {"launch": 60, "gather": 0, "propagate": 60, "reserve": 180, "boot": 240, "pad": 0,
          "save": 0, "stop": 90, "restore": 300, "slack": 60}  # fmt: skip
KERNEL = "quiet mitigations=off console=hvc0"
IMAGE = {"name": "small", "kind": "kernel", "kernel": "/srv/images/guest.vmlinux",
         "initrd": "/srv/images/guest.initrd", "append": KERNEL, "ready": "agent"}  # fmt: skip
NETWORK = {"way": "bridge", "bridge": BRIDGE, "cidr": "10.9.0.0/24", "deny": ["169.254.0.0/16"]}
LIMIT = 300.0


class XenSlot(Slot):
    """`launch` and `processes` of `Slot`, in domain 0."""

    def __init__(self, host: XenHost, user: str = USER, **settings: Any) -> None:
        self.host, self.user = host, user
        self.top = host.share / uuid.uuid4().hex[:8]
        self.top.mkdir()
        more = {"adapter": "balloon", "vmm": "xen", "take_mib": 256, "vmm_options": {},
                "budget": BUDGET, "lease_s": 1800, "walltime_s": 3600, "allow_root": False,
                "grace_s": 600.0, "networks": {"lan": NETWORK}}  # fmt: skip
        super().__init__(self.top, Path(ZIPAPP), "python3", **{**more, **settings})
        self.node = NODE
        for path in [self.top, *self.top.rglob("*")]:
            os.chown(path, UIDS[user], UIDS[user])
        self.ticket = ""

    @property
    def inside(self) -> str:
        """The spool as the node names it."""
        return f"/share/{self.top.name}/spool"

    def start(self) -> None:
        """What the job script does, as the job's session: `kill_job` ends all of it."""
        command = f"cd /; export WSPILOT_LOCAL_NODES={NODE} WSPILOT_LOCAL_JOB=job-{self.id}; "
        command += f"exec python3 {ZIPAPP} launch --spool {self.inside} --slot {self.id}"
        self.ticket = self.host.start(command, self.user)

    def give(self, path: Path) -> None:
        """The file is the user's, as one that its daemon had written."""
        os.chown(path, UIDS[self.user], UIDS[self.user])

    def pair(self) -> None:
        """Two guests on the bridge, 10.9.0.2 and 10.9.0.3."""
        for n in (1, 2):
            ip = f"10.9.0.{n + 1}"
            nic = {"network": "lan", "ip": ip, "prefix": 24, "mac": mac(ip), "way": "bridge",
                   "bridge": BRIDGE, "deny": NETWORK["deny"]}  # fmt: skip
            self.create(f"vm{n:06d}", memory_mib=96, image=IMAGE, nics=[nic], boot_s=240)

    def wait(self, kind: Kind, where: Any = lambda _: True, limit: float = LIMIT) -> Any:
        """See `Slot.wait`."""
        return super().wait(kind, where, limit)

    def vm(self, id: str, state: str, limit: float = LIMIT) -> Any:
        """See `Slot.vm`."""
        ends = (state, "failed")
        found = self.wait(
            Kind.VM, lambda note: note.data["id"] == id and note.data["state"] in ends, limit
        )
        assert found.data["state"] == state, found.data["cause"]
        return found

    def signal(self, number: int, *who: str) -> None:
        """To processes of this slot (`pilot`, `guardian`, `courier`), all by one kill: none of
        them sees that another has died before its own signal has come."""
        self.host.run(f"kill -{number} {self.named(*who)}").ok()

    def named(self, *who: str) -> str:
        """Words of the shell in domain 0: the pids of these processes."""
        known = {one: f"{one} --spool {self.inside}" for one in ("launch", "pilot", "measure")}
        patterns = (known.get(one, f"wspilot-{one} slot={self.id}") for one in who)
        return " ".join(f"$(pgrep -u {self.user} -o -f '{one}')" for one in patterns)

    def pids(self) -> list[str]:
        """Processes in domain 0 that name this slot."""
        out = self.host.run(f"pgrep -u {self.user} -af '[{self.id[0]}]{self.id[1:]}'").out
        return [line for line in out.splitlines() if "pgrep" not in line and "bash" not in line]

    def output(self) -> str:
        """What its launcher and pilots said."""
        texts = []
        if self.ticket and self.host.is_done(self.ticket):
            done = self.host.result(self.ticket)
            texts.append(f"exit {done.code}\n{done.out}\n{done.err}")
        logs = sorted(self.place.glob("pilot-*.log"))
        texts += [path.read_text() for path in logs]
        texts.append(self.host.run("tail -n 40 /tmp/wspilot-*/*/*/pilot-*.log").out)
        return "\n".join(texts)

    def close(self) -> None:
        """End what is left of it."""
        for line in self.pids():
            self.host.run(f"kill -9 {line.split()[0]}")
        shutil.rmtree(self.top, ignore_errors=True)


def mac(ip: str) -> str:
    """The MAC of an address, as the daemon gives it."""
    return ":".join(["02:57", *(f"{int(one):02x}" for one in ip.split("."))])


def report(host: XenHost, scope: str = "", user: str = USER) -> dict[str, Any]:
    """`kill-all --json`: what it did."""
    done = host.run(f"python3 {ZIPAPP} kill-all --json {scope}", user)
    assert done.out, done.err
    found: dict[str, Any] = json.loads(done.out.splitlines()[-1])
    return found

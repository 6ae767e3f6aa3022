"""What a daemon knows of its site: frozen values that nothing needs to check again.

`config.py` makes them from TOML; docs/config.md describes the keys, and a test holds the two
together. Durations are seconds and sizes MiB, as the names' ends say.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wspilot.model import LeaseType

DAY_S = 86400
DENY = ("169.254.0.0/16",)  # on every network: link-local, where clouds keep their secrets


@dataclass(frozen=True)
class Budget:
    """Terms of the walltime, in seconds (PROTOCOLS.md section 2)."""

    launch_s: int = 60
    """From the job's start to the pilot's first word."""
    gather_s: int = 600
    """How long slots that started wait for their sisters."""
    propagate_s: int = 60
    """Bringing images to the node."""
    reserve_s: int = 30
    """Making the node ready."""
    boot_s: int = 120
    """From a VM's creation to its guest's first word."""
    pad_s: int = 0
    """Extra time bought in advance, so that `extend` is granted at once."""
    save_s: int = 120
    """Saving or suspending at the end, where asked for."""
    stop_s: int = 15
    """Stopping VMs in order before they are ended."""
    restore_s: int = 5
    """Giving the node back."""
    slack_s: int = 60
    """What clocks and schedulers are late by."""


@dataclass(frozen=True)
class Policy:
    """How slots are chosen for requests (docs/policies.md)."""

    name: str = "exact"
    """`exact`, `reuse`, `padded` or `warm`."""
    pad_s: int = 0
    """`padded`, `reuse`, `warm`: how much longer than its lease a slot is."""
    hold_s: int = 600
    """`reuse` and `warm`: how long a slot that serves nobody is kept."""
    slots: int = 1
    """`warm`: how many slots stand ready."""
    hours: int = 8
    """`warm`: node hours a day that slots may stand ready and serve nobody."""
    lease_s: int = 3600
    """`warm`: the longest lease that a slot still serves when it is taken at the end of `hold`."""
    type: str = ""
    """`warm`: the lease type that fits into one; default: the one with the most memory."""

    @property
    def keeps(self) -> bool:
        """Are there slots that serve nobody?"""
        return self.name in ("reuse", "warm")


@dataclass(frozen=True)
class Network:
    """A named network that leases get addresses from."""

    name: str
    cidr: str
    """Its IPv4 range; the network's own address, the broadcast address and the gateway's are
    never a guest's."""
    way: str = "user"
    """`user` (no rights needed) or `bridge`."""
    bridge: str = ""
    """The Linux bridge on the nodes, for way `bridge`."""
    gateway: str = ""
    """The guests' gateway, inside the range; where none is named the first address stays free."""
    dns: tuple[str, ...] = ()
    """Name servers that guests are told of."""
    deny: tuple[str, ...] = ()
    """What guests may not reach, besides 169.254.0.0/16 and the headnode."""
    restrict: bool = True
    """Guests on way `user` reach only each other."""

    def spec(self) -> dict[str, Any]:
        """What a VMM needs to know of it."""
        prefix = ipaddress.ip_network(self.cidr).prefixlen
        return {
            "way": self.way,
            "cidr": self.cidr,
            "prefix": prefix,
            "gateway": self.gateway,
            "dns": list(self.dns),
            "restrict": self.restrict,
            "bridge": self.bridge,
            "deny": self.denied(),
        }

    def denied(self, headnode: Iterable[str] = (), node_too: bool = False) -> list[str]:
        """All that guests may not reach. `headnode`: its addresses; `node_too`: nodes have them.

        The gateway and the name servers are reached wherever they are. Inside the network's own
        range an address is a sister's on way `user`; on a bridge it is the headnode, unless that
        is the guest's node too, whose questions it must answer.
        """
        kept = {self.gateway, *self.dns}
        inside = self.way == "user" or node_too
        cidr = ipaddress.ip_network(self.cidr)
        found = [
            f"{one}/32"
            for one in headnode
            if one not in kept and not (inside and ipaddress.ip_address(one) in cidr)
        ]
        return list(dict.fromkeys([*DENY, *self.deny, *found]))


@dataclass(frozen=True)
class Images:
    """How nodes keep and pass on images."""

    cache_mib: int = 20 * 1024
    """What a node keeps of files that no VM uses."""
    share: bool = True
    """Nodes of a workspace get images from each other."""
    save_rate_mib: int = 50
    """MiB a second that saving a disk is reckoned with."""


@dataclass(frozen=True)
class Site:
    """Everything a daemon needs to know about its site."""

    spool: Path
    """Directory shared with the nodes."""
    store: Path
    """Directory of the snapshot and its journal; may be a local disk."""
    images_dir: Path
    """The image repository, readable from the nodes."""
    lrm: str = "local"
    """`torque`, `slurm` or `local`."""
    vmm: str = "sim"
    """`xen`, `qemu` or `sim`."""
    adapter: str = "sim"
    """How a node is made ready: `balloon`, `none` or `sim`; default: what the VMM wants."""
    node_python: str = ""
    """Python on the nodes, 3.9 or newer; default: python3 (LRM local: the daemon's own)."""
    default_image: str = "default"
    """The image of requests and lease types that name none."""
    jobs: str | None = None
    """`per-workspace` or `per-node`; default: DESIGN.md section 5."""
    idle_exit_s: int | None = None
    """The daemon ends itself after this long with no lease and no client; default: never."""
    keep_s: int = 7 * DAY_S
    """How long ended leases and their files are kept."""
    allow_root: bool = False
    """Let a pilot run as root (labs)."""
    allow_web: bool = False
    """Let `wspilot tui --web` show the interface in a browser on this host."""
    guardian: bool = True
    """Run a guardian beside each pilot."""
    stop_share: float = 0.6
    """The share of the grace period in which VMs are stopped."""
    live: bool = True
    """Pilots listen on one TCP port each, for console, ssh and quicker commands."""
    live_network: str = ""
    """On the address that a node has in this network; default: that of its default route."""
    live_ports: tuple[int, int] = (0, 0)
    """On the first free port of this range; default: one that the kernel chooses."""
    live_forward: tuple[int, ...] = (22,)
    """The guests' TCP ports that `wspilot ssh` may be led to."""
    max_duration_s: int = 7 * DAY_S
    """The longest lease."""
    node_cpus: int | None = None
    """Cores of the largest node: larger requests are refused."""
    node_memory_mib: int | None = None
    """Memory of the largest node: larger requests are refused."""
    nodes: int | None = None
    """How many nodes there are: larger requests are refused."""
    poll_s: float = 15.0
    """How often the batch system is asked."""
    min_poll_s: float = 10.0
    """And never more often than this."""
    max_jobs: int = 200
    """Cap on our jobs in the queue."""
    budget: Budget = field(default_factory=Budget)
    """Terms of the walltime."""
    policy: Policy = field(default_factory=Policy)
    """Which slots a request becomes."""
    types: Mapping[str, LeaseType] = field(default_factory=dict)
    """The catalogue, by name, in the file's order."""
    networks: Mapping[str, Network] = field(default_factory=dict)
    """By name, in the file's order; the first is what `deploy --type` uses."""
    images: Images = field(default_factory=Images)
    """The nodes' image caches."""
    lrm_settings: Mapping[str, Any] = field(default_factory=dict)
    """The table [lrm.NAME] as written, for the driver."""
    vmm_options: Mapping[str, Any] = field(default_factory=dict)
    """Passed to the nodes' VMM: for sim `boot_s`, `stop_s`, `fail`; for qemu `accel`."""
    source: str = "built-in defaults"
    """Which file this is from."""

"""The site's TOML, checked once, as frozen settings that nothing else needs to check again.

All mistakes of a file are reported together, each with its key's path; an unknown key names its
nearest relative. With no file at all the built-in defaults work anywhere (PROTOCOLS.md section 7).
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from wspilot.errors import UsageError, WspilotError
from wspilot.home import home_dir
from wspilot.model import LeaseType
from wspilot.text import check_name, clean, did_you_mean, parse_duration, parse_size

LRMS = ("torque", "slurm", "local")
VMMS = ("xen", "qemu", "sim")
ADAPTERS = ("balloon", "none", "sim")
ADAPTER_OF = {"xen": "balloon", "qemu": "none", "sim": "sim"}
LRM_KEYS: Mapping[str, tuple[str, ...]] = {
    "torque": (
        "start",
        "queue",
        "account",
        "priority",
        "qos",
        "reservation",
        "extra",
        "drop",
        "poll",
        "min_poll",
        "max_jobs",
        "flavour",
        "kill_delay",
    ),
    "slurm": (
        "kill_delay",
        "queue",
        "account",
        "priority",
        "qos",
        "reservation",
        "extra",
        "drop",
        "poll",
        "min_poll",
        "max_jobs",
    ),
    "local": ("nodes", "cores", "memory", "grace", "extra", "drop", "poll", "min_poll", "max_jobs"),
}


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
class Network:
    """A named network that leases get addresses from."""

    name: str
    cidr: str
    way: str = "user"
    """`user` (no rights needed) or `bridge`."""
    bridge: str = ""
    """The Linux bridge on the nodes, for way `bridge`."""
    gateway: str = ""
    dns: tuple[str, ...] = ()
    deny: tuple[str, ...] = ("169.254.0.0/16",)
    """What guests may not reach."""
    restrict: bool = True
    """Guests on way `user` reach only each other."""

    def spec(self) -> dict[str, Any]:
        """What a VMM needs to know of it."""
        prefix = ipaddress.ip_network(self.cidr).prefixlen
        return {
            "way": self.way,
            "prefix": prefix,
            "gateway": self.gateway,
            "dns": list(self.dns),
            "restrict": self.restrict,
            "bridge": self.bridge,
        }


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
    jobs: str | None = None
    """`per-workspace` or `per-node`; default: DESIGN.md section 5."""
    idle_exit_s: int | None = None
    """The daemon ends itself after this long with no lease and no client; default: never."""
    keep_s: int = 7 * 86400
    """How long ended leases and their files are kept."""
    allow_root: bool = False
    """Let a pilot run as root (labs)."""
    guardian: bool = True
    """Run a guardian beside each pilot."""
    stop_share: float = 0.6
    """The share of the grace period in which VMs are stopped."""
    max_duration_s: int = 7 * 86400
    """The longest lease."""
    node_cpus: int | None = None
    """Cores of the largest node: larger requests are refused."""
    node_memory_mib: int | None = None
    """Memory of the largest node."""
    nodes: int | None = None
    """How many nodes there are: larger requests are refused."""
    poll_s: float = 15.0
    """How often the batch system is asked."""
    min_poll_s: float = 10.0
    """And never more often than this."""
    max_jobs: int = 200
    """Cap on our jobs in the queue."""
    budget: Budget = field(default_factory=Budget)
    types: Mapping[str, LeaseType] = field(default_factory=dict)
    networks: Mapping[str, Network] = field(default_factory=dict)
    lrm_settings: Mapping[str, Any] = field(default_factory=dict)
    vmm_options: Mapping[str, Any] = field(default_factory=dict)
    """Passed to the nodes' VMM: for sim `boot_s`, `stop_s`; for qemu `accel`."""
    source: str = "built-in defaults"


_BUILT_IN: Mapping[str, Any] = {
    "site": {"lrm": "local", "vmm": "sim"},
    "type": [
        {"name": "small", "cpus": 1, "memory": "128MiB", "disk": "1GiB", "max_duration": "24h"},
        {"name": "medium", "cpus": 2, "memory": "256MiB", "disk": "4GiB", "max_duration": "24h"},
        {"name": "large", "cpus": 4, "memory": "512MiB", "disk": "8GiB", "max_duration": "12h"},
    ],
    "network": {
        "private": {"way": "user", "cidr": "10.77.0.0/16"},
        "public": {"way": "user", "cidr": "10.78.0.0/16"},
    },
}


def load(path: Path | None = None, home: Path | None = None) -> Site:
    """The settings of `path`, or of the first file found. Raises UsageError with all faults."""
    home = home or home_dir()
    found = path or _search()
    if found is None:
        return check(_BUILT_IN, home, "built-in defaults")
    from tomli import TOMLDecodeError, loads

    try:
        doc = loads(found.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{found}: cannot be read: {error}", "see `wspilot config`") from None
    except TOMLDecodeError as error:
        raise UsageError(f"{found}: not TOML: {clean(str(error))}", "mend that line") from None
    for section in ("type", "network"):
        doc.setdefault(section, _BUILT_IN[section])
    return check(doc, home, str(found))


def _search() -> Path | None:
    named = os.environ.get("WSPILOT_CONFIG")
    if named:
        return Path(named)
    user = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    places = (user / "wspilot" / "site.toml", Path("/etc/wspilot/site.toml"))
    return next((place for place in places if place.is_file()), None)


class Checker:
    """Reads values out of a TOML document and collects what is wrong with them."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.faults: list[str] = []

    def fault(self, where: str, what: str) -> None:
        self.faults.append(f"{where}: {what}")

    def known(self, table: Mapping[str, Any], where: str, keys: tuple[str, ...]) -> None:
        """Every key of `table` is one of `keys`."""
        for key in table:
            if key not in keys:
                place = f"{where}.{clean(key, 60)}" if where else clean(key, 60)
                self.fault(place, f"unknown key; {did_you_mean(key, keys)}")

    def table(self, doc: Mapping[str, Any], key: str, where: str = "") -> Mapping[str, Any]:
        value = doc.get(key, {})
        if isinstance(value, dict):
            return value
        self.fault(f"{where}{key}", "must be a table")
        return {}

    def get(
        self,
        table: Mapping[str, Any],
        where: str,
        key: str,
        default: Any,
        read: Callable[[Any, str], Any],
    ) -> Any:
        """`read(value, place)`, or the default where the key is missing or wrong."""
        if key not in table:
            return default
        try:
            return read(table[key], f"{where}.{key}" if where else key)
        except WspilotError as error:
            self.faults.append(error.message + (f" ({error.hint})" if error.hint else ""))
            return default

    def done(self) -> None:
        """Raise UsageError when anything was wrong."""
        if self.faults:
            lines = "; ".join(self.faults)
            raise UsageError(f"{self.source}: {lines}", "nothing was changed")


def text(value: Any, where: str) -> str:
    """A non-empty text of one line."""
    if not isinstance(value, str) or not value or clean(value, 4096) != value:
        raise UsageError(f"{where}: must be a text, not {clean(repr(value), 60)}")
    return value


def one_of(choices: tuple[str, ...]) -> Callable[[Any, str], str]:
    """A word out of a list."""

    def read(value: Any, where: str) -> str:
        if value not in choices or not isinstance(value, str):
            raise UsageError(
                f"{where}: {clean(repr(value), 60)} is not one of {', '.join(choices)}"
            )
        return value

    return read


def count(low: int, high: int) -> Callable[[Any, str], int]:
    """A whole number in a range."""

    def read(value: Any, where: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise UsageError(f"{where}: must be a whole number, not {clean(repr(value), 60)}")
        if not low <= value <= high:
            raise UsageError(f"{where}: {value} is not between {low} and {high}")
        return value

    return read


def flag(value: Any, where: str) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise UsageError(f"{where}: must be true or false, not {clean(repr(value), 60)}")
    return value


def texts(value: Any, where: str) -> tuple[str, ...]:
    """A list of texts."""
    if not isinstance(value, list):
        raise UsageError(f"{where}: must be a list of texts")
    return tuple(text(item, f"{where}[{n}]") for n, item in enumerate(value))


def _share(value: Any, where: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 1:
        raise UsageError(f"{where}: must be a number between 0 and 1")
    return float(value)


def check(doc: Mapping[str, Any], home: Path, source: str) -> Site:
    """The settings of a document. Raises UsageError with all faults at once."""
    c = Checker(source)
    c.known(doc, "", ("site", "lrm", "vmm", "budget", "type", "network"))
    site = c.table(doc, "site")
    c.known(
        site,
        "site",
        (
            "lrm",
            "vmm",
            "adapter",
            "node_python",
            "spool",
            "store",
            "images",
            "jobs",
            "default_image",
            "idle_exit",
            "keep",
            "allow_root",
            "guardian",
            "stop_share",
            "max_duration",
            "node_cpus",
            "node_memory",
            "nodes",
        ),
    )
    lrm = c.get(site, "site", "lrm", "local", one_of(LRMS))
    vmm = c.get(site, "site", "vmm", "sim", one_of(VMMS))
    settings = _lrm_settings(c, doc, lrm)
    local = lrm == "local"
    spool = Path(c.get(site, "site", "spool", str(home / "spool"), text)).expanduser()
    types = _types(c, doc)
    made = Site(
        spool=spool,
        store=Path(c.get(site, "site", "store", str(home / "store"), text)).expanduser(),
        images_dir=Path(c.get(site, "site", "images", str(home / "images"), text)).expanduser(),
        lrm=lrm,
        vmm=vmm,
        adapter=c.get(site, "site", "adapter", ADAPTER_OF[vmm], one_of(ADAPTERS)),
        node_python=c.get(site, "site", "node_python", "" if local else "python3", text),
        default_image=c.get(site, "site", "default_image", "default", check_name),
        jobs=c.get(site, "site", "jobs", None, one_of(("per-workspace", "per-node"))),
        idle_exit_s=c.get(site, "site", "idle_exit", None, parse_duration),
        keep_s=c.get(site, "site", "keep", 7 * 86400, parse_duration),
        allow_root=c.get(site, "site", "allow_root", False, flag),
        guardian=c.get(site, "site", "guardian", True, flag),
        stop_share=c.get(site, "site", "stop_share", 0.6, _share),
        max_duration_s=c.get(site, "site", "max_duration", 7 * 86400, parse_duration),
        node_cpus=c.get(
            site, "site", "node_cpus", _number(settings, "cores", local, 8), count(1, 4096)
        ),
        node_memory_mib=c.get(
            site, "site", "node_memory", _size(settings, "memory", local, 8192), parse_size
        ),
        nodes=c.get(site, "site", "nodes", _number(settings, "nodes", local, 4), count(1, 100_000)),
        poll_s=c.get(settings, f"lrm.{lrm}", "poll", 0.5 if local else 15.0, parse_duration),
        min_poll_s=c.get(
            settings, f"lrm.{lrm}", "min_poll", 0.2 if local else 10.0, parse_duration
        ),
        max_jobs=c.get(settings, f"lrm.{lrm}", "max_jobs", 200, count(1, 100_000)),
        budget=_budget(c, doc),
        types=types,
        networks=_networks(c, doc),
        lrm_settings=settings,
        vmm_options=dict(c.table(c.table(doc, "vmm"), vmm, "vmm.")),
        source=source,
    )
    if not spool.is_absolute():
        c.fault("site.spool", "must be an absolute path")
    _fits(c, made)
    c.done()
    return made


def _lrm_settings(c: Checker, doc: Mapping[str, Any], lrm: str) -> Mapping[str, Any]:
    table = c.table(doc, "lrm")
    c.known(table, "lrm", LRMS)
    for name in LRMS:
        c.known(c.table(table, name, "lrm."), f"lrm.{name}", LRM_KEYS[name])
    settings = dict(c.table(table, lrm, "lrm."))
    if lrm == "torque":
        c.get(settings, "lrm.torque", "start", "pbsdsh", one_of(("pbsdsh", "srun", "ssh")))
    for key in ("extra", "drop"):
        c.get(settings, f"lrm.{lrm}", key, (), texts)
    for key in ("queue", "account", "qos", "reservation"):
        c.get(settings, f"lrm.{lrm}", key, "", text)
    return settings


def _number(settings: Mapping[str, Any], key: str, local: bool, default: int) -> int | None:
    value = settings.get(key, default)
    return value if local and isinstance(value, int) else None


def _size(settings: Mapping[str, Any], key: str, local: bool, default: int) -> int | None:
    return (
        parse_size(settings[key], f"lrm.local.{key}")
        if local and key in settings
        else (default if local else None)
    )


def _budget(c: Checker, doc: Mapping[str, Any]) -> Budget:
    table = c.table(doc, "budget")
    names = tuple(item.name.removesuffix("_s") for item in fields(Budget))
    c.known(table, "budget", names)
    base = Budget()
    return Budget(
        **{
            f"{name}_s": c.get(table, "budget", name, getattr(base, f"{name}_s"), parse_duration)
            for name in names
        }
    )


def _types(c: Checker, doc: Mapping[str, Any]) -> Mapping[str, LeaseType]:
    found: dict[str, LeaseType] = {}
    entries = doc.get("type", [])
    if not isinstance(entries, list):
        c.fault("type", "must be a list: write [[type]]")
        return found
    for n, entry in enumerate(entries):
        where = f"type[{n}]"
        if not isinstance(entry, dict):
            c.fault(where, "must be a table")
            continue
        c.known(entry, where, ("name", "cpus", "memory", "disk", "max_duration", "image"))
        for key in ("name", "memory"):
            if key not in entry:
                c.fault(f"{where}.{key}", "is missing")
        name = c.get(entry, where, "name", "?", check_name)
        if name in found:
            c.fault(f"{where}.name", f"{name} is there twice")
        found[name] = LeaseType(
            name,
            c.get(entry, where, "cpus", 1, count(1, 4096)),
            c.get(entry, where, "memory", 1, parse_size),
            c.get(entry, where, "disk", 0, parse_size),
            c.get(entry, where, "max_duration", 366 * 86400, parse_duration),
            c.get(entry, where, "image", "", check_name),
        )
    if not found:
        c.fault("type", "there is no lease type")
    return found


def _networks(c: Checker, doc: Mapping[str, Any]) -> Mapping[str, Network]:
    found: dict[str, Network] = {}
    for name, entry in c.table(doc, "network").items():
        where = f"network.{clean(name, 40)}"
        if not isinstance(entry, dict):
            c.fault(where, "must be a table")
            continue
        c.known(entry, where, tuple(item.name for item in fields(Network) if item.name != "name"))
        network = Network(
            name,
            c.get(entry, where, "cidr", "", _cidr),
            c.get(entry, where, "way", "user", one_of(("user", "bridge"))),
            c.get(entry, where, "bridge", "", text),
            c.get(entry, where, "gateway", "", _address),
            c.get(entry, where, "dns", (), texts),
            c.get(entry, where, "deny", ("169.254.0.0/16",), texts),
            c.get(entry, where, "restrict", True, flag),
        )
        if "cidr" not in entry:
            c.fault(f"{where}.cidr", "is missing")
        if network.way == "bridge" and not network.bridge:
            c.fault(f"{where}.bridge", "is missing: way bridge needs the bridge's name")
        for other in found.values():
            if _overlap(network, other):
                c.fault(f"{where}.cidr", f"{network.cidr} overlaps {other.name}'s {other.cidr}")
        found[name] = network
    return found


def _cidr(value: Any, where: str) -> str:
    try:
        network = ipaddress.IPv4Network(text(value, where))
    except ValueError as error:
        raise UsageError(f"{where}: {clean(str(error), 120)}", "write it as 10.77.0.0/24") from None
    if network.prefixlen > 30:
        raise UsageError(f"{where}: {value} has no room for guests", "use /30 or larger")
    return str(network)


def _address(value: Any, where: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text(value, where)))
    except ValueError as error:
        raise UsageError(f"{where}: {clean(str(error), 120)}") from None


def _overlap(one: Network, other: Network) -> bool:
    if not one.cidr or not other.cidr:
        return False
    return ipaddress.ip_network(one.cidr).overlaps(ipaddress.ip_network(other.cidr))


def _fits(c: Checker, site: Site) -> None:
    """A type that no node can hold would only ever be refused: say so at once."""
    for kind in site.types.values():
        if site.node_cpus and kind.cpus > site.node_cpus:
            c.fault(f"type {kind.name}", f"{kind.cpus} cpus are more than any node has")
        if site.node_memory_mib and kind.memory_mib > site.node_memory_mib:
            c.fault(f"type {kind.name}", f"{kind.memory_mib} MiB are more than any node has")

"""The site's TOML, checked once, as frozen settings that nothing else needs to check again.

All mistakes of a file are reported together, each with its key's path; an unknown key names its
nearest relative. With no file at all the built-in defaults work anywhere (PROTOCOLS.md section 7).
What may stand in it is in sitekeys.py.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wspilot.checks import (
    Checker,
    Reader,
    show,
)
from wspilot.errors import UsageError
from wspilot.home import home_dir
from wspilot.model import LeaseType
from wspilot.settings import Budget, Images, Network, Policy, Site
from wspilot.sitekeys import (
    ADAPTER_OF,
    BUDGET_KEYS,
    HOLD_S,
    IMAGES_KEYS,
    LRM_KEYS,
    LRMS,
    NETWORK_KEYS,
    PAD_S,
    POLICY_KEYS,
    ROLE_KEYS,
    SECTIONS,
    SITE_KEYS,
    TYPE_KEYS,
    VMM_KEYS,
    VMMS,
)
from wspilot.text import check_name, clean, parse_size

MAX_FILE = 1 << 20
LOCAL_DEFAULTS: Mapping[str, Any] = {"nodes": 4, "cores": 8, "memory": "8GiB"}
BUILT_IN: Mapping[str, Any] = {
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
        return check({}, home, "built-in defaults")
    from tomli import TOMLDecodeError, loads

    name = clean(str(found), 300)
    try:
        if found.stat().st_size > MAX_FILE:
            raise UsageError(f"{name}: is larger than 1 MiB", "is it a site's configuration?")
        doc = loads(found.read_text("utf-8"))
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise UsageError(f"{name}: cannot be read: {why}", "give another --config") from None
    except (TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{name}: not TOML: {clean(str(error), 300)}", "mend that line") from None
    return check(doc, home, name)


def _search() -> Path | None:
    named = os.environ.get("WSPILOT_CONFIG")
    if named:
        return Path(named)
    user = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    places = (user / "wspilot" / "site.toml", Path("/etc/wspilot/site.toml"))
    return next((place for place in places if place.is_file()), None)


def check(doc: Mapping[str, Any], home: Path, source: str) -> Site:
    """The settings of a document. Raises UsageError with all faults at once.

    Lease types and networks are the built-in ones where the document has no such section.
    """
    c = Checker(source)
    c.known(doc, "", SECTIONS)
    table = c.table(doc, "site")
    c.known(table, "site", SITE_KEYS)
    given = _values(c, table, "site", {key: read for key, (_, read) in SITE_KEYS.items()})
    chosen = {SITE_KEYS[key][0]: value for key, value in given.items()}
    lrm = chosen.setdefault("lrm", "local")
    vmm = chosen.setdefault("vmm", "sim")
    chosen.setdefault("adapter", ADAPTER_OF[vmm])
    chosen.setdefault("max_duration_s", Site.max_duration_s)
    for key in ("spool", "store"):
        chosen.setdefault(key, home / key)
    chosen.setdefault("images_dir", home / "images")
    site = Site(
        **{**_lrm(c, doc, lrm), **chosen},
        budget=_budget(c, doc),
        images=_images(c, doc),
        policy=_policy(c, doc),
        types=_types(c, doc, chosen["max_duration_s"]),
        networks=_networks(c, doc),
        vmm_options=_options(c, doc, vmm),
        source=source,
    )
    _together(c, site)
    c.done()
    return site


def _values(
    c: Checker, table: Mapping[str, Any], where: str, keys: Mapping[str, Reader]
) -> dict[str, Any]:
    """What is there and right; wrong values are noted and left out."""
    missing = object()
    found = {key: c.get(table, where, key, missing, read) for key, read in keys.items()}
    return {key: value for key, value in found.items() if value is not missing}


def _lrm(c: Checker, doc: Mapping[str, Any], lrm: str) -> dict[str, Any]:
    """The fields of Site that [lrm.NAME] decides; tables of LRMs not in use are checked too."""
    table = c.table(doc, "lrm")
    c.known(table, "lrm", LRMS)
    read: dict[str, dict[str, Any]] = {}
    for name in LRMS:
        mine = c.table(table, name, "lrm")
        c.known(mine, f"lrm.{name}", LRM_KEYS[name])
        read[name] = _values(c, mine, f"lrm.{name}", LRM_KEYS[name])
    raw = dict(c.table(table, lrm, "lrm")) if isinstance(table.get(lrm, {}), Mapping) else {}
    values, out = read[lrm], {}
    if lrm == "local":
        raw = {**LOCAL_DEFAULTS, **raw}
        out["node_memory_mib"] = values.get("memory", parse_size(LOCAL_DEFAULTS["memory"]))
        out["node_cpus"] = values.get("cores", LOCAL_DEFAULTS["cores"])
        nodes = values.get("nodes", LOCAL_DEFAULTS["nodes"])
        out["nodes"] = nodes if isinstance(nodes, int) else len(nodes)
        if "via" in values:
            _far(c, nodes, values["via"])
    least = float(values.get("min_poll", 0.2 if lrm == "local" else Site.min_poll_s))
    poll = float(values.get("poll", max(least, 0.5 if lrm == "local" else Site.poll_s)))
    if poll < least:
        c.fault(f"lrm.{lrm}.poll", f"{poll:g}s is less than min_poll, {least:g}s")
    out.update(poll_s=poll, min_poll_s=least, lrm_settings=raw)
    out["max_jobs"] = values.get("max_jobs", Site.max_jobs)
    out["node_python"] = "" if lrm == "local" and "via" not in values else "python3"
    return out


def _far(c: Checker, nodes: int | tuple[str, ...], via: tuple[str, ...]) -> None:
    if isinstance(nodes, int):
        c.fault("lrm.local.via", 'needs the hosts\' names: nodes = ["n1", "n2"]')
    if not any("{node}" in word for word in via):
        like = '["ssh", "{node}", "{command}"]'
        c.fault("lrm.local.via", f"no word has {{node}} in it; write it like {like}")


def _options(c: Checker, doc: Mapping[str, Any], vmm: str) -> Mapping[str, Any]:
    table = c.table(doc, "vmm")
    c.known(table, "vmm", VMMS)
    read = {}
    for name in VMMS:
        mine = c.table(table, name, "vmm")
        c.known(mine, f"vmm.{name}", VMM_KEYS[name])
        read[name] = _values(c, mine, f"vmm.{name}", VMM_KEYS[name])
    return read[vmm]


def _budget(c: Checker, doc: Mapping[str, Any]) -> Budget:
    table = c.table(doc, "budget")
    c.known(table, "budget", BUDGET_KEYS)
    values = _values(c, table, "budget", BUDGET_KEYS)
    return Budget(**{f"{key}_s": value for key, value in values.items()})


def _images(c: Checker, doc: Mapping[str, Any]) -> Images:
    table = c.table(doc, "images")
    c.known(table, "images", IMAGES_KEYS)
    read = {key: reader for key, (_, reader) in IMAGES_KEYS.items()}
    values = _values(c, table, "images", read)
    return Images(**{IMAGES_KEYS[key][0]: value for key, value in values.items()})


def _policy(c: Checker, doc: Mapping[str, Any]) -> Policy:
    table = c.table(doc, "policy")
    c.known(table, "policy", POLICY_KEYS)
    given = _values(c, table, "policy", {key: read for key, (_, read, _) in POLICY_KEYS.items()})
    name = given.get("name", Policy.name)
    for key, (_, _, whose) in POLICY_KEYS.items():
        if key in table and name not in whose:
            names = " or ".join(f'"{one}"' for one in whose)
            c.fault(f"policy.{key}", f"needs name = {names}")
    given.setdefault("pad", PAD_S.get(name, Policy.pad_s))
    given.setdefault("hold", HOLD_S.get(name, Policy.hold_s))
    return Policy(**{POLICY_KEYS[key][0]: value for key, value in given.items()})


def _types(c: Checker, doc: Mapping[str, Any], longest_s: int) -> Mapping[str, LeaseType]:
    found: dict[str, LeaseType] = {}
    entries = doc.get("type", BUILT_IN["type"])
    if not isinstance(entries, list) or not entries:
        c.fault("type", "must be a list of lease types: write [[type]]")
        return found
    for n, entry in enumerate(entries):
        where = f"type[{n}]"
        if not isinstance(entry, Mapping):
            c.fault(where, "must be a table")
            continue
        c.known(entry, where, TYPE_KEYS)
        for key in ("name", "memory"):
            if key not in entry:
                c.fault(f"{where}.{key}", "is missing")
        values = _values(c, entry, where, TYPE_KEYS)
        name = values.get("name", f"?{n}")
        if name in found:
            c.fault(f"{where}.name", f"{name} is there twice")
        found[name] = LeaseType(
            name,
            values.get("cpus", 1),
            values.get("memory", 1),
            values.get("disk", 0),
            values.get("max_duration", longest_s),
            values.get("image", ""),
            values.get("nics"),
            values.get("ready", ""),
            values.get("placement", ""),
            **roles(c, entry, where),
        )
    return found


def roles(c: Checker, entry: Mapping[str, Any], where: str) -> dict[str, tuple[str, ...]]:
    """What a group, or every group of a lease type, provides and requires."""
    table = c.table(entry, "roles", where)
    c.known(table, f"{where}.roles", ROLE_KEYS)
    return {key: c.get(table, f"{where}.roles", key, (), read) for key, read in ROLE_KEYS.items()}


def _networks(c: Checker, doc: Mapping[str, Any]) -> Mapping[str, Network]:
    found: dict[str, Network] = {}
    for name, entry in c.table({**BUILT_IN, **doc}, "network").items():
        where = f"network.{show(name)}"
        if not isinstance(entry, Mapping):
            c.fault(where, "must be a table: write [network.NAME]")
            continue
        c.get({"name": name}, "network", "name", "", check_name)
        c.known(entry, where, NETWORK_KEYS)
        values = _values(c, entry, where, NETWORK_KEYS)
        network = Network(name=name, **{"cidr": "", **values})
        _network(c, where, entry, network)
        for other in found.values():
            if _overlap(network, other):
                c.fault(f"{where}.cidr", f"{network.cidr} overlaps {other.name}'s {other.cidr}")
        found[name] = network
    return found


def _network(c: Checker, where: str, entry: Mapping[str, Any], network: Network) -> None:
    if "cidr" not in entry:
        c.fault(f"{where}.cidr", 'is missing: write cidr = "10.77.0.0/24"')
    if network.way == "bridge" and "bridge" not in entry:
        c.fault(f"{where}.bridge", "is missing: way bridge needs the bridge's name")
    if network.way == "user" and "bridge" in entry:
        c.fault(f"{where}.bridge", 'needs way = "bridge"')
    if network.gateway and network.cidr:
        cidr_, gateway = ipaddress.IPv4Network(network.cidr), ipaddress.IPv4Address(network.gateway)
        ends = (cidr_.network_address, cidr_.broadcast_address)
        if gateway not in cidr_ or gateway in ends:
            c.fault(f"{where}.gateway", f"{gateway} is no host of {cidr_}")


def _overlap(one: Network, other: Network) -> bool:
    if not one.cidr or not other.cidr:
        return False
    return ipaddress.ip_network(one.cidr).overlaps(ipaddress.ip_network(other.cidr))


def _together(c: Checker, site: Site) -> None:
    """What only the whole file can get wrong: a type that no node holds, or no such adapter."""
    if site.adapter == "balloon" and site.vmm != "xen":
        c.fault("site.adapter", f"balloon needs vmm xen, not {site.vmm}")
    if site.policy.type and site.policy.type not in site.types:
        near = c.near(site.policy.type, site.types)
        c.fault("policy.type", f"no lease type {site.policy.type!r}{near}")
    for n, kind in enumerate(site.types.values()):
        for name in kind.nics or ():
            if name not in site.networks:
                c.fault(
                    f"type[{n}].nics", f"no network {show(name)!r}{c.near(name, site.networks)}"
                )
        if site.node_cpus and kind.cpus > site.node_cpus:
            c.fault(
                f"type[{n}].cpus",
                f"{kind.cpus} are more than the {site.node_cpus} of any node ({kind.name})",
            )
        if site.node_memory_mib and kind.memory_mib > site.node_memory_mib:
            c.fault(
                f"type[{n}].memory",
                f"{kind.memory_mib} MiB are more than the {site.node_memory_mib} of any node "
                f"({kind.name})",
            )


__all__ = ["Budget", "Network", "Policy", "Site", "check", "load"]

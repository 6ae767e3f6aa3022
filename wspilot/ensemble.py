"""Requests for leases: an ensemble's TOML, or a lease type, checked against the site.

The one validator: `deploy`, `deploy --dry-run` and the TUI's builder all come here. Every fault is
reported, each with its place, and nothing has changed when there is one (PROTOCOLS.md section 7).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wspilot.config import Checker, Site, count, one_of, texts
from wspilot.errors import UsageError
from wspilot.images import READY, Image
from wspilot.model import Group
from wspilot.text import check_name, clean, did_you_mean, format_duration, parse_duration

MAX_VMS = 10_000
PLACEMENTS = ("spread", "pack")
_GROUP_KEYS = ("name", "type", "image", "count", "min", "nics", "roles", "ready", "placement")


@dataclass(frozen=True)
class Request:
    """A checked request: nothing in it needs to be checked again. `name` may be empty."""

    name: str
    duration_s: int
    groups: tuple[Group, ...]


def override(doc: Mapping[str, Any], name: Any = None, duration: Any = None) -> dict[str, Any]:
    """The document with `--name` and `--duration` in place of the file's."""
    table = doc.get("workspace", {})
    table = dict(table) if isinstance(table, dict) else {}
    if name is not None:
        table["name"] = name
    if duration is not None:
        table["duration"] = duration
    return {**doc, "workspace": table}


def from_type(
    *,
    type: str,
    image: str,
    count: int,
    duration: int,
    name: str,
    site: Site,
    images: Mapping[str, Image],
) -> Request:
    """`deploy --type T`: one group `vm`, on the site's first network. Raises UsageError."""
    group: dict[str, Any] = {"name": "vm", "type": type, "count": count}
    if image:
        group["image"] = image
    workspace: dict[str, Any] = {"duration": f"{duration}s"}
    if name:
        workspace["name"] = name
    return parse_ensemble({"workspace": workspace, "group": [group]}, site, images)


def parse_ensemble(
    doc: Mapping[str, Any], site: Site, images: Mapping[str, Image], source: str = "ensemble"
) -> Request:
    """Check a whole document. Raises UsageError with every fault and its place."""
    c = Checker(source)
    c.known(doc, "", ("workspace", "group"))
    workspace = c.table(doc, "workspace")
    c.known(workspace, "workspace", ("name", "duration"))
    name = c.get(workspace, "workspace", "name", "", check_name)
    if "duration" not in workspace:
        c.fault("workspace.duration", 'is missing: write duration = "2h"')
    duration = c.get(workspace, "workspace", "duration", 60, parse_duration)
    if duration <= 0:
        c.fault("workspace.duration", "must be more than nothing")
    elif duration > site.max_duration_s:
        c.fault(
            "workspace.duration",
            f"{format_duration(duration)} is over the site's limit of "
            f"{format_duration(site.max_duration_s)}",
        )
    entries = doc.get("group", [])
    if not isinstance(entries, list) or not entries:
        c.fault("group", "there is none: write [[group]] with a name and a type")
        entries = []
    groups = [
        _group(c, entry, f"group[{n}]", duration, site, images) for n, entry in enumerate(entries)
    ]
    _together(c, [group for group in groups if group is not None], site)
    c.done()
    return Request(name, duration, tuple(group for group in groups if group is not None))


def _group(
    c: Checker, entry: Any, where: str, duration: int, site: Site, images: Mapping[str, Image]
) -> Group | None:
    if not isinstance(entry, dict):
        c.fault(where, "must be a table")
        return None
    c.known(entry, where, _GROUP_KEYS)
    for key in ("name", "type"):
        if key not in entry:
            c.fault(f"{where}.{key}", "is missing")
    type_name = entry.get("type")
    kind = site.types.get(type_name) if isinstance(type_name, str) else None
    if kind is None:
        word = clean(str(type_name), 60)
        if "type" in entry:
            c.fault(f"{where}.type", f"no lease type {word!r}; {did_you_mean(word, site.types)}")
        return None
    if duration > kind.max_duration_s:
        c.fault(
            f"{where}.type",
            f"{kind.name} may be leased for at most {format_duration(kind.max_duration_s)}",
        )
    number = c.get(entry, where, "count", 1, count(1, MAX_VMS))
    least = c.get(entry, where, "min", number, count(0, MAX_VMS))
    if least > number:
        c.fault(f"{where}.min", f"{least} is more than count, {number}")
    image = _image(c, entry, where, kind.image or site.default_image, kind.memory_mib, images)
    provides, requires = _roles(c, entry, where)
    default_nics = list(site.networks)[:1]
    nics = c.get(entry, where, "nics", tuple(default_nics), texts)
    for network in nics:
        if network not in site.networks:
            c.fault(
                f"{where}.nics", f"no network {network!r}; {did_you_mean(network, site.networks)}"
            )
    return Group(
        name=c.get(entry, where, "name", "?", check_name),
        type=kind.name,
        count=number,
        min=least,
        image=image,
        cpus=kind.cpus,
        memory_mib=kind.memory_mib,
        disk_mib=kind.disk_mib,
        nics=nics,
        provides=provides,
        requires=requires,
        ready=c.get(entry, where, "ready", _ready(images, image), one_of(READY)),
        placement=c.get(entry, where, "placement", "spread", one_of(PLACEMENTS)),
    )


def _ready(images: Mapping[str, Image], name: str) -> str:
    return images[name].ready if name in images else "agent"


def _image(
    c: Checker,
    entry: Mapping[str, Any],
    where: str,
    default: str,
    memory_mib: int,
    images: Mapping[str, Image],
) -> str:
    name: str = c.get(entry, where, "image", default, check_name)
    image = images.get(name)
    if image is None:
        c.fault(f"{where}.image", f"no image {name!r}; {did_you_mean(name, images)}")
    elif image.fault:
        c.fault(f"{where}.image", f"{name} cannot be used: {image.fault}")
    elif image.memory_mib > memory_mib:
        c.fault(f"{where}.image", f"{name} needs {image.memory_mib} MiB, the type has {memory_mib}")
    return name


def _roles(c: Checker, entry: Mapping[str, Any], where: str) -> tuple[tuple[str, ...], ...]:
    table = c.table(entry, "roles", f"{where}.")
    c.known(table, f"{where}.roles", ("provides", "requires"))
    return tuple(c.get(table, f"{where}.roles", key, (), texts) for key in ("provides", "requires"))


def _together(c: Checker, groups: list[Group], site: Site) -> None:
    """What only the whole request can get wrong."""
    names = [group.name for group in groups]
    for name in sorted({name for name in names if names.count(name) > 1}):
        c.fault("group", f"two groups are named {name}")
    provided = {role for group in groups for role in group.provides}
    for n, group in enumerate(groups):
        for role in group.requires:
            if role not in provided:
                c.fault(
                    f"group[{n}].roles.requires",
                    f"nobody provides {role!r}; {did_you_mean(role, provided)}",
                )
    total = sum(group.count for group in groups)
    if total > MAX_VMS:
        c.fault("group", f"{total} VMs are over the limit of {MAX_VMS}")
    spread = sum(group.count for group in groups if group.placement == "spread")
    if site.nodes is not None and spread > site.nodes:
        c.fault(
            "group",
            f"{spread} VMs with a node each are more than the site's {site.nodes} "
            'nodes (placement = "pack" puts several on one)',
        )


__all__ = ["Request", "UsageError", "from_type", "override", "parse_ensemble"]

"""Requests for leases: an ensemble's TOML, or a lease type, checked against the site.

The one validator: `deploy`, `deploy --dry-run` and the TUI's builder all come here. Every fault is
reported, each with its place, and nothing has changed when there is one (PROTOCOLS.md section 7).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from wspilot.checks import Checker, Reader, at, count, duration, list_of, one_of, quoted, text
from wspilot.config import Site, roles
from wspilot.errors import UsageError
from wspilot.images import Image
from wspilot.model import READY, Group, LeaseType
from wspilot.sitekeys import PLACEMENTS
from wspilot.text import check_name, format_duration

MAX_VMS = 10_000
MAX_USER_DATA = 16 * 1024
_KEY = re.compile(r"(ssh|ecdsa|sk)-[A-Za-z0-9@.-]+ [A-Za-z0-9+/=]+( [^\x00-\x1f\x7f]*)?")


def ssh_key(value: Any, where: str) -> str:
    """One line of an authorized_keys file, without options. Raises UsageError."""
    if not isinstance(value, str) or len(value) > 2000 or not _KEY.fullmatch(value.strip()):
        raise UsageError(
            f"{where}: {quoted(str(value)[:40])} is no ssh public key",
            'as in ~/.ssh/id_ed25519.pub: "ssh-ed25519 AAAA... you@there"',
        )
    return value.strip()


def user_data(value: Any, where: str) -> str:
    """A script or cloud-config for the guests. Raises UsageError."""
    if not isinstance(value, str) or "\0" in value:
        raise UsageError(f"{where}: must be a text")
    if len(value.encode()) > MAX_USER_DATA:
        raise UsageError(
            f"{where}: {len(value.encode())} bytes are more than {MAX_USER_DATA}",
            "put what is large into the image, or let the script fetch it",
        )
    if not value.startswith(("#!", "#cloud-config")):
        raise UsageError(f'{where}: must begin with "#!" (a script) or "#cloud-config"')
    return value


WORKSPACE_KEYS: Mapping[str, Reader] = {
    "name": check_name,
    "duration": duration(1),
    "ssh_keys": list_of(ssh_key, 32),
}
GROUP_KEYS: Mapping[str, Reader] = {
    "name": check_name,
    "type": text,
    "image": check_name,
    "count": count(1, MAX_VMS),
    "min": count(1, MAX_VMS),
    "nics": list_of(text, 8),
    "roles": lambda value, where: value,  # a table of its own: ROLE_KEYS
    "ready": one_of(READY),
    "placement": one_of(PLACEMENTS),
    "user_data": user_data,
}


@dataclass(frozen=True)
class Request:
    """A checked request: nothing in it needs to be checked again. `name` may be empty."""

    name: str
    duration_s: int
    """Of the lease, seconds."""
    groups: tuple[Group, ...]
    keys: tuple[str, ...] = ()
    """Ssh public keys that may log in; empty: those of whoever runs the daemon."""


def override(doc: Mapping[str, Any], name: Any = None, duration: Any = None) -> dict[str, Any]:
    """The document with `--name` and `--duration` in place of the file's."""
    table = doc.get("workspace", {})
    if not isinstance(table, Mapping) or (name is None and duration is None):
        return dict(doc)
    given = {"name": name, "duration": duration}
    new = {**table, **{key: value for key, value in given.items() if value is not None}}
    return {**doc, "workspace": new}


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
    """`deploy --type T`: one group `vm`, on the site's first network. Raises UsageError.

    `duration` in seconds; an empty image or name is the default one.
    """
    group: dict[str, Any] = {"name": "vm", "type": type, "count": count}
    if image:
        group["image"] = image
    workspace: dict[str, Any] = {"duration": f"{duration}s"}
    if name:
        workspace["name"] = name
    doc = {"workspace": workspace, "group": [group]}
    return _parse(doc, site, images, Checker("deploy"), "", lambda n: "")


def parse_ensemble(
    doc: Mapping[str, Any], site: Site, images: Mapping[str, Image], source: str = "ensemble"
) -> Request:
    """Check a whole document. Raises UsageError with every fault and its place."""
    return _parse(doc, site, images, Checker(source), "workspace", lambda n: f"group[{n}]")


def _parse(
    doc: Mapping[str, Any],
    site: Site,
    images: Mapping[str, Image],
    c: Checker,
    top: str,
    place: Callable[[int], str],
) -> Request:
    c.known(doc, "", ("workspace", "group"))
    workspace = c.table(doc, "workspace")
    c.known(workspace, top, WORKSPACE_KEYS)
    name = c.get(workspace, top, "name", "", WORKSPACE_KEYS["name"])
    seconds = c.get(workspace, top, "duration", 1, WORKSPACE_KEYS["duration"])
    if "duration" not in workspace:
        c.fault(at(top, "duration"), 'is missing: write duration = "2h"')
    if seconds > site.max_duration_s:
        limit = format_duration(site.max_duration_s)
        over = f"{format_duration(seconds)} is over the site's limit of {limit}"
        c.fault(at(top, "duration"), over)
    entries = doc.get("group", [])
    if not isinstance(entries, list) or not entries:
        c.fault("group", "there is none: write [[group]] with a name and a type")
        entries = []
    groups = []
    for n, entry in enumerate(entries):
        if isinstance(entry, Mapping):
            groups.append(_Reading(c, entry, place(n), site, images).group(seconds))
        else:
            c.fault(place(n), "must be a table: write [[group]]")
    keys = c.get(workspace, top, "ssh_keys", (), WORKSPACE_KEYS["ssh_keys"])
    _together(c, groups, site, place)
    c.done()
    return Request(name, seconds, tuple(groups), keys)


@dataclass(frozen=True)
class _Reading:
    """One [[group]] being read: what is missing or wrong is noted, and stands as its default."""

    c: Checker
    entry: Mapping[str, Any]
    where: str
    site: Site
    images: Mapping[str, Image]

    def group(self, duration_s: int) -> Group:
        self.c.known(self.entry, self.where, GROUP_KEYS)
        if "name" not in self.entry:
            self._fault("name", "is missing")
        kind = self._type(duration_s)
        image = self._image(kind)
        number = self._get("count", 1)
        least = self._get("min", number)
        if "min" in self.entry and least > number:
            self._fault("min", f"{least} is more than count, {number}")
        nics = self._nics(kind)
        return Group(
            name=self._get("name", ""),
            type=kind.name if kind else "",
            count=number,
            min=least,
            image=image.name if image else "",
            cpus=kind.cpus if kind else 1,
            memory_mib=kind.memory_mib if kind else 1,
            disk_mib=kind.disk_mib if kind else 0,
            nics=nics,
            ready=self._ready(kind, image, nics),
            placement=self._get("placement", (kind and kind.placement) or "spread"),
            **self._roles(kind),
            user_data=self._get("user_data", ""),
        )

    def _type(self, duration_s: int) -> LeaseType | None:
        if "type" not in self.entry:
            self._fault("type", "is missing" + self.c.near("", self.site.types))
            return None
        name = self._get("type", None)
        kind = self.site.types.get(name)
        if kind is None:
            if name is not None:
                near = self.c.near(name, self.site.types)
                self._fault("type", f"no lease type {quoted(name)}{near}")
            return None
        if duration_s > kind.max_duration_s:
            limit = format_duration(kind.max_duration_s)
            self._fault("type", f"{kind.name} may be leased for at most {limit}")
        return kind

    def _image(self, kind: LeaseType | None) -> Image | None:
        default = (kind.image if kind else "") or self.site.default_image
        name = self._get("image", default)
        image = self.images.get(name)
        if image is None:
            self._fault("image", f"no image {quoted(name)}{self.c.near(name, self.images)}")
        elif image.fault:
            self._fault("image", f"{name} cannot be used: {image.fault}")
        elif kind and image.memory_mib > kind.memory_mib:
            needs = f"{name} needs {image.memory_mib} MiB, type {kind.name} has {kind.memory_mib}"
            self._fault("image", needs)
        return image

    def _roles(self, kind: LeaseType | None) -> dict[str, tuple[str, ...]]:
        """The group's own, each kind of role apart; else its type's."""
        own = roles(self.c, self.entry, self.where)
        said = self.entry.get("roles")
        given = said if isinstance(said, Mapping) else {}
        return {
            key: own[key] if key in given or kind is None else getattr(kind, key) for key in own
        }

    def _nics(self, kind: LeaseType | None) -> tuple[str, ...]:
        first = tuple(self.site.networks)[:1]
        types = kind.nics if kind else None
        nics: tuple[str, ...] = self._get("nics", first if types is None else types)
        for name, times in Counter(nics).items():
            if name not in self.site.networks:
                near = self.c.near(name, self.site.networks)
                self._fault("nics", f"no network {quoted(name)}{near}")
            elif times > 1:
                self._fault("nics", f"{name} is there twice")
        return nics

    def _ready(self, kind: LeaseType | None, image: Image | None, nics: tuple[str, ...]) -> str:
        default = (kind.ready if kind else "") or (image.ready if image else "agent")
        ready: str = self._get("ready", default)
        if ready == "address" and not nics:
            self._fault("ready", "address needs a NIC: nothing could answer")
        return ready

    def _get(self, key: str, default: Any) -> Any:
        return self.c.get(self.entry, self.where, key, default, GROUP_KEYS[key])

    def _fault(self, key: str, what: str) -> None:
        self.c.fault(at(self.where, key), what)


def _together(c: Checker, groups: list[Group], site: Site, place: Callable[[int], str]) -> None:
    """What only the whole request can get wrong."""
    for name, times in Counter(group.name for group in groups if group.name).items():
        if times > 1:
            c.fault("group", f"{times} groups are named {name}")
    provided = {role for group in groups for role in group.provides}
    for n, group in enumerate(groups):
        for role in group.requires:
            if role not in provided:
                near = c.near(role, provided)
                c.fault(at(place(n), "roles.requires"), f"nobody provides {role!r}{near}")
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


__all__ = ["Request", "from_type", "override", "parse_ensemble"]

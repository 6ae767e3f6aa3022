"""An ensemble that is being written: the document itself, changed field by field. Pure.

What is typed is kept as it is typed: the daemon's validator says what is wrong with it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from wspilot.text import format_duration, parse_duration

Doc = dict[str, Any]
LISTS = ("nics", "provides", "requires")
NUMBERS = ("count", "min")
EMPTY: Doc = {"workspace": {"duration": "2h"},
              "group": [{"name": "vm", "type": "small", "count": 1}]}  # fmt: skip


def empty(types: Sequence[str] = ()) -> Doc:
    """Something to begin with."""
    doc = copy.deepcopy(EMPTY)
    if types and "small" not in types:
        doc["group"][0]["type"] = types[0]
    return doc


def groups(doc: Mapping[str, Any]) -> list[Doc]:
    """The groups, where they are what they should be."""
    found = doc.get("group")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def field(table: Mapping[str, Any], name: str) -> str:
    """A value as it stands in the form."""
    if name in ("provides", "requires"):
        roles = table.get("roles")
        value = roles.get(name) if isinstance(roles, Mapping) else None
    else:
        value = table.get(name)
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def with_workspace(doc: Mapping[str, Any], name: str, text: str) -> Doc:
    """The document with another name or duration."""
    new = copy.deepcopy(dict(doc))
    table = new.get("workspace")
    table = table if isinstance(table, dict) else {}
    _put(table, name, text.strip())
    table = {key: table[key] for key in sorted(table, key=lambda key: key != "name")}
    return {"workspace": table, **{key: one for key, one in new.items() if key != "workspace"}}


def with_group(doc: Mapping[str, Any], at: int, name: str, text: str) -> Doc:
    """The document with another value in one group."""
    new = copy.deepcopy(dict(doc))
    found = groups(new)
    if 0 <= at < len(found):
        _put(found[at], name, text.strip())
    return new


def _put(table: Doc, name: str, text: str) -> None:
    value: Any = text
    if name in LISTS:
        value = [part for part in re.split(r"[,\s]+", text) if part]
    elif name in NUMBERS and text.isascii() and text.isdecimal() and len(text) < 10:
        value = int(text)
    if name in ("provides", "requires"):
        roles = table.get("roles")
        roles = dict(roles) if isinstance(roles, Mapping) else {}
        roles.pop(name, None) if not value else roles.update({name: value})
        name, value = "roles", roles
    if value in ("", [], {}):
        table.pop(name, None)
    else:
        table[name] = value


def added(doc: Mapping[str, Any], types: Sequence[str]) -> tuple[Doc, int]:
    """One group more, and its place."""
    new = copy.deepcopy(dict(doc))
    found = new.setdefault("group", [])
    if not isinstance(found, list):
        new["group"] = found = []
    kind = types[0] if types else "small"
    found.append({"name": free_name("group", groups(new)), "type": kind, "count": 1})
    return new, len(groups(new)) - 1


def copied(doc: Mapping[str, Any], at: int) -> tuple[Doc, int]:
    """A copy of a group behind it, and its place."""
    new = copy.deepcopy(dict(doc))
    found = groups(new)
    if not 0 <= at < len(found):
        return new, at
    twin = copy.deepcopy(found[at])
    base = re.sub(r"-?\d+$", "", str(twin.get("name", ""))) or "group"
    twin["name"] = free_name(base, found)
    new["group"].insert(new["group"].index(found[at]) + 1, twin)
    return new, at + 1


def removed(doc: Mapping[str, Any], at: int) -> tuple[Doc, int]:
    """Without a group."""
    new = copy.deepcopy(dict(doc))
    if 0 <= at < len(groups(new)):
        del new["group"][at]
    return new, max(0, min(at, len(groups(new)) - 1))


def moved(doc: Mapping[str, Any], at: int, by: int) -> tuple[Doc, int]:
    """A group further up or down."""
    new = copy.deepcopy(dict(doc))
    to = at + by
    if 0 <= at < len(groups(new)) and 0 <= to < len(groups(new)):
        new["group"].insert(to, new["group"].pop(at))
        return new, to
    return new, at


def free_name(base: str, taken: Sequence[Mapping[str, Any]]) -> str:
    """`base`, or with the first number that is free."""
    names = {one.get("name") for one in taken}
    return next(one for n in range(1, 10_001) if (one := base if n == 1 else f"{base}-{n}")
                not in names or n == 10_000)  # fmt: skip


def like_workspace(ws: Mapping[str, Any]) -> Doc:
    """The ensemble of an existing workspace, under another name."""
    seconds = int(ws.get("lease_s") or 7200)
    duration = format_duration(seconds)
    if parse_duration(duration) != seconds:
        duration = f"{seconds}s"
    made = []
    for group in ws.get("groups", ()):
        one: Doc = {key: group[key] for key in ("name", "type", "count") if key in group}
        if group.get("min", group.get("count")) != group.get("count"):
            one["min"] = group["min"]
        one |= {key: group[key] for key in ("image", "ready", "placement") if group.get(key)}
        if group.get("nics"):
            one["nics"] = list(group["nics"])
        roles = {key: list(value) for key, value in (group.get("roles") or {}).items() if value}
        made.append({**one, "roles": roles} if roles else one)
    name = re.sub(r"-\d+$", "", str(ws.get("name", "")))[:28]
    return {"workspace": {"name": f"{name}-2", "duration": duration}, "group": made}

"""An ensemble that is being written: the document itself, changed field by field. Pure.

What is typed is kept as it is typed: the daemon's validator says what is wrong with it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

import tomllib

from wspilot.text import clean, format_duration, parse_duration, visible
from wspilot.tui.builder.files import MOST_BYTES
from wspilot.tui.builder.toml_out import said

Doc = dict[str, Any]
LISTS = ("nics", "provides", "requires")
NUMBERS = ("count", "min")
DEEPEST = 16  # tables and lists in each other: more is a trap for whoever walks through them
EMPTY: Doc = {"workspace": {"duration": "2h"},
              "group": [{"name": "vm", "type": "small", "count": 1}]}  # fmt: skip


def read(text: str) -> tuple[Doc, str]:
    """(what a text says, why it cannot be read: empty when it can)."""
    if len(text) > MOST_BYTES:
        return {}, "it is too large for an ensemble"
    try:
        doc = tomllib.loads(text)
    except RecursionError:
        return {}, "it is nested too deeply"
    except ValueError as error:
        return {}, clean(str(error), 300)
    return (doc, "") if _shallow(doc) else ({}, "it is nested too deeply")


def _shallow(doc: Doc) -> bool:
    level: list[Any] = [doc]
    for _ in range(DEEPEST):
        inner = [one.values() if isinstance(one, dict) else one for one in level
                 if isinstance(one, (dict, list))]  # fmt: skip
        level = [one for some in inner for one in some]
    return not any(isinstance(one, (dict, list)) for one in level)


def odd(doc: Mapping[str, Any]) -> str:
    """Why the form cannot change it: what is no table is put right by hand; empty when it can."""
    if not isinstance(doc.get("workspace", {}), Mapping):
        return "workspace is no table: write [workspace]"
    found = doc.get("group", [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        return "group is no list of tables: write [[group]]"
    return ""


def empty(types: Sequence[str] = ()) -> Doc:
    """Something to begin with."""
    doc = copy.deepcopy(EMPTY)
    if types and "small" not in types:
        doc["group"][0]["type"] = types[0]
    return doc


def groups(doc: Mapping[str, Any]) -> list[Doc]:
    """The groups; none where they are not what they should be."""
    return [] if odd(doc) else list(doc.get("group", []))


def workspace(doc: Mapping[str, Any]) -> Mapping[str, Any]:
    """Its table; empty where it is none."""
    found = doc.get("workspace")
    return found if isinstance(found, Mapping) else {}


def field(table: Mapping[str, Any], name: str) -> str:
    """A value as it stands in the form: with signs for what a terminal would act upon."""
    if name in ("provides", "requires"):
        roles = table.get("roles")
        value = roles.get(name) if isinstance(roles, Mapping) else None
    else:
        value = table.get(name)
    if value is None:
        return ""
    return ", ".join(map(_shown, value)) if isinstance(value, list) else _shown(value)


def _shown(value: Any) -> str:
    return visible(value if isinstance(value, str) else said(value))


def with_workspace(doc: Mapping[str, Any], name: str, text: str) -> Doc:
    """The document with another name or duration."""
    new = copy.deepcopy(dict(doc))
    if odd(doc):
        return new
    table = new.pop("workspace", {})
    _put(table, name, text.strip())
    table = {key: table[key] for key in sorted(table, key=lambda key: key != "name")}
    return {"workspace": table, **new}


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
    found = groups(doc)
    kind = types[0] if types and "small" not in types else "small"
    one = {"name": free_name("group", found), "type": kind, "count": 1}
    return _regrouped(doc, [*found, one]), len(found)


def copied(doc: Mapping[str, Any], at: int) -> tuple[Doc, int]:
    """A copy of a group behind it, and its place."""
    found = groups(doc)
    if not 0 <= at < len(found):
        return _regrouped(doc, found), at
    base = re.sub(r"-?\d+$", "", str(found[at].get("name", ""))) or "group"
    twin = {**found[at], "name": free_name(base, found)}
    return _regrouped(doc, [*found[: at + 1], twin, *found[at + 1 :]]), at + 1


def removed(doc: Mapping[str, Any], at: int) -> tuple[Doc, int]:
    """Without a group."""
    found = groups(doc)
    kept = [one for n, one in enumerate(found) if n != at]
    return _regrouped(doc, kept), max(0, min(at, len(kept) - 1))


def moved(doc: Mapping[str, Any], at: int, by: int) -> tuple[Doc, int]:
    """A group further up or down."""
    found, to = groups(doc), at + by
    if 0 <= at < len(found) and 0 <= to < len(found):
        found.insert(to, found.pop(at))
        at = to
    return _regrouped(doc, found), at


def _regrouped(doc: Mapping[str, Any], found: list[Doc]) -> Doc:
    """The document with these groups; an odd one stays as it is."""
    new = copy.deepcopy(dict(doc))
    if not odd(doc):
        new.pop("group", None)
        new |= {"group": copy.deepcopy(found)} if found else {}
    return new


def free_name(base: str, taken: Sequence[Mapping[str, Any]]) -> str:
    """`base`, or with the first number that is free."""
    names = {name for one in taken if isinstance(name := one.get("name"), str)}
    numbers = range(2, len(names) + 3)
    return next(one for one in (base, *(f"{base}-{n}" for n in numbers)) if one not in names)


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


def left_out(ws: Mapping[str, Any]) -> str:
    """What `like_workspace` cannot know, in words; empty for nothing: scripts are told nobody."""
    groups = [clean(str(one.get("name")), 40) for one in ws.get("groups", ())
              if one.get("scripted", True)]  # fmt: skip
    if not groups:
        return ""
    return (f"Not taken over: user_data of {', '.join(groups)}, and ssh_keys where it named any. "
            "Write them into the TOML (F9).")  # fmt: skip

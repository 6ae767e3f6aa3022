"""Changes in a TOML that somebody wrote: comments and layout stay. Pure.

The text is cut into blocks (what stands before the first table, [workspace], each [[group]]), a
block into statements, and only what has changed is written anew. A text that cannot be cut so, or
that would then not say exactly what is meant, is written anew as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tomllib

from wspilot.tui.builder.toml_out import dumps, statements

Table = Mapping[str, Any]
Statement = tuple[str, list[str]]  # (its key; empty: a comment, a header, other tables), its lines
Block = tuple[str, list[str]]  # (workspace, group, or empty), its lines
_HEADER = re.compile(r"\s*(?:\[\s*(workspace)\s*\]|\[\[\s*(group)\s*\]\])\s*(?:#.*)?")


def edited(text: str, doc: Table) -> str:
    """The text that says `doc`, as near to the old one as it can be."""
    try:
        old = tomllib.loads(text)
        new = "\n".join(_edited(_blocks(text), old, doc))
        if tomllib.loads(new) == doc:
            return new
    except (ValueError, RecursionError):
        pass
    return dumps(doc)


def _edited(blocks: list[Block], old: Table, new: Table) -> list[str]:
    """The lines. Raises ValueError where blocks and tables do not fit together."""
    before, after = old.get("group", []), new.get("group", [])
    mine = [lines for kind, lines in blocks if kind == "group"]
    if len(mine) != len(before):
        raise ValueError("groups in another form")
    groups = [_group(mine, before, one, at) for one, at in zip(after, _sources(before, after))]
    out: list[str] = []
    last = max((n for n, (kind, _) in enumerate(blocks) if kind == "group"), default=len(blocks))
    for n, (kind, lines) in enumerate(blocks):
        if kind == "workspace":
            out += _changed(lines, old.get("workspace", {}), new.get("workspace", {}))
        elif kind != "group":
            out += lines
        else:
            out += groups.pop(0) if groups else []
        if n == last:
            out += _joined(groups, out)
    return out + _joined(groups, out) if last == len(blocks) else out


def _joined(groups: list[list[str]], above: Sequence[str]) -> list[str]:
    """What comes behind all others, an empty line before each."""
    out: list[str] = []
    while groups:
        if (out or above) and (out or above)[-1].strip():
            out.append("")
        out += groups.pop(0)
    return out


def _blocks(text: str) -> list[Block]:
    """Comments that stand right above a header belong to it."""
    blocks: list[Block] = [("", [])]
    for line in text.split("\n"):
        lines = blocks[-1][1]
        match = _HEADER.fullmatch(line)
        if match is None or not _complete(lines):  # within a text of several lines it is none
            lines.append(line)
            continue
        lead: list[str] = []
        while lines and lines[-1].lstrip().startswith("#"):
            lead.insert(0, lines.pop())
        blocks.append((match[1] or match[2], [*lead, line]))
    return blocks


def _complete(lines: Sequence[str]) -> bool:
    try:
        tomllib.loads("\n".join(lines))
    except ValueError:
        return False
    return True


def _sources(before: Sequence[Table], after: Sequence[Table]) -> list[int | None]:
    """For each group the one that it was: the same one, else the next that is left."""
    left = list(range(len(before)))
    found: list[int | None] = []
    for one in after:
        same = next((n for n in left if before[n] == one), None)
        found.append(same)
        if same is not None:
            left.remove(same)
    return [left.pop(0) if one is None and left else one for one in found]


def _group(
    mine: Sequence[list[str]], before: Sequence[Table], one: Table, at: int | None
) -> list[str]:
    if at is None:
        return ["[[group]]", *"\n".join(statements(one)).split("\n"), ""]
    return _changed(mine[at], before[at], one)


def _changed(lines: list[str], old: Table, new: Table) -> list[str]:
    """A block that says another table."""
    if old == new:
        return lines
    same = {key for key in old if key in new and old[key] == new[key]}
    wanted = {key: value for key, value in new.items() if key not in same}
    out: list[str] = []
    place = 0  # where new statements go: behind the last one; a name before the first
    for key, piece in _statements(lines):
        if key in wanted:
            out += _restated(piece, {key: wanted.pop(key)})
        elif not key or key in same:
            out += piece
        if key or (not place and _HEADER.fullmatch(piece[0])):
            place = len(out)
    name = statements({"name": wanted.pop("name")}) if "name" in wanted else []
    head = next(n for n, line in enumerate(out, 1) if _HEADER.fullmatch(line))
    return [*out[:head], *name, *out[head:place], *statements(wanted), *out[place:]]


def _restated(piece: Sequence[str], one: Table) -> list[str]:
    """A statement with another value, in its place and with its comment."""
    indent = piece[0][: len(piece[0]) - len(piece[0].lstrip())]
    return [f"{indent}{statements(one)[0]}{_comment(piece[0]) if len(piece) == 1 else ''}"]


def _comment(line: str) -> str:
    """The comment at the end of a statement, with the blanks before it."""
    for match in re.finditer(r"\s*#", line):
        if _complete([line[: match.start()]]):
            return line[match.start() :]
    return ""


def _statements(lines: Sequence[str]) -> Iterator[Statement]:
    """Raises ValueError where one has no end."""
    n = 0
    while n < len(lines):
        line = lines[n].strip()
        if not line or line.startswith("#") or _HEADER.fullmatch(line):
            yield "", [lines[n]]
            n += 1
        elif line.startswith("["):  # [group.roles]: from here on nothing is ours
            yield "", list(lines[n:])
            return
        else:
            end = _end(lines, n)
            yield next(iter(tomllib.loads("\n".join(lines[n:end])))), list(lines[n:end])
            n = end


def _end(lines: Sequence[str], n: int) -> int:
    """The line after a statement."""
    quotes = next((one for one in ('"""', "'''") if lines[n].count(one) % 2), "")
    for end in range(n + 1, len(lines) + 1):
        inside = end > n + 1 and quotes and quotes not in lines[end - 1]
        if not inside and _complete(lines[n:end]):
            return end
    raise ValueError("a statement without an end")

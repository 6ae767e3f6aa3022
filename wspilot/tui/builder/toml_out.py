"""A document as TOML, readable by people: tables, arrays of tables, and the rest in one line each.

Pure. Invariant: `tomllib.loads(dumps(doc)) == doc` for whatever TOML can hold.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
# What JSON leaves as it is, and a terminal or an editor's line would not.
_UNSEEN = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def dumps(doc: Mapping[str, Any]) -> str:
    """The text. Raises ValueError for what TOML has no words for."""
    lines: list[str] = []
    plain = {key: value for key, value in doc.items() if not _is_table(value)}
    lines += statements(plain)
    for key, value in doc.items():
        if key in plain:
            continue
        tables = value if isinstance(value, list) else [value]
        form = "[[{}]]" if isinstance(value, list) else "[{}]"
        for table in tables:
            lines += ["", form.format(_key(key)), *statements(table)]
    return "\n".join(lines).strip("\n") + "\n"


def statements(table: Mapping[str, Any]) -> list[str]:
    """What stands in a table."""
    return [f"{_key(key)} = {said(value)}" for key, value in table.items()]


def _is_table(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(one, Mapping) for one in value)
    return isinstance(value, Mapping)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def said(value: Any) -> str:
    """A value. Raises ValueError for what TOML has no words for."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _long(value) if "\n" in value else _text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(said(one) for one in value) + "]"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(key)} = {said(one)}" for key, one in value.items())
        return "{ " + inner + " }" if inner else "{}"
    raise ValueError(f"TOML has no word for {type(value).__name__}")


def _text(value: str) -> str:
    quoted = json.dumps(value, ensure_ascii=False)
    return _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)


def _long(value: str) -> str:
    """A text of several lines, as somebody would write it."""
    inner = "\n".join(_text(line)[1:-1].replace('\\"', '"') for line in value.split("\n"))
    inner = inner.replace('"""', '\\"\\"\\"')
    if inner.endswith('"'):
        inner = inner[:-1] + '\\"'
    return f'"""\n{inner}"""'

"""What is typed after `/`: words that a line must contain, and fields that must have a value.

`osg state:running !node:n0[12]`: all of them together; a word is a regular expression, or itself
where it is none; `!` turns it round. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

FIELDS = ("name", "state", "group", "node", "address", "type", "image", "slot", "job", "why",
          "workspace", "kind", "level", "text")  # fmt: skip


@dataclass(frozen=True)
class Word:
    """One condition; an empty field means: anywhere."""

    pattern: re.Pattern[str]
    field: str = ""
    inverse: bool = False

    def meets(self, fields: Mapping[str, str]) -> bool:
        """True when the line meets this condition."""
        said = fields.get(self.field, "") if self.field else "\n".join(fields.values())
        return bool(self.pattern.search(said)) != self.inverse


@dataclass(frozen=True)
class Filter:
    """All conditions of a text; an empty text lets everything through."""

    text: str = ""
    words: tuple[Word, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.words)

    @property
    def excludes(self) -> bool:
        """True when it says what must not be: then only leaves can meet it."""
        return any(word.inverse for word in self.words)

    def meets(self, fields: Mapping[str, str]) -> bool:
        """True when a line meets every condition."""
        return all(word.meets(fields) for word in self.words)


def parse(text: str) -> Filter:
    """Never fails: what is no regular expression is searched for as it stands."""
    words = []
    for part in text.split()[:20]:
        inverse = part.startswith("!") and len(part) > 1
        part = part[1:] if inverse else part
        field, colon, value = part.partition(":")
        if not (colon and field in FIELDS):
            field, value = "", part
        if value:
            words.append(Word(_pattern(value[:100]), field, inverse))
    return Filter(text, tuple(words))


def _pattern(value: str) -> re.Pattern[str]:
    # Nested repeats can take for ever on a long line: whoever types them means the text.
    hungry = re.search(r"[*+}]\)?[*+{]", value)
    try:
        return re.compile(re.escape(value) if hungry else value, re.IGNORECASE)
    except (re.error, RecursionError, OverflowError):
        return re.compile(re.escape(value), re.IGNORECASE)

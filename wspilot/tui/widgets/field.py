"""A line of text in which nothing acts upon the terminal, not even what is pasted."""

from __future__ import annotations

from textual.widgets import Input

from wspilot.text import visible


class Field(Input):
    """Control characters become their signs."""

    def validate_value(self, value: str) -> str:
        """Of whatever comes, typed or pasted or shown."""
        return visible(value)

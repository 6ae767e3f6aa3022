"""Cells of the table that cannot be hit, each with its reason. A cell listed here that is hit after
all is a failure too: then the reason was wrong."""

from __future__ import annotations


def impossible(row: str, fault: str) -> str:
    """Why, or an empty text."""
    return ""

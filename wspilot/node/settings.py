"""A slot's directory as the node side reads it: pilot.json and the key, checked for their owner."""

from __future__ import annotations

import json
from pathlib import Path

from wspilot.errors import NotFound, UsageError
from wspilot.node.core.settings import Settings, read_settings
from wspilot.node.files import read_private


def read_slot(place: Path) -> Settings:
    """pilot.json. Raises WspilotError."""
    try:
        raw = read_private(place / "pilot.json")
        return read_settings(json.loads(raw))
    except FileNotFoundError:
        raise NotFound(f"{place} has no pilot.json", "the slot has ended, or never was") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{place / 'pilot.json'}: {error}") from error


def read_key(place: Path) -> bytes:
    """The slot's key. Raises WspilotError."""
    try:
        return bytes.fromhex(read_private(place / "key").decode().strip())
    except FileNotFoundError:
        raise NotFound(f"{place} has no key", "the slot has ended") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{place / 'key'}: {error}") from error

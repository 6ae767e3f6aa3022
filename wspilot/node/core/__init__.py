"""All decisions of the node side, pure: the pilot's, the launcher's, the guardian's.

`step(state, event) -> (state, effects)` is the pilot; `launch` and `guard` have the others'. The
names below are loaded when they are asked for: a launcher needs none of the pilot's.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wspilot.node.core.lease import wake_at
    from wspilot.node.core.pilot import step
    from wspilot.node.core.settings import Settings, read_settings
    from wspilot.node.core.state import State

__all__ = ["Settings", "State", "read_settings", "step", "wake_at"]

_WHERE = {
    "Settings": "settings",
    "State": "state",
    "read_settings": "settings",
    "step": "pilot",
    "wake_at": "lease",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(name)
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)

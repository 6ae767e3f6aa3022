"""All decisions of the node side, pure: the pilot's, the launcher's, the guardian's.

`step(state, event) -> (state, effects)` is the pilot; `launch` and `guard` have the others'.
"""

from wspilot.node.core.lease import wake_at
from wspilot.node.core.pilot import step
from wspilot.node.core.state import Settings, State, read_settings

__all__ = ["Settings", "State", "read_settings", "step", "wake_at"]

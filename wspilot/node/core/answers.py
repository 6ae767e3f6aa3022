"""Answers to commands: one for every id, and the numbers that commands name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from wspilot.messages import Kind, Order
from wspilot.node.core.turn import Turn
from wspilot.text import clean

MOST_S = 1e9  # seconds that a command may name; a larger integer may be no float at all


def answer(
    turn: Turn, order: str, code: int = 0, message: str = "", data: Mapping[str, Any] = {}
) -> None:
    """The one answer to the command `order` (its id)."""
    turn.set(answered=turn.state.answered | {order})
    turn.say(
        Kind.ANSWER,
        re=order,
        ok=code == 0,
        code=int(code),
        message=clean(message, 500),
        data=dict(data),
    )


def seconds(order: Order, key: str) -> Optional[float]:
    """A time that a command names; None for anything that is none."""
    value = order.data.get(key)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < MOST_S:
        return None
    return float(value)

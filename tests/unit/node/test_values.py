"""Values behave like the frozen dataclasses that the type checker takes them for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from wspilot.errors import UsageError
from wspilot.messages import NODE_RE
from wspilot.node.core.launch import NODE
from wspilot.node.core.settings import Settings, read_settings
from wspilot.node.values import dataclass, field, replace


@dataclass(frozen=True)
class Point:
    """Two numbers and a table."""

    x: int
    y: int = 2
    more: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _no_negative(self.x)


@dataclasses.dataclass(frozen=True)
class Same:
    """The standard library's."""

    x: int
    y: int = 2
    more: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        _no_negative(self.x)


def _no_negative(x: int) -> None:
    if x < 0:
        raise ValueError(x)


@pytest.mark.parametrize("kind", [Point, Same])
def test_it_is_a_frozen_value(kind: Any) -> None:
    one = kind(1)
    assert (one.x, one.y, one.more) == (1, 2, {}) and one.more is not kind(1).more
    assert one == kind(x=1) != kind(1, 3) and one != (1, 2, {})
    assert repr(one).endswith("(x=1, y=2, more={})")
    assert hash(kind(1, more=())) == hash(kind(1, more=()))
    with pytest.raises(AttributeError):
        one.x = 5
    with pytest.raises(AttributeError):
        del one.x
    for args, given in (((), {}), ((1, 2, {}, 4), {}), ((1,), {"z": 1})):
        with pytest.raises(TypeError):
            kind(*args, **given)


@pytest.mark.parametrize("kind", [Point, Same])
def test_what_it_checks_of_itself_is_checked(kind: Any) -> None:
    with pytest.raises(ValueError, match="-1"):
        kind(-1)
    with pytest.raises(ValueError, match="-1"):
        (replace if kind is Point else dataclasses.replace)(kind(1), x=-1)


def test_replace_makes_another() -> None:
    one = Point(1)
    assert replace(one, y=5) == Point(1, 5) and one.y == 2
    with pytest.raises(TypeError):
        replace(one, z=5)


def test_the_launchers_node_names_are_the_messages() -> None:
    assert NODE.pattern == NODE_RE


def test_settings_name_the_key_that_is_wrong() -> None:
    good = {"v": 1, "slot": "a" * 8, "lease_s": 1, "walltime_s": 2, "budget": {"stop": 3}}
    assert read_settings({**good, "unknown": 1}) == Settings("a" * 8, 1, 2, {"stop": 3.0})
    for change, word in (
        ({"v": 2}, "version"), ({"nodes": "4"}, "nodes"), ({"guardian": 1}, "guardian"),
        ({"budget": {"stop": "x"}}, "budget.stop"), ({"lease_s": True}, "lease_s"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=word):
            read_settings({**good, **change})
    with pytest.raises(UsageError, match="slot"):
        read_settings({"v": 1})

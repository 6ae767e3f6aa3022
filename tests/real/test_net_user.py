"""The network without rights across two nodes: network namespaces, real guests, an ordinary uid."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.real.meeting import guests_meet

pytestmark = pytest.mark.real


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=20)


@pytest.fixture
def nodes() -> Iterator[list[str]]:
    """Two namespaces joined by a veth pair."""
    names = [f"wsu{os.getpid()}{n}" for n in "ab"]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "wsu0", "netns", names[0], "type", "veth",
           "peer", "name", "wsu0", "netns", names[1])  # fmt: skip
        for number, name in enumerate(names, 1):
            ip("-n", name, "addr", "add", f"192.168.77.{number}/24", "dev", "wsu0")
            ip("-n", name, "link", "set", "wsu0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, timeout=20)


def test_guests_of_two_nodes_reach_each_other_without_any_rights(nodes: list[str]) -> None:
    words = guests_meet("user", [["ip", "netns", "exec", name] for name in nodes])
    assert {one["trunk"]["host"] for one in words.facts} == {"192.168.77.1", "192.168.77.2"}
    for said in words.said:
        assert "5 packets transmitted, 5 packets received, 0% packet loss" in said

"""Which workspace a word means: an id, a unique prefix of one, or a name."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wspilot.daemon.api import ServiceApi
from wspilot.daemon.core import Books
from wspilot.errors import NotFound
from wspilot.model import Workspace, WorkspaceState
from wspilot.text import did_you_mean


def api(*workspaces: Workspace) -> ServiceApi:
    books = Books()
    for ws in workspaces:
        books.put(ws)
    return ServiceApi(cast(Any, SimpleNamespace(books=books)))


def ws(
    id: str, name: str, created: float = 0.0, state: WorkspaceState = WorkspaceState.ACTIVE
) -> Workspace:
    return Workspace(id, name, 0, created, 60, (), state=state)


def test_an_id_is_meant_before_a_name_that_looks_like_it() -> None:
    found, _ = api(ws("aaaa1111", "one"), ws("bbbb2222", "aaaa1111"))._requests.find("aaaa1111")
    assert found.name == "one"


def test_a_name_that_also_fits_ended_ones_means_the_living_or_the_newest() -> None:
    ended = WorkspaceState.ENDED
    old, new, living = ws("a" * 8, "x", 1, ended), ws("b" * 8, "x", 2, ended), ws("c" * 8, "x", 0)
    assert api(old, new)._requests.find("x")[0] is new
    assert api(old, new, living)._requests.find("x")[0] is living


def test_a_unique_prefix_is_enough_and_another_is_not() -> None:
    two = api(ws("abcd1111", "one"), ws("abce2222", "two"))
    assert two._requests.find("abcd")[0].name == "one"
    with pytest.raises(NotFound, match="fits 2"):
        two._requests.find("abc")
    with pytest.raises(NotFound, match="no workspace"):
        two._requests.find("zzz")


def test_a_word_of_a_megabyte_is_compared_in_no_time() -> None:
    """Found by the fuzzer: one request of one client stopped the daemon for 0.3 s."""
    start = time.process_time()
    for _ in range(10):
        assert did_you_mean("m" * 900_000, ["list", "show"])
    assert time.process_time() - start < 1.0

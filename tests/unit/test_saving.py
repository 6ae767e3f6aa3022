"""`wspilot save` at the headnode: what is refused before a node begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.fake_daemon import PILOT, VM, books
from wspilot.config import load
from wspilot.daemon.api import ServiceApi
from wspilot.daemon.service import Service
from wspilot.errors import Refused, UsageError
from wspilot.model import PendingOrder


def order(image: str) -> PendingOrder:
    return PendingOrder("o1", PILOT.id, PILOT.slot, PILOT.node, 1, 1, 1, "save", 60.0, 0.0, "v9",
                        {"image": image})  # fmt: skip


@pytest.fixture
def api(tmp_path: Path) -> ServiceApi:
    service = Service(load(None, tmp_path), tmp_path)
    service.books = books(order("taken-soon"))
    (tmp_path / "images" / "broken").mkdir(parents=True)
    return ServiceApi(service)


async def refused(api: ServiceApi, image: Any, id: str = VM.name) -> str:
    with pytest.raises((Refused, UsageError)) as caught:
        await api.call("save", {"ids": [id], "image": image, "token": "t"}, 0)
    assert not [one for one in api._service.books.orders() if one.vm == VM.id], "nothing was sent"
    return caught.value.message


async def test_a_name_that_is_taken_is_refused_before_any_disk_is_read(api: ServiceApi) -> None:
    for image in ("default", "broken"):
        assert await refused(api, image) == f"an image {image} exists already"
    assert "is being saved as taken-soon" in await refused(api, "taken-soon")


@pytest.mark.parametrize("image", ["a/b", "../x", "a\nb", "", "A", "-x", "x" * 33, None, 7])
async def test_a_name_that_is_none_is_refused(api: ServiceApi, image: Any) -> None:
    assert "image" in await refused(api, image)


async def test_one_vm_at_a_time(api: ServiceApi) -> None:
    assert "one VM at a time" in await refused(api, "fresh", "osg")

"""`ready = "address"`: who is asked, from when, and until when."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from wspilot.errors import WspilotError
from wspilot.node import reached
from wspilot.node.network import Ways
from wspilot.node.reached import Reached
from wspilot.node.vmm.base import EventKind, VmEvent, Vmm, VmSpec, parse_spec

NIC = {"network": "n", "mac": "02:57:0a:4d:00:02", "ip": "10.77.0.2"}


class Yard:
    """Guests that answer as they are told to, and a VMM that hears who is up."""

    def __init__(self) -> None:
        self.answering: list[Any] = []
        self.asked = 0
        self.told: list[str] = []
        self.reached = Reached(cast(Ways, self), cast(Vmm, self))

    async def answers(self, vm: str) -> bool:
        self.asked += 1
        said = self.answering.pop(0) if self.answering else False
        if isinstance(said, Exception):
            raise said
        return bool(said)

    def up(self, vm: str) -> None:
        self.told.append(vm)
        self.reached.heard(VmEvent(vm, EventKind.READY))

    def boots(self) -> None:
        self.reached.heard(VmEvent("v1", EventKind.BOOTING))


def spec(ready: str) -> VmSpec:
    return parse_spec({"id": "v1", "name": "v", "uuid": str(uuid.uuid4()), "cpus": 1,
                       "memory_mib": 1, "image": {}, "nics": [NIC], "ready": ready})  # fmt: skip


@pytest.fixture
async def yard(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Yard]:
    monkeypatch.setattr(reached, "ASK_S", 0.001)
    one = Yard()
    yield one
    one.reached.close()
    assert not one.reached._asking


async def rest() -> None:
    await asyncio.sleep(0.05)


async def until(so: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not so():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


async def test_it_is_asked_until_it_answers_and_then_no_more(yard: Yard) -> None:
    yard.answering = [False, False, WspilotError("the switch was replaced"), True]
    yard.reached.expect(spec("address"))
    yard.boots()
    await until(lambda: bool(yard.told))
    await rest()
    assert (yard.told, yard.asked) == (["v1"], 4)


async def test_an_answer_from_before_the_boot_counts_for_nothing(yard: Yard) -> None:
    yard.reached.expect(spec("address"))
    yard.answering = [True]
    yard.boots()
    await until(lambda: yard.asked > 2)
    assert yard.told == []
    yard.answering = [True]  # it was asked since
    await until(lambda: yard.told == ["v1"])
    yard.answering = [True, True]  # a reboot: asked again, from the beginning
    yard.boots()
    await until(lambda: yard.told == ["v1", "v1"])


async def test_nobody_else_is_asked(yard: Yard) -> None:
    yard.reached.expect(spec("agent"))
    yard.boots()
    await rest()
    assert yard.asked == 0


@pytest.mark.parametrize("end", ["forget", "exited", "close"])
async def test_one_that_is_gone_is_no_longer_asked(yard: Yard, end: str) -> None:
    yard.reached.expect(spec("address"))
    yard.boots()
    await until(lambda: yard.asked > 0)
    if end == "exited":
        yard.reached.heard(VmEvent("v1", EventKind.EXITED))
    elif end == "forget":
        yard.reached.forget("v1")
    else:
        yard.reached.close()
    await rest()
    asked = yard.asked
    await rest()
    assert yard.asked == asked > 0

"""The pilot's side of a guest (end, restart, saved memory), against a pretended helper."""

from __future__ import annotations

import asyncio
import os
import pty
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from wspilot.errors import TimedOut, WspilotError
from wspilot.node import root
from wspilot.node.vmm import xen as xen_module
from wspilot.node.vmm.base import EventKind, VmEvent, VmSpec
from wspilot.node.vmm.xen import Xen

SPEC = VmSpec(id="vm1", name="w/vm/1", uuid="1" * 8, cpus=1, memory_mib=96,
              image={"kernel": __file__, "append": ""})  # fmt: skip


class Helper:
    """Answers as the root helper does; `ends` is what it says of a guest that is gone."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.kept: list[bool] = []  # what was said to each xen-end
        self.ends = ""
        self.fails: dict[str, Exception] = {}
        self.failures = 1000  # and how often
        self.delay: dict[str, float] = {}
        self.console = -1

    async def asked(self, verb: str, words: Mapping[str, Any], limit_s: float = 0) -> Any:
        name = f"{verb} {words['do']}" if "do" in words else verb
        self.kept += [bool(words.get("keep"))] if verb == "xen-end" else []
        self.calls.append(name + (" restore" if words.get("restore") else ""))
        await asyncio.sleep(self.delay.get(name, 0))
        if name in self.fails and self.failures:
            self.failures -= 1
            raise self.fails[name]
        if verb == "xen-create":
            self.console, theirs = pty.openpty()
            name = os.ttyname(theirs)
            asyncio.get_running_loop().call_later(0.3, os.close, theirs)
            return {"domid": 3, "tty": name}
        return {"domains": [], "ended": {SPEC.uuid: self.ends}}


@pytest.fixture
def helper(monkeypatch: pytest.MonkeyPatch) -> Helper:
    one = Helper()
    monkeypatch.setattr(root, "asked", one.asked)
    return one


async def made(tmp_path: Path, events: list[VmEvent]) -> Xen:
    xen = Xen({"journal": "/j", "slot": "s"})
    await xen.create(SPEC, tmp_path, tmp_path / "log", events.append)
    await asyncio.sleep(0.4)
    return xen


async def until(what: Any) -> None:
    for _ in range(1000):
        if what():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came")


async def test_a_guest_that_ends_is_told_with_its_cause_and_cleared_away(
    helper: Helper, tmp_path: Path
) -> None:
    events: list[VmEvent] = []
    xen = await made(tmp_path, events)
    helper.ends = "crash"
    os.close(helper.console)  # xenconsoled does so
    await until(lambda: helper.calls[-1] == "xen-end")
    assert "the guest crashed" in events[-1].text and xen.identity("vm1") is None


async def test_a_guest_that_asks_for_a_reboot_is_started_again(
    helper: Helper, tmp_path: Path
) -> None:
    events: list[VmEvent] = []
    xen = await made(tmp_path, events)
    helper.ends = "reboot"
    os.close(helper.console)
    await until(lambda: helper.calls == ["xen-create", "xen-list", "xen-create"])
    assert xen.identity("vm1") is not None
    await until(lambda: "running" in [event.text for event in events[3:]])
    await xen.close()


async def test_a_suspended_guest_rests_and_comes_back_from_its_memory(
    helper: Helper, tmp_path: Path
) -> None:
    xen = await made(tmp_path, [])
    helper.delay["xen-do suspend"] = 0.2
    suspending = asyncio.ensure_future(xen.act("vm1", "suspend", {}))
    await asyncio.sleep(0.05)
    os.close(helper.console)  # its domain goes before xl save has returned
    await suspending
    await xen.act("vm1", "resume", {})
    assert helper.calls == ["xen-create", "xen-do suspend", "xen-create restore"]
    await xen.close()


async def test_a_suspend_that_nobody_waits_for_never_costs_the_saved_memory(
    helper: Helper, tmp_path: Path
) -> None:
    xen = await made(tmp_path, [])
    helper.delay["xen-do suspend"] = 60
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(xen.act("vm1", "suspend", {}), 0.1)
    os.close(helper.console)  # xl goes on, and is done
    await asyncio.sleep(0.3)
    assert helper.calls == ["xen-create", "xen-do suspend"], "nobody looked, nobody ended it"


async def test_a_suspend_that_is_refused_leaves_it_running(helper: Helper, tmp_path: Path) -> None:
    events: list[VmEvent] = []
    xen = await made(tmp_path, events)
    helper.fails["xen-do suspend"] = root.Declined("no room")
    with pytest.raises(root.Declined):
        await xen.act("vm1", "suspend", {})
    os.close(helper.console)
    await until(lambda: helper.calls[-1] == "xen-end")  # its end is noticed as ever
    assert xen.identity("vm1") is None


LOST = [
    WspilotError("the root helper's xen-do: no word"),
    TimedOut("the root helper's xen-do took longer than 1500 s"),
    OSError("no more processes"),
]


@pytest.mark.parametrize("error", LOST, ids=lambda one: type(one).__name__)
async def test_the_end_of_a_guest_is_noticed_after_a_suspend_without_an_answer(
    helper: Helper, tmp_path: Path, error: Exception
) -> None:
    events: list[VmEvent] = []
    xen = await made(tmp_path, events)
    helper.fails["xen-do suspend"] = error
    with pytest.raises(type(error)):
        await xen.act("vm1", "suspend", {})
    helper.ends = "poweroff"
    os.close(helper.console)
    await until(lambda: helper.calls[-1] == "xen-end")
    assert "powered itself off" in events[-1].text and xen.identity("vm1") is None


async def test_a_guest_that_was_saved_while_the_answer_was_lost_comes_back_from_its_memory(
    helper: Helper, tmp_path: Path
) -> None:
    events: list[VmEvent] = []
    xen = await made(tmp_path, events)
    helper.fails["xen-do suspend"] = WspilotError("the root helper's xen-do: no word")
    helper.delay["xen-do suspend"] = 0.2
    suspending = asyncio.ensure_future(xen.act("vm1", "suspend", {}))
    await asyncio.sleep(0.05)
    helper.ends = "suspend"
    os.close(helper.console)  # xl is done before anybody knows
    with pytest.raises(WspilotError, match="no word"):
        await suspending
    await until(lambda: "resumed" in [event.text for event in events])
    asked = ["xen-create", "xen-do suspend", "xen-list", "xen-create restore"]
    assert helper.calls == asked and xen.identity("vm1") is not None
    await xen.close()


@pytest.mark.parametrize("for_good", [False, True])
async def test_a_look_that_fails_is_taken_again_before_a_guest_is_taken_for_ended(
    helper: Helper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, for_good: bool
) -> None:
    monkeypatch.setattr(xen_module, "LOOK_AGAIN_S", 0.02)
    monkeypatch.setattr(xen_module, "LOOK_S", 0.2 if for_good else 60.0)
    events: list[VmEvent] = []
    xen = await made(tmp_path, events)
    helper.ends, helper.fails["xen-list"] = "suspend", WspilotError("the node has no processes")
    helper.failures = 1000 if for_good else 2
    os.close(helper.console)
    if for_good:
        await until(lambda: helper.calls[-1] == "xen-end")
        assert helper.calls.count("xen-list") > 1
        assert "nobody knows why: the node has no processes" in events[-1].text
    else:  # its memory was not lost meanwhile
        await until(lambda: helper.calls[-1] == "xen-create restore")
        assert helper.calls.count("xen-list") == 3 and xen.identity("vm1") is not None
    await xen.close()


@pytest.mark.parametrize("error", LOST, ids=lambda one: type(one).__name__)
async def test_one_failed_restore_never_costs_the_saved_memory(
    helper: Helper, tmp_path: Path, error: Exception
) -> None:
    events: list[VmEvent] = []
    xen = await made(tmp_path, events)
    helper.fails["xen-do suspend"] = WspilotError("the root helper's xen-do: no word")
    with pytest.raises(WspilotError, match="no word"):
        await xen.act("vm1", "suspend", {})
    helper.ends, helper.fails["xen-create"] = "suspend", error
    os.close(helper.console)
    await until(lambda: events[-1].kind is EventKind.ERROR)
    assert f"its memory is kept (suspend, resume): it could not be started again: {error}" in (
        events[-1].text
    )
    assert xen.identity("vm1") is not None and set(helper.kept) == {True}
    helper.fails = {}
    await xen.act("vm1", "suspend", {})  # what the pilot believes to run is suspended already
    assert helper.calls[-1] == "xen-end"
    await xen.act("vm1", "resume", {})
    assert helper.calls[-1] == "xen-create restore"
    assert EventKind.EXITED not in [event.kind for event in events]
    await xen.close()


async def test_a_resume_that_fails_leaves_it_suspended(helper: Helper, tmp_path: Path) -> None:
    xen = await made(tmp_path, [])
    await xen.act("vm1", "suspend", {})
    helper.fails["xen-create"] = WspilotError("Xen has not enough free memory for it")
    with pytest.raises(WspilotError, match="free memory"):
        await xen.act("vm1", "resume", {})
    del helper.fails["xen-create"]
    await xen.act("vm1", "resume", {})
    assert helper.calls[-1] == "xen-create restore"
    await xen.close()


async def test_a_create_that_cannot_be_undone_stays_on_the_books(
    helper: Helper, tmp_path: Path
) -> None:
    xen = Xen({})
    helper.fails = {"xen-create": WspilotError("too late"), "xen-end": root.Declined("busy")}
    with pytest.raises(WspilotError, match="too late"):
        await xen.create(SPEC, tmp_path, tmp_path / "log", lambda event: None)
    assert xen.identity("vm1") is not None
    del helper.fails["xen-end"]
    await xen.close()
    assert helper.calls[-1] == "xen-end" and xen.identity("vm1") is None

"""The demo's site: it lives, it answers like a daemon, and it does not grow."""

from __future__ import annotations

from collections import Counter

import pytest

from wspilot.client import Update
from wspilot.errors import UsageError, WspilotError
from wspilot.model import NodeState, SlotState, VmState, WorkspaceState
from wspilot.tui.chart import bars
from wspilot.tui.demo import DemoSource
from wspilot.tui.live import DEFAULTS, LiveModel
from wspilot.tui.pages.page import Page
from wspilot.tui.pages.trail import commands
from wspilot.tui.rows import Rows
from wspilot.tui.tree import Arrangement, Tree

WORDS = {
    "workspaces": {one.value for one in WorkspaceState},
    "vms": {one.value for one in VmState},
    "slots": {one.value for one in SlotState},
    "nodes": {one.value for one in NodeState},
}


class Fast(DemoSource):
    """Its clock goes ten seconds a step."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        super().__init__(0.0, self._tick)

    def _tick(self) -> float:
        self.now += 10
        return self.now


async def test_it_lives_in_the_words_of_the_design_and_forgets() -> None:
    source, model, seen = Fast(), LiveModel(), Counter[str]()
    steps = 0
    async for update in source.updates():
        model.apply(update)
        for item in update.changed:
            state = item.get("state")
            assert item["table"] not in WORDS or state in WORDS[item["table"]]
            seen[f"{item['table']} {state}"] += 1
        steps += 1
        if steps == 1500:
            break
    assert seen["workspaces ended"] > 20 and seen["slots released"] > 20
    assert seen["vms paused"] and seen["vms suspended"] and seen["vms unknown"]
    assert (
        len(source._items) < 800 and len(Tree(model, Rows(model)).order(Arrangement(), 0.0)) < 120
    )


def test_its_items_have_every_field_that_the_screen_knows() -> None:
    for item in DemoSource()._items.values():
        missing = set(DEFAULTS[item["table"]]) - set(item) - {"outcome"}
        assert not missing, (item["table"], missing)


async def test_what_is_destroyed_goes_by_group_and_by_vm() -> None:
    source = DemoSource(step_s=0)
    ws = next(one for one in source._items.values() if one["name"] == "osg")
    await source.call("destroy", ids=[f"{ws['id']}/worker", ws["vms"][0]], token="x")
    states = Counter(source._items[f"vms/{id}"]["state"] for id in ws["vms"])
    assert states == {"stopping": 7, "running": 1}
    await source.call("destroy", ids=[ws["id"]], token="y")
    assert ws["state"] == "ending" and ws["wanted"] == "ended"


def test_what_the_batch_system_was_told_is_there_for_every_lease_that_lives() -> None:
    source, model = DemoSource(), LiveModel()
    model.apply(Update(1, True, tuple(source._items.values())))
    at = [one["at"] for one in model.items["events"].values()]
    assert at == sorted(at), "oldest first"
    for id, ws in model.items["workspaces"].items():
        if ws["state"] != "ended":
            page = Page(lambda _: "", 100, 0.0)
            commands(page, model, f"vms/{ws['vms'][0]}")
            wanted = f"$ qsub /demo/spool/slots/{ws['slots'][0]}/job.sh"
            assert wanted in str(page.text), (id, ws["name"])


async def test_a_lease_that_becomes_active_waits_no_more() -> None:
    source, model = Fast(), LiveModel()
    async for update in source.updates():
        model.apply(update)
        if any(one["table"] == "workspaces" and one["name"] == "mpi-2026"
               and one["state"] == "active" for one in update.changed):  # fmt: skip
            break
    ws = next(one for one in model.items["workspaces"].values() if one["name"] == "mpi-2026")
    kinds = [bar.kind for bar in bars(model, f"workspaces/{ws['id']}", source.now)]
    assert kinds == ["wait", "up", "ahead", "end"]


@pytest.mark.parametrize(
    "ensemble",
    [
        {},
        {"workspace": {"name": "BAD NAME"}, "group": [{}]},
        {"workspace": {"duration": "2"}, "group": [{}]},
    ],
)
async def test_a_bad_ensemble_is_refused_in_words(ensemble: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        await DemoSource().call("deploy", ensemble=ensemble, dry_run=True)
    with pytest.raises(WspilotError):
        await DemoSource().call("bench")

"""The model: the tree's order, what a line says, and what it costs. No screen."""

from __future__ import annotations

from typing import Any

import pytest

from wspilot.client import Update
from wspilot.tui import canned, lines
from wspilot.tui.live import MAX_EVENTS, MAX_NOTES, LiveModel
from wspilot.tui.rows import Row, Rows
from wspilot.tui.tree import Arrangement, Tree
from wspilot.tui.words import age, brief, left_of, seconds_of, told, worst

NOW = 1_800_000_000.0
Doc = dict[str, Any]


def site(vms: int = 2, state: str = "active", name: str = "osg", id: str = "w1") -> list[Doc]:
    ws = canned.workspace(id, name, [("vm", "small", vms)], state, NOW)
    members = [
        canned.vm(f"{id}v{n}", ws, "vm", "small", n, "running", NOW, node=f"n{n}", octet=n % 250)
        for n in range(1, vms + 1)
    ]
    slot = canned.slot(f"{id}s", ws, "ready", members, NOW, 7)
    ws.update(vms=[vm["id"] for vm in members], slots=[slot["id"]])
    return [ws, *members, slot]


class Site(LiveModel):
    """A model with its lines."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = Rows(self)
        self.tree = Tree(self, self.rows)

    def order(self, how: Arrangement | None = None) -> list[str]:
        return self.tree.order(how or Arrangement(), NOW)

    def row(self, key: str, now: float) -> Row:
        return self.rows.row(key, now)


def model(*items: Doc) -> Site:
    made = Site()
    made.apply(Update(1, True, items))
    return made


def test_workspaces_then_groups_then_vms_then_slots() -> None:
    keys = model(*site()).order()
    assert keys == ["workspaces/w1", "groups/w1/vm", "vms/w1v1", "vms/w1v2", "slots/w1s"]


def test_the_newest_first_and_what_has_ended_last_and_folded() -> None:
    old, new = site(1, name="old", id="a"), site(1, name="new", id="b")
    new[0]["created"] = "2999-01-01T00:00:00Z"
    over = site(1, "ended", "over", "c")
    over[0]["created"] = "2999-02-01T00:00:00Z"
    keys = [key for key in model(*old, *over, *new).order() if key.startswith("workspaces")]
    assert keys == ["workspaces/b", "workspaces/a", "workspaces/c"]
    assert "vms/cv1" not in model(*over).order()


def test_a_state_alone_moves_nothing_among_ten_thousand() -> None:
    items = site(10_000)
    made = model(*items)
    keys = made.order()
    assert len(keys) == 10_003
    made.apply(Update(2, False, ({**items[5], "state": "failed"},)))
    assert made.order() is keys
    assert made.row("groups/w1/vm", NOW).node == "9999 of 10000 up"
    assert made.row("groups/w1/vm", NOW).state == "failed"


def test_groups_are_counted_through_every_kind_of_change() -> None:
    items = site(3)
    made = model(*items)
    made.apply(Update(2, False, ({**items[1], "state": "booting"},)))
    made.apply(Update(3, False, ({**items[1], "state": "failed"},), ("vms/w1v2",)))
    assert made.states_of("groups/w1/vm") == {"failed": 1, "running": 1}
    made.apply(Update(4, True, tuple(items)))
    assert made.states_of("groups/w1/vm") == {"running": 3} and made.running() == (3, 3)


@pytest.mark.parametrize("table", ["workspaces", "vms", "slots", "nodes", "events", "status"])
def test_what_an_older_daemon_does_not_say_has_a_default(table: str) -> None:
    made = model({"table": table, "id": "x"})
    made.order()
    row = made.row(f"{table}/x", NOW) if table in ("workspaces", "vms", "slots") else None
    assert row is None or row.state == "unknown"


def test_unknown_tables_and_keys_are_passed_over() -> None:
    made = model({"table": "moons", "id": "x"}, {"id": "y"}, *site())
    made.apply(Update(2, False, (), ("moons/x", "vms/none", "rubbish", "")))
    assert len(made.order()) == 5 and made.row("vms/none", NOW).state == "unknown"


def test_events_are_bounded_and_a_snapshot_does_not_repeat_them() -> None:
    events = [canned.event(str(n), "vm", f"e{n}", NOW, vm="w1v1") for n in range(MAX_EVENTS + 50)]
    made = model(*site(), *events)
    assert len(made.items["events"]) == MAX_EVENTS
    made.apply(Update(2, True, (*site(), *events[-20:])))
    assert len(made.items["events"]) == 20
    assert [one["text"] for one in made.events_of("vms/w1v1", 2)] == ["e1048", "e1049"]
    assert made.events_of("groups/w1/vm", 1) and not made.events_of("slots/w1s", 1)


def test_nested_text_is_cleaned_on_entry() -> None:
    items = site(1)
    items[1]["nics"][0]["ip"] = "\x1b[31m10.0.0.1\x07"
    items[0]["causes"] = ["a\x9b2J\nb"]
    made = model(*items)
    assert made.row("vms/w1v1", NOW).address == "[31m10.0.0.1"
    assert made.items["workspaces"]["w1"]["causes"] == ["a2J b"]


def test_folding_and_parents() -> None:
    made = model(*site())
    made.tree.fold("groups/w1/vm")
    assert "vms/w1v1" not in made.order() and "slots/w1s" in made.order()
    made.tree.fold("workspaces/w1", True)
    assert made.order() == ["workspaces/w1"]
    made.tree.fold("vms/w1v1")
    assert (
        made.tree.parent("vms/w1v1") == "groups/w1/vm" and made.tree.parent("workspaces/w1") is None
    )
    assert made.tree.parent("slots/w1s") == "workspaces/w1" == made.tree.parent("groups/w1/vm")


def test_what_an_act_would_touch() -> None:
    made = model(*site(3), *site(1, id="w2"))
    assert [len(made.vms_of(key)) for key in ("workspaces/w1", "groups/w1/vm", "vms/w1v2")] == [
        3,
        3,
        1,
    ]
    assert made.vms_of("slots/w1s") == [] == made.vms_of("nothing")


def test_times() -> None:
    ws = site()[0]
    assert left_of(ws, NOW) == ("2h", "") and left_of(ws, NOW + 7000) == ("3m20s", "soon")
    assert left_of(ws, NOW + 7100) == ("1m40s", "now")
    assert left_of({**ws, "wanted": "ended"}, NOW) == ("", "")
    assert seconds_of("rubbish") == 0.0 == seconds_of("")
    assert [brief(one) for one in (-5, 59, 599, 601, 7300)] == ["0s", "59s", "9m59s", "10m", "2h1m"]
    ages = [age(one) for one in (-5, 4, 5, 59, 60, 129, 599, 601, 7300)]
    assert ages == ["<5s", "<5s", "5s", "55s", "1m", "2m", "9m50s", "10m", "2h1m"]
    counted = [left_of(ws, NOW + one)[0] for one in (6609, 6610, 7081, 7082)]
    assert counted == ["9m50s", "9m50s", "1m59s", "1m58s"]  # the end is told to the second


def test_the_worst_state_stands_for_a_group() -> None:
    assert worst(["running", "failed", "booting"]) == "failed"
    assert worst(["running", "terminated"]) == "running" and worst([]) == "pending"


def test_an_event_of_a_slot_names_it() -> None:
    assert told(canned.event("1", "slot", "ready", NOW, slot="n2f")) == "slot n2f: ready"
    assert told(canned.event("1", "slot", "slot n2f ready", NOW, slot="n2f")) == "slot n2f ready"
    assert told(canned.event("1", "vm", "running", NOW, slot="n2f")) == "running"


def test_the_last_line_says_what_is_not_well() -> None:
    status = canned.status(NOW, NOW - 60)
    assert str(lines.daemon(model(status), NOW + 4, str)) == "torque <5s ago"
    status["poll"] = {"ok": False, "at": None, "text": "qstat: timed out"}
    status["spool"] = {"backlog": 7, "bad": 2, "text": "full"}
    said = str(lines.daemon(model(status), NOW, str))
    assert said == ("torque not yet, failing: qstat: timed out  spool 7 behind  2 refused"
                    "  spool: full")  # fmt: skip
    assert str(lines.daemon(model(), NOW, str)) == ""


def test_the_first_line_counts() -> None:
    made = model(*site(3), *site(1, "ended", id="w2"), canned.node("n1", "dirty", NOW))
    assert str(lines.summary(made, ["read-only"], lambda _: "")) == (
        "wspilot  read-only  ● 1 active  · 1 ended"
    )
    said = {width: str(lines.site(made, lambda _: "", width)) for width in (30, 80, 120)}
    assert said[30].strip() == "4/4 up" and said[80] == "━━━━━━ 4/4 up  ▲ 1 node"
    assert said[120] == "━━━━━━━━ 4 of 4 VMs running  ▲ 1 node not clean"


def test_our_own_events_are_kept_over_a_reconnect_but_not_for_ever() -> None:
    model = LiveModel()
    for n in range(MAX_NOTES + 50):
        model.note(f"note {n}", "info", NOW + n)
    assert len({one["text"] for one in model.items["events"].values()}) == MAX_NOTES + 50
    model.apply(Update(1, True, ()))
    kept = [one["text"] for one in model.items["events"].values()]
    assert kept == [f"note {n}" for n in range(50, MAX_NOTES + 50)]

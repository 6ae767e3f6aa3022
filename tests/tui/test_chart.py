"""The timeline's bars, from what a daemon sends: a node tells of phases when they are over."""

from __future__ import annotations

from typing import Any

from wspilot.client import Update
from wspilot.messages import rfc3339
from wspilot.tui.chart import bars
from wspilot.tui.live import LiveModel
from wspilot.tui.pages.overview import MOST_BARS, overview
from wspilot.tui.pages.page import Page

T = 1_800_000_000.0
RISE = (("invoke", 0, 1), ("propagate", 1, 9), ("create", 10, 2), ("boot", 12, 8))


def span(name: str, at: float, seconds: float | None, node: str = "") -> dict[str, Any]:
    made = {"name": name, "start": rfc3339(T + at), "seconds": seconds, "clock": "node"}
    return {**made, "node": node} if node else made


def model(table: str, state: str, since: float, spans: list[Any], **more: Any) -> LiveModel:
    made, at = LiveModel(), rfc3339(T + since)
    doc = {"table": table, "id": "one", "state": state, "since": at, "spans": spans, **more}
    made.apply(Update(1, True, (doc,)))
    return made


def drawn(
    table: str, state: str, since: float, spans: list[Any], now: float, **more: Any
) -> list[tuple[str, float, float]]:
    """(kind, from, to) of each bar, seconds after T."""
    found = bars(model(table, state, since, spans, **more), f"{table}/one", T + now)
    return [(one.kind, round(one.start - T, 3), round(one.end - T, 3)) for one in found]


def vm(state: str, since: float, *later: tuple[str, float, float], rise: int = 4) -> list[Any]:
    spans = [span(*one) for one in (*RISE[:rise], *later)]
    return drawn("vms", state, since, spans, 100)[rise:]


def test_a_vm_that_is_over_has_run_until_its_stop() -> None:
    assert vm("terminated", 83, ("stop", 80, 3)) == [
        ("up", 20, 80), ("phase", 80, 83), ("over", 83, 83)]  # fmt: skip
    assert vm("terminated", 83) == [("up", 20, 83), ("over", 83, 83)], "and so without its word"


def test_a_vm_that_is_paused_is_so_since_then() -> None:
    assert vm("paused", 61, ("pause", 60, 1)) == [
        ("up", 20, 60), ("phase", 60, 61), ("odd", 61, 100)]  # fmt: skip
    assert vm("unknown", 70) == [("up", 20, 70), ("odd", 70, 100)]


def test_a_vm_that_was_paused_is_drawn_so_between() -> None:
    assert vm("running", 72, ("pause", 60, 1), ("resume", 70, 2)) == [
        ("up", 20, 60), ("phase", 60, 61), ("odd", 61, 70), ("phase", 70, 72),
        ("up", 72, 100)]  # fmt: skip


def test_a_vm_that_boots_is_on_its_way() -> None:
    assert vm("booting", 12, rise=3) == [("phase", 12, 100)]
    assert vm("running", 20) == [("up", 20, 100)], "and then it is up"


def test_a_slot_that_was_given_back_has_held_its_nodes() -> None:
    spans = [span("lrm", 0, 5)] + [
        span(name, at + late, seconds, node)
        for node, late in (("n1", 0), ("n2", 1))
        for name, at, seconds in (("pilot", 5, 2), ("reserve", 7, 1), ("restore", 90, 3))
    ]
    found = drawn("slots", "released", 95, spans, 100)
    assert [one for one in found if one[0] == "up"] == [("up", 9, 90)]
    assert found[0] == ("wait", 0, 5) and found[-1] == ("over", 95, 95)
    held = drawn("slots", "ready", 9, spans[:3] + spans[4:6], 100)
    assert [one for one in held if one[0] == "up"] == [("up", 9, 100)]


def test_each_node_of_a_slot_has_a_bar_of_its_own() -> None:
    names = [f"n{n}" for n in range(MOST_BARS + 1)]
    spans = [span("lrm", 0, 5), *(span("pilot", 5, 2, node) for node in names)]
    page = Page(lambda _: "", 60, T + 100)
    overview(page, model("slots", "ready", 9, spans), "slots/one")
    said = str(page.text)
    assert said.count(" 7.0 s\n") == MOST_BARS and "n0 " in said
    assert f"the first {MOST_BARS} of {len(names)} nodes" in said

"""Guests' words on their context, and their silence, as the daemon's core hears them."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.core.dialogue import Dialogue
from wspilot.messages import Kind
from wspilot.model import VmState


def waiting() -> Dialogue:
    """An active workspace whose first guest is expected to say a word."""
    d = Dialogue(2)
    d.run("n1", "n2")
    d.books.put(replace(d.vms[0], context="waits"))
    d.books.settle()
    return d


def warned(d: Dialogue) -> int:
    return sum("has not said whether" in text for text in d.texts())


def test_a_guest_that_never_reports_is_late_once_and_keeps_its_lease() -> None:
    d = waiting()
    d.later(d.rules.boot_s - 1)
    assert d.vms[0].context == "waits" and not warned(d)
    d.later(2)
    assert d.vms[0].context == "late" and warned(d) == 1
    d.later(d.rules.boot_s * 2)
    assert warned(d) == 1 and d.vms[0].state is VmState.RUNNING
    assert d.vms[1].context == "", "nobody waits for one of which no word is expected"


def test_its_word_counts_also_when_it_is_late_and_only_the_first() -> None:
    d = waiting()
    d.later(d.rules.boot_s + 1)
    for ok, text in ((False, "no \x1b[2Jdisk"), (True, "all is well")):
        d.hear(d.vms[0].node, Kind.CONTEXT, {"vm": d.vms[0].id, "ok": ok, "text": text})
    assert (d.vms[0].context, d.vms[0].said) == ("error", "no [2Jdisk")
    assert d.vms[0].state is VmState.RUNNING and d.ws.state.value == "active"


def test_another_node_does_not_speak_for_it() -> None:
    d = waiting()
    d.hear(d.vms[1].node, Kind.CONTEXT, {"vm": d.vms[0].id, "ok": True, "text": "me too"})
    assert d.vms[0].context == "waits"

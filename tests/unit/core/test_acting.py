"""Users' verbs and guests' words, as the daemon's core sees them."""

from __future__ import annotations

import pytest

from tests.unit.core.dialogue import Dialogue
from wspilot.daemon.core.events import Act
from wspilot.errors import Code
from wspilot.messages import Kind, Verb
from wspilot.model import VmState


def running() -> Dialogue:
    d = Dialogue(2)
    d.run("n1", "n2")
    assert d.ws.state.value == "active"
    return d


def test_a_verb_is_under_way_until_its_node_answers() -> None:
    d = running()
    d.say(Act(Verb.PAUSE, (d.vms[0].id,)))
    (order,) = d.orders("pause")
    assert d.vms[0].doing == "pause" and d.vms[1].doing == ""
    assert order.data["vm"] == d.vms[0].id and order.ttl_s < 3600
    d.report(d.vms[0].node, d.vms[0], VmState.PAUSED)
    assert d.vms[0].doing == "pause"
    d.hear(d.vms[0].node, Kind.ANSWER, {"re": order.id, "ok": True})
    assert d.vms[0].doing == d.vms[0].refused == "" and not d.orders("pause")
    assert d.ws.state.value == "active", "a paused VM is in its user's hands"


def test_what_a_node_refused_stays_until_the_next_verb() -> None:
    d = running()
    d.say(Act(Verb.START, (d.vms[0].id,)))
    (order,) = d.orders("start")
    said = {"re": order.id, "ok": False, "code": 5, "message": "it is \x1b[2Jrunning"}
    d.hear(d.vms[0].node, Kind.ANSWER, said)
    assert d.vms[0].refused == "start: it is [2Jrunning" and d.vms[0].doing == ""
    assert d.vms[0].refused_code == Code.REFUSED
    d.say(Act(Verb.STOP, (d.vms[0].id,)))
    assert d.vms[0].refused == "" and d.vms[0].refused_code == 0


@pytest.mark.parametrize("code", [None, 0, 77, "5", [5], 1])
def test_an_answer_with_no_code_that_is_known_is_a_failure(code: object) -> None:
    d = running()
    d.say(Act(Verb.START, (d.vms[0].id,)))
    (order,) = d.orders("start")
    d.hear(d.vms[0].node, Kind.ANSWER, {"re": order.id, "ok": False, "code": code})
    assert (d.vms[0].refused, d.vms[0].refused_code) == ("start: refused", Code.FAILED)


def test_a_vm_that_ends_meanwhile_is_waited_for_by_nobody() -> None:
    d = running()
    d.say(Act(Verb.REBOOT, (d.vms[0].id,)))
    d.report(d.vms[0].node, d.vms[0], VmState.FAILED, "the disk is gone")
    assert d.vms[0].doing == "" and "it is failed" in d.vms[0].refused
    assert d.vms[0].refused_code == Code.FAILED


def test_a_vm_without_a_node_refuses_at_once() -> None:
    d = Dialogue(1)
    d.say(Act(Verb.PAUSE, (d.vms[0].id,)))
    assert d.vms[0].doing == "" and d.vms[0].refused == "pause: it is pending"
    assert d.vms[0].refused_code == Code.REFUSED


def test_a_lease_that_a_node_cannot_grant_ends_when_it_says() -> None:
    d = running()
    (first, _) = d.orders("lease")
    said = {"re": first.id, "ok": False, "code": 5, "message": "no", "data": {"seconds": 60.0}}
    d.hear(first.node, Kind.ANSWER, said)
    assert d.ws.ends == d.now + 60
    for bad in ("x", True, -1, None, 1e30):
        order = d.orders("lease")
        if order:
            d.hear(order[0].node, Kind.ANSWER, {"re": order[0].id, "data": {"seconds": bad}})
    assert d.ws.ends == d.now + 60


def test_the_picture_comes_before_the_first_create_and_once_a_pilot() -> None:
    d = running()
    pictures, creates = d.orders("context"), d.orders("create")
    assert len(pictures) == len(creates) == 2
    for picture, create in zip(pictures, creates, strict=True):
        assert picture.pilot == create.pilot and picture.seq < create.seq


def test_a_guest_speaks_of_its_context_once_and_only_through_its_own_pilot() -> None:
    d = running()
    first, second = d.vms
    said = {"vm": first.id, "ok": True, "text": "all \x1bfound"}
    d.hear(second.node, Kind.CONTEXT, said)
    assert d.vms[0].context == ""
    d.hear(first.node, Kind.CONTEXT, said)
    assert d.vms[0].context == "ok" and d.vms[0].said == "all found"
    d.hear(first.node, Kind.CONTEXT, {**said, "ok": False})
    assert d.vms[0].context == "ok"

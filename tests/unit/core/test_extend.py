"""A lease that is extended is longer on the books too, and a node that refuses shortens it."""

from __future__ import annotations

from tests.unit.core.dialogue import Dialogue
from wspilot.daemon.core.events import Extend
from wspilot.messages import Kind
from wspilot.model import WorkspaceState


def test_an_extension_is_on_the_books_and_the_lease_ends_later() -> None:
    d = Dialogue(lease_s=600)
    d.run("n1")
    before = d.ws.ends or 0.0
    d.say(Extend("w" * 8, 300))
    assert (d.ws.ends, d.ws.lease_s) == (before + 300, 900)
    assert d.orders("lease")[-1].data["seconds"] == 900
    d.later(700)
    assert d.ws.state is WorkspaceState.ACTIVE
    d.later(250)
    assert d.ws.state is WorkspaceState.ENDING


def test_a_node_that_has_less_time_shortens_the_lease() -> None:
    d = Dialogue(lease_s=600)
    d.run("n1")
    d.say(Extend("w" * 8, 300))
    order = d.orders("lease")[-1]
    d.hear("n1", Kind.ANSWER, {"re": order.id, "ok": False, "message": "the limit",
                               "data": {"seconds": 650.0}})  # fmt: skip
    assert d.ws.ends == d.now + 650

"""What users ask of a living VM: start, stop, pause, resume, reboot, suspend, save.

One at a time a VM. A verb is answered when it is done, so that whoever asked learns why not; asking
for what is so already is done at once. A VM whose end is asked for obeys nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wspilot.errors import Code
from wspilot.messages import Order, Verb
from wspilot.model import VmState
from wspilot.node.core.answers import answer, seconds
from wspilot.node.core.events import Act
from wspilot.node.core.lease import deadline
from wspilot.node.core.state import Phase, Vm
from wspilot.node.core.turn import Turn
from wspilot.node.core.vms import booting, fail
from wspilot.node.values import dataclass
from wspilot.text import clean

V = VmState
ACT_S = 60.0  # beyond a guest's grace: a VMM that has not obeyed by then never will
SAVE_S = 3600.0  # a disk or a memory may be large; the lease's end comes first anyhow
SLOW = frozenset({Verb.SAVE, Verb.SUSPEND, Verb.RESUME})
STARTS = frozenset({Verb.START, Verb.REBOOT})


@dataclass(frozen=True)
class Rule:
    """From which states a verb leads, through which, to which; `None` keeps the state."""

    begins: frozenset[VmState]
    during: Any = None
    ends: Any = None


RULES: Mapping[Verb, Rule] = {
    Verb.PAUSE: Rule(frozenset({V.RUNNING}), V.PAUSING, V.PAUSED),
    Verb.RESUME: Rule(frozenset({V.PAUSED, V.SUSPENDED}), V.RESUMING, V.RUNNING),
    Verb.SUSPEND: Rule(frozenset({V.RUNNING, V.PAUSED}), V.SUSPENDING, V.SUSPENDED),
    Verb.STOP: Rule(frozenset({V.RUNNING, V.PAUSED, V.BOOTING}), V.STOPPING, V.STOPPED),
    Verb.START: Rule(frozenset({V.STOPPED}), V.STARTING, V.BOOTING),
    Verb.REBOOT: Rule(frozenset({V.RUNNING, V.BOOTING}), V.REBOOTING, V.BOOTING),
    Verb.SAVE: Rule(frozenset({V.RUNNING, V.PAUSED, V.STOPPED})),
}
# Asking for what is so already, by the state that says so.
_SO = {Verb.PAUSE: V.PAUSED, Verb.RESUME: V.RUNNING, Verb.SUSPEND: V.SUSPENDED,
       Verb.STOP: V.STOPPED, Verb.START: V.RUNNING}  # fmt: skip


def ordered(turn: Turn, order: Order, seen: float) -> None:
    """A verb has come: begun, or refused in words."""
    vm = turn.state.vms.get(str(order.data.get("vm")))
    if vm is None:
        answer(turn, order.id, Code.NOT_FOUND, "no such VM here")
        return
    rule, verb = RULES[order.kind], order.kind.value
    if turn.state.phase is not Phase.READY or vm.wanted == "gone":
        answer(turn, order.id, Code.REFUSED, "it is being ended")
    elif vm.doing:
        answer(turn, order.id, Code.REFUSED, f"it is busy: {vm.doing}")
    elif vm.state is _SO.get(order.kind):
        answer(turn, order.id)
    elif vm.state not in rule.begins:
        fits = " or ".join(sorted(state.value for state in rule.begins))
        text = f"it is {vm.state.value}; {verb} needs a VM that is {fits}"
        answer(turn, order.id, Code.REFUSED, text)
    else:
        _begin(turn, vm, order, rule)


def _begin(turn: Turn, vm: Vm, order: Order, rule: Rule) -> None:
    verb = order.kind.value
    vm = turn.put(vm, doing=verb, order=order.id, before=vm.state, cause="")
    if rule.during is not None:
        turn.move(vm, rule.during, verb)
    limit = SAVE_S if order.kind in SLOW else ACT_S
    if order.kind in STARTS:  # as long as a create has (`vms.py`)
        limit = max(limit, turn.state.settings.budget.get("boot", 0.0))
    limit = min(limit + (seconds(order, "grace_s") or 0.0), max(1.0, _left(turn)))
    turn.do(Act(vm.id, verb, order.data, limit))


def _left(turn: Turn) -> float:
    """Until the lease ends; nothing may take longer."""
    return deadline(turn.state) - turn.now


def acted(turn: Turn, vm: Vm, verb: str, data: Mapping[str, Any]) -> None:
    """Done. The new state is told before the answer: whoever waits for that sees it."""
    if vm.doing != verb:
        return
    order, vm = vm.order, turn.put(vm, doing="", order="")
    ends = RULES[Verb(verb)].ends
    if vm.wanted != "gone" and ends is V.BOOTING:
        booting(turn, vm)
    elif vm.wanted != "gone" and ends is not None:
        turn.move(vm, ends)
    answer(turn, order, data=data)


def failed(turn: Turn, vm: Vm, verb: str, cause: str, code: int) -> None:
    """Not done: the VMM has put the VM back to what it was, or says itself what became of it."""
    if vm.doing != verb:
        return
    order, vm = vm.order, turn.put(vm, doing="", order="")
    if vm.wanted != "gone" and vm.state is RULES[Verb(verb)].during:
        if verb in (Verb.STOP.value, Verb.REBOOT.value):  # a process that does not die is no guest
            fail(turn, vm, f"{verb}: {cause}")
        elif vm.before is not None:
            turn.move(vm, vm.before)
    answer(turn, order, code, clean(cause, 500))

"""The end of a lease: when it is due, and the way from there to a node that is as it was found.

There is one way out, whatever the cause: VMs end, the journal is undone, the last word is said,
exit. What differs is what is told first and how much time there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from wspilot.messages import Kind
from wspilot.model import Span, VmState
from wspilot.node.core import vms
from wspilot.node.core.events import Finish, GiveUpReserve, Restore
from wspilot.node.core.state import Phase, State, Vm
from wspilot.node.core.turn import Turn
from wspilot.node.values import replace

FLUSH_S = 10.0  # for the last word to reach the spool; beyond that it lies in the outbox
MARGIN_S = 0.3  # of a grace period, kept for the outbox and the exit
ALIVE = frozenset({Phase.STARTING, Phase.RESERVING, Phase.READY})


def deadline(state: State) -> float:
    """When the lease is over: as told, else `lease_s` from the last VM's `running`; at the latest
    the hard end."""
    if state.lease_end is not None:
        return min(state.lease_end, state.hard_end())
    if state.last_running is not None and _all_up(state):
        return min(state.last_running + state.settings.lease_s, state.hard_end())
    return state.hard_end()


def _all_up(state: State) -> bool:
    coming = (VmState.PENDING, VmState.PROPAGATING, VmState.STARTING, VmState.BOOTING)
    return not any(vm.state in coming for vm in state.vms.values())


def wake_at(state: State) -> Optional[float]:
    """The next moment at which time alone decides something."""
    if state.over:
        return None
    times = [state.next_beat]
    if state.phase in ALIVE:
        times.append(deadline(state))
        times += [vm.boot_by for vm in state.vms.values() if vm.boot_by is not None]
    if state.force_at is not None:
        times.append(state.force_at)
    return min(times)


def check(turn: Turn) -> None:
    """What time alone decides about the end."""
    state = turn.state
    if state.phase in ALIVE and state.phase is not Phase.STARTING and turn.now >= deadline(state):
        over = turn.now < state.hard_end() or state.leased
        cause = "the lease is over" if over else "the batch system's limit is near"
        _begin(turn, cause, over, state.settings.budget.get("stop", 0.0), told=False)
    state = turn.state
    if state.force_at is not None and turn.now >= state.force_at and not state.restoring:
        _restore(turn)


def release(turn: Turn, cause: str) -> None:
    """The daemon lets the node go."""
    if turn.state.phase in ALIVE:
        _begin(turn, cause, False, turn.state.settings.budget.get("stop", 0.0), told=True)


def repaired(turn: Turn) -> None:
    """A repair job has done its work: nothing was reserved, the last word follows at once."""
    turn.phase(Phase.RELEASING)
    turn.set(ending="a repair job: what was left is undone")
    proceed(turn)


def term(turn: Turn) -> None:
    """SIGTERM: say so first, then stop VMs in their share of the grace. Once."""
    state = turn.state
    if state.over and not state.preempted:  # only the courier is waited for: no longer so long
        turn.set(preempted=True, termed=turn.now)
        turn.do(Finish(_code(state), _flush_s(turn)))
    if state.preempted or state.over:
        return
    share = max(0.0, state.settings.grace_s * state.settings.stop_share)
    turn.set(preempted=True, termed=turn.now)
    turn.say(Kind.PREEMPTED, cause="the batch system ended the job (SIGTERM)")
    if state.phase in ALIVE:
        _begin(turn, "preempted: SIGTERM", False, share, told=False)
    elif not state.restoring:
        _shorten(turn, share)


def _begin(turn: Turn, cause: str, over: bool, stop_s: float, told: bool) -> None:
    """Leave: nothing new is begun; every VM gets the same grace."""
    was = turn.state.phase
    turn.phase(Phase.RELEASING)
    turn.set(ending=cause, killed=not told and any(map(_lives, turn.state.vms.values())))
    if not turn.state.preempted:
        turn.say(Kind.RELEASING, cause=cause, over=over)
    if was is Phase.RESERVING:
        turn.do(GiveUpReserve())
    # VMs that take all of their grace are killed; that needs a moment of its own.
    grace = max(0.0, stop_s - min(1.0, stop_s / 2))
    turn.set(force_at=turn.now + stop_s + turn.state.settings.budget.get("restore", 0.0))
    if turn.state.preempted:
        turn.set(force_at=turn.now + stop_s)
    for vm in list(turn.state.vms.values()):
        if vm.state is not VmState.FAILED or (vm.exists and not vm.destroying):
            vms.destroy(turn, vm, grace)
    proceed(turn)


def _shorten(turn: Turn, stop_s: float) -> None:
    force = turn.now + stop_s
    turn.set(force_at=min(force, turn.state.force_at or force))
    for vm in list(turn.state.vms.values()):
        vms.hurry(turn, vm)
    proceed(turn)


def _lives(vm: Vm) -> bool:
    return vm.exists and vm.state is not VmState.TERMINATED


def proceed(turn: Turn) -> None:
    """Restore once no VM is left (and the reserving has been given up)."""
    state = turn.state
    if state.phase is not Phase.RELEASING or state.restoring or state.over:
        return
    if state.reserving or any(map(_lives, state.vms.values())):
        return
    _restore(turn)


def _restore(turn: Turn) -> None:
    turn.set(restoring=True, force_at=None, since=turn.now)
    turn.do(Restore(max(1.0, turn.state.settings.budget.get("restore", 5.0))))


def restored(turn: Turn, undone: tuple[str, ...], here: Mapping[str, Any]) -> None:
    """The node is as it was found, its journal says so."""
    _span(turn, "restore")
    turn.set(here=here)
    for vm in list(turn.state.vms.values()):
        if vm.exists:
            vms.destroyed(turn, replace(vm, creating=False, wanted="gone"))
    _last_word(turn, (*turn.state.undone, *undone))


def restore_failed(turn: Turn, cause: str, here: Mapping[str, Any]) -> None:
    """Something is left: that is the last word."""
    turn.set(left=cause, here=here)
    _last_word(turn, ())


def fail(turn: Turn, cause: str, clean_node: bool) -> None:
    """This pilot cannot do its work."""
    turn.phase(Phase.RELEASING)
    turn.set(refused=cause, ending=cause)
    if clean_node:
        proceed(turn)
    else:
        turn.set(left=cause)
        _restore(turn)


def _last_word(turn: Turn, undone: tuple[str, ...]) -> None:
    state = turn.state
    if state.killed:
        gone = [vm.id for vm in state.vms.values() if not vm.exists]
        turn.say(Kind.KILLED, vms=gone, cause=state.ending)
    boot = state.boot_id
    if state.refused or state.left:
        found = (state.refused, *state.causes, state.left)
        causes = list(dict.fromkeys(text for text in found if text))
        turn.phase(Phase.FAILED)
        turn.say(
            Kind.FAILED,
            cause=causes[0],
            causes=causes[1:],
            clean=not state.left,
            undone=list(state.undone),
            boot_id=boot,
            spans=turn.span_docs("restore"),
            **state.here,
        )
    else:
        turn.phase(Phase.RELEASED)
        turn.say(
            Kind.RELEASED,
            undone=list(undone),
            clean=True,
            boot_id=boot,
            cause=state.ending,
            spans=turn.span_docs("restore"),
            **state.here,
        )
    turn.set(over=True)
    turn.do(Finish(_code(state), _flush_s(turn)))


def _code(state: State) -> int:
    return 1 if state.refused or state.left else 0


def _flush_s(turn: Turn) -> float:
    """How long the courier may take with the last word: after a TERM what is left of the grace."""
    state = turn.state
    if not state.preempted:
        return FLUSH_S
    return max(0.2, state.termed + state.settings.grace_s - MARGIN_S - turn.now)


def _span(turn: Turn, name: str) -> None:
    state = turn.state
    span = Span(name, state.wall(state.since), round(turn.now - state.since, 6), "node")
    turn.set(spans=(*state.spans, span))

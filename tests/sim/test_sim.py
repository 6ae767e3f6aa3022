"""The whole system in virtual time: seeds that must hold, and planted bugs that must be found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.sim.play import ROUGH, Violation, play
from tests.sim.world import Faults
from wspilot.daemon import core
from wspilot.daemon.core import endings, leases, slots, vms
from wspilot.daemon.core.turn import Turn
from wspilot.model import Outcome, Slot

SEEDS = 80
PATIENCE = 60  # seeds in which a planted bug must show

Monkey = pytest.MonkeyPatch


def test_a_perfect_world_serves_every_lease() -> None:
    for seed in range(10):
        outcomes = {ws.outcome for ws in play(seed, Faults(slow_file=0.1)).books.workspaces()}
        assert outcomes <= {Outcome.OK, Outcome.DESTROYED}


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, SEEDS, 20))
def test_a_rough_world_loses_doubles_and_leaks_nothing(first: int) -> None:
    active = 0
    for seed in range(first, first + 20):
        active += sum(ws.active_at is not None for ws in play(seed).books.workspaces())
    assert active > 10  # the seeds do reach the part where something could go wrong


def test_some_rough_seeds() -> None:
    for seed in range(1000, 1010):
        play(seed)


def _believes_one_empty_qstat(monkey: Monkey) -> None:
    def absent(turn: Turn, slot: Slot, sent: float) -> None:
        endings._write_off(turn, slot, "the job is gone")
        for id in slot.vms:
            vm = turn.books.vm(id)
            if vm is not None:
                turn.books.put(replace(vm, held=False))

    monkey.setattr(slots, "_absent", absent)


def _frees_addresses_when_destroy_is_asked(monkey: Monkey) -> None:
    real = leases.end

    def end(turn: Turn, ws: Any, outcome: Outcome, cause: str) -> None:
        real(turn, ws, outcome, cause)
        for vm in turn.books.vms_of(ws):
            turn.books.put(replace(vm, held=False))

    monkey.setattr(leases, "end", end)


def _forgets_what_it_was_about_to_do(monkey: Monkey) -> None:
    monkey.setattr(core, "_recover", lambda turn: None)
    monkey.setattr(slots, "_look", lambda *_: None)


def _creates_a_vm_again_after_a_repeat(monkey: Monkey) -> None:
    real = vms._fill

    def fill(turn: Turn, ws: Any, slot: Slot) -> None:
        real(turn, ws, slot)
        for id in slot.vms:
            vm = turn.books.vm(id)
            if vm is not None and vm.pilot:
                turn.books.put(replace(vm, pilot=""))

    monkey.setattr(vms, "_fill", fill)


def _ends_a_workspace_before_its_slots(monkey: Monkey) -> None:
    def review_end(turn: Turn, ws: Any) -> None:
        turn.workspace(ws, leases.W.ENDED, outcome=Outcome.DESTROYED)
        for slot in turn.books.slots_of(ws):
            turn.books.put(replace(slot, state=slots.S.RELEASED))

    monkey.setattr(leases, "_review_end", review_end)


BUGS: tuple[Callable[[Monkey], None], ...] = (
    _believes_one_empty_qstat,
    _frees_addresses_when_destroy_is_asked,
    _forgets_what_it_was_about_to_do,
    _creates_a_vm_again_after_a_repeat,
    _ends_a_workspace_before_its_slots,
)


@pytest.mark.slow
@pytest.mark.parametrize("plant", BUGS, ids=lambda bug: bug.__name__.strip("_"))
def test_a_planted_bug_is_found(monkeypatch: Monkey, plant: Callable[[Monkey], None]) -> None:
    plant(monkeypatch)
    rough = replace(ROUGH, forgetful_poll=0.2)
    with pytest.raises((Violation, AssertionError)):
        for seed in range(PATIENCE):
            play(seed, rough)


def test_a_seed_gives_the_same_story_twice() -> None:
    assert play(7).history == play(7).history

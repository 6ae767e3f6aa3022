"""The whole system in virtual time: seeds that must hold, and planted bugs that must be found."""

from __future__ import annotations

import pytest

from tests.sim.__main__ import run, shrink
from tests.sim.faults import Fault
from tests.sim.mutants import MUTANTS, Mutant
from tests.sim.play import active, play
from tests.sim.table import cells
from wspilot.model import Outcome

SEEDS = 520
CHUNK = 65
PATIENCE = 300  # seeds in which a planted bug must show


def test_a_perfect_world_serves_every_lease() -> None:
    for seed in range(6):
        outcomes = {ws.outcome for ws in play(seed, kinds=()).head.books.workspaces()}
        assert outcomes == {Outcome.OK}


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_a_rough_world_loses_doubles_and_leaks_nothing(first: int) -> None:
    total = run(range(first, first + CHUNK))
    assert not total.bad
    assert total.leases > CHUNK / 4  # the stories do reach the part where something can go wrong
    assert sum(1 for cell in cells() if total.counts[cell]) > 300


def test_some_rough_seeds() -> None:
    assert not run(range(100_000, 100_020)).bad


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_bug_is_found(mutant: Mutant) -> None:
    with mutant.planted():
        for seed in range(PATIENCE):
            try:
                play(seed, kinds=mutant.kinds)
            except Exception:
                return
    pytest.fail(f"not found in {PATIENCE} seeds: {mutant.name}")


def test_a_seed_gives_the_same_story_twice() -> None:
    assert str(play(7).head.history) == str(play(7).head.history)


def test_a_failing_history_is_made_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = next(one for one in MUTANTS if "without a look" in one.name)
    with mutant.planted():
        seed = next(seed for seed in range(200) if run([seed]).bad)
        before = len(play_injected(seed, ()))
        without = shrink(seed)
        after = play_injected(seed, without)
    assert len(after) <= before and any(one is Fault.QSUB_LOST for one in after)


def play_injected(seed: int, without: tuple[str, ...]) -> list[Fault]:
    """Which faults struck in a failing seed."""
    kept: list[object] = []
    with pytest.raises(AssertionError):
        play(seed, without=without, keep=kept)  # type: ignore[arg-type]
    return [one.fault for one in kept[0].chance.injected]  # type: ignore[attr-defined]


def test_what_was_active_is_counted() -> None:
    assert sum(active(play(seed, kinds=())) for seed in range(3)) >= 3

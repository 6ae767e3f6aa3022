"""Some storms of real faults in every run; `python -m tests.real.storm` has as many as you like."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.real.storm import HARMLESS, told

pytestmark = pytest.mark.real
AT_ONCE = 2


def test_after_any_storm_nothing_is_left_and_every_end_has_its_cause() -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        wrong = list(filter(None, pool.map(told, range(6))))
    assert not wrong, "\n\n".join(wrong)


def test_harmless_faults_end_no_lease() -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        kinds = sorted(HARMLESS - {"destroy"})
        wrong = list(filter(None, pool.map(lambda seed: told(seed, kinds), range(4))))
    assert not wrong, "\n\n".join(wrong)

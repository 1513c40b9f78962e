from __future__ import annotations

import pytest
from support.schedules import Schedule


def test_random_schedules_keep_every_invariant() -> None:
    for seed in range(1000):
        Schedule(seed).play()


@pytest.mark.slow
@pytest.mark.parametrize("tenthousand", range(1, 11))
def test_many_random_schedules_keep_every_invariant(tenthousand: int) -> None:
    for seed in range(tenthousand * 10_000, (tenthousand + 1) * 10_000):
        Schedule(seed).play()

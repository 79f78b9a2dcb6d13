"""When a training loss has diverged. The rule in use is tested in training/test_feasibility.py and programs/."""

from __future__ import annotations

import math
import statistics

import pytest

from tunectl.core.divergence import FAR_ABOVE, LEAST_SPREAD, deviations_above, is_diverged

STARTS = (2.0, 2.5, 3.0, 2.2, 2.3)
MEAN, SPREAD = statistics.mean(STARTS), statistics.pstdev(STARTS)


@pytest.mark.parametrize("distance", [-2.0, 0.0, 4.9, 5.1, 40.0])
def test_a_loss_has_diverged_more_than_five_deviations_above_its_start(distance: float) -> None:
    loss = MEAN + distance * SPREAD
    assert deviations_above(loss, MEAN, SPREAD) == pytest.approx(distance)
    assert is_diverged(loss, MEAN, SPREAD) is (distance > FAR_ABOVE)


def test_equal_losses_at_the_start_count_with_the_smallest_deviation() -> None:
    assert deviations_above(math.log(10) * (1 + LEAST_SPREAD), math.log(10), 0.0) == pytest.approx(1.0)


@pytest.mark.parametrize(("mean", "spread"), [(math.nan, 1.0), (math.inf, 1.0), (2.0, math.inf), (0.0, 0.0)])
def test_without_a_finite_start_nothing_has_diverged(mean: float, spread: float) -> None:
    assert not is_diverged(1e30, mean, spread)


def test_an_infinite_loss_has_diverged() -> None:
    assert is_diverged(math.inf, MEAN, SPREAD)

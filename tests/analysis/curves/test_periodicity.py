from __future__ import annotations

import numpy as np
import pytest

from tunectl.analysis.curves.periodicity import _cycles, _power_shares, period


@pytest.mark.parametrize("length", [13, 14, 50, 4999, 5000])
def test_the_share_of_a_sine_is_that_of_a_least_squares_fit_beside_a_cubic(length):
    curve = np.random.default_rng(length).normal(size=length)
    cycles = _cycles(length)
    shares = _power_shares(np.stack([curve, 3 + curve**2]), cycles)
    cubic = np.vander(np.linspace(-1.0, 1.0, length), 4)

    def left(*beside: np.ndarray, of: np.ndarray) -> float:
        columns = np.column_stack([cubic, *beside])
        return float(np.sum((of - columns @ np.linalg.lstsq(columns, of, rcond=None)[0]) ** 2))

    for place in np.linspace(0, len(cycles) - 1, 8).astype(int):
        angles = 2 * np.pi * cycles[place] / length * np.arange(length)
        for row, of in enumerate((curve, 3 + curve**2)):
            expected = 1 - left(np.cos(angles), np.sin(angles), of=of) / left(of=of)
            assert shares[row, place] == pytest.approx(expected, abs=1e-9)


def test_cycles_are_tried_from_two_and_a_half_to_half_the_points_closely_enough_to_find_any():
    for length in (13, 60, 4095, 4096, 100_003):
        cycles = _cycles(length)
        assert 2.5 <= cycles[0] <= 2.75
        assert (length - 1) / 2 - 0.25 <= cycles[-1] <= (length - 1) / 2
        assert 0.12 < np.diff(cycles).min() <= np.diff(cycles).max() <= 0.2500001


def test_a_period_of_seven_is_found_in_a_hundred_thousand_evaluations():
    place = np.arange(100_000)
    noise = np.random.default_rng(5).normal(size=len(place))
    found = period([noise + 1.5 * np.sin(2 * np.pi * place / 7)])
    assert found is not None
    assert found.evaluations == pytest.approx(7, rel=1e-4)
    assert found.share > 0.4
    assert found.chance < 1e-6

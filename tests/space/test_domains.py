"""From the unit interval to values: each scale against its closed form, equal shares, ends that are never passed."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from narrowing import as_number, of_type
from scipy import stats

from tunectl.space.domains import FixedValue, Range, ValueSet

LARGEST = math.nextafter(1, 0)
unit = st.floats(0, 1, exclude_max=True)
POINTS = [(index + 0.5) / 997 for index in range(997)]


@pytest.mark.parametrize("u", [0.0, 1e-17, 0.25, 0.5, 0.75, LARGEST])
def test_each_scale_follows_its_closed_form(u):
    assert Range(-2.0, 3.0).from_unit(u) == pytest.approx(-2 + 5 * u, rel=1e-14)
    assert Range(1e-5, 1e-1, "log").from_unit(u) == pytest.approx(1e-5 * 1e4**u, rel=1e-12)
    assert 1 - as_number(Range(0.8, 0.999, "one_minus_log").from_unit(u)) == pytest.approx(0.2 * 0.005**u, rel=1e-12)


@pytest.mark.parametrize(
    ("domain", "distribution"),
    [
        (Range(-2.0, 3.0), stats.uniform(-2, 5)),
        (Range(1e-5, 1e-1, "log"), stats.loguniform(1e-5, 1e-1)),
    ],
)
def test_uniform_points_get_the_distribution_of_the_scale(domain, distribution):
    values = [domain.from_unit(u) for u in POINTS]
    assert stats.kstest(values, distribution.cdf).pvalue > 0.999


def test_one_minus_log_is_loguniform_in_the_distance_to_one():
    values = [1 - as_number(Range(0.9, 0.9999, "one_minus_log").from_unit(u)) for u in POINTS]
    assert stats.kstest(values, stats.loguniform(1e-4, 1e-1).cdf).pvalue > 0.999


@pytest.mark.parametrize("scale", ["linear", "log", "one_minus_log"])
def test_a_larger_point_never_gives_a_smaller_value(scale):
    domain = Range(0.1, 0.9, scale)
    values = [domain.from_unit(u) for u in [0.0, *POINTS, LARGEST]]
    assert values == sorted(values)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (1, 3), (-3, 4), (1, 10), (5, 104)])
def test_whole_numbers_get_equal_shares_also_the_two_ends(low, high):
    count = high - low + 1
    points = [(index + 0.5) / (count * 40) for index in range(count * 40)]
    shares = Counter(Range(low, high, "linear", True).from_unit(u) for u in points)
    assert shares == dict.fromkeys(range(low, high + 1), 40)


@pytest.mark.parametrize(("low", "high"), [(1, 4), (2, 7), (16, 256)])
def test_whole_numbers_on_a_log_scale_get_the_share_of_their_interval(low, high):
    fine = 40_000
    points = (np.arange(fine) + 0.5) / fine
    shares = Counter(of_type(int, Range(low, high, "log", True).from_unit(float(u))) for u in points)
    assert set(shares) == set(range(low, high + 1))
    for value, count in shares.items():
        assert count / fine == pytest.approx(math.log((value + 1) / value) / math.log((high + 1) / low), abs=2 / fine)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_the_values_of_a_set_get_equal_shares(size):
    domain = ValueSet(tuple(f"v{index}" for index in range(size)))
    shares = Counter(domain.from_unit((index + 0.5) / (size * 30)) for index in range(size * 30))
    assert shares == dict.fromkeys(domain.values, 30)


def test_the_ends_of_the_unit_interval_give_the_first_and_the_last_value():
    for domain in (ValueSet((1, 2, 3)), Range(1, 3, "linear", True), Range(1, 3, "log", True)):
        assert domain.from_unit(0.0) == 1
        assert domain.from_unit(LARGEST) == 3
    assert FixedValue("x").from_unit(0.3) == "x"


@st.composite
def ranges(draw):
    scale = draw(st.sampled_from(["linear", "log", "one_minus_log"]))
    if draw(st.booleans()) and scale != "one_minus_log":
        low = draw(st.integers(1 if scale == "log" else -(2**53), 2**53 - 1))
        return Range(low, draw(st.integers(low + 1, 2**53)), scale, True)
    bounds = {"linear": (-1e300, 1e300), "log": (5e-324, 1e300), "one_minus_log": (-1e300, math.nextafter(1, 0))}
    low, high = sorted((draw(st.floats(*bounds[scale])), draw(st.floats(*bounds[scale]))))
    assume(low < high)
    return Range(low, high, scale)


@settings(max_examples=500, deadline=None)
@given(ranges(), unit)
@example(Range(1e-3, 3.0, "log"), LARGEST)
@example(Range(1, 1000, "log", True), LARGEST)
@example(Range(1, 2**53, "log", True), LARGEST)
@example(Range(0.0, math.nextafter(1, 0), "one_minus_log"), LARGEST)
def test_no_value_steps_over_an_end_of_its_range(domain, u):
    value = domain.from_unit(u)
    assert domain.low <= value <= domain.high
    assert type(value) is (int if domain.integer else float)


@settings(max_examples=200, deadline=None)
@given(ranges(), st.integers(2, 12))
def test_a_grid_has_its_ends_exactly_and_lies_within_its_range(domain, points):
    values = Range(domain.low, domain.high, domain.scale, domain.integer, points).grid()
    assert (values[0], values[-1]) == (domain.low, domain.high)
    assert values == sorted(set(values))
    assert len(values) <= points
    assert all(type(value) is (int if domain.integer else float) for value in values)


def test_a_grid_lies_evenly_on_its_scale():
    assert Range(0.0, 1.0, points=5).grid() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert Range(1e-4, 1.0, "log", points=5).grid() == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0], rel=1e-12)
    expected = [0.9, 0.99, 0.999]
    assert Range(0.9, 0.999, "one_minus_log", points=3).grid() == pytest.approx(expected, rel=1e-12)
    assert Range(1, 16, "log", True, points=5).grid() == [1, 2, 4, 8, 16]
    assert Range(1, 3, "linear", True, points=50).grid() == [1, 2, 3]


def test_a_grid_of_one_point_is_the_middle_of_the_scale():
    assert Range(0.0, 1.0, points=1).grid() == [0.5]
    assert Range(1e-4, 1e-2, "log", points=1).grid() == pytest.approx([1e-3])


def test_the_grid_of_a_set_is_the_set():
    assert ValueSet(("b", "a")).grid() == ["b", "a"]
    assert FixedValue(3).grid() == [3]


def test_the_shares_of_a_set_are_exact_at_the_centres_of_the_halton_cells():
    # 1/3 and 2/3 are no floats: no point of base 3 may fall to the wrong side.
    domain = ValueSet((0, 1, 2))
    for power in range(1, 6):
        for cell in range(3**power):
            u = float(Fraction(2 * cell + 1, 2 * 3**power))
            assert domain.from_unit(u) == cell * 3 // 3**power


@pytest.mark.parametrize(
    "domain",
    [
        Range(1e-3, 3.0, "log"),
        Range(0.8, 0.999, "one_minus_log"),
        Range(-1.0, 5.0),
        Range(1, 9, "log", True),
        Range(2, 4, "linear", True),
        ValueSet((1, 2.0, "x", True)),
    ],
)
def test_the_place_of_a_value_leads_back_to_the_value(domain):
    for u in (0.0, 0.1, 0.3, 0.5, 0.77, 0.999):
        value = domain.from_unit(u)
        place = domain.to_unit(value)

        assert 0 <= place <= 1
        assert domain.from_unit(place) == pytest.approx(value) if isinstance(value, float) else value


def test_the_place_of_a_float_is_the_coordinate_it_came_from_on_every_scale():
    assert Range(1e-4, 1.0, "log").to_unit(1e-2) == pytest.approx(0.5)
    assert Range(0.9, 0.999, "one_minus_log").to_unit(0.99) == pytest.approx(0.5)
    assert Range(-1.0, 3.0).to_unit(0.0) == pytest.approx(0.25)


def test_a_value_beyond_a_range_lies_at_its_nearer_end_and_one_outside_a_set_is_refused():
    assert Range(0.0, 1.0).to_unit(7.0) == 1.0
    assert Range(0.5, 0.5).to_unit(0.5) == 0.5
    with pytest.raises(ValueError, match="expected one of"):
        ValueSet((1, 2)).to_unit(3)
    with pytest.raises(ValueError, match="expected one of"):
        ValueSet((1, 2)).to_unit(True)


@pytest.mark.parametrize("u", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_a_range_whose_ends_are_further_apart_than_a_float_holds_has_places_inside(u):
    value = 10.0 ** (-300 + 600 * u)
    assert Range(1e-300, 1e300, "log").to_unit(value) == pytest.approx(u, abs=1e-12)
    assert Range(-1e308, 1e308).to_unit(-1e308 + u * 1e308 + u * 1e308) == pytest.approx(u)

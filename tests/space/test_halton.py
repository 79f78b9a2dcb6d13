"""The scrambled Halton sequence: stratification, uniformity, SciPy as oracle, and values that never change."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import qmc
from scipy.stats._qmc import van_der_corput

from tunectl.space import halton
from tunectl.space.halton import digit_permutation, first_primes, halton_coordinate, halton_points


def bins(points, base, power):
    return np.floor(points * base**power).astype(int)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**63 - 1),
    coordinate=st.integers(0, 9),
    power=st.integers(1, 6),
    first=st.integers(0, 10**9),
)
def test_any_b_to_the_k_consecutive_points_fill_the_b_to_the_k_bins_once_each(seed, coordinate, power, first):
    base = first_primes(10)[coordinate]
    if base**power > 3_000:
        power = 1
    points = halton_coordinate(seed, coordinate, base, first, base**power)
    assert sorted(bins(points, base, power)) == list(range(base**power))


@pytest.mark.parametrize(("left", "right", "powers"), [(0, 1, (3, 2)), (0, 2, (2, 2)), (1, 2, (2, 1)), (3, 4, (1, 1))])
@pytest.mark.parametrize(("seed", "first"), [(0, 0), (0, 5), (7, 1_000_003)])
def test_two_bases_jointly_fill_every_box_once(left, right, powers, seed, first):
    primes = first_primes(5)
    count = primes[left] ** powers[0] * primes[right] ** powers[1]
    one = bins(halton_coordinate(seed, left, primes[left], first, count), primes[left], powers[0])
    two = bins(halton_coordinate(seed, right, primes[right], first, count), primes[right], powers[1])
    assert len(set(zip(one.tolist(), two.tolist(), strict=True))) == count


def test_three_bases_jointly_fill_every_box_once():
    cube = halton_points(3, 3, 17, 2 * 3 * 5)
    boxes = {tuple(np.floor(row * [2, 3, 5]).astype(int).tolist()) for row in cube}
    assert len(boxes) == 30


@pytest.mark.parametrize("method", ["CD", "L2-star"])
@pytest.mark.parametrize(("count", "dimensions"), [(20, 2), (64, 2), (100, 5)])
def test_the_discrepancy_is_below_that_of_random_points(method, count, dimensions):
    generator = np.random.default_rng(0)
    ours = [qmc.discrepancy(halton_points(seed, dimensions, 0, count), method=method) for seed in range(20)]
    random = [qmc.discrepancy(generator.random((count, dimensions)), method=method) for _ in range(20)]
    assert np.mean(ours) < 0.7 * np.mean(random)
    assert np.max(ours) < np.median(random) * 1.2


def test_with_identity_permutations_it_is_scipy_s_unscrambled_sequence(monkeypatch):
    monkeypatch.setattr(halton, "digit_permutation", lambda seed, coordinate, position, base: list(range(base)))
    count, dimensions = 500, 8
    ours = halton_points(0, dimensions, 0, count)
    theirs = qmc.Halton(dimensions, scramble=False).random(count)
    for column, base in enumerate(first_primes(dimensions)):
        half_a_cell = 0.5 / base ** int(52 / np.log2(base))
        np.testing.assert_allclose(ours[:, column], theirs[:, column] + half_a_cell, rtol=0, atol=1e-15)


@pytest.mark.parametrize("first", [0, 1, 12_345])
@pytest.mark.parametrize("coordinate", [0, 1, 2, 5, 19])
def test_with_our_permutations_scipy_s_routine_gives_our_points(coordinate, first):
    base = first_primes(20)[coordinate]
    positions = int(52 / np.log2(base))
    permutations = np.array([digit_permutation(11, coordinate, position, base) for position in range(positions)])
    theirs = van_der_corput(200, base, start_index=first, scramble=True, permutations=permutations)
    ours = halton_coordinate(11, coordinate, base, first, 200)
    np.testing.assert_allclose(ours, theirs + 0.5 / base**positions, rtol=0, atol=1e-15)


def test_the_points_never_change():
    assert halton_points(0, 5, 0, 4).tolist() == GOLDEN
    assert halton_points(12345, 3, 1000, 2).tolist() == GOLDEN_LATER
    assert [digit_permutation(0, *key) for key in GOLDEN_PERMUTATIONS] == list(GOLDEN_PERMUTATIONS.values())


GOLDEN = [
    [0.020222028388665936, 0.2759850729718861, 0.7196969603816007, 0.33115333304646144, 0.6034123342984776],
    [0.5202220283886659, 0.9426517396385528, 0.5196969603816006, 0.75972476161789, 0.23977597066211398],
    [0.27022202838866594, 0.6093184063052194, 0.11969696038160066, 0.6168676187607471, 0.9670486979348413],
    [0.7702220283886659, 0.164873961860775, 0.31969696038160067, 0.9025819044750328, 0.3306850615712049],
]
GOLDEN_LATER = [
    [0.9764707564283625, 0.48409879198602895, 0.3720952865478404],
    [0.47647075642836245, 0.8174321253193623, 0.9720952865478404],
]
GOLDEN_PERMUTATIONS = {
    (0, 0, 2): [0, 1],
    (1, 0, 3): [0, 2, 1],
    (2, 1, 5): [2, 3, 4, 0, 1],
    (3, 0, 7): [2, 5, 4, 6, 1, 0, 3],
}


@given(st.integers(0, 2**63 - 1), st.integers(0, 19), st.integers(0, 10**12), st.integers(1, 50))
@settings(max_examples=100, deadline=None)
def test_no_point_is_0_or_1_or_on_the_border_of_a_cell(seed, coordinate, first, count):
    base = first_primes(20)[coordinate]
    points = halton_coordinate(seed, coordinate, base, first, count)
    assert points.dtype == np.float64
    assert (points > 0).all()
    assert (points < 1).all()
    assert len(set(points.tolist())) == count
    scaled = points * base
    assert (scaled != np.floor(scaled)).all()


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_a_point_depends_on_seed_coordinate_and_index_alone(seed):
    whole = halton_points(seed, 6, 0, 60)
    np.testing.assert_array_equal(halton_points(seed, 3, 0, 60), whole[:, :3])
    np.testing.assert_array_equal(halton_points(seed, 6, 0, 20), whole[:20])
    np.testing.assert_array_equal(halton_points(seed, 6, 20, 40), whole[20:])
    np.testing.assert_array_equal(halton_coordinate(seed, 4, 11, 7, 1), whole[7:8, 4])


def test_every_seed_also_0_scrambles_and_no_two_alike():
    firsts = [tuple(halton_points(seed, 3, 0, 8).ravel()) for seed in range(50)]
    assert len(set(firsts)) == 50
    assert firsts[0] != tuple(qmc.Halton(3, scramble=False).random(8).ravel())


def test_digit_positions_of_one_coordinate_have_permutations_of_their_own():
    assert len({tuple(digit_permutation(0, 4, position, 11)) for position in range(15)}) == 15
    assert len({tuple(digit_permutation(0, coordinate, 0, 11)) for coordinate in range(15)}) == 15


@pytest.mark.parametrize("base", [2, 3, 4, 5])
def test_the_permutations_are_uniform_over_the_seeds(base):
    every = list(itertools.permutations(range(base)))
    counts = dict.fromkeys(every, 0)
    for seed in range(max(600, 15 * len(every))):
        counts[tuple(digit_permutation(seed, 1, 0, base))] += 1
    assert stats.chisquare(list(counts.values())).pvalue > 0.001


@pytest.mark.parametrize("base", [13, 71])
def test_each_digit_goes_anywhere_also_under_a_large_base(base):
    table = np.zeros((base, base))
    for seed in range(base * 12):
        table[np.arange(base), digit_permutation(seed, 0, 3, base)] += 1
    assert stats.chisquare(table.ravel(), ddof=2 * base - 2).pvalue > 0.001


@pytest.mark.parametrize("index", [0, 1, 19])
def test_one_point_is_uniform_over_the_seeds(index):
    points = [halton_coordinate(seed, 2, 5, index, 1)[0] for seed in range(400)]
    assert stats.kstest(points, "uniform").pvalue > 0.001


def test_coordinates_of_twenty_points_are_not_correlated_as_unscrambled_ones_are():
    # The hazard: unscrambled, the bases 29 and 31 have a correlation of 1.00 at 20 points.
    plain = qmc.Halton(11, scramble=False).random(20)
    assert abs(np.corrcoef(plain[:, 9], plain[:, 10])[0, 1]) > 0.99
    worst = [abs(np.corrcoef(*halton_points(seed, 11, 0, 20)[:, 9:].T)[0, 1]) for seed in range(40)]
    assert np.median(worst) < 0.35


def test_the_first_primes():
    assert first_primes(0) == []
    assert first_primes(12) == [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37]


def test_no_coordinates_and_no_points_have_their_shape():
    assert halton_points(0, 0, 0, 5).shape == (5, 0)
    assert halton_points(0, 3, 0, 0).shape == (0, 3)

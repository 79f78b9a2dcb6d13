"""Saturation is found where rounds gain nothing, not where they gain clearly, and not known without retrains."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tunectl.analysis.comparison.campaign_gains import (
    LEVEL,
    RoundResult,
    best_so_far,
    campaign_progress,
    pooled_deviation,
)


def rounds(*means: float, spread: float = 1.0, retrains: int = 5) -> list[RoundResult]:
    """Rounds with these means of retrains, each with exactly this standard deviation."""
    shape = np.linspace(-1, 1, retrains)
    shape *= spread / np.std(shape, ddof=1) if retrains > 1 else 0
    return [RoundResult(f"r{n}", mean - 0.5, tuple((mean + shape).tolist())) for n, mean in enumerate(means)]


def test_the_path_of_the_best_is_the_lowest_until_then():
    assert best_so_far([None, 3.0, None, 4.0, 1.0]) == [None, 3.0, 3.0, 3.0, 1.0]
    assert best_so_far([]) == []


def test_the_deviation_is_pooled_over_all_rounds():
    found = pooled_deviation([RoundResult("a", 0, (1.0, 3.0)), RoundResult("b", 0, (1.0, 2.0, 6.0)), RoundResult("c")])
    assert found is not None
    assert found[1] == 3
    assert found[0] == pytest.approx(math.sqrt((2 + 14) / 3))
    assert pooled_deviation([RoundResult("a", 0, (1.0,))]) is None


def test_the_needed_gain_is_that_of_a_t_test_of_two_means_where_that_is_more_than_the_deviation():
    found = campaign_progress(rounds(10, 9.9, 9.8, retrains=3))
    error = math.sqrt(2 / 3)
    assert found.needed == pytest.approx(stats.t.ppf(1 - LEVEL / 2, 6) * error)
    assert campaign_progress(rounds(10, 9.9, 9.8, retrains=40)).needed == pytest.approx(1.0)


def test_rounds_that_gain_less_than_the_deviation_are_saturated():
    found = campaign_progress(rounds(10, 5, 4.8, 4.6))
    assert found.verdict == "saturated"
    assert [found.gain, found.deviation] == pytest.approx([0.4, 1.0])
    worse = campaign_progress(rounds(10, 5, 6, 7))
    assert (worse.verdict, worse.gain) == ("saturated", 0)


def test_rounds_that_gain_clearly_improve_also_where_the_last_one_fell_back():
    assert campaign_progress(rounds(10, 7, 4)).verdict == "improving"
    assert campaign_progress(rounds(10, 5, 7)).verdict == "improving"


def test_a_first_round_whose_retrains_differ_far_more_does_not_hide_what_the_last_ones_gained():
    calm = rounds(4, 3, 2, spread=0.3)
    found = campaign_progress([*rounds(14, spread=5), *calm])
    assert found == campaign_progress(calm)
    assert found.verdict == "improving"
    assert found.deviation == pytest.approx(0.3)


def test_seeds_that_change_no_number_leave_only_exact_gains():
    assert campaign_progress(rounds(10, 9, 9, 9, spread=0)).verdict == "saturated"
    assert campaign_progress(rounds(10, 10, 10, 9, spread=0)).verdict == "improving"


@pytest.mark.parametrize(
    ("found", "reason", "lacking"),
    [
        (rounds(10, 9), "from 3 rounds on", ()),
        (rounds(10, 9, 8, retrains=2), "too few retrains", ("r0", "r1", "r2")),
        ([*rounds(10, 9), RoundResult("last", 8)], "has no retrains", ("last",)),
        ([RoundResult("first", 8), *rounds(10, 9)], "has no retrains", ("first",)),
        ([*rounds(10, 9), RoundResult("last", 8, (7.0, math.inf))], "ended without a value", ("last",)),
        ([*rounds(10, 9), RoundResult("last", 8, (7.0, 7.0), identical=True)], "exactly the same", ("last",)),
        ([RoundResult(name, 1, (1.0,)) for name in "abc"], "or a single one", ("b", "c")),
    ],
)
def test_without_enough_retrains_it_is_not_known_and_the_rounds_that_lack_them_are_named(found, reason, lacking):
    progress = campaign_progress(found)
    assert progress.verdict == "not known"
    assert reason in progress.reason
    assert progress.lacking == lacking


@pytest.mark.parametrize(("retrains", "count"), [(3, 3), (5, 3), (3, 6)])
def test_simulated_campaigns_are_judged_right(retrains, count):
    random = np.random.default_rng(7)

    def verdicts(gains: list[float]) -> list[str]:
        levels = -np.cumsum(gains)
        return [
            campaign_progress(
                [RoundResult(str(n), at, tuple(random.normal(at, 1, retrains))) for n, at in enumerate(levels)]
            ).verdict
            for _ in range(500)
        ]

    saturated = verdicts([3.0] * (count - 2) + [0.0, 0.0])
    improving = verdicts([2.0] * count)
    assert saturated.count("saturated") >= 0.95 * len(saturated)
    assert improving.count("saturated") <= 0.05 * len(improving)

"""Tests procedures/recipes.py."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import pytest
import yaml
from made_up_runs import OBJECTIVE, made_up, spec_with
from narrowing import present

from tunectl.core.objective import Objective
from tunectl.procedures.levers import Levers
from tunectl.procedures.procedure import ProcedureOptions, Results, Wish
from tunectl.procedures.recipes import (
    FRESH,
    Judged,
    Recipe,
    candidates,
    chosen,
    fresh_repeats,
    fresh_runs,
    is_safer,
    judged_again,
    recipe_lines,
    safest,
    sweep_rows,
)

spec = partial(spec_with, ProcedureOptions)

LOST = math.inf


def with_warmup(warmup: int | None, rate: float) -> Recipe:
    return Recipe(Levers(warmup), rate)


def sweep(phase: int, errors: Mapping[float, Sequence[float]]) -> Results:
    """The runs of a phase, by rate and seed; a lost seed has an infinite error."""
    found = {}
    for point, (rate, values) in enumerate(errors.items()):
        for repeat, value in enumerate(values):
            wish = Wish(phase, point, repeat, {})
            how = {"state": "infeasible", "reason": "no_progress", "value": 0.9} if value == LOST else {"value": value}
            found[phase, point, repeat] = made_up(wish, {"learning_rate": rate}, point, **how)
    return found


def judged(errors: Sequence[float], warmup: int | None = 100, rate: float = 0.1) -> Judged:
    return Judged(with_warmup(warmup, rate), list(sweep(0, {rate: errors}).values()))


def test_the_mean_of_the_seeds_decides_so_that_a_bad_one_outweighs_the_others():
    errors = {0.1: [0.05, 0.05, 0.05], 0.2: [0.02, 0.03, 0.2], 0.4: [0.03, 0.04, 0.06], 0.8: [0.02, 0.03, 0.7]}
    assert [recipe.rate for recipe in safest(sweep(0, errors), {0: Levers(100)}, OBJECTIVE, 4)] == [0.4, 0.1, 0.2, 0.8]


def test_a_rate_that_lost_a_seed_comes_last_and_one_that_lost_most_not_at_all():
    errors = {0.1: [0.09] * 3, 0.2: [0.01, 0.01, LOST], 0.4: [0.01, LOST, LOST]}
    found = safest(sweep(0, errors), {0: Levers(None)}, OBJECTIVE, 3)
    assert found == [with_warmup(None, 0.1), with_warmup(None, 0.2)]
    assert safest(sweep(0, {0.1: [LOST] * 3}), {0: Levers(None)}, OBJECTIVE) == []


def test_each_warmup_gives_its_safest_rate_before_any_gives_a_second():
    results = {**sweep(0, {0.1: [0.05] * 3, 0.2: [0.04] * 3}), **sweep(1, {0.1: [0.09] * 3, 0.2: [0.08] * 3})}
    found = safest(results, {0: Levers(100), 1: Levers(300)}, OBJECTIVE, 3)
    assert found == [with_warmup(100, 0.2), with_warmup(300, 0.2), with_warmup(100, 0.1)]


def test_of_equals_the_shorter_warmup_comes_first_and_the_lower_rate():
    results = {**sweep(0, {0.1: [0.05] * 3, 0.2: [0.05] * 3}), **sweep(1, {0.1: [0.05] * 3})}
    assert safest(results, {1: Levers(300), 0: Levers(100)}, OBJECTIVE, 2) == [
        with_warmup(100, 0.1),
        with_warmup(300, 0.1),
    ]


def test_where_the_next_rate_loses_a_seed_or_was_not_tried_a_lower_one_runs_beside_the_safest():
    steady = {0.05: [0.07] * 3, 0.1: [0.05] * 3, 0.2: [0.04] * 3, 0.4: [0.06] * 3}
    assert candidates(sweep(0, steady), {0: Levers(100)}, OBJECTIVE) == [
        with_warmup(100, rate) for rate in (0.2, 0.1, 0.4)
    ]
    beside = {**steady, 0.4: [0.06, LOST, 0.06]}
    assert candidates(sweep(0, beside), {0: Levers(100)}, OBJECTIVE) == [
        with_warmup(100, rate) for rate in (0.2, 0.141421, 0.1)
    ]
    at_the_top = {0.1: [0.05] * 3, 0.2: [0.04] * 3}
    assert candidates(sweep(0, at_the_top), {0: Levers(100)}, OBJECTIVE) == [
        with_warmup(100, rate) for rate in (0.2, 0.141421, 0.1)
    ]
    assert candidates(sweep(0, {0.2: [0.04] * 3}), {0: Levers(100)}, OBJECTIVE) == [with_warmup(100, 0.2)]
    lowest = {0.2: [0.04] * 3, 0.4: [LOST] * 3}
    assert candidates(sweep(0, lowest), {0: Levers(100)}, OBJECTIVE) == [
        with_warmup(100, 0.2),
        with_warmup(100, 0.141421),
    ]
    assert candidates(sweep(0, {0.2: [LOST] * 3}), {0: Levers(100)}, OBJECTIVE) == []


def test_the_edge_is_that_of_the_safest_one_s_own_warmup():
    results = {**sweep(0, {0.1: [0.05] * 3, 0.2: [LOST] * 3}), **sweep(1, {0.1: [0.03] * 3, 0.2: [0.04] * 3})}
    found = candidates(results, {0: Levers(100), 1: Levers(300)}, OBJECTIVE)
    assert found == [with_warmup(300, 0.1), with_warmup(100, 0.1), with_warmup(300, 0.2)]
    results = {**sweep(0, {0.1: [0.03] * 3, 0.2: [LOST] * 3}), **sweep(1, {0.1: [0.05] * 3, 0.2: [0.06] * 3})}
    found = candidates(results, {0: Levers(100), 1: Levers(300)}, OBJECTIVE)
    assert found == [with_warmup(100, 0.1), with_warmup(100, 0.0707107), with_warmup(300, 0.1)]


@pytest.mark.parametrize(
    ("lower", "expected"),
    [
        ([0.045, 0.035, 0.05], 0.1),
        ([0.04, 0.04, 0.045], 0.1),
        ([0.06, 0.06, 0.07], 0.2),
        ([0.04, 0.03, LOST], 0.2),
    ],
    ids=["as good by chance", "as good to the last digit", "clearly worse", "loses a seed"],
)
def test_of_two_rates_that_seeds_cannot_distinguish_the_lower_one_is_chosen(lower, expected):
    best = judged([0.04, 0.04, 0.045], 100, 0.2)
    found = chosen([best, judged(lower, 100, 0.1)], OBJECTIVE)
    assert found is not None
    assert found.recipe.rate == expected


def test_another_warmup_is_no_more_cautious_choice_and_a_lower_rate_that_is_better_is_the_best():
    worse = chosen([judged([0.04] * 3, 100, 0.2), judged([0.05] * 3, 300, 0.1)], OBJECTIVE)
    assert present(worse).recipe.levers.warmup == 100
    better = chosen([judged([0.04, 0.04, LOST], 100, 0.2), judged([0.9] * 3, 100, 0.1)], OBJECTIVE)
    assert present(better).recipe.rate == 0.1
    assert chosen([], OBJECTIVE) is None


def test_fresh_runs_have_seeds_that_no_sweep_had():
    recipes = [with_warmup(None, 0.1), with_warmup(100, 0.2)]
    wishes = fresh_runs(7, recipes)
    assert [(wish.phase, wish.point, wish.repeat) for wish in wishes] == [
        *((7, 0, repeat) for repeat in FRESH),
        *((7, 1, repeat) for repeat in FRESH),
    ]
    assert wishes[0].changes == {"learning_rate": 0.1}, "the study as it is"
    assert wishes[-1].changes["warmup_steps"] == 100
    assert wishes[-1].changes["warmup"] is None, "prepended"
    results = sweep(7, {0.1: [0.05] * 3})
    assert [item.recipe for item in judged_again(results, 7, recipes)] == recipes[:1]


@pytest.mark.parametrize(
    ("before", "first"),
    [
        ({}, 3),
        ({"best_learning_rate": 0.1}, 3),
        ({"confirmed": True}, 8),
        ({"confirmed": False}, 3),
        ({"seeds_used": 13}, 13),
    ],
)
def test_seeds_are_fresh_to_every_procedure_before_this_one(before, first):
    assert fresh_repeats(spec(before=before)) == range(first, first + 5)


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        ([0.03, 0.03, 0.05], [0.05, 0.05, 0.06], True),
        ([0.01, 0.01, 0.07], [0.05, 0.05, 0.06], False),
        ([0.05, 0.05, 0.05], [0.01, 0.01, 0.06], False),
        ([0.05, 0.05, 0.05], [0.05, 0.05, 0.05], False),
        ([0.01, 0.01, LOST], [0.05, LOST, LOST], False),
        ([0.05, 0.05, 0.06], [0.07, 0.07, LOST], True),
        ([0.9, 0.9, 0.9], None, True),
        ([0.1, 0.1, LOST], None, False),
    ],
)
def test_safer_means_a_better_worst_seed_and_a_better_median(mine, theirs, expected):
    other = None if theirs is None else judged(theirs, None)
    assert is_safer(judged(mine), other, OBJECTIVE) is expected


def test_an_objective_that_is_maximised_takes_the_lowest_value_for_the_worst():
    accuracy = Objective("valid/error_rate", "maximize")
    assert is_safer(judged([0.9, 0.9, 0.8]), judged([0.7, 0.7, 0.75], None), accuracy)
    assert not is_safer(judged([0.9, 0.9, 0.6]), judged([0.7, 0.7, 0.75], None), accuracy)
    assert judged([0.9, 0.7, 0.8]).median(accuracy) == 0.8


def test_the_lines_to_adopt_are_yaml_that_says_under_which_seeds_they_were_judged():
    lines = recipe_lines(spec(), judged([0.03, 0.04, 0.05], 300, 0.07), judged([0.06, LOST, 0.08], None, 0.01))
    assert yaml.safe_load(lines) == {"learning_rate": 0.07, "warmup_steps": 300}
    comments = [line for line in lines.splitlines() if line.startswith("# ")]
    assert max(map(len, lines.splitlines())) <= 80
    assert "0.03, 0.04, 0.05 at 0.07 with 300 steps of warmup" in comments[0]
    assert "0.06, no_progress, 0.08 at 0.01 without warmup" in comments[1]
    assert "seeds 0, 0, 0" in comments[2]
    within = spec(values={"warmup": "within", "post_warmup_steps": 50, "warmup_steps": 10})
    lines = recipe_lines(within, judged([0.03] * 3, 300, 0.07), None)
    assert yaml.safe_load(lines)["warmup"] == "prepend"
    assert yaml.safe_load(lines)["post_warmup_steps"] == 0
    assert "no feasible rate without it" in lines


def test_a_row_for_each_rate_has_what_each_sweep_reached():
    results = {**sweep(0, {0.1: [0.05] * 3, 0.2: [LOST] * 3}), **sweep(1, {0.1: [0.03, 0.01, 0.02]})}
    assert sweep_rows(results, [0, 1], OBJECTIVE) == [(0.1, 0.05, 0.02), (0.2, "infeasible: no_progress", None)]

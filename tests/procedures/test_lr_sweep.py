"""Tests procedures/lr_sweep.py, lr_options.py, lr_phases.py, lr_verdict.py, fitting_steps.py,
rate_confirmation.py, rate_judgements.py.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from made_up_runs import BASELINE, OBJECTIVE, blow_up, descent, made_up, play, rates_in, spec_with
from narrowing import as_number, as_numbers, of_type, present

from tunectl.analysis.figures.figures import CurvesFigure
from tunectl.analysis.results.runs import Run, curves_of
from tunectl.core.errors import UsageError
from tunectl.core.measurements import Measurement
from tunectl.procedures.lr_options import LrSweepOptions, fit_of
from tunectl.procedures.lr_phases import (
    ABOVE,
    AGAIN_HIGHER,
    CONFIRMED,
    EARLY,
    EDGE,
    FIT_FINER,
    FIT_FINEST,
    FIT_WIDER,
    FITTING,
    GRID,
    HIGHER,
    LOWER,
    PHASES,
)
from tunectl.procedures.lr_sweep import LR_SWEEP
from tunectl.procedures.procedure import Wish
from tunectl.procedures.rate_judgements import judged, log_grid, onsets, with_lost

spec = partial(spec_with, LrSweepOptions)


def bowl(rate: float, best: float) -> float:
    """An error rate with its least value at `best`, by decades away from it."""
    return 0.02 + 0.03 * math.log10(rate / best) ** 2


def world(best: float, unstable: float, how: str = "dead"):
    """Rates from `unstable` on break down in two of three seeds."""

    def happens(values, repeat):
        rate = values["learning_rate"]
        if rate < unstable or repeat == 0:
            return {"value": bowl(rate, best)}
        if how == "dead":
            return {"value": 0.9, "state": "infeasible", "reason": "no_progress", "loss": blow_up(400, repeat, 40)}
        return {
            "value": bowl(rate, best) + 0.05,
            "loss": np.concatenate([blow_up(250, repeat, 100), descent(150, 1)]),
        }

    return happens


def test_the_grid_reaches_a_factor_of_100_around_the_study_s_rate_or_covers_its_range():
    asked, _ = play(LR_SWEEP, spec(options={"follow_up": False}), world(0.03, 0.2))
    rates = rates_in(asked, GRID)
    assert (rates[0], rates[-1], len(rates)) == (0.001, 10.0, 13)
    assert sum(wish.phase == GRID for wish in asked) == 3 * 13, "three seeds each"
    asked, _ = play(LR_SWEEP, spec(learning_rates=(1e-3, 1.0), options={"follow_up": False}), world(0.03, 0.2))
    rates = rates_in(asked, GRID)
    assert (rates[0], rates[-1], len(rates)) == (1e-3, 1.0, 10)
    chosen = {"low": 0.01, "high": 0.1, "points": 3, "follow_up": False}
    asked, _ = play(LR_SWEEP, spec(options=chosen), world(0.03, 0.05))
    rates = rates_in(asked, GRID)
    assert rates == pytest.approx([0.01, math.sqrt(0.001), 0.1], rel=1e-5)


@pytest.mark.parametrize("how", ["dead", "goes up"])
def test_the_best_rate_and_the_edge_are_found_though_networks_die_without_a_nan(how):
    _, found = play(LR_SWEEP, spec(options={"follow_up": False}), world(0.2, 0.25, how))
    assert found.answers["best_learning_rate"] == pytest.approx(0.2154, rel=1e-3)
    assert found.answers["unstable_base_learning_rate"] == pytest.approx(0.4642, rel=1e-3)
    assert found.answers["edge_of_stability"] is True
    assert found.answers["at_boundary"] is False
    assert ("no_progress" if how == "dead" else "the loss goes up for a period") in found.verdict
    assert "at the edge of stability" in found.verdict


def test_where_two_seeds_are_lost_the_third_is_spared_and_nothing_is_judged_otherwise():
    def happens(values, repeat):
        rate, lost = values["learning_rate"], {"value": 0.9, "state": "infeasible", "reason": "nan_loss"}
        if rate > 0.3 or (rate > 0.1 and repeat == 0):
            return lost
        return {"value": bowl(rate, 0.2)}

    asked, found = play(LR_SWEEP, spec(options={"follow_up": False, "low": 0.01, "high": 1.0}), happens)
    seeds: dict[float, list[int]] = {}
    for wish in asked:
        seeds.setdefault(as_number(wish.changes["learning_rate"]), []).append(wish.repeat)
    assert all(repeats == ([0, 1] if rate > 0.3 else [0, 1, 2]) for rate, repeats in seeds.items())
    assert found.answers["best_learning_rate"] == pytest.approx(0.2154, rel=1e-3)
    assert found.answers["unstable_base_learning_rate"] == pytest.approx(0.4642, rel=1e-3)
    assert {row[0]: row[1] for row in found.rows} == {rate: len(repeats) for rate, repeats in seeds.items()}


def test_a_best_rate_well_below_the_edge_is_not_at_it():
    _, found = play(LR_SWEEP, spec(options={"follow_up": False}), world(0.01, 1.0))
    assert found.answers["best_learning_rate"] == pytest.approx(0.01)
    assert found.answers["unstable_base_learning_rate"] == pytest.approx(1.0)
    assert found.answers["edge_of_stability"] is False
    assert "away from the edge" in found.verdict


def test_one_bad_seed_of_three_makes_no_rate_unstable():
    def happens(values, repeat):
        if repeat == 2 and values["learning_rate"] > 0.05:
            return {"value": 0.9, "state": "infeasible", "reason": "nan_loss"}
        return {"value": bowl(values["learning_rate"], 0.3)}

    _, found = play(LR_SWEEP, spec(options={"follow_up": False, "high": 1.0, "low": 0.01}), happens)
    assert found.answers["best_learning_rate"] == pytest.approx(0.3, rel=0.5)
    assert found.answers["unstable_base_learning_rate"] is None


def test_a_sweep_that_is_too_low_goes_higher_by_a_decade_at_most_twice_and_says_so():
    options = {"low": 1e-3, "high": 1e-2, "follow_up": False}
    asked, found = play(LR_SWEEP, spec(options=options), world(0.05, 0.5))
    rates = as_numbers(wish.changes["learning_rate"] for wish in asked)
    assert {wish.phase for wish in asked} == {GRID, HIGHER, AGAIN_HIGHER}
    assert max(rates) == pytest.approx(1.0, rel=1e-3)
    assert found.answers["unstable_base_learning_rate"] == pytest.approx(1.0, rel=1e-3) or found.answers[
        "unstable_base_learning_rate"
    ] == pytest.approx(0.5, rel=0.1)
    assert "extended" in found.verdict
    asked, found = play(LR_SWEEP, spec(options=options), world(500.0, 1e6))
    assert {wish.phase for wish in asked} == {GRID, HIGHER, AGAIN_HIGHER}, "and no third time"
    assert found.answers["at_boundary"] is True
    assert "boundary" in found.verdict


def test_a_sweep_that_is_all_infeasible_goes_lower_and_gives_up_in_words():
    options = {"low": 1.0, "high": 10.0, "follow_up": False}
    asked, found = play(LR_SWEEP, spec(options=options), world(1e-3, 0.3))
    assert {wish.phase for wish in asked} >= {GRID, LOWER}
    assert found.answers["best_learning_rate"] < 0.3
    _, found = play(LR_SWEEP, spec(options=options), world(1e-9, 1e-8))
    # One seed of three survives everywhere: no majority.
    answers = dict(found.answers)
    assert (answers.pop("at_boundary"), answers.pop("confirmed"), answers.pop("not_distinguishable")) == (
        True,
        False,
        [],
    )
    assert set(answers.values()) == {None}
    assert found.advice == ""
    assert found.verdict.startswith("No learning rate in the sweep is feasible")


def test_the_follow_ups_train_far_above_the_best_rate_and_evaluate_the_first_steps_one_by_one():
    asked, found = play(LR_SWEEP, spec(options={"low": 0.01, "high": 1.0}), world(0.2, 0.25))
    above = rates_in(asked, ABOVE)
    best = found.answers["best_learning_rate"]
    swept = {wish.changes["learning_rate"] for wish in asked if wish.phase < ABOVE}
    for factor in (5, 10):
        assert any(abs(math.log(rate / (factor * best))) < 0.1 for rate in {*above, *swept})
    early = [wish for wish in asked if wish.phase == EARLY]
    assert len(early) == 3
    assert {tuple(sorted(wish.training.items())) for wish in early} == {
        (("eval_every", 1), ("eval_from", 0), ("keep_checkpoints", 1), ("stop_after", 500))
    }, "the first 500 updates of a run of the study's own length"
    assert [wish.changes["learning_rate"] for wish in early] == pytest.approx([2 * best] * 3, rel=1e-5)
    names = [figure.name for figure in found.figures]
    assert names == ["learning-rate", "curves-above", "evaluated-as-in-the-study", "first-steps"]


@pytest.mark.parametrize(("points", "expected"), [(7, 1), (4, 2), (3, 2), (13, 0)])
def test_the_unstable_rate_is_looked_for_more_closely(points, expected):
    unstable = 0.35
    asked, found = play(LR_SWEEP, spec(options={"low": 0.01, "high": 1.0, "points": points}), world(0.2, unstable))
    grid = log_grid(0.01, 1.0, points)
    low = max(rate for rate in grid if rate < unstable)
    high = min(rate for rate in grid if rate >= unstable)
    closer = rates_in(asked, EDGE)
    assert closer == pytest.approx([low * (high / low) ** (k / (expected + 1)) for k in range(1, expected + 1)], 1e-4)
    smallest = min(rate for rate in (*grid, *closer) if rate >= unstable)
    assert found.answers["unstable_base_learning_rate"] == smallest
    assert {row[0] for row in found.rows} == {*grid, *closer}, "they count as any other rate"


def test_a_rate_near_the_edge_may_turn_out_to_be_the_best_one():
    # Swept are 0.215 and 0.464; between them lies 0.316.
    asked, found = play(LR_SWEEP, spec(options={"low": 0.01, "high": 1.0}), world(0.32, 0.4))
    assert found.answers["best_learning_rate"] == pytest.approx(0.316, rel=1e-2)
    (early,) = {wish.changes["learning_rate"] for wish in asked if wish.phase == EARLY}
    assert early == pytest.approx(0.632, rel=1e-2)


def test_an_early_instability_that_ordinary_evaluations_miss_is_found_by_the_every_step_run():
    def early(place: int) -> float:
        # Up to 20 times within the first 15 steps, back at step 30, then an ordinary fall.
        return BASELINE * math.exp(3 * max(0.0, 1 - abs(place - 15) / 15)) if place < 30 else BASELINE * 30 / place

    def happens(values, repeat):
        del repeat
        return {"value": bowl(values["learning_rate"], 0.1), "evaluated": early}

    _, found = play(LR_SWEEP, spec(options={"low": 0.01, "high": 1.0}), happens)
    assert found.answers["early_instability"] is True
    assert "between the evaluations of the study" in found.verdict
    _, found = play(LR_SWEEP, spec(options={"low": 0.01, "high": 1.0}), world(0.1, 0.5))
    assert found.answers["early_instability"] is False


def test_the_fastest_perfect_fit_is_the_first_guess_for_max_train_steps():
    def happens(values, repeat):
        rate = values["learning_rate"]
        perfect = {True: None, False: round(60 / rate)}[rate < 0.03 or values.get("weight_decay", 0) > 0]
        found = world(0.2, 0.5)(values, repeat)
        return {**found, "perfect_at": perfect if found.get("state") is None else None}

    values = {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 0.01}
    options = {"low": 0.01, "high": 1.0, "find_max_train_steps": True}
    asked, found = play(LR_SWEEP, spec(values=values, off={"weight_decay": 0}, options=options), happens)
    fitting = [wish for wish in asked if wish.phase == FITTING]
    assert {(wish.changes["weight_decay"], wish.changes["schedule"]) for wish in fitting} == {(0, "constant")}
    highest_stable = max(rate for rate in log_grid(0.01, 1.0, 7) if rate < 0.5)
    true, answer = round(60 / highest_stable), found.answers["max_train_steps"]
    assert answer - found.answers["max_train_steps_resolution"] < true <= answer
    assert 20 * found.answers["max_train_steps_resolution"] < answer, "finer than a twentieth of the answer"
    assert found.answers["fastest_constant_rate"] == highest_stable
    assert {wish.training["train_examples"] for wish in asked if wish.phase in (FITTING, FIT_FINER)} == {10_000}
    again = [wish for wish in asked if wish.phase == FIT_FINER]
    assert {wish.changes["learning_rate"] for wish in again} == {highest_stable}, "the fastest alone"
    assert {wish.training["stop_after"] for wish in again} == {200}
    assert f"max_train_steps: {answer}" in found.advice
    assert "(weight_decay 0)" in found.verdict


def test_a_fit_before_the_first_evaluation_is_looked_for_until_it_is_known_finely_enough():
    def happens(values, repeat):
        del repeat
        rate = values["learning_rate"]
        lost = {"state": "infeasible", "reason": "nan_loss", "value": math.inf}
        return {"value": bowl(rate, 0.2), "perfect_at": round(2 / rate), "longest": 2000} if rate < 0.5 else lost

    options = {"low": 0.01, "high": 1.0, "find_max_train_steps": True}
    asked, found = play(LR_SWEEP, spec(max_train_steps=20_000, eval_every=1000, options=options), happens)
    assert found.answers["max_train_steps"] == round(2 / 0.464159)
    assert found.answers["max_train_steps_resolution"] == 1
    assert {wish.phase for wish in asked} >= {FIT_FINER, FIT_FINEST}


@pytest.mark.parametrize("highest", [5.0, 1e9])
def test_the_boundary_is_that_of_the_constant_rates_not_of_the_ordinary_sweep(highest):
    """The ordinary sweep's best is in its middle; without regularisation the fastest rate is beyond its end."""

    def happens(values, repeat):
        del repeat
        rate, regularised = values["learning_rate"], values.get("dropout_rate", 0) > 0
        if rate > (0.5 if regularised else highest):
            return {"state": "infeasible", "reason": "nan_loss", "value": math.inf}
        return {"value": bowl(rate, 0.1), "perfect_at": None if regularised else max(1, round(200 / (1 + rate)))}

    values = {"optimizer": "sgd", "learning_rate": 0.1, "dropout_rate": 0.3}
    options = {"low": 0.01, "high": 1.0, "find_max_train_steps": True, "follow_up": False}
    asked, found = play(LR_SWEEP, spec(values=values, options=options), happens)
    assert found.answers["at_boundary"] is False
    assert {wish.changes["dropout_rate"] for wish in asked if wish.phase == FITTING} == {0}
    assert any(wish.phase == FIT_WIDER for wish in asked), "the constant rates go on beyond the end"
    if highest == 5.0:
        rates = as_numbers(wish.changes["learning_rate"] for wish in asked if wish.phase >= FITTING)
        assert found.answers["fastest_constant_rate"] == max(rate for rate in rates if rate < 5)
    else:
        assert found.answers["max_train_steps"] is None
        assert "is the highest one that was trained, at the boundary" in found.verdict


def test_an_ordinary_sweep_whose_best_rate_is_at_its_end_costs_no_answer_about_the_steps():
    def happens(values, repeat):
        del repeat
        fits = round(20 + 100 * math.log10(values["learning_rate"] / 0.1) ** 2) if "schedule" in values else None
        return {"value": bowl(values["learning_rate"], 1e6), "perfect_at": fits}

    options = {"low": 0.01, "high": 1.0, "find_max_train_steps": True, "follow_up": False}
    _, found = play(LR_SWEEP, spec(options=options), happens)
    assert found.answers["at_boundary"] is True
    assert found.answers["fastest_constant_rate"] == pytest.approx(0.1)
    assert found.answers["max_train_steps"] == 20


def test_no_number_of_steps_is_given_where_nothing_fits():
    options = {"low": 0.01, "high": 1.0, "find_max_train_steps": True}
    _, found = play(LR_SWEEP, spec(options=options), world(0.2, 0.5))
    assert found.answers["max_train_steps"] is None
    assert "No number of steps is given: no constant rate fits the training set perfectly" in found.verdict


def test_what_regularises_and_does_not_say_when_it_is_off_is_refused_by_name():
    values = {"optimizer": "sgd", "learning_rate": 0.1, "dropout": 0.3, "weight_decay": 0, "width": 64}
    find = {"find_max_train_steps": True}
    assert LR_SWEEP.problems(spec(values=values, options=find)) == [], "a strength is off at 0"
    policy, unknown = LR_SWEEP.problems(spec(values={**values, "augment": "rand", "gamma": 2.0}, options=find))
    assert policy.startswith("augment: ")
    assert "give --off augment=VALUE, or in the study augment: {value: rand, off: …}" in policy
    assert unknown.startswith("gamma: ")
    assert "or --off gamma=2.0 if it does not regularise" in unknown
    said = {**find, "off": {"augment": "none", "gamma": 2.0}}
    assert LR_SWEEP.problems(spec(values={**values, "augment": "rand", "gamma": 2.0}, options=said)) == []
    assert LR_SWEEP.problems(spec(values={**values, "augment": "rand"})) == []
    (line,) = LR_SWEEP.problems(spec(values=values, options={**find, "off": {"dropuot": 0}}))
    assert "--off: no hyperparameter named dropuot in this configuration" in line
    assert "dropout" in line
    (line,) = LR_SWEEP.problems(spec(values=values, options={**find, "off": {"weight_decay": -1}}))
    assert "--off: expected weight_decay to be a number of at least 0, got -1" in line


@pytest.mark.parametrize(
    "options", [{"low": 1.0, "high": 0.1}, {"low": 1.0, "high": 1.0}, {"low": -1.0, "high": 1.0}, {"points": 1}]
)
def test_a_grid_that_is_none_is_refused(options):
    assert len(LR_SWEEP.problems(spec(options=options))) == 1


def test_a_maximised_objective_takes_the_highest_value():
    from tunectl.core.objective import Objective

    sweep = spec(objective=Objective("valid/error_rate", "maximize"), options={"follow_up": False})

    def happens(values, repeat):
        del repeat
        return {"value": 1 - bowl(values["learning_rate"], 0.3), "start": 0.1}

    _, found = play(LR_SWEEP, sweep, happens)
    assert found.answers["best_learning_rate"] == pytest.approx(0.2154, rel=1e-3)
    assert {row[0]: row[2] for row in found.rows}[found.answers["best_learning_rate"]] > 0.9


@pytest.mark.parametrize("low", [1e-6, 3e-3, 1.0])
@pytest.mark.parametrize("points", [2, 5, 13])
def test_a_log_grid_has_both_ends_and_equal_ratios(low, points):
    grid = log_grid(low, 700 * low, points)
    assert (grid[0], grid[-1], len(grid)) == (low, 700 * low, points)
    ratios = np.diff(np.log(grid))
    assert ratios == pytest.approx(np.full(points - 1, math.log(700) / (points - 1)), rel=1e-4)


def test_a_perfect_fit_may_be_named():
    assert fit_of(None) == (None, None)
    assert fit_of("train/loss=0.01") == ("train/loss", 0.01)
    for text in ("train/loss", "loss=0.1", "train/loss=low"):
        with pytest.raises(UsageError, match="METRIC=VALUE"):
            fit_of(text)


def test_every_phase_has_its_words():
    assert len(PHASES) == FIT_FINEST + 1


def test_of_own_code_that_gives_no_training_loss_a_rate_is_judged_by_the_objective():
    def runs(rate, values):
        points = {10 * (place + 1): value for place, value in enumerate(values)}
        measured = [Measurement(step, {"valid/error_rate": value}) for step, value in {0: 3.0, **points}.items()]
        run = made_up(Wish(0, 0, 0, {}), {"learning_rate": rate}, 0, value=min(values))
        return [replace(run, curves=curves_of(measured), updates=replace(run.updates, loss=np.zeros(0)))] * 3

    swept = {0.1: runs(0.1, [2.0, 1.0, 0.5]), 1.0: runs(1.0, [1.9, 0.9, 1.5]), 10.0: runs(10.0, [1.8, 40.0, 1e6])}
    found = with_lost(judged(swept, OBJECTIVE), swept, OBJECTIVE)
    assert [(item.rate, item.is_lost) for item in found] == [(0.1, False), (1.0, False), (10.0, True)]


def test_of_own_code_a_rate_that_ends_where_the_best_one_begins_is_unstable():
    """It records its loss three times in all: too rarely to see a network die."""

    def happens(values, repeat):
        rate = values["learning_rate"]
        told = [0.9, 0.2, 0.1] if rate < 1 else [2.31, 2.30, 2.30]
        return {"value": bowl(rate, 0.1), "loss": np.array(told), "baseline": None, "start": None}

    options = {"low": 1e-2, "high": 10.0, "points": 4}
    asked, conclusion = play(LR_SWEEP, spec(own_code=True, options=options), happens)
    assert conclusion.answers["best_learning_rate"] == pytest.approx(0.1)
    assert 0.1 < conclusion.answers["unstable_base_learning_rate"] <= 1.0
    assert any("it ends worse than the best rate begins" in str(row) for row in conclusion.rows)
    assert not any(wish.phase == EARLY for wish in asked), "own code decides when it evaluates"


def lucky(values, repeat):
    """The sweep's three seeds like 0.0316 best; under fresh ones it loses two of five, and 0.01 is as good without."""
    rate = values["learning_rate"]
    if rate > 0.04 or (rate > 0.025 and repeat in (4, 6)):
        return {"value": math.inf, "state": "infeasible", "reason": "nan_loss", "loss": blow_up(400, repeat, 300)}
    noise = float(np.random.default_rng(repeat).normal(0, 0.005))
    better = 0.01 if rate > 0.025 and repeat < 3 else 0.0
    return {"value": bowl(rate, 0.01) + 0.04 + noise - better}


def test_the_best_rate_is_named_only_after_five_fresh_seeds_none_of_which_it_loses():
    options = {"low": 1e-3, "high": 1.0, "points": 7}
    asked, found = play(LR_SWEEP, spec(options=options), lucky)
    again = [wish for wish in asked if wish.phase == CONFIRMED]
    assert {wish.repeat for wish in again} == {3, 4, 5, 6, 7}, "the seeds under which warmup-sweep compares"
    assert len({wish.changes["learning_rate"] for wish in again}) <= 3
    assert found.answers["best_learning_rate"] == pytest.approx(0.01)
    assert (found.answers["confirmed"], found.answers["seeds"], found.answers["lost_seeds"]) == (True, 8, 0)
    assert "(Without them it would have been 0.0316228.)" in found.verdict
    assert "2 of them infeasible" in found.verdict
    assert "learning_rate: 0.01" in found.advice.splitlines()
    # What the procedure of warmup-sweep reads.
    assert found.answers["unstable_base_learning_rate"] > 0.0316
    _, without = play(LR_SWEEP, spec(options={**options, "follow_up": False}), lucky)
    assert without.answers["best_learning_rate"] == pytest.approx(0.0316228)
    assert without.answers["confirmed"] is False
    assert "not confirmed under fresh" in without.verdict


def test_where_every_contender_loses_a_seed_lower_rates_are_confirmed_until_one_loses_none():
    def happens(values, repeat):
        rate = values["learning_rate"]
        if rate > 0.2 or (rate > 0.02 and repeat == 5):
            return {"value": math.inf, "state": "infeasible", "reason": "nan_loss"}
        return {"value": bowl(rate, 0.1)}

    asked, found = play(LR_SWEEP, spec(options={"low": 1e-3, "high": 1.0}), happens)
    assert found.answers["best_learning_rate"] == pytest.approx(0.01)
    assert found.answers["lost_seeds"] == 0
    assert {wish.changes["learning_rate"] for wish in asked if wish.phase == CONFIRMED} > {0.1}


@pytest.mark.parametrize("killed_after", [25, 40, 55])
def test_a_sweep_that_goes_on_from_any_of_its_results_concludes_the_same(killed_after):
    options = {"low": 1e-3, "high": 1.0, "points": 7, "find_max_train_steps": True}
    sweep = spec(options=options)
    asked, whole = play(LR_SWEEP, sweep, lucky)
    results: dict[tuple[int, int, int], Run] = {}
    for wish in asked[:killed_after]:
        values = {name: value for name, value in {**sweep.values, **wish.changes}.items() if value is not None}
        results[wish.phase, wish.point, wish.repeat] = made_up(wish, values, len(results), **lucky(values, wish.repeat))
    left = asked[killed_after:]
    while left:
        new = [w for w in LR_SWEEP.next_trials(sweep, results) if (w.phase, w.point, w.repeat) not in results]
        assert new
        for wish in new:
            assert wish in left
            left.remove(wish)
            values = {name: value for name, value in {**sweep.values, **wish.changes}.items() if value is not None}
            trial = asked.index(wish)
            results[wish.phase, wish.point, wish.repeat] = made_up(wish, values, trial, **lucky(values, wish.repeat))
    again = LR_SWEEP.conclude(sweep, results)
    assert (again.answers, again.verdict, again.rows, again.advice) == (
        whole.answers,
        whole.verdict,
        whole.rows,
        whole.advice,
    )


@pytest.mark.parametrize(("at", "when", "first"), [(40, "early", "warmup-sweep"), (250, "mid-training", "clip-sweep")])
def test_early_and_mid_training_instability_are_named_apart_with_the_remedy_that_suits_them(at, when, first):
    def happens(values, repeat):
        rate = values["learning_rate"]
        if rate < 0.25:
            return {"value": bowl(rate, 0.2)}
        return {"value": 0.9, "state": "infeasible", "reason": "no_progress", "loss": blow_up(400, repeat, at)}

    _, found = play(LR_SWEEP, spec(max_train_steps=400, options={"follow_up": False}), happens)
    assert f"training is unstable {when} (infeasible: no_progress)" in found.verdict
    assert f"try {first}, then" in found.verdict
    assert found.answers["unstable_when"] == when
    rows = {row[0]: row[3] for row in found.rows}
    assert rows[found.answers["unstable_base_learning_rate"]] == f"unstable {when}: infeasible: no_progress"
    assert rows[found.answers["best_learning_rate"]] == "stable"


def test_a_value_that_is_not_finite_out_of_nowhere_counts_by_its_update():
    wish = Wish(GRID, 0, 0, {})
    values = {"learning_rate": 0.1}
    run = made_up(wish, values, 0, state="infeasible", reason="nan_gradient", loss=descent(140, 0))
    run = replace(run, infeasible_step=140)
    assert onsets(run, 3000) == {"early"}, "in the first twentieth of 3,000"
    assert onsets(run, 400) == {"mid"}
    assert onsets(replace(run, infeasible_step=20), 400) == {"early"}
    assert (
        onsets(made_up(wish, values, 0, state="infeasible", reason="no_progress", loss=descent(140, 0)), 400) == set()
    )


def test_where_nothing_is_learned_that_is_the_verdict_and_no_rate_is_the_best():
    def guesses(values, repeat):
        rate = values["learning_rate"]
        if rate > 0.5:
            return {"value": 0.9, "state": "infeasible", "reason": "nan_loss", "loss": blow_up(400, repeat, 30)}
        noise = np.random.default_rng([repeat, round(1e6 * rate)])
        return {
            "value": 0.9 - 0.02 * float(noise.random()),
            "valid_loss": BASELINE + 0.01,
            "loss": noise.normal(BASELINE, 0.01, 400),
            "start": 0.9 + 0.02 * (repeat % 3 - 1),
        }

    asked, found = play(LR_SWEEP, spec(options={"low": 0.001, "high": 1.0}), guesses)
    assert found.verdict.startswith("No learning rate in the sweep trains better than a constant prediction")
    assert found.answers["best_learning_rate"] is None
    assert found.answers["better_than_constant"] is False
    assert found.answers["edge_of_stability"] is None
    assert not any(wish.phase in (EDGE, CONFIRMED, ABOVE, EARLY) for wish in asked), "nothing more is trained for it"
    assert "edge" not in found.verdict
    assert "higher rates" not in found.verdict
    assert found.advice == ""


def test_away_from_the_edge_does_not_rest_on_one_noisy_best():
    """0.01 is the best by a hair; 0.1, at the edge, is as good as far as seeds can say."""

    def happens(values, repeat):
        rate = values["learning_rate"]
        if rate > 0.3:
            return {"value": math.inf, "state": "infeasible", "reason": "nan_loss"}
        noise = float(np.random.default_rng([repeat, round(1e6 * rate)]).normal(0, 0.02))
        return {"value": 0.1 + noise - (0.003 if rate == 0.01 else 0)}

    options = {"low": 1e-3, "high": 1.0, "points": 4}
    _, found = play(LR_SWEEP, spec(options=options), happens)
    level = [found.answers["best_learning_rate"], *found.answers["not_distinguishable"]]
    assert len(level) > 1
    assert "cannot distinguish" in found.verdict
    unstable = found.answers["unstable_base_learning_rate"]
    assert unstable <= 5 * max(level)
    assert found.answers["edge_of_stability"] is not False
    assert "away from the edge" not in found.verdict


def test_seeds_that_break_down_above_the_best_rate_leave_the_edge_open():
    """Most seeds bear every rate up to 50 times the best one, but one of three breaks down at three times it."""

    def happens(values, repeat):
        rate = values["learning_rate"]
        if rate > 0.5 or (rate > 0.02 and repeat == 1):
            return {"value": math.inf, "state": "infeasible", "reason": "nan_loss", "loss": blow_up(400, repeat, 300)}
        return {"value": bowl(rate, 0.01)}

    _, found = play(LR_SWEEP, spec(options={"low": 1e-3, "high": 1.0}), happens)
    assert found.answers["best_learning_rate"] == pytest.approx(0.01)
    assert found.answers["edge_of_stability"] is None
    assert "away from the edge" not in found.verdict
    assert "warmup-sweep and clip-sweep can show it" in found.verdict


def test_the_abbreviated_run_comes_after_a_prepended_warmup_and_is_never_longer_than_the_study():
    values = {"optimizer": "sgd", "learning_rate": 0.1, "schedule": "cosine", "warmup_steps": 40}
    asked, found = play(LR_SWEEP, spec(values=values, options={"low": 0.01, "high": 1.0}), world(0.2, 0.5))
    early = [wish for wish in asked if wish.phase == EARLY]
    assert {wish.training["eval_from"] for wish in early} == {40}
    assert {wish.training["stop_after"] for wish in early} == {500}
    assert not any("max_train_steps" in wish.training or "schedule" in wish.changes for wish in early)
    whole, first = (of_type(CurvesFigure, figure) for figure in found.figures[2:])
    assert "every 100 steps" in whole.title
    assert all(max(curve.x) == 400 for curve in whole.curves)
    assert all(min(curve.x) >= 40 and max(curve.x) <= 65 for curve in first.curves)


def test_runs_of_an_earlier_version_under_a_squeezed_schedule_are_not_taken_for_the_abbreviated_run():
    sweep = spec(options={"low": 0.01, "high": 1.0})
    asked, found = play(LR_SWEEP, sweep, world(0.2, 0.5))
    assert found.answers["early_instability"] is False
    results = {}
    for number, wish in enumerate(asked):
        values = {**sweep.values, **wish.changes}
        old = replace(wish, training={"max_train_steps": 500, "eval_every": 1}) if wish.phase == EARLY else wish
        results[wish.phase, wish.point, wish.repeat] = made_up(
            old, values, number, **world(0.2, 0.5)(values, wish.repeat)
        )
    assert LR_SWEEP.conclude(sweep, results).answers["early_instability"] is None


def test_a_range_test_of_the_same_configuration_is_named_where_it_says_otherwise():
    beside = {"range-test": {"low": 1e-4, "high": 1e-2, "suggestion": 1e-3, "clear": True}}
    _, found = play(LR_SWEEP, spec(options={"follow_up": False}, beside=beside), world(0.2, 0.5))
    assert "range-test's 0.0001 to 0.01 does not include it: in a range test the loss is lowest" in found.verdict
    wide = {"range-test": {**beside["range-test"], "high": 1.0}}
    _, found = play(LR_SWEEP, spec(options={"follow_up": False}, beside=wide), world(0.2, 0.5))
    assert "range-test's 0.0001 to 1 includes it." in found.verdict


@pytest.mark.parametrize(
    ("best", "unstable", "options"),
    [(0.03, 0.2, {}), (0.03, 3.0, {}), (0.2, 0.25, {}), (0.03, 0.2, {"follow_up": False}), (0.03, 0.2, {"points": 5})],
)
def test_it_takes_about_as_many_trainings_as_it_says_before(best, unstable, options):
    sweep = spec(options=options)
    asked, _ = play(LR_SWEEP, sweep, world(best, unstable))
    fewest, most = present(LR_SWEEP.trainings(sweep))
    assert fewest <= len(asked) <= most
    assert most <= 3 * fewest, "a range that says something"

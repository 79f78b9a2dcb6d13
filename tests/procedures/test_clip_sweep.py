"""Tests procedures/clip_sweep.py, clip_thresholds.py and the figures of clipping in sweep_figures.py."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import yaml
from made_up_runs import blow_up, descent, made_up, play, play_in_pieces, rates_in, spec_with
from narrowing import as_number, of_type, present

from tunectl.analysis.figures.figures import CurvesFigure
from tunectl.analysis.results.runs import UpdateSeries
from tunectl.procedures.clip_sweep import (
    AGAIN,
    CLIP_SWEEP,
    FIRST_THRESHOLD,
    NORMS,
    SMALL,
    SMALL_AGAIN,
    SMALL_NORMS,
    WITHOUT,
    ClipSweepOptions,
)
from tunectl.procedures.clip_thresholds import median_clipped, most_stable, thresholds
from tunectl.procedures.procedure import Wish

spec = partial(spec_with, ClipSweepOptions)

BEFORE = {"best_learning_rate": 0.01, "unstable_base_learning_rate": 0.03}


def norms_of(repeat: int, updates: int = 400) -> np.ndarray:
    """Lognormal norms about 1 with rare huge ones: their 90th percentile is known."""
    generator = np.random.default_rng(repeat)
    norms = np.exp(generator.normal(0, 0.25, updates))
    norms[generator.choice(updates, updates // 100, replace=False)] = 1e4
    return norms


def world(restores_up_to: float, *, part: float = 1.0):
    """Rare huge gradients ruin training above 0.005, unless they are clipped at `restores_up_to` or less."""

    def happens(values, repeat):
        rate, clip = values["learning_rate"], values.get("grad_clip_norm")
        norms = norms_of(repeat) * part
        if rate > 0.005 and (clip is None or clip > restores_up_to):
            return {"value": 0.9, "state": "infeasible", "reason": "nan_loss", "loss": blow_up(400, repeat, 50)}
        return {"value": 0.05 - 0.2 * min(rate, 0.1), "longest": 400, "norms": norms, "clip": clip}

    return happens


def test_the_threshold_lies_just_above_the_typical_norm_and_restores_training():
    _, found = play(CLIP_SWEEP, spec(before=BEFORE), world(2.0))
    recipe = found.answers["recipe"]
    threshold = recipe["grad_clip_norm"]
    # The 90th percentile of a lognormal with deviation 0.25, and 1 % of outliers: exp(0.25 * 1.34).
    assert threshold == pytest.approx(np.exp(0.25 * 1.34), rel=0.1)
    assert found.answers["clipped_fraction"] == pytest.approx(0.1, abs=0.03)
    assert found.answers["too_aggressive"] is False
    assert found.answers["adopt"] is True
    assert found.answers["at_boundary"] is False
    assert yaml.safe_load(found.advice) == recipe, "what is printed is what is kept"
    assert f"at {recipe['learning_rate']:g} clipped at {threshold:g}, against" in found.verdict
    assert {figure.name for figure in found.figures} == {
        "gradient-norm",
        "gradient-norm-histogram",
        "gradient-norm-by-threshold",
        "learning-rate-by-threshold",
    }


def test_every_threshold_is_swept_at_the_same_rates_and_the_study_s_own_threshold_is_left_out_of_the_norms():
    values = {"optimizer": "sgd", "learning_rate": 0.1, "grad_clip_norm": 7.0}
    asked, _ = play(CLIP_SWEEP, spec(values=values, before=BEFORE), world(2.0))
    assert {wish.changes["grad_clip_norm"] for wish in asked if wish.phase in (NORMS, WITHOUT)} == {None}
    by_phase: dict[int, set[tuple[object, int]]] = {}
    for wish in asked:
        if NORMS < wish.phase < AGAIN and wish.repeat < 2:
            by_phase.setdefault(wish.phase, set()).add((wish.changes["learning_rate"], wish.repeat))
    assert len(by_phase) == 4, "none, and three thresholds"
    assert len({frozenset(pairs) for pairs in by_phase.values()}) == 1
    clips = sorted({as_number(wish.changes["grad_clip_norm"]) for wish in asked if WITHOUT < wish.phase < AGAIN})
    assert clips == pytest.approx([clips[-1] / 10, clips[-1] / 3, clips[-1]], rel=1e-4)


def test_a_threshold_that_clips_most_updates_is_called_a_lower_learning_rate():
    _, found = play(CLIP_SWEEP, spec(before=BEFORE), world(0.2))
    assert found.answers["recipe"] is None
    assert found.answers["compared"][-1]["recipe"]["grad_clip_norm"] == pytest.approx(np.exp(0.25 * 1.34) / 10, rel=0.1)
    assert found.answers["clipped_fraction"] > 0.99
    assert found.answers["too_aggressive"] is True
    assert "which is in effect a lower learning rate" in found.verdict
    assert found.advice == ""


def test_clipping_that_brings_nothing_is_not_advised():
    def calm(values, repeat):
        return {"value": 0.05, "longest": 400, "norms": norms_of(repeat), "clip": values.get("grad_clip_norm")}

    _, found = play(CLIP_SWEEP, spec(before=BEFORE), calm)
    assert found.answers["recipe"] is None
    assert found.answers["best_learning_rate"] == 0.01, "as it was before"
    assert found.answers["at_boundary"] is None
    assert "does not help" in found.verdict


def test_a_smaller_threshold_that_is_better_only_within_the_spread_of_its_seeds_is_not_taken():
    def happens(values, repeat):
        clip = values.get("grad_clip_norm")
        if clip is None:
            return {"value": 0.5, "longest": 400, "norms": norms_of(repeat)}
        value = 0.02 if clip > 1 else (0.016, 0.017, 0.021)[repeat % 3]
        return {"value": value, "longest": 400, "norms": norms_of(repeat), "clip": clip}

    _, found = play(CLIP_SWEEP, spec(before=BEFORE), happens)
    assert found.answers["recipe"]["grad_clip_norm"] > 1

    def without_is_as_good(values, repeat):
        return {**happens({**values, "grad_clip_norm": 0.1}, repeat), "clip": values.get("grad_clip_norm")}

    _, found = play(CLIP_SWEEP, spec(before=BEFORE), without_is_as_good)
    assert found.answers["recipe"] is None


def test_the_norms_never_come_from_a_run_that_ended_badly_or_went_up():
    def happens(values, repeat):
        rate = values["learning_rate"]
        if rate == 0.01:
            return {
                "value": 0.9,
                "state": "infeasible",
                "reason": "nan_loss",
                "longest": 400,
                "norms": norms_of(repeat) * 1e6,
            }
        if rate == pytest.approx(0.01 / 3, rel=1e-3):
            bumpy = np.concatenate([descent(200, 1), blow_up(200, 1, 50)])
            return {"value": 0.05, "loss": bumpy, "longest": 400, "norms": norms_of(repeat) * 1e3}
        return {"value": 0.06, "longest": 400, "norms": norms_of(repeat), "clip": values.get("grad_clip_norm")}

    results = {}
    sweep = spec(before=BEFORE)
    for wish in CLIP_SWEEP.next_trials(sweep, {}):
        values = {**sweep.values, **wish.changes}
        values = {name: value for name, value in values.items() if value is not None}
        results[wish.phase, wish.point, wish.repeat] = made_up(wish, values, 0, **happens(values, wish.repeat))
    chosen = present(most_stable(results, NORMS))
    assert chosen.plan.hyperparameters["learning_rate"] == pytest.approx(0.001)
    assert thresholds(chosen)[0] == pytest.approx(np.exp(0.25 * 1.34), rel=0.1)


def test_where_nothing_comes_to_its_end_no_norm_is_typical():
    def lost(values, repeat):
        del values
        return {"value": 0.9, "state": "infeasible", "reason": "nan_loss", "loss": blow_up(400, repeat, 5)}

    _, found = play(CLIP_SWEEP, spec(before=BEFORE), lost)
    assert (found.answers["recipe"], found.answers["adopt"]) == (None, False)
    assert (found.answers["clipped_fraction"], found.answers["too_aggressive"]) == (None, None)
    assert "no gradient norm is typical" in found.verdict


def test_without_a_good_rate_the_command_is_refused():
    values = {"optimizer": "sgd"}
    assert "--from LR_SWEEP_DIR" in CLIP_SWEEP.problems(spec(values=values))[0]
    assert CLIP_SWEEP.problems(spec()) == []


def test_the_best_rate_of_before_is_among_those_that_are_compared():
    asked, _ = play(CLIP_SWEEP, spec(before=BEFORE), world(2.0))
    rates = rates_in(asked, WITHOUT)
    assert (rates[0], rates[1], rates[-1], len(rates)) == (0.005, 0.01, 0.3, 6)


def test_of_own_code_the_part_that_is_clipped_is_that_of_the_norms_above_the_threshold():
    wish, values = Wish(0, 0, 0, {}), {"learning_rate": 0.1, "grad_clip_norm": 1.0}
    run = made_up(wish, values, 0)
    told = UpdateSeries(loss=run.updates.loss[:4], gradient_norm=np.array([0.5, math.nan, 3.0, 0.9]))
    assert median_clipped([replace(run, updates=told)]) == pytest.approx(1 / 3)
    assert median_clipped([replace(run, updates=UpdateSeries())]) is None


def test_a_best_rate_at_the_upper_end_of_the_sweep_is_said_to_be_there():
    def happens(values, repeat):
        found = world(2.0)(values, repeat)
        return found if "loss" in found else {**found, "value": 0.5 - values["learning_rate"]}

    _, found = play(CLIP_SWEEP, spec(before=BEFORE), happens)
    assert found.answers["recipe"]["learning_rate"] == 0.3
    assert found.answers["at_boundary"] is True
    assert found.verdict.endswith("Its rate is the highest of the sweep: a higher one may be better.")


def test_a_threshold_that_loses_a_fresh_seed_is_not_adopted():
    def happens(values, repeat):
        lost = repeat == 5 and values.get("grad_clip_norm") is not None
        return world(0.0 if lost else 2.0)(values, repeat)

    asked, found = play(CLIP_SWEEP, spec(before=BEFORE), happens)
    assert {wish.repeat for wish in asked if wish.phase == AGAIN} == {3, 4, 5, 6, 7}
    assert found.answers["recipe"] is None
    assert found.advice == ""


AFTER_WARMUP = {
    **BEFORE,
    "recipe": {"learning_rate": 0.04, "warmup_steps": 100},
    "adopt": True,
    "best_learning_rate": 0.04,
    "unstable_base_learning_rate": 0.1,
}


def needs_warmup_and(helps):
    """Nothing trains without the warmup; above 0.04 it takes what `helps` says."""

    def happens(values, repeat):
        rate = values["learning_rate"]
        if values.get("warmup_steps") != 100 or (rate > 0.04 and not helps(values)):
            return {"value": 0.9, "state": "infeasible", "reason": "nan_loss", "loss": blow_up(400, repeat, 50)}
        clip = values.get("grad_clip_norm")
        return {"value": 0.08 - 0.2 * min(rate, 0.1) + 0.001 * repeat, "norms": norms_of(repeat), "longest": 400} | (
            {} if clip is None else {"clip": clip}
        )

    return happens


def test_after_a_warmup_sweep_every_trial_has_its_warmup_and_the_recipe_holds_both():
    world_of_both = needs_warmup_and(lambda values: values.get("grad_clip_norm") is not None)
    asked, found = play(CLIP_SWEEP, spec(before=AFTER_WARMUP), world_of_both)
    assert {wish.changes["warmup_steps"] for wish in asked} == {100}
    recipe = found.answers["recipe"]
    assert recipe["warmup_steps"] == 100
    assert recipe["grad_clip_norm"] == pytest.approx(np.exp(0.25 * 1.34), rel=0.1)
    assert recipe["learning_rate"] > 0.04
    assert found.answers["best_learning_rate"] == recipe["learning_rate"]
    assert yaml.safe_load(found.advice) == recipe


def test_where_clipping_brings_nothing_the_recipe_before_stays_as_a_whole():
    asked, found = play(CLIP_SWEEP, spec(before=AFTER_WARMUP), needs_warmup_and(lambda values: False))
    assert asked
    assert found.answers["adopt"] is False
    assert found.answers["recipe"] == AFTER_WARMUP["recipe"]
    assert (found.answers["best_learning_rate"], found.answers["unstable_base_learning_rate"]) == (0.04, 0.1)


def test_a_quarter_of_the_initialisation_is_tried_on_top_and_adopted_where_it_is_safer():
    def helps(values):
        return values.get("grad_clip_norm") is not None and (values["learning_rate"] <= 0.2 or quarter(values))

    def quarter(values):
        return values.get("init_scale") == 0.5

    def happens(values, repeat):
        found = needs_warmup_and(helps)(values, repeat)
        better = {**found, "value": found["value"] - 0.02, "norms": norms_of(repeat) / 20}
        return found if "loss" in found or not quarter(values) else better

    asked, found = play(CLIP_SWEEP, spec(before=AFTER_WARMUP, init_scale=2.0), happens)
    small = [wish for wish in asked if wish.phase in (SMALL_NORMS, SMALL, SMALL_AGAIN)]
    assert {wish.changes["init_scale"] for wish in small} == {0.5}
    assert all("init_scale" not in wish.changes for wish in asked if wish not in small)
    clips = {wish.changes["grad_clip_norm"] for wish in small if wish.phase != SMALL_NORMS}
    assert clips == {found.answers["recipe"]["grad_clip_norm"]}
    assert next(iter(clips)) == pytest.approx(np.exp(0.25 * 1.34) / 20, rel=0.1), "from the norms of the quarter"
    assert set(found.answers["recipe"]) == {"learning_rate", "warmup_steps", "grad_clip_norm", "init_scale"}
    assert found.answers["recipe"]["init_scale"] == 0.5
    assert "without the quarter of the initialisation" in found.verdict
    asked, found = play(CLIP_SWEEP, spec(before=AFTER_WARMUP, init_scale=2.0), needs_warmup_and(helps))
    assert "init_scale" not in found.answers["recipe"]
    assert "A quarter of the initialisation does not improve it." in found.verdict


def test_where_no_run_is_stable_without_it_the_quarter_is_there_from_the_start():
    def happens(values, repeat):
        if values.get("init_scale") != 0.5 or (values["learning_rate"] > 0.005 and "grad_clip_norm" not in values):
            return {"value": 0.9, "state": "infeasible", "reason": "nan_loss", "loss": blow_up(400, repeat, 5)}
        return {"value": 0.05, "norms": norms_of(repeat), "longest": 400, "clip": values.get("grad_clip_norm")}

    asked, found = play(CLIP_SWEEP, spec(before=BEFORE, init_scale=2.0), happens)
    assert {wish.changes.get("init_scale") for wish in asked if wish.phase == SMALL_NORMS} == {0.5}
    assert {wish.changes.get("init_scale") for wish in asked if FIRST_THRESHOLD <= wish.phase < SMALL_NORMS} == {0.5}
    assert {wish.changes.get("init_scale") for wish in asked if wish.phase == WITHOUT} == {None}
    assert found.answers["recipe"]["init_scale"] == 0.5
    assert found.answers["recipe"]["grad_clip_norm"] > 1


def test_the_norms_under_each_threshold_are_drawn_at_a_rate_that_is_unstable_without():
    _, found = play(CLIP_SWEEP, spec(before=BEFORE), world(2.0))
    (figure,) = [of_type(CurvesFigure, item) for item in found.figures if item.name == "gradient-norm-by-threshold"]
    threshold = found.answers["recipe"]["grad_clip_norm"]
    assert [curve.series for curve in figure.curves] == ["none", *(f"{mark.value:g}" for mark in figure.marks)]
    assert figure.marks[0].value == pytest.approx(threshold)
    assert len(figure.marks) == 3
    assert "learning rate 0.01" in figure.title, "the smallest unstable one: 0.005 is calm"
    assert figure.curves[1].y[:3] == pytest.approx(norms_of(0)[:3])


@pytest.mark.parametrize("seed", range(2))
def test_trials_that_end_in_any_order_lead_to_the_same_conclusion(seed):
    sweep = spec(before=AFTER_WARMUP, init_scale=2.0)
    happens = needs_warmup_and(lambda values: values.get("grad_clip_norm") is not None)
    _, calm = play(CLIP_SWEEP, sweep, happens)
    _, found = play_in_pieces(CLIP_SWEEP, sweep, happens, seed)
    assert (found.answers, found.verdict, found.rows) == (calm.answers, calm.verdict, calm.rows)


@pytest.mark.parametrize("restores_up_to", [0.3, 2.0, 1e5])
@pytest.mark.parametrize("init_scale", [None, 1.0])
def test_it_takes_about_as_many_trainings_as_it_says_before(restores_up_to, init_scale):
    sweep = spec(before=BEFORE, init_scale=init_scale)
    asked, _ = play(CLIP_SWEEP, sweep, world(restores_up_to))
    fewest, most = present(CLIP_SWEEP.trainings(sweep))
    assert fewest <= len(asked) <= most

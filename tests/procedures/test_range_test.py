"""Tests procedures/range_test.py."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from made_up_runs import made_up, spec_with

from tunectl.procedures.range_test import RANGE_TEST, RangeTestOptions

spec = partial(spec_with, RangeTestOptions)

RATES = np.geomspace(1e-7, 10, 500)


def concluded(loss: np.ndarray, **beside: dict):
    """What is concluded from a run with this loss, beside the conclusions of other procedures."""
    (wish,) = RANGE_TEST.next_trials(spec(), {})
    values = {name: value for name, value in {**spec().values, **wish.changes}.items() if value is not None}
    run = made_up(wish, values, 0, loss=loss)
    object.__setattr__(run.updates, "learning_rate", RATES)
    results = {(0, 0, 0): run}
    assert list(RANGE_TEST.next_trials(spec(), results)) == [wish], "one run is all"
    return RANGE_TEST.conclude(spec(beside={name.replace("_", "-"): said for name, said in beside.items()}), results)


def test_it_is_one_run_in_which_the_rate_rises_without_schedule_warmup_or_clipping():
    values = {"learning_rate": 0.1, "schedule": "cosine", "warmup_steps": 10, "warmup": "within", "grad_clip_norm": 1.0}
    (wish,) = RANGE_TEST.next_trials(spec(values=values), {})
    after = {**values, **wish.changes}
    assert (after["schedule"], after["learning_rate"], after["range_test_low"]) == ("range_test", 10.0, 1e-7)
    assert {name for name, value in after.items() if value is None} >= {"warmup_steps", "warmup", "grad_clip_norm"}
    assert wish.training == {"max_train_steps": 500, "eval_every": 500, "keep_checkpoints": 1}


def test_the_steepest_descent_against_the_logarithm_of_the_rate_is_suggested():
    # A fall of logistic shape in log10(rate), steepest at 1e-2, and a blow-up from 1 on.
    fall = 0.3 + 2 / (1 + np.exp(4 * (np.log10(RATES) + 2)))
    found = concluded(np.where(RATES < 1, fall, fall * (RATES / 1.0) ** 3))
    assert found.answers["clear"] is True
    assert found.answers["suggestion"] == pytest.approx(1e-2, rel=0.25)
    assert found.answers["low"] < 1e-2 < found.answers["high"]
    assert found.advice.startswith("learning_rate: {role: nuisance, range: [")
    assert [figure.name for figure in found.figures] == ["range-test"]


def test_of_a_wild_initialisation_only_what_lies_below_the_baseline_counts():
    # From 69 down by the same factor a decade to 0.07 at 1e-2: it comes below ln 10 at 1e-4.
    x = np.log10(RATES)
    loss = np.exp(np.interp(x, [-6, -2, -1.5, 0], np.log([69, 0.07, 0.3, 1e6])))
    found = concluded(loss)
    assert found.answers["clear"] is True
    assert 7e-5 < found.answers["low"] < 2e-4 < found.answers["suggestion"] < found.answers["high"]
    assert found.answers["high"] == pytest.approx(1e-2, rel=0.3)
    assert ("y", "constant prediction") in [(mark.axis, mark.name) for mark in found.figures[0].marks]


def test_a_curve_that_does_not_say_is_called_unclear():
    noise = np.random.default_rng(0).normal(2.3, 0.1, 500)
    found = concluded(noise)
    nothing = {"suggestion": None, "low": None, "high": None, "sweep_best_learning_rate": None}
    assert found.answers == {**nothing, "clear": False}
    assert found.verdict.startswith("Unclear: ")
    assert found.advice == ""


@pytest.mark.parametrize(
    ("best", "said", "why"),
    [
        (0.02, "lies in that range", None),
        (0.5, "does not lie", "lower rates have trained"),
        (1e-4, "not lie", "few updates"),
    ],
)
def test_where_a_sweep_of_the_study_exists_both_rates_are_named_and_why_they_differ(best, said, why):
    fall = 0.3 + 2 / (1 + np.exp(4 * (np.log10(RATES) + 2)))
    loss = np.where(RATES < 0.1, fall, fall * (RATES / 0.1) ** 3)
    alone = concluded(loss)
    found = concluded(loss, lr_sweep={"best_learning_rate": best})
    assert found.answers["sweep_best_learning_rate"] == best
    assert f"lr-sweep found {best:g}" in found.verdict
    assert said in found.verdict
    assert alone.verdict in found.verdict
    if why is None:
        assert found.advice == alone.advice
    else:
        assert why in found.verdict
        low, high = (float(end) for end in found.advice.partition("[")[2].partition("]")[0].split(", "))
        assert low < best < high
        assert f"to include {best:g}" in found.advice


@pytest.mark.parametrize("options", [{"low": 1.0, "high": 0.1}, {"low": -1.0}, {"steps": 10}])
def test_bounds_and_steps_that_say_nothing_are_refused(options):
    assert len(RANGE_TEST.problems(spec(options=options))) == 1

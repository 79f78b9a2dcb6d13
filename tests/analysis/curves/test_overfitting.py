"""Tests overfitting, rises and curve_shapes of curves/, and search/regularisers.py: few evaluations, few examples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import study
from curve_cases import STEPS, curves_study, rising_pair, shares_done

from tunectl.analysis.curves.curve_shapes import cost_curve
from tunectl.analysis.curves.overfitting import overfitting
from tunectl.analysis.curves.rises import lasting_rise


def curve_of(values):
    return cost_curve(curves_study([[(values, values)]]).runs[0], "valid/error_rate")


@pytest.mark.parametrize("turn", [1, 2, 3, 4, 5])
def test_a_rise_by_equal_steps_in_ten_evaluations_is_overfitting_not_the_step_of_one_example(turn):
    fall = np.linspace(0.6, 0.120, turn + 1)[:-1]
    valid = np.append(fall, np.linspace(0.120, 0.200, 10 - turn))
    [finding] = overfitting(curves_study([[(valid, 0.9 * np.exp(-3 * shares_done(10)))]]))
    assert finding.numbers["best_trials_overfitting"] == 1


@pytest.mark.parametrize("examples", [2000, 5000, 10000])
def test_a_rise_from_4_to_8_per_cent_over_twenty_evaluations_is_found_from_2000_examples_on(examples):
    found = 0
    for seed in range(40):
        generator = np.random.default_rng([seed, examples])
        pair = rising_pair(generator, 0.04, 0.08, evaluations=20, examples=examples)
        found += bool(overfitting(curves_study([[pair]])))
    assert found >= 36


@pytest.mark.parametrize("examples", [500, 1437, 2000, 10000])
@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_the_step_of_one_example_is_found_in_counts_of_either_precision(examples, precision):
    generator = np.random.default_rng(examples)
    rates = (generator.integers(1, examples // 2, size=20) / examples).astype(precision).astype(float)
    if precision is np.float64 or examples <= 2000:
        assert curve_of(rates).quantum == pytest.approx(1 / examples, rel=1e-6)


def test_a_smooth_curve_has_no_step_of_one_example():
    generator = np.random.default_rng(63)
    for values in (0.12 * np.exp(0.05 * shares_done(10)), generator.uniform(0.1, 0.2, size=6)):
        assert curve_of(values).quantum == 0


@pytest.mark.parametrize(("lasting", "evaluations"), [(0.0, 10), (0.0, 40), (0.5, 40)])
def test_a_constant_level_has_a_lasting_rise_no_more_often_than_its_chance_says(lasting, evaluations):
    generator, alarms = np.random.default_rng(64), 0
    for _ in range(150):
        noise = generator.normal(size=evaluations)
        for place in range(1, evaluations):
            noise[place] = lasting * noise[place - 1] + np.sqrt(1 - lasting**2) * noise[place]
        rise = lasting_rise(curve_of(0.3 * np.exp(0.03 * noise)))
        alarms += rise is not None and rise[1] < 0.05
    assert alarms <= (9 if lasting == 0 else 18)


@pytest.mark.parametrize(
    ("seed", "rise", "seems_to"), [(0, 0.02, 1), (1, 0.02, 1), (2, 0.02, 1), (1, 0.0, 0), (2, 0.0, 0)]
)
def test_a_finding_about_other_trials_says_that_the_best_trial_seems_to_overfit_too(seed, rise, seems_to):
    done = shares_done(20)
    generator = np.random.default_rng(65)
    others = [rising_pair(generator, 0.06, 0.12, evaluations=20, examples=5000) for _ in range(4)]
    noise = np.exp(0.12 * np.random.default_rng(seed).normal(size=20))
    best = (0.04 + 0.8 * np.exp(-20 * done) + rise * np.clip(done - 0.4, 0, 1)) * noise
    evidence = curves_study([[(best, 0.9 * np.exp(-4 * done)), *others]])
    decay = "{role: nuisance, range: [1e-6, 1e-2], scale: log}"
    tuned = study(
        {"weight_decay": decay}, training=f"{{max_train_steps: {STEPS}, eval_every: 100}}", search="{trials: 5}"
    )
    [finding] = overfitting(replace(evidence, spec=tuned))
    numbers = (finding.numbers["best_trials_overfitting"], finding.numbers["best_trials_seeming_to"])
    assert numbers == (0, seems_to)
    assert finding.numbers["others_overfitting"] == 4
    assert finding.sentence.endswith("; the best trial seems to do so too.") is bool(seems_to)
    assert ("best trials may regularise in another way" in finding.action) is not bool(seems_to)


@pytest.mark.parametrize(
    "name", ["weight_decay", "dropout", "dropout_rate", "hidden_dropout_prob", "l2_penalty", "label_smoothing_factor"]
)
def test_a_study_that_tunes_a_regularisation_of_any_name_is_not_asked_to_add_one(name):
    """What to do, the changes and the hyperparameters of the finding know it by the same words."""
    evidence = curves_study([[rising_pair(np.random.default_rng(65), 0.04, 0.2, evaluations=20, examples=10000)]])
    sections = {"training": f"{{max_train_steps: {STEPS}, eval_every: 100}}", "search": "{trials: 5}"}

    def finding(hyperparameters):
        (found,) = overfitting(replace(evidence, spec=study(hyperparameters, **sections)))
        return found

    bare = finding({"width": "64"})
    assert bare.action.startswith("add regularisation")
    assert [change.path for change in bare.changes] == [("hyperparameters", "weight_decay")]
    assert bare.hyperparameters == ()
    tuned = finding({name: "{role: nuisance, range: [0, 0.5]}"})
    assert tuned.action.startswith("tune the regularisation better")
    assert tuned.changes == ()
    assert tuned.hyperparameters == (name,)


@pytest.mark.parametrize(
    ("fixed", "asked"), [("dropout: 0", "dropout"), ("dropout: 0.1", None), ("label_smoothing: 0", None)]
)
def test_where_weight_decay_is_tuned_already_a_dropout_that_is_off_is_tuned_too(fixed, asked):
    evidence = curves_study([[rising_pair(np.random.default_rng(65), 0.04, 0.2, evaluations=20, examples=10000)]])
    name, value = fixed.split(": ")
    spec = study(
        {"weight_decay": "{role: nuisance, range: [1e-6, 1e-2], scale: log}", name: value},
        training=f"{{max_train_steps: {STEPS}, eval_every: 100}}",
        search="{trials: 5}",
    )
    (found,) = overfitting(replace(evidence, spec=spec))
    assert [change.path for change in found.changes] == ([("hyperparameters", asked)] if asked else [])
    assert found.action.startswith("tune dropout as well") is bool(asked)

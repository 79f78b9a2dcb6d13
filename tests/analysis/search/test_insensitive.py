"""Nuisance hyperparameters that make no difference, in simulated studies in which one does, or does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import NUISANCE_RATE, study
from narrowing import of_type
from simulated_studies import Response, Shape, evidence_of
from study_of_losses import study_of_losses

from tunectl.analysis.search.insensitive import NO_SIGN, hyperparameter_effects, insensitive_findings
from tunectl.analysis.search.next_search import agreed_changes
from tunectl.language.study_edit import with_value
from tunectl.language.study_reader import parse_study
from tunectl.space.domains import FixedValue

NAMES = ("learning_rate", "weight_decay")


def simulated(seed, strength, trials=120, settings=1):
    """A study whose learning rate has an effect, and whose weight decay has an effect of this strength."""
    strengths = {"learning_rate": 1.0, "weight_decay": strength}
    response = Response({"learning_rate": 0.6, "weight_decay": 0.4}, strengths, tuple(0.3 * np.arange(settings)))
    return evidence_of(seed, Shape(names=NAMES, trials=trials, settings=settings), response)


def uniform(generator, _rate, _decay):
    """A loss on which nothing has an effect."""
    return generator.uniform()


def raised(evidence):
    return [finding.hyperparameters for finding in insensitive_findings(evidence)]


def test_a_hyperparameter_without_effect_is_named_in_most_studies_and_one_with_effect_never():
    assert sum(raised(simulated(seed, 0.0)) == [("weight_decay",)] for seed in range(12)) >= 9
    assert all(raised(simulated(seed, 0.15)) == [] for seed in range(12))


def test_few_trials_give_no_finding():
    assert all(raised(simulated(seed, 0.0, trials=30)) == [] for seed in range(5))


def test_if_noise_would_hide_any_effect_there_is_no_finding():
    assert all(raised(study_of_losses(seed, 60, uniform)) == [] for seed in range(5))


def test_an_effect_that_is_only_an_interaction_is_detected():
    def crossed(generator, rate, decay):
        return float((rate > 0.5) == (decay > 0.5)) + generator.normal()

    assert all(raised(study_of_losses(seed, 400, crossed)) == [] for seed in range(3))


def test_an_effect_among_the_good_trials_alone_is_detected():
    evidence = study_of_losses(0, 160, rises(more=lambda rate, decay: 0.05 * (decay - 0.5) * (abs(rate - 0.5) < 0.2)))
    (axis,) = [axis for axis in evidence.axes if axis.key == "weight_decay"]
    everywhere, better = hyperparameter_effects(evidence, axis)
    assert everywhere.chance > NO_SIGN >= better.chance
    assert everywhere.unseen < 0.06
    assert raised(evidence) == []


def test_settings_are_judged_together_and_one_with_an_effect_is_enough():
    assert raised(simulated(2, 0.0, trials=80, settings=2)) == [("weight_decay",)]
    evidence = simulated(2, 0.0, trials=80, settings=2)
    needs = {run.plan.trial for run in evidence.by_setting[1]}
    worse = [
        replace(
            run, best_value=run.best_value * (1 + 4 * np.log10(run.plan.hyperparameters["weight_decay"] / 1e-4) ** 2)
        )
        if run.plan.trial in needs
        else run
        for run in evidence.runs
    ]
    assert raised(replace(evidence, runs=tuple(worse))) == []


def rises(**others):
    """A loss with an effect of the learning rate, noise, and the given effect."""

    def loss(generator, rate, decay):
        return 1 + 4 * (rate - 0.5) ** 2 + 0.03 * generator.normal() + others["more"](rate, decay)

    return loss


@pytest.mark.parametrize(
    "more",
    [
        lambda rate, decay: 2 * (rate - 0.5) * (decay - 0.5),
        lambda rate, decay: 0.1 * (decay - 0.5) * (abs(rate - 0.5) < 0.2),
        lambda _rate, decay: 2 * (decay - 0.5) ** 2,
        lambda rate, decay: np.inf if decay > 0.8 and rate > 0.5 else 0.0,
    ],
    ids=["by the sign of another", "among the good ones alone", "in the middle", "lost in a corner"],
)
def test_a_hidden_effect_is_detected(more):
    for seed in range(3):
        assert raised(study_of_losses(seed, 160, rises(more=more))) == []
    assert raised(study_of_losses(0, 160, rises(more=lambda _rate, _decay: 0.0))) == [("weight_decay",)]


def test_the_chance_is_that_of_a_permutation_test():
    """Of studies without any effect no more have a small chance than the chance says."""
    chances = []
    for seed in range(60):
        evidence = study_of_losses(seed, 60, uniform)
        (axis,) = [axis for axis in evidence.axes if axis.key == "weight_decay"]
        chances += [effect.chance for effect in hyperparameter_effects(evidence, axis)]
    assert 0.35 < np.mean(np.array(chances) < 0.5) < 0.65
    assert np.mean(np.array(chances) <= 0.05) < 0.12


def test_the_next_round_fixes_it_where_the_best_trial_has_it():
    evidence = simulated(0, 0.0)
    (finding,) = insensitive_findings(evidence)
    assert (finding.level, finding.trials) == ("note", (evidence.ranked(evidence.runs)[0].plan.trial,))
    changes, conflicts = agreed_changes(evidence.spec, [finding])
    assert conflicts == []
    (change,) = [item.change for item in changes]
    assert change.path == ("hyperparameters", "weight_decay")
    text = with_value(evidence.spec.text, change.path, change.value)
    (fixed,) = parse_study(text, evidence.spec.file).alternatives("weight_decay")
    best = evidence.ranked(evidence.runs)[0].plan.hyperparameters["weight_decay"]
    assert fixed.role == "fixed"
    assert of_type(FixedValue, fixed.domain).value == pytest.approx(best, rel=0.01)


def test_a_learning_rate_and_hyperparameters_that_others_depend_on_are_never_fixed():
    nothing = study_of_losses(0, 120, uniform)
    assert ("learning_rate",) not in raised(nothing)
    spec = study(
        {
            "weight_decay": "{role: nuisance, values: [0, 1e-3, 1e-2]}",
            "momentum": "{role: nuisance, when: {weight_decay: 1e-3}, range: [0.1, 0.9]}",
            "optimizer": "momentum",
        },
        search="{trials: 120}",
    )
    assert raised(study_of_losses(0, 120, uniform, spec)) == []


def test_one_hyperparameter_is_left_to_be_searched():
    spec = study(
        {
            "weight_decay": "{role: nuisance, range: [1e-6, 1e-2], scale: log}",
            "label_smoothing": "{role: nuisance, range: [0.0, 0.3]}",
        },
        workload="./a.py:f",
        search="{trials: 400}",
    )
    found = insensitive_findings(study_of_losses(0, 400, uniform, spec))
    assert len(found) == 2
    assert [bool(finding.changes) for finding in found] == [True, False]


@pytest.mark.parametrize("values", ["[2]", "[relu]", "[true]"])
def test_a_set_with_one_value_in_all_trials_is_no_finding(values):
    spec = study(
        {"learning_rate": NUISANCE_RATE, "odd": f"{{role: nuisance, values: {values}}}"}, search="{trials: 45}"
    )
    assert insensitive_findings(study_of_losses(0, 45, lambda generator, rate, _: 0.1 + (rate - 0.5) ** 2, spec)) == []


def test_a_set_with_one_feasible_value_is_no_finding():
    spec = study(
        {"learning_rate": NUISANCE_RATE, "weight_decay": "{role: nuisance, values: [0, 1]}"}, search="{trials: 90}"
    )
    found = study_of_losses(0, 90, lambda generator, rate, at: generator.uniform() if at < 0.5 else float("inf"), spec)
    assert "weight_decay" not in [key for finding in insensitive_findings(found) for key in finding.hyperparameters]

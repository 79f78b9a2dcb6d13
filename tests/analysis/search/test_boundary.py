"""Tests search/boundary.py, search/crowding.py, search/scientific_ends.py and comparison/setting_axes.py.

`search-boundary` is found if the best is beyond a range, and not for flat responses, few trials and natural bounds.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from narrowing import as_number
from simulated_studies import DOMAINS, Response, Shape, evidence_of, simulated_evidence

from tunectl.analysis.comparison.setting_axes import setting_axes
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import Run
from tunectl.analysis.search.boundary import crowded_ends, search_boundary_findings
from tunectl.analysis.search.scientific_ends import scientific_end_findings
from tunectl.analysis.updates.stability_edge import SearchPlaces
from tunectl.language.study_reader import parse_study
from tunectl.space.trial_plan import plan_trials

SEEDS = range(500, 506)


def bowl(seed, place, *, names=("learning_rate", "weight_decay"), about="learning_rate", strength=0.6, **changes):
    optima = dict.fromkeys(names, 0.5) | {about: place}
    strengths = dict.fromkeys(names, 0.1) | {about: strength}
    shape = Shape(names=names, **{key: changes.pop(key) for key in list(changes) if key in Shape.__dataclass_fields__})
    offsets = tuple(0.5 * np.arange(shape.settings))
    return evidence_of(seed, shape, Response(optima, strengths, **{"offsets": offsets, **changes}))


def found_in(seeds, place, **changes):
    return [search_boundary_findings(bowl(seed, place, **changes)) for seed in seeds]


def test_a_planted_narrow_range_is_found_with_its_end_and_the_range_to_try():
    for seed in SEEDS:
        evidence = simulated_evidence(seed, flaw="search-boundary")
        (finding,) = search_boundary_findings(evidence)
        assert finding.level == "warning"
        assert finding.hyperparameters == ("learning_rate",)
        (change,) = finding.changes
        assert change.path == ("hyperparameters", "learning_rate", "range")
        low_end = finding.numbers["end"] == "low"
        assert change.value == pytest.approx([1e-3 / 10**1.5, 1.0] if low_end else [1e-3, 10**1.5], rel=0.03)
        best = as_number(evidence.ranked(evidence.runs)[0].plan.hyperparameters["learning_rate"])
        assert (best < 0.1) == low_end


@pytest.mark.parametrize("about", ["width", "num_layers", "momentum", "label_smoothing"])
@pytest.mark.parametrize("place", [-0.5, 1.5])
def test_every_kind_of_ordered_hyperparameter_has_ends(about, place):
    for findings in found_in(range(3), place, names=("learning_rate", about), about=about, strength=0.3):
        assert [finding.hyperparameters for finding in findings] == [(about,)]
        assert findings[0].numbers["end"] == ("low" if place < 0 else "high")


def test_a_set_of_numbers_has_its_ends_whatever_the_order_in_the_file():
    evidence = bowl(0, 0.5, names=("learning_rate", "width"), domains={"width": "values: [128, 512, 32, 256, 64]"})
    runs = [
        replace(run, best_value=1 / run.plan.hyperparameters["width"] + 1e-5 * run.plan.trial) for run in evidence.runs
    ]
    (finding,) = search_boundary_findings(replace(evidence, runs=tuple(runs)))
    assert (finding.hyperparameters, finding.numbers["end"]) == (("width",), "high")
    assert finding.changes[0].value == [128, 512, 32, 256, 64, 1024]


@pytest.mark.parametrize("place", [0.3, 0.7])
def test_a_best_place_inside_the_range_is_no_boundary(place):
    assert not any(found_in(SEEDS, place, strength=2.0))


def test_a_best_place_at_a_fifth_of_the_range_is_no_boundary_if_many_trials_show_it():
    assert not any(found_in([7], 0.2, strength=2.0, trials=300))


def test_a_flat_response_few_trials_and_a_plateau_are_no_boundary():
    assert not any(found_in(SEEDS, 0.5, strength=0.0))
    assert not any(found_in(SEEDS, -0.5, trials=4))
    assert not any(found_in(SEEDS, 0.5, strength=2.0, plateaus={"learning_rate": 0.5}))


def in_order(names, trials, *, settings=1, seed=0):
    """The best trials are those of the lowest learning rates, in perfect order; the others make no difference."""
    evidence = bowl(seed, 0.5, names=names, trials=trials, settings=settings)
    runs = [replace(run, best_value=run.plan.hyperparameters["learning_rate"]) for run in evidence.runs]
    return replace(evidence, runs=tuple(runs))


@pytest.mark.parametrize("trials", [5, 6, 8, 10, 16])
@pytest.mark.parametrize("others", [(), ("weight_decay",), ("weight_decay", "momentum")])
def test_trials_in_perfect_order_are_found_from_five_on(trials, others):
    (finding,) = search_boundary_findings(in_order(("learning_rate", *others), trials))
    assert (finding.hyperparameters, finding.numbers["end"]) == (("learning_rate",), "low")
    assert finding.changes[0].value[0] < 1e-3


def test_settings_that_agree_are_found_where_none_of_them_would_be_alone():
    names = ("learning_rate", "weight_decay", "momentum")
    (finding,) = search_boundary_findings(in_order(names, 5, settings=4))
    assert finding.settings == (0, 1, 2, 3)
    assert finding.numbers["end"] == "low"


@pytest.mark.parametrize(
    "shape", [np.arange, lambda count: np.exp(np.arange(count)), lambda count: -1 / (1 + np.arange(count))]
)
@pytest.mark.parametrize(("trials", "names"), [(5, 1), (5, 2), (6, 1), (5, 4), (5, 6)])
def test_of_all_orders_of_few_trials_at_most_one_in_twenty_is_called_a_crowd(trials, names, shape):
    axes = setting_axes(bowl(0, 0.5, names=tuple(DOMAINS)[:names], trials=trials))
    assert len(axes) == names
    found = [
        bool(crowded_ends(SearchPlaces(tuple(replace(axis, costs=np.array(order)) for axis in axes), ())))
        for order in permutations(shape(trials).astype(float))
    ]
    assert 0 < np.mean(found) <= 0.05


@pytest.mark.parametrize("end", ["low", "high"])
@pytest.mark.parametrize("names", [4, 6])
def test_of_many_hyperparameters_one_that_five_trials_follow_closely_is_found(names, end):
    axes = setting_axes(bowl(0, 0.5, names=tuple(DOMAINS)[:names], trials=5))
    for own in axes[:4]:
        losses = own.positions if end == "low" else -own.positions
        places = SearchPlaces(tuple(replace(axis, costs=losses) for axis in axes), ())
        assert [(item.axis.hyperparameter, item.end) for item in crowded_ends(places)] == [(own.hyperparameter, end)]


def test_several_settings_of_five_trials_with_many_hyperparameters_each_are_not_enough_in_one_of_them_alone():
    axes = setting_axes(bowl(0, 0.5, names=tuple(DOMAINS)[:4], trials=5, settings=3))
    noise = np.random.default_rng(3)
    losses = {0: axes[0].positions, 1: noise.normal(size=5), 2: noise.normal(size=5)}
    assert crowded_ends(SearchPlaces(tuple(replace(axis, costs=losses[axis.setting]) for axis in axes), ())) == []


@pytest.mark.parametrize(("trials", "names"), [(10, 4), (12, 4), (16, 3)])
def test_a_flat_surface_of_many_hyperparameters_gives_at_most_one_false_alarm_in_twenty(trials, names):
    generator = np.random.default_rng(0)
    axes = setting_axes(bowl(1, 0.5, names=tuple(DOMAINS)[:names], trials=trials))
    found = 0
    for _ in range(80):
        losses = generator.normal(size=trials)
        found += bool(crowded_ends(SearchPlaces(tuple(replace(axis, costs=losses) for axis in axes), ())))
    # Of 80 studies with a chance of 5 % each more than 8 would be one case in 40.
    assert found <= 8


def test_equal_results_are_no_crowd():
    evidence = bowl(0, -0.5)
    assert not search_boundary_findings(
        replace(evidence, runs=tuple(replace(run, best_value=0.25) for run in evidence.runs))
    )


def test_settings_that_crowd_the_same_end_are_one_finding():
    (finding,) = search_boundary_findings(bowl(1, -0.5, settings=3))
    assert finding.settings == (0, 1, 2)
    assert len(finding.changes) == 1


def test_a_maximised_objective_has_the_same_findings():
    for seed in range(3):
        minimised, maximised = (
            search_boundary_findings(bowl(seed, -0.5, direction=direction)) for direction in ("minimize", "maximize")
        )
        assert [finding.hyperparameters for finding in minimised] == [finding.hyperparameters for finding in maximised]


def test_infeasible_trials_at_the_end_prevent_a_wider_range_there():
    assert not any(found_in(SEEDS, 1.3, edge=0.9))


def test_at_a_natural_end_where_it_is_off_a_note_proposes_to_fix_it_there():
    evidence = bowl(
        2, -0.5, names=("learning_rate", "label_smoothing"), about="label_smoothing",
        domains={"label_smoothing": "range: [0, 0.3]"},
    )  # fmt: skip
    (finding,) = search_boundary_findings(evidence)
    assert (finding.level, finding.hyperparameters) == ("note", ("label_smoothing",))
    (change,) = finding.changes
    assert change.path == ("hyperparameters", "label_smoothing")
    assert change.value == {"role": "fixed", "value": 0}


def test_the_only_hyperparameter_that_is_searched_is_not_fixed_at_its_end():
    rate_alone = {"learning_rate": "0.1", "label_smoothing": "range: [0, 0.3]"}
    evidence = bowl(2, -0.5, names=("label_smoothing",), about="label_smoothing", domains=rate_alone)
    (finding,) = search_boundary_findings(evidence)
    assert finding.changes == ()


def two_sided(seed, lows, highs):
    """Two settings with one learning rate, of which one is best at its low end and the other at its high end."""
    evidence = bowl(seed, 0.5, settings=2, strength=0.6)
    generator = np.random.default_rng(seed)
    runs = []
    for run in evidence.runs:
        at = np.log10(run.plan.hyperparameters["learning_rate"]) / 3 + 1
        best = -0.5 if run.plan.setting in lows else 1.5
        runs.append(replace(run, best_value=float(0.1 + (at - best) ** 2 + 0.02 * generator.normal())))
    return replace(evidence, runs=tuple(runs))


def test_both_ends_of_one_range_propose_one_range():
    findings = search_boundary_findings(two_sided(0, {0}, {1}))
    assert {finding.numbers["end"] for finding in findings} == {"low", "high"}
    low, high = (finding.changes for finding in findings)
    assert low == high
    assert low[0].value == pytest.approx([1e-3 / 10**1.5, 10**1.5], rel=0.03)


def depths(errors, *, trials=12, values="[2, 4, 6, 8]", name="num_layers"):
    text = f"""
workload: tunectl.workloads.digits:mlp
objective: {{metric: valid/error_rate, direction: minimize}}
training: {{max_train_steps: 100, eval_every: 10}}
hyperparameters:
  optimizer: adam
  {name}: {{role: scientific, values: {values}}}
  learning_rate: {{role: nuisance, range: [1e-3, 1], scale: log}}
search: {{trials: {trials}}}
"""
    spec = parse_study(text, Path("/studies/depths.yaml"))
    generator = np.random.default_rng(0)
    runs = [
        Run(plan, "completed", best_value=float(errors[plan.setting] * np.exp(0.1 * generator.normal())), best_step=50)
        for plan in plan_trials(spec)
    ]
    return StudyEvidence(spec, spec.objective, tuple(runs))


def test_a_scientific_number_that_is_best_at_its_end_is_found():
    (finding,) = scientific_end_findings(depths([0.4, 0.3, 0.2, 0.1]))
    assert finding.hyperparameters == ("num_layers",)
    assert finding.changes[0].path == ("hyperparameters", "num_layers", "values")
    assert finding.changes[0].value == [2, 4, 6, 8, 10]


def test_an_inner_or_unclear_or_natural_best_is_none():
    assert not scientific_end_findings(depths([0.4, 0.3, 0.1, 0.2]))
    assert not scientific_end_findings(depths([0.2, 0.2, 0.2, 0.2]))
    assert not scientific_end_findings(depths([0.4, 0.3, 0.2, 0.1], trials=3))
    assert not scientific_end_findings(depths([0.1, 0.2, 0.3, 0.4], values="[1, 2, 3, 4]"))
    assert not scientific_end_findings(depths([0.1, 0.2, 0.3], values="[relu, gelu, tanh]", name="activation"))

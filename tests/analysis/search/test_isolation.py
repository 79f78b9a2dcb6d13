"""Isolation: the best trial of each value over all nuisance values; ranges in buckets of equal width on their scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from builders import NUISANCE_RATE, study
from narrowing import as_number, present

from tunectl.analysis.figures.isolation_figures import isolation_figures
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import Run
from tunectl.analysis.search.isolation import isolations
from tunectl.core.records import PlannedTrial
from tunectl.language.study_spec import StudySpec
from tunectl.report.plots import vega_lite
from tunectl.space.trial_plan import plan_trials


def evidence(spec: StudySpec, value: Callable[[PlannedTrial], float | None]) -> StudyEvidence:
    runs = []
    for plan in plan_trials(spec):
        found = value(plan)
        state: Any = "completed" if found is not None else "infeasible"
        runs.append(Run(plan, state, best_value=found if found is not None else 0.0, best_step=50))
    return StudyEvidence(spec, spec.objective, tuple(runs))


def test_each_value_of_a_scientific_set_has_its_best_trial():
    spec = study(
        {"optimizer": "{role: scientific, values: [sgd, adam]}", "learning_rate": NUISANCE_RATE}, search="{trials: 5}"
    )
    # Trials 0, 2, 4 ... are sgd's, the others adam's, round robin.
    (found,) = isolations(evidence(spec, lambda plan: None if plan.trial == 4 else 1 / (1 + plan.trial)))
    assert found.axis.key == "optimizer"
    assert [(item.place, present(item.best).plan.trial, item.trials, item.infeasible) for item in found.values] == [
        ("sgd", 8, 5, 1),
        ("adam", 9, 5, 0),
    ]


def test_a_value_without_a_feasible_trial_is_listed_without_a_best_one():
    hyperparameters = {"optimizer": "{role: scientific, values: [sgd, adam]}", "learning_rate": NUISANCE_RATE}
    spec = study(hyperparameters, search="{trials: 2}")
    (found,) = isolations(evidence(spec, lambda plan: None if plan.setting == 1 else 0.5))
    assert [(item.value, item.best is None) for item in found.values] == [("sgd", False), ("adam", True)]


def test_a_scientific_range_is_cut_into_buckets_of_equal_width_on_its_scale():
    spec = study({"learning_rate": "{role: scientific, range: [1e-4, 1], scale: log}"}, search="{trials: 20}")
    (found,) = isolations(evidence(spec, lambda plan: as_number(plan.hyperparameters["learning_rate"])))
    assert [item.low for item in found.values] == pytest.approx([10.0**-power for power in (4, 3, 2, 1)])
    assert [item.high for item in found.values] == pytest.approx([10.0 ** (1 - power) for power in (4, 3, 2, 1)])
    assert [item.trials for item in found.values] == [5, 5, 5, 5]  # Halton points fill equal parts equally
    for item in found.values:
        values = [present(run.best_value) for run in found.axis.runs]
        inside = [value for value in values if present(item.low) <= value < present(item.high)]
        assert present(item.best).best_value == min(inside) == item.value


def test_a_value_at_the_end_of_a_range_is_in_its_last_bucket():
    points = "[{learning_rate: 1.0e-4}, {learning_rate: 1.0e-3}, {learning_rate: 1.0}]"
    spec = study(
        {"learning_rate": "{role: scientific, range: [1e-4, 1], scale: log}"},
        search=f"{{points: {points}}}",
    )
    (found,) = isolations(evidence(spec, lambda _: 0.5))
    assert [item.trials for item in found.values] == [2, 1]


def test_few_whole_numbers_are_values_and_many_are_buckets():
    few = study({"num_layers": "{role: scientific, range: [1, 3], type: int}"}, search="{trials: 6}")
    (found,) = isolations(evidence(few, lambda _: 0.5))
    assert [(item.value, item.place, item.low) for item in found.values] == [(n, str(n), None) for n in (1, 2, 3)]
    many = study({"width": "{role: scientific, range: [1, 100], type: int}"}, search="{trials: 12}")
    (found,) = isolations(evidence(many, lambda _: 0.5))
    assert len(found.values) == 2
    assert sum(item.trials for item in found.values) == 12


def test_nuisance_and_fixed_hyperparameters_are_not_isolated():
    spec = study({"learning_rate": NUISANCE_RATE}, search="{trials: 2}")
    assert isolations(evidence(spec, lambda _: 0.5)) == []


def test_a_value_equal_to_an_edge_is_in_the_bucket_that_begins_there():
    rates = [1e-5, 1e-4, 1e-3, 1e-2]
    points = ", ".join(f"{{learning_rate: {rate}}}" for rate in rates for _ in range(5))
    spec = study(
        {"learning_rate": "{role: scientific, range: [1e-5, 1e-1], scale: log}"}, search=f"{{points: [{points}]}}"
    )
    (found,) = isolations(evidence(spec, lambda _: 0.5))
    assert [item.low for item in found.values] == rates
    assert [item.trials for item in found.values] == [5, 5, 5, 5]


DECAY = {
    "use_decay": "{role: scientific, values: [false, true]}",
    "learning_rate": NUISANCE_RATE,
    "weight_decay": "[{value: 0, when: {use_decay: false}},"
    " {role: scientific, when: {use_decay: true}, range: [1e-5, 1e-1], scale: log}]",
}


def test_weight_decay_off_is_the_baseline_of_its_range():
    spec = study(DECAY, search="{trials: 10}")
    # The trials of setting 0, without decay, have even ids: the last but one is their best.
    switch, decay = isolations(evidence(spec, lambda plan: 1 / (1 + plan.trial)))
    assert switch.baselines == ()
    (baseline,) = decay.baselines
    assert (baseline.place, baseline.trials, present(baseline.best).plan.trial) == ("weight_decay=0", 10, 18)
    assert sum(item.trials for item in decay.values) == 10


def test_a_hyperparameter_that_is_absent_where_its_switch_is_off_has_a_baseline_too():
    absent = DECAY | {"weight_decay": "{role: scientific, when: {use_decay: true}, range: [1e-5, 1e-1], scale: log}"}
    _, decay = isolations(evidence(study(absent, search="{trials: 10}"), lambda plan: 0.5))
    assert [(item.place, item.trials) for item in decay.baselines] == [("use_decay=false", 10)]


def test_one_of_several_optimizers_is_no_switch():
    hyperparameters = {
        "optimizer": "{role: scientific, values: [sgd, adam, momentum]}",
        "learning_rate": NUISANCE_RATE,
        "beta1": "{role: scientific, when: {optimizer: adam}, range: [0.8, 0.99]}",
    }
    found = isolations(evidence(study(hyperparameters, search="{trials: 4}"), lambda plan: 0.5))
    assert [item.baselines for item in found] == [(), ()]


def with_retrains(found: StudyEvidence, *deviations: float) -> StudyEvidence:
    first = found.runs[0]
    again = tuple(
        replace(
            first,
            plan=replace(first.plan, trial=len(found.runs) + at, trial_kind="retrain", repeat=at + 1),
            best_value=0.5 + deviation,
        )
        for at, deviation in enumerate(deviations)
    )
    return replace(found, runs=found.runs + again)


def test_the_plot_shows_the_baseline_as_a_line_in_a_band_of_the_deviation_of_retrains():
    spec = study(DECAY, search="{trials: 10}")
    found = with_retrains(evidence(spec, lambda plan: 0.4 if plan.setting == 0 else 0.3), -0.01, 0.0, 0.01)
    switch, decay = isolation_figures(found, isolations(found))
    (mark,) = decay.marks
    assert (mark.axis, mark.value) == ("y", 0.4)
    assert mark.name == "weight_decay=0: 0.4, best of 10 trials"
    (band,) = decay.bands
    assert (band.low, band.high) == pytest.approx((0.39, 0.41))
    # Without a baseline the band is about the best.
    assert switch.marks == []
    assert [(round(band.low, 9), round(band.high, 9)) for band in switch.bands] == [(0.29, 0.31)]
    rows = [layer["data"]["values"] for layer in vega_lite(decay)["layer"] if layer["mark"]["type"] == "rect"]
    assert rows == [[{"low": band.low, "high": band.high}]]


def test_without_retrains_there_is_no_band():
    found = evidence(study(DECAY, search="{trials: 4}"), lambda plan: 0.5)
    assert all(not figure.bands for figure in isolation_figures(found, isolations(found)))

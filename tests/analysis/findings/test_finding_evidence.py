"""Tests findings/finding_evidence.py and results/runs.py: curves, trials, axes of hyperparameters."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from builders import NUISANCE_RATE, study

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import Run, curves_of, curves_of_columns
from tunectl.core.measurements import Measurement
from tunectl.core.records import PlannedTrial
from tunectl.space.trial_plan import plan_trials


def test_curves_from_columns_are_those_of_the_measurements():
    measured = {
        3: [Measurement(0, {"a/x": 1.0, "b/y": math.nan}), Measurement(10, {"a/x": 0.5})],
        4: [Measurement(0, {"b/y": 2.0})],
        9: [Measurement(5, {"c/z": math.inf}), Measurement(7, {"a/x": 0.25, "c/z": 1.0})],
    }
    names = ("a/x", "b/y", "c/z")
    rows = [
        (trial, item.step, item.measurement_kind, *(item.metrics.get(name) for name in names), None, None, 0.0, None)
        for trial, items in measured.items()
        for item in items
    ]
    found = curves_of_columns(names, [list(column) for column in zip(*rows, strict=True)])
    for trial, items in measured.items():
        wanted = curves_of(items)
        assert found[trial].keys() == wanted.keys()
        for name, curve in wanted.items():
            np.testing.assert_array_equal(found[trial][name], curve)


def test_only_searched_trials_that_ended_by_their_hyperparameters_are_judged():
    spec = study({"learning_rate": NUISANCE_RATE}, search="{trials: 5}")
    states: list[Any] = ["completed", "infeasible", "failed", "running", "completed"]
    plans = [*plan_trials(spec)[:4], PlannedTrial(4, 0, 0, 1, (), {"learning_rate": 0.1}, 7, "retrain")]
    evidence = StudyEvidence(
        spec, spec.objective, tuple(Run(plan, state) for plan, state in zip(plans, states, strict=True))
    )
    assert [run.plan.trial for run in evidence.searched] == [0, 1]
    assert len(evidence.axes[0].runs) == 2


def test_each_alternative_of_a_name_is_an_axis_with_its_own_trials_and_scale():
    spec = study(
        {
            "optimizer": "{role: scientific, values: [sgd, adam]}",
            "learning_rate": (
                "[{role: nuisance, when: {optimizer: sgd}, range: [0.01, 1], scale: log}, "
                "{role: nuisance, when: {optimizer: adam}, range: [0.0001, 0.01], scale: log}]"
            ),
        },
        search="{trials: 4}",
    )
    evidence = StudyEvidence(spec, spec.objective, tuple(Run(plan, "completed") for plan in plan_trials(spec)))
    optimizer, sgd, adam = evidence.axes
    assert [axis.key for axis in (optimizer, sgd, adam)] == [
        "optimizer",
        "learning_rate[optimizer=sgd]",
        "learning_rate[optimizer=adam]",
    ]
    assert [len(axis.runs) for axis in (optimizer, sgd, adam)] == [8, 4, 4]
    # Settings share points: the same positions, each on its own range.
    np.testing.assert_allclose(sgd.positions, adam.positions, atol=1e-9)
    np.testing.assert_allclose(sgd.positions, [run.plan.coordinates[0] for run in sgd.runs], atol=1e-9)
    assert evidence.setting_name(1) == "optimizer=adam"


def test_a_study_without_scientific_values_has_one_setting_called_all_trials():
    spec = study({"learning_rate": NUISANCE_RATE}, search="{trials: 2}")
    evidence = StudyEvidence(spec, spec.objective, tuple(Run(plan, "pending") for plan in plan_trials(spec)))
    assert evidence.setting_name(0) == "all trials"
    assert dict(evidence.by_setting) == {0: ()}
    assert [len(axis.positions) for axis in evidence.axes] == [0]


def test_a_proposed_run_names_the_study_s_folder_unless_run_chooses_it_by_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = study({"learning_rate": NUISANCE_RATE}, search="{trials: 2}")
    evidence = StudyEvidence(spec, spec.objective, ())
    plain = evidence.study_command("run")
    for folder in ("", f"runs/{spec.name}", f"{tmp_path}/runs/{spec.name}/"):
        assert replace(evidence, folder=folder).continuing_command == plain
    for folder in ("runs/another", f"/elsewhere/runs/{spec.name}"):
        assert replace(evidence, folder=folder).continuing_command == f"{plain} --dir {folder}"

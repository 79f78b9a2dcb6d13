"""Tests results/seed_variation.py and findings/seed_findings.py: retrains that are exactly equal are no evidence."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from builders import study

from tunectl.analysis.comparison.comparison import Candidate, compare
from tunectl.analysis.comparison.not_distinguishable import retrain_deviation
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.seed_findings import seed_findings
from tunectl.analysis.results.retrains import retrained
from tunectl.analysis.results.runs import Run
from tunectl.analysis.results.seed_variation import NO_VARIATION, outcomes_are_identical, runs_are_identical
from tunectl.core.objective import Objective
from tunectl.core.records import PlannedTrial, TrialKind, TrialOutcome

OBJECTIVE = Objective("valid/error_rate", "minimize")


def plan(trial: int, *, repeat: int = 0, seed: int | None = None, trial_kind: TrialKind = "search", point: int = 0):
    return PlannedTrial(trial, 0, point, repeat, (), {}, trial if seed is None else seed, trial_kind)


def outcome(trial: int, value: float, *, metrics=None, state="completed", **where) -> TrialOutcome:
    found = plan(trial, **where)
    return TrialOutcome(found, state, "", "", 4, value, 5, value + 0.1, metrics_at_best=metrics or {})


def run(trial: int, values: list[float], *, state="completed", extra=None, **where) -> Run:
    steps = np.arange(1.0, len(values) + 1)
    curves = {name: (steps, np.array(series)) for name, series in {"valid/loss": values, **(extra or {})}.items()}
    return Run(plan(trial, **where), state, best_value=min(values), best_step=1, curves=curves)


def evidence_of(*runs: Run) -> StudyEvidence:
    spec = study({"learning_rate": "{role: nuisance, range: [0.1, 1]}"}, search="{trials: 4}")
    return StudyEvidence(spec, spec.objective, runs)


def test_different_seeds_with_the_very_same_numbers_are_identical():
    assert outcomes_are_identical([outcome(0, 0.25), outcome(1, 0.25), outcome(2, 0.25)])
    assert runs_are_identical([run(0, [0.3, 0.25]), run(1, [0.3, 0.25])])


def test_what_is_measured_beside_the_training_shows_no_effect_of_the_seed():
    curved = [{"curvature/lambda_1": 9.0 + trial, "curvature/step": 0.0} for trial in range(2)]
    assert outcomes_are_identical([outcome(trial, 0.25, metrics=curved[trial]) for trial in range(2)])
    assert runs_are_identical(
        [run(0, [0.3, 0.25], extra={"curvature/lambda_1": [trial]}, seed=trial) for trial in range(2)]
    )


def test_the_same_best_value_on_the_way_of_another_curve_is_no_repeat():
    assert not runs_are_identical([run(0, [0.3, 0.25]), run(1, [0.31, 0.25])])
    assert not outcomes_are_identical([outcome(0, 0.25, metrics={"a": 1.0}), outcome(1, 0.25, metrics={"a": 1.1})])


@pytest.mark.parametrize("name", ["seconds", "train/time", "samples_per_second", "gpu_memory", "eta"])
def test_timers_and_their_like_differ_whatever_the_seed(name: str):
    assert outcomes_are_identical([outcome(0, 0.25, metrics={name: 1.0}), outcome(1, 0.25, metrics={name: 1.1})])
    assert runs_are_identical([run(0, [0.3], extra={name: [1.0]}), run(1, [0.3], extra={name: [1.1]})])


def test_one_nan_is_like_another():
    nan = {"train/grad_norm": math.nan}
    assert outcomes_are_identical([outcome(0, 0.25, metrics=nan), outcome(1, 0.25, metrics=dict(nan))])


def test_a_run_again_under_its_own_seed_says_nothing_about_seeds():
    assert not outcomes_are_identical([outcome(0, 0.25, seed=7), outcome(1, 0.25, seed=7)])
    assert not outcomes_are_identical([outcome(0, 0.25)])


def test_a_repeat_that_was_lost_shows_that_seeds_matter():
    assert not outcomes_are_identical([outcome(0, 0.25), outcome(1, 0.25), outcome(2, 0.25, state="infeasible")])


def test_identical_retrains_have_no_deviation_and_a_single_one_is_held_against_its_trial():
    search, first, second = outcome(0, 0.25), *(outcome(n, 0.25, repeat=n, trial_kind="retrain") for n in (1, 2))
    (found,) = retrained([search, first, second], OBJECTIVE)
    assert (found.identical, found.standard_deviation, found.mean) == (True, None, 0.25)
    (found,) = retrained([search, first], OBJECTIVE)
    assert found.identical
    (found,) = retrained([replace(search, best_value=0.26), first], OBJECTIVE)
    assert not found.identical


def test_identical_retrains_give_no_verdict_no_p_value_and_no_number_of_retrains():
    alike = Candidate("a", 0.2, (0.2, 0.2, 0.2), identical=True)
    found = compare(Candidate("b", 0.3, (0.30, 0.31, 0.32)), alike)
    assert found.verdict == "not enough evidence"
    assert found.reason == f"{NO_VARIATION} (a)"
    assert (found.p_better, found.p_worse, found.interval, found.more) == (None, None, None, None)
    assert found.seeds_change_nothing == ("a",)


def test_equal_values_of_trials_that_differ_elsewhere_are_still_compared():
    # Error rates of few examples tie often.
    found = compare(Candidate("b", 0.3, (0.30, 0.31, 0.32)), Candidate("a", 0.2, (0.2, 0.2, 0.2)))
    assert found.verdict == "adopt"
    assert found.p_better == pytest.approx(1 / 20)


def test_identical_retrains_are_a_warning_and_no_deviation_of_the_study():
    trials = [run(0, [0.5, 0.4]), *(run(n, [0.5, 0.4], repeat=n, trial_kind="retrain") for n in (1, 2, 3))]
    evidence = evidence_of(*trials)
    (finding,) = seed_findings(evidence)
    assert (finding.id, finding.level, finding.trials) == ("seed-without-effect", "warning", (0,))
    assert NO_VARIATION in finding.sentence
    assert retrain_deviation(evidence) is None


def test_retrains_that_differ_bring_no_warning():
    trials = [run(0, [0.5, 0.4]), *(run(n, [0.5, 0.4 + n / 100], repeat=n, trial_kind="retrain") for n in (1, 2, 3))]
    assert seed_findings(evidence_of(*trials)) == []

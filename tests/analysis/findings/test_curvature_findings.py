"""Tests findings/curvature_findings.py: planted phenomena, cases that look like them, and what the findings say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planted_curvature import (
    NEAR_MISSES,
    PHENOMENA,
    PLANTED,
    RATE_NEAR_MISSES,
    RATE_STUDIES,
    evidence_of_runs,
    measured_run,
    rates_evidence,
    run_of,
)
from simulated_studies import findings_of, simulated_evidence

from tunectl.core.jsontext import encode


def found(evidence):
    return {finding.id: finding for finding in findings_of(evidence, *PHENOMENA)}


def planted(case, seed, cases=PLANTED):
    return run_of(cases[case][1](np.random.default_rng([seed, 40])))


@pytest.mark.parametrize("case", PLANTED)
@pytest.mark.parametrize("seed", [10_001, 10_002])
def test_a_planted_phenomenon_is_found(case, seed):
    findings = found(evidence_of_runs([planted(case, seed)]))
    finding = findings[PLANTED[case][0]]
    assert finding.trials == (0,)
    assert finding.sentence.endswith(".")
    assert encode(finding.to_json())


@pytest.mark.parametrize("case", NEAR_MISSES)
@pytest.mark.parametrize("seed", [10_001, 10_002])
def test_a_case_that_looks_like_one_has_no_wrong_finding(case, seed):
    assert set(found(evidence_of_runs([planted(case, seed, NEAR_MISSES)]))) <= set(NEAR_MISSES[case][0])


# In 1 of 50 such studies the second largest rate is the best one in some setting, by luck.
@pytest.mark.parametrize("kind", [*RATE_STUDIES, *RATE_NEAR_MISSES])
@pytest.mark.parametrize("seed", [10_002, 10_003])
def test_a_study_of_rates_is_limited_by_curvature_where_the_largest_stable_rate_is_best(kind, seed):
    findings = findings_of(rates_evidence(kind, seed), "curvature-limited")
    assert len(findings) == (kind in RATE_STUDIES)


def test_studies_without_measured_curvature_have_none():
    assert found(simulated_evidence(3, trials=8, settings=1, updates_of=2)) == {}


def test_it_names_the_clearest_trial_and_the_others():
    levels = {3: 1.5, 5: 2.0, 8: 3.0}
    runs = [
        measured_run(range(0, 100, 10), [0.5, *[levels.get(trial, 0.5)] * (3 + trial % 4), *[0.5] * (6 - trial % 4)],
                     trial=trial)
        for trial in range(10)
    ]  # fmt: skip
    finding = found(evidence_of_runs(runs))["above-stability-bound"]
    assert finding.trials == (3, 5, 8)
    assert "Trial 3 is above the stability bound for 56% of its updates, from step 10 to 60" in finding.sentence
    assert "(also trials 5 and 8)" in finding.sentence
    assert finding.sureness == "3 of 10 trials with measured curvature"
    assert finding.level == "note"
    assert "warmup-sweep" in finding.command


def test_one_of_many_trials_is_no_finding():
    calm = [measured_run(range(0, 100, 10), [0.5] * 10, trial=trial) for trial in range(30)]
    above = measured_run(range(0, 100, 10), [2.0] * 10, trial=30)
    assert found(evidence_of_runs([*calm, above])) == {}
    assert set(found(evidence_of_runs([*calm[:10], above]))) == {"above-stability-bound"}


def test_where_most_updates_are_clipped_the_advice_says_so():
    run = measured_run(range(0, 100, 10), [2.0] * 10, loss=np.linspace(2, 1, 100))
    clipped = replace(run, updates=replace(run.updates, clipped=np.ones(100, dtype=bool)))
    assert "clipped" not in found(evidence_of_runs([run]))["above-stability-bound"].action
    assert "clipped" in found(evidence_of_runs([clipped]))["above-stability-bound"].action


def test_what_only_the_l2_term_of_an_adaptive_optimizer_puts_above_the_bound_is_no_finding():
    steps, ratio = np.arange(0, 100, 10), np.full(10, 20.0)
    run = measured_run(steps, ratio)
    eigenvalue = np.asarray(run.curves["curvature/lambda_1"][1])

    def decayed(loss_part):
        ones = (steps.astype(float), np.ones(10))
        more = {
            "curvature/preconditioned_lambda_1": (steps.astype(float), loss_part * eigenvalue),
            "curvature/preconditioned_lambda_1_converged": ones,
            "curvature/lambda_1_with_decay": (steps.astype(float), eigenvalue),
            "curvature/lambda_1_with_decay_converged": ones,
        }
        return replace(run, curves={**run.curves, **more})

    assert "above-stability-bound" in found(evidence_of_runs([decayed(0.1)]))
    assert "above-stability-bound" not in found(evidence_of_runs([decayed(0.01)]))


def leaving(trial):
    return measured_run(
        range(0, 101, 10), [0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 1.2, 1.6, 2.5], trial=trial,
        state="infeasible", reason="nan_loss", infeasible_step=105, best_value=None,
    )  # fmt: skip


def test_leaving_the_stable_region_names_the_step_and_is_a_warning_if_most_trials_do():
    calm = [measured_run(range(0, 100, 10), [0.5] * 10, trial=trial) for trial in range(3)]
    finding = found(evidence_of_runs([*calm, leaving(3)]))["left-the-stable-region"]
    assert finding.level == "note"
    assert "Trial 3 leaves the stable region at step 80 and diverges" in finding.sentence
    assert finding.numbers["last_step_below"] == 70
    assert finding.sureness == "1 of 1 diverged trial with measured curvature"
    assert found(evidence_of_runs([calm[0], leaving(3), leaving(4)]))["left-the-stable-region"].level == "warning"


def test_unfinished_and_failed_trials_are_not_judged():
    run = measured_run(range(0, 100, 10), [2.0] * 10)
    assert found(evidence_of_runs([run])) != {}
    for state in ("running", "failed", "cancelled"):
        assert found(evidence_of_runs([replace(run, state=state)])) == {}


def test_what_is_limited_by_curvature_names_rates_and_batch_sizes():
    [finding] = findings_of(rates_evidence(RATE_STUDIES[0], 10_002), "curvature-limited")
    assert finding.level == "note"
    assert "batch_size=" in finding.sentence
    assert "diverges at" in finding.sentence
    assert finding.sureness.startswith("p = ")
    assert encode(finding.to_json())

"""The memory that the analysis of many evaluations takes: it grows with their number, and no faster."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from planted_curves import planted_evidence
from simulated_studies import simulated_evidence

from tunectl.analysis.curves.curve_shapes import loss_curve
from tunectl.analysis.figures.study_figures import training_curves, update_figures
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.study_findings import study_findings
from tunectl.analysis.results.runs import Run, UpdateSeries

BYTES_AN_EVALUATION = 1_500
"""Of a trial with four metrics: some twenty arrays of floats for each. A table of pairs of 20,000 has 160,000."""


def long_study(evaluations: int, *, updates: bool = False) -> StudyEvidence:
    """Two trials with this many evaluations each."""
    clean = simulated_evidence(3, trials=2, settings=1, max_train_steps=evaluations, eval_every=1)
    if not updates:
        return clean
    generator = np.random.default_rng(1)

    def with_series(run: Run) -> Run:
        losses = 0.5 + np.exp(-np.arange(evaluations) / 1000) + 0.05 * generator.normal(size=evaluations)
        losses[generator.integers(evaluations, size=evaluations // 100)] += 30.0  # spikes
        series = UpdateSeries(losses, np.exp(generator.normal(size=evaluations)), np.full(evaluations, 0.1))
        return replace(run, updates=replace(series, clipped=losses > 9.0, skipped=losses > 1e9))

    runs = tuple(map(with_series, clean.runs))
    return replace(clean, runs=runs, updates_read=frozenset(run.plan.trial for run in runs))


def peak_bytes(evidence: StudyEvidence) -> int:
    tracemalloc.start()
    try:
        study_findings(evidence)
        training_curves(evidence)
        update_figures(evidence)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        loss_curve.cache_clear()


def test_the_findings_and_figures_of_twenty_thousand_evaluations_take_memory_that_grows_with_their_number():
    evidence = long_study(20_000)
    assert sum(len(run.curve("valid/error_rate")[0]) for run in evidence.runs) >= 40_000
    study_findings(evidence)  # what is imported on the way is not counted
    assert peak_bytes(evidence) < 40_000 * BYTES_AN_EVALUATION


def test_so_do_those_of_twenty_thousand_updates_with_hundreds_of_spikes():
    assert peak_bytes(long_study(20_000, updates=True)) < 40_000 * BYTES_AN_EVALUATION


@pytest.mark.parametrize("last", [2.0**53, 2.0**62])
def test_steps_up_to_the_largest_number_take_no_more_memory_than_others(last):
    evidence = long_study(200)

    def far_apart(run: Run) -> Run:
        curves = {}
        for name, (steps, values) in run.curves.items():
            moved = steps.copy()
            moved[-20:] = last - np.arange(20.0)[::-1] * last / 40
            curves[name] = (moved, values)
        return replace(run, curves=curves)

    evidence = replace(evidence, runs=tuple(map(far_apart, evidence.runs)))
    assert peak_bytes(evidence) < 10_000_000


def test_a_flaw_that_is_planted_in_ten_thousand_evaluations_is_found():
    for flaw in ("overfitting", "periodic-evaluations"):
        evidence = planted_evidence(flaw, 1, trials=6, settings=1, max_train_steps=10_000, eval_every=1)
        assert flaw in [finding.id for finding in study_findings(evidence)]

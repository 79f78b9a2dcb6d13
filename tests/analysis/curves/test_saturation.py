"""Tests curves/saturation.py and `saturated-early` of curves/training_length.py: the advice too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from curve_cases import CLEAN_SHAPES, STEPS, clean_pair, curves_study, flat_from
from simulated_studies import findings_of

from tunectl.analysis.curves.training_length import saturated_early
from tunectl.analysis.findings.update_findings import loss_plateau
from tunectl.analysis.results.runs import UpdateSeries


def flat_study(seed: int, begin: float, *, level: float = 0.05, trials: int = 4):
    generator = np.random.default_rng([seed, 60])

    def errors(part: float) -> np.ndarray:
        return flat_from(generator, begin, level=part * level, scatter=0.01)

    return curves_study([[(errors(1.0), errors(0.9)) for _ in range(trials)]])


@pytest.mark.parametrize("begin", [0.1, 0.2, 0.3, 0.4, 0.5])
def test_saturation_is_found_wherever_it_begins_with_steps_that_reach_beyond_it(begin):
    for seed in range(8):
        [finding] = saturated_early(flat_study(seed, begin))
        assert finding.numbers["saturated_by_share"] <= begin + 1e-9
        assert f"{finding.numbers['saturated_by_share']:.0%} of training" in finding.sentence
        [change] = finding.changes
        assert max(0.5, finding.numbers["saturated_by_share"] + 0.2) * STEPS <= change.value < STEPS


@pytest.mark.parametrize("begin", [0.1, 0.3, 0.5])
def test_if_the_network_underfits_the_advice_is_decay_and_never_fewer_steps_or_a_higher_rate(begin):
    found = [finding for seed in range(6) for finding in saturated_early(flat_study(seed, begin, level=0.5))]
    assert len(found) >= 5
    for finding in found:
        assert [(change.path[1], change.value) for change in finding.changes] == [("schedule", "cosine")]
        assert all(word in finding.action for word in ("decay", "regularisation", "optimizer"))
        assert not any(word in finding.action for word in ("fewer", "higher"))
        assert 0.4 < finding.numbers["training_error_left_as_share"] < 0.6


def test_saturated_trials_have_no_second_finding_about_a_plateau():
    evidence = flat_study(3, 0.2, level=0.5)
    updates = np.arange(STEPS)
    loss = (1.3 + np.clip(1 - updates / 400, 0, 1)) * np.exp(0.05 * np.random.default_rng(61).normal(size=STEPS))
    series = UpdateSeries(loss=loss, gradient_norm=np.ones(STEPS), learning_rate=np.full(STEPS, 0.1))
    read = frozenset(run.plan.trial for run in evidence.runs)
    both = replace(evidence, runs=tuple(replace(run, updates=series) for run in evidence.runs), updates_read=read)
    assert [finding.id for finding in saturated_early(both)] == ["saturated-early"]
    assert loss_plateau(both) == []
    losses_only = replace(
        both,
        runs=tuple(
            replace(run, curves={"valid/error_rate": (run.curve("valid/error_rate")[0], np.linspace(0.9, 0.3, 21))})
            for run in both.runs
        ),
    )
    assert [finding.id for finding in loss_plateau(losses_only)] == ["plateau"]


@pytest.mark.parametrize("shape", [shape for shape in CLEAN_SHAPES if shape != "flat"])
def test_clean_curves_have_neither_saturated_nor_turned_up(shape):
    alarms = 0
    for seed in range(12):
        generator = np.random.default_rng([seed, 62])
        pairs = [clean_pair(generator, shape, evaluations=int(generator.choice([10, 20, 50])) if seed % 2 else 20)]
        alarms += bool(findings_of(curves_study([pairs]), "saturated-early", "overfitting"))
    assert alarms == 0

"""Tests findings/update_findings.py: the series of the good trials, with one planted flaw and without any."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from builders import study
from loss_curves import calm
from planted_curves import UPDATE_FLAWS, planted_evidence, with_updates_changed
from simulated_studies import findings_of, simulated_evidence

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.update_findings import (
    clipping_too_aggressive,
    diverging,
    gradient_outliers,
    loss_plateau,
    loss_spikes,
    update_ratio,
)
from tunectl.analysis.results.runs import Run, UpdateSeries
from tunectl.core.records import PlannedTrial

SMALL: dict[str, Any] = {"trials": 10, "settings": 1, "max_train_steps": 1000, "updates_of": 4}


def update_findings(evidence: StudyEvidence) -> list:
    return findings_of(evidence, *UPDATE_FLAWS)


def found(evidence: StudyEvidence) -> dict:
    return {finding.id: finding for finding in update_findings(evidence)}


def changed(evidence: StudyEvidence, **changes) -> StudyEvidence:
    return replace(
        evidence, runs=tuple(with_updates_changed(run, **changes) if len(run.updates) else run for run in evidence.runs)
    )


def evidence_of(losses, *, grad_clip_norm=None, **series) -> StudyEvidence:
    """A study of completed trials, the best first, with these minibatch losses."""
    spec = study() if grad_clip_norm is None else study({"grad_clip_norm": str(grad_clip_norm)})
    runs = []
    for trial, loss in enumerate(losses):
        plan = PlannedTrial(trial, 0, trial, 0, (), {"optimizer": "sgd", "learning_rate": 0.1}, 0)
        count = len(loss)
        updates = UpdateSeries(
            loss=np.asarray(loss, dtype=float),
            gradient_norm=np.ones(count),
            learning_rate=np.full(count, 0.1),
            clipped=np.zeros(count, dtype=bool),
            skipped=np.zeros(count, dtype=bool),
        )
        runs.append(Run(plan, "completed", best_value=0.1 + trial, updates=replace(updates, **series)))
    return StudyEvidence(spec, spec.objective, tuple(runs), frozenset(range(len(runs))), folder="runs/a study")


@pytest.mark.parametrize("flaw", UPDATE_FLAWS)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_planted_flaw_of_the_updates_is_found(flaw, seed):
    findings = found(planted_evidence(flaw, seed, **SMALL))
    assert set(findings) == {flaw}
    assert findings[flaw].level == ("note" if flaw == "update-ratio" else "warning")
    assert findings[flaw].trials
    assert findings[flaw].to_json()


@pytest.mark.parametrize("seed", range(4))
def test_clean_studies_have_no_finding_about_updates(seed):
    assert found(simulated_evidence(seed, **SMALL)) == {}


def test_trials_whose_updates_were_not_read_are_not_judged():
    evidence = planted_evidence("loss-spikes", 1, **SMALL)
    assert found(replace(evidence, updates_read=frozenset())) == {}


def test_what_few_of_the_good_trials_show_is_no_finding_of_the_study():
    generator = np.random.default_rng(0)
    losses = [calm(generator, 600) for _ in range(3)]
    losses[2][300:304] *= 20
    assert loss_spikes(evidence_of(losses)) == []
    losses[1][300:304] *= 20
    [finding] = loss_spikes(evidence_of(losses))
    assert set(finding.trials) == {1, 2}
    assert finding.sureness == "2 of 3 good trials"


def test_what_the_bad_trials_of_a_wide_search_show_is_no_finding():
    generator = np.random.default_rng(1)
    losses = [calm(generator, 600) for _ in range(12)]
    for loss in losses[4:]:
        loss[300:] *= 30
    assert found(evidence_of(losses)) == {}


def test_the_advice_for_early_spikes_is_a_warmup_and_for_later_ones_clipping():
    generator = np.random.default_rng(2)
    early, late = ([calm(generator, 1000) for _ in range(3)] for _ in range(2))
    for loss in early:
        loss[40:44] *= 30
    for loss in late:
        loss[600:604] *= 30
    assert "warmup-sweep" in loss_spikes(evidence_of(early))[0].command
    assert "clip-sweep" in loss_spikes(evidence_of(late))[0].command


def test_a_command_takes_the_other_values_from_the_trial_and_quotes_the_folder():
    evidence = planted_evidence("loss-spikes", 1, **{**SMALL, "names": ("learning_rate", "weight_decay")})
    finding = found(replace(evidence, folder="runs/a study"))["loss-spikes"]
    assert finding.command.endswith(f"--values-from 'runs/a study/{finding.trials[0]}'")


def test_a_loss_that_comes_back_is_not_diverging():
    generator = np.random.default_rng(3)
    losses = [calm(generator, 1000) for _ in range(3)]
    back = [loss.copy() for loss in losses]
    for loss in losses:
        loss[600:] *= np.linspace(1, 80, 400)
    for loss in back:
        loss[500:650] *= 30
    [finding] = diverging(evidence_of(losses))
    assert finding.numbers["largest_factor"] > 20
    assert diverging(evidence_of(back)) == []


def test_outliers_that_are_clipped_or_skipped_are_no_finding():
    evidence = planted_evidence("gradient-outliers", 1, **SMALL)
    assert gradient_outliers(evidence)
    for way in ("clipped", "skipped"):
        cared = replace(
            evidence,
            runs=tuple(
                with_updates_changed(
                    run, **{way: run.updates.gradient_norm > 10 * np.median(run.updates.gradient_norm)}
                )
                if len(run.updates)
                else run
                for run in evidence.runs
            ),
        )
        assert gradient_outliers(cared) == []


def test_large_first_gradients_and_the_tail_of_small_batches_are_no_outliers():
    generator = np.random.default_rng(7)
    losses = [calm(generator, 1000) for _ in range(3)]
    norms = np.exp(0.1 * generator.normal(size=1000)) * (1 + 100 * np.exp(-np.arange(1000) / 10))
    norms[300::70] *= 3
    assert gradient_outliers(evidence_of(losses, gradient_norm=norms)) == []
    norms[300::70] *= 4
    [finding] = gradient_outliers(evidence_of(losses, gradient_norm=norms))
    assert finding.numbers["times_those_around"] == pytest.approx(12, rel=0.3)


def test_half_of_the_updates_clipped_is_the_limit_and_the_proposed_threshold_is_the_90th_percentile():
    generator = np.random.default_rng(4)
    norms = np.exp(0.3 * generator.normal(size=600))
    losses = [calm(generator, 600) for _ in range(3)]
    few, many = np.arange(600) < 300, np.arange(600) < 301
    assert clipping_too_aggressive(evidence_of(losses, grad_clip_norm=0.5, gradient_norm=norms, clipped=few)) == []
    [finding] = clipping_too_aggressive(evidence_of(losses, grad_clip_norm=0.5, gradient_norm=norms, clipped=many))
    assert finding.changes[0].path == ("hyperparameters", "grad_clip_norm")
    assert finding.changes[0].value == pytest.approx(np.percentile(norms, 90), rel=0.01)


def test_a_loss_that_flattens_out_in_the_first_half_is_a_plateau_and_a_fitted_one_is_not():
    generator = np.random.default_rng(5)
    t, noise = np.arange(1000), np.exp(0.1 * generator.normal(size=(3, 1000)))
    stuck = (1.2 + 1.1 * np.exp(-t / 5)) * noise
    halfway = (1.2 + 1.1 * np.clip(1 - t / 500, 0, 1)) * noise
    late = (1.2 + 1.1 * np.clip(1 - t / 800, 0, 1)) * noise
    fitted = (0.3 + 2.0 * np.exp(-t / 5)) * noise
    [early], [half] = (loss_plateau(evidence_of(losses)) for losses in (stuck, halfway))
    assert (early.id, early.numbers["stopped_by_share"]) == ("plateau", 0.1)
    assert (half.id, half.numbers["stopped_by_share"]) == ("plateau", 0.5)
    assert "higher" not in early.action
    assert "steps" not in early.action
    assert loss_plateau(evidence_of(late)) == []
    assert loss_plateau(evidence_of(fitted)) == []


@pytest.mark.parametrize(
    ("factor", "found_so"), [(1, None), (8, None), (1 / 8, None), (30, "lower"), (1 / 30, "higher")]
)
def test_an_update_ratio_far_from_a_thousandth_is_a_note(factor, found_so):
    ratios = {"update_ratio_steps": np.arange(0.0, 600, 50), "update_ratio": np.full(12, 1e-3 * factor)}
    generator = np.random.default_rng(6)
    findings = update_ratio(evidence_of([calm(generator, 600) for _ in range(3)], **ratios))
    assert [finding.level for finding in findings] == ([] if found_so is None else ["note"])
    assert all(found_so in finding.action for finding in findings)


@pytest.mark.parametrize(
    "series",
    [
        {},
        {"gradient_norm": np.zeros(100)},
        {"gradient_norm": np.full(100, np.inf)},
        {"update_ratio_steps": np.arange(0.0, 100, 10), "update_ratio": np.zeros(10)},
        {"update_ratio_steps": np.arange(0.0, 100, 10), "update_ratio": np.full(10, np.nan)},
    ],
    ids=range(5),
)
@pytest.mark.parametrize(
    "loss", [np.zeros(100), np.full(100, 2.3), -np.arange(100.0), np.concatenate([np.ones(99), [np.inf]])], ids=range(4)
)
def test_no_series_divides_by_zero_or_warns(loss, series):
    for finding in update_findings(evidence_of([loss] * 3, **series)):
        assert finding.to_json()


def test_trials_with_a_handful_of_updates_are_left_out():
    assert update_findings(evidence_of([np.geomspace(1, 1e6, 30)] * 3)) == []
    assert update_findings(evidence_of([[]])) == []

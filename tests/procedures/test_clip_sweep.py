from __future__ import annotations

import numpy as np
import pytest
from made_up_runs import blow_up, descent, play, spec

from tunectl.procedures.clip_sweep import CLIP_SWEEP, NORMS, WITHOUT, most_stable, thresholds

BEFORE = {"best_learning_rate": 0.01, "unstable_base_learning_rate": 0.03}


def norms_of(repeat: int, updates: int = 800) -> np.ndarray:
    """Lognormal norms about 1 with rare huge ones: their 90th percentile is known."""
    generator = np.random.default_rng(repeat)
    norms = np.exp(generator.normal(0, 0.25, updates))
    norms[generator.choice(updates, 8, replace=False)] = 1e4
    return norms


def world(restores_up_to: float, *, part: float = 1.0):
    """Rare huge gradients ruin training above 0.005, unless they are clipped at `restores_up_to` or less."""

    def happens(values, repeat):
        rate, clip = values["learning_rate"], values.get("grad_clip_norm")
        norms = norms_of(repeat) * part
        if rate > 0.005 and (clip is None or clip > restores_up_to):
            return {"value": 0.9, "state": "infeasible", "reason": "nan_loss", "loss": blow_up(800, repeat, 50)}
        return {"value": 0.05 - 0.2 * min(rate, 0.1), "longest": 800, "norms": norms, "clip": clip}

    return happens


def test_the_threshold_lies_just_above_the_typical_norm_and_restores_training():
    _, found = play(CLIP_SWEEP, spec(before=BEFORE), world(2.0))
    threshold = found.answers["grad_clip_norm"]
    # The 90th percentile of a lognormal with deviation 0.25, and 1 % of outliers: exp(0.25 * 1.34).
    assert threshold == pytest.approx(np.exp(0.25 * 1.34), rel=0.1)
    assert found.answers["clipped_fraction"] == pytest.approx(0.1, abs=0.03)
    assert found.answers["too_aggressive"] is False
    assert f"grad_clip_norm: {threshold:g}" in found.advice
    assert "no feasible rate without clipping" not in found.verdict or found.answers["grad_clip_norm"]
    assert {figure.name for figure in found.figures} == {
        "gradient-norm",
        "gradient-norm-histogram",
        "learning-rate-by-threshold",
    }


def test_every_threshold_is_swept_at_the_same_rates_and_the_study_s_own_threshold_is_left_out_of_the_norms():
    values = {"optimizer": "sgd", "learning_rate": 0.1, "grad_clip_norm": 7.0}
    asked, _ = play(CLIP_SWEEP, spec(values=values, before=BEFORE), world(2.0))
    assert {wish.changes["grad_clip_norm"] for wish in asked if wish.phase in (NORMS, WITHOUT)} == {None}
    by_phase = {}
    for wish in asked:
        if wish.phase != NORMS:
            by_phase.setdefault(wish.phase, set()).add((wish.changes["learning_rate"], wish.repeat))
    assert len(by_phase) == 4, "none, and three thresholds"
    assert len({frozenset(pairs) for pairs in by_phase.values()}) == 1
    clips = sorted({wish.changes["grad_clip_norm"] for wish in asked if wish.phase > WITHOUT})
    assert clips == pytest.approx([clips[-1] / 10, clips[-1] / 3, clips[-1]], rel=1e-4)


def test_a_threshold_that_clips_most_updates_is_called_a_lower_learning_rate():
    _, found = play(CLIP_SWEEP, spec(before=BEFORE), world(0.2))
    assert found.answers["grad_clip_norm"] == pytest.approx(np.exp(0.25 * 1.34) / 10, rel=0.1)
    assert found.answers["clipped_fraction"] > 0.99
    assert found.answers["too_aggressive"] is True
    assert "a lower learning rate in disguise" in found.verdict
    assert found.advice == ""


def test_clipping_that_brings_nothing_is_not_advised():
    def calm(values, repeat):
        return {"value": 0.05, "longest": 800, "norms": norms_of(repeat), "clip": values.get("grad_clip_norm")}

    _, found = play(CLIP_SWEEP, spec(before=BEFORE), calm)
    assert found.answers["grad_clip_norm"] is None
    assert "does not help" in found.verdict


def test_a_smaller_threshold_that_is_better_only_within_the_spread_of_its_seeds_is_not_taken():
    def happens(values, repeat):
        clip = values.get("grad_clip_norm")
        if clip is None:
            return {"value": 0.5, "longest": 800, "norms": norms_of(repeat)}
        value = 0.02 if clip > 1 else (0.016, 0.017, 0.021)[repeat]
        return {"value": value, "longest": 800, "norms": norms_of(repeat), "clip": clip}

    _, found = play(CLIP_SWEEP, spec(before=BEFORE), happens)
    assert found.answers["grad_clip_norm"] > 1

    def without_is_as_good(values, repeat):
        return {**happens({**values, "grad_clip_norm": 0.1}, repeat), "clip": values.get("grad_clip_norm")}

    _, found = play(CLIP_SWEEP, spec(before=BEFORE), without_is_as_good)
    assert found.answers["grad_clip_norm"] is None


def test_the_norms_never_come_from_a_run_that_ended_badly_or_went_up():
    def happens(values, repeat):
        rate = values["learning_rate"]
        if rate == 0.01:
            return {
                "value": 0.9,
                "state": "infeasible",
                "reason": "nan_loss",
                "longest": 800,
                "norms": norms_of(repeat) * 1e6,
            }
        if rate == pytest.approx(0.01 / 3, rel=1e-3):
            bumpy = np.concatenate([descent(400, 1), blow_up(400, 1, 100)])
            return {"value": 0.05, "loss": bumpy, "longest": 800, "norms": norms_of(repeat) * 1e3}
        return {"value": 0.06, "longest": 800, "norms": norms_of(repeat), "clip": values.get("grad_clip_norm")}

    results = {}
    sweep = spec(before=BEFORE)
    from made_up_runs import made_up

    for wish in CLIP_SWEEP.next_trials(sweep, {}):
        values = {**sweep.values, **wish.changes}
        values = {name: value for name, value in values.items() if value is not None}
        results[wish.phase, wish.point, wish.repeat] = made_up(wish, values, 0, **happens(values, wish.repeat))
    chosen = most_stable(results)
    assert chosen.plan.hyperparameters["learning_rate"] == pytest.approx(0.001)
    assert thresholds(results)[0] == pytest.approx(np.exp(0.25 * 1.34), rel=0.1)


def test_where_nothing_comes_to_its_end_no_norm_is_typical():
    def lost(values, repeat):
        del values
        return {"value": 0.9, "state": "infeasible", "reason": "nan_loss", "loss": blow_up(800, repeat, 5)}

    _, found = play(CLIP_SWEEP, spec(before=BEFORE), lost)
    assert found.answers == {"grad_clip_norm": None, "clipped_fraction": None, "too_aggressive": None}
    assert "no norm is typical" in found.verdict


def test_without_a_good_rate_the_command_is_refused():
    values = {"optimizer": "sgd"}
    assert "--from LR_SWEEP_DIR" in CLIP_SWEEP.problems(spec(values=values))[0]
    assert CLIP_SWEEP.problems(spec()) == []

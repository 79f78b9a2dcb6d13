"""What the objective and feasibility depend on, in simulated studies in which it is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from builders import NUISANCE_RATE, study
from planted_effects import PLANTED, planted_effects
from study_of_losses import study_of_losses

from tunectl.analysis.search.insensitive import insensitive_findings
from tunectl.analysis.search.interactions import interactions
from tunectl.analysis.search.sensitivity import responding_keys, sensitive_findings, sensitivities


def pairs(evidence):
    return {frozenset(item.keys) for item in interactions(evidence)}


def test_what_matters_is_named_and_hardly_anything_else():
    wrong = 0
    for name, planted in PLANTED.items():
        evidence = planted_effects(name, 0, 60, 0.2)
        keys, found = responding_keys(evidence), pairs(evidence)
        responds = planted.responding | planted.deciding
        assert responds <= keys, name
        assert not planted.pair or planted.pair in found, name
        wrong += bool(keys - responds - planted.allowed) or bool(found - {planted.pair})
    assert wrong <= 1


def test_a_share_is_the_part_of_the_variance_within_its_interval():
    """A sum of independent uniform positions: the variance of each is known, 1 / 12 times its weight squared."""
    held = 0
    for seed in range(20):
        evidence = study_of_losses(seed, 50, lambda generator, rate, decay: rate + decay / 2 + generator.normal() / 12)
        (found,) = sensitivities(evidence)
        total = 1 / 12 + 1 / 48 + 1 / 144
        for name, true in (("learning_rate", 1 / 12 / total), ("weight_decay", 1 / 48 / total)):
            effect = found.responding[name]
            assert abs(effect.share - true) < 0.15
            held += effect.low <= true <= effect.high
    assert held >= 32


def test_few_trials_say_nothing_and_are_named_as_unknown():
    evidence = study_of_losses(0, 8, lambda _generator, rate, _decay: rate)
    assert sensitive_findings(evidence) == []
    (found,) = sensitivities(evidence)
    assert set(found.response.unknown) == {"learning_rate", "weight_decay"}


def test_a_hyperparameter_that_responds_is_never_called_insensitive():
    """A weak effect that 400 trials show, among the differences that `insensitive` neglects."""
    for seed in range(2):
        evidence = study_of_losses(
            seed, 400, lambda generator, rate, decay: 4 * rate + 0.5 * decay + 0.5 * generator.normal()
        )
        silent = {key for finding in insensitive_findings(evidence) for key in finding.hyperparameters}
        assert "weight_decay" in responding_keys(evidence)
        assert not silent & responding_keys(evidence)


def test_only_noise_gives_no_finding_in_most_studies():
    named = [
        bool(sensitive_findings(study_of_losses(seed, 30, lambda generator, _rate, _decay: generator.normal())))
        for seed in range(20)
    ]
    assert np.mean(named) <= 0.1


def test_trials_that_a_sampler_suggested_are_left_out_and_counted():
    evidence = study_of_losses(0, 40, lambda generator, rate, _decay: rate + 0.1 * generator.normal())
    suggested = [
        replace(run, plan=replace(run.plan, suggestion={"engine": "optuna"}), best_value=-float(run.plan.trial))
        if run.plan.trial >= 25
        else run
        for run in evidence.runs
    ]
    (finding,) = sensitive_findings(replace(evidence, runs=tuple(suggested)))
    assert finding.numbers["objective"]["trials"] == 25
    assert "15 suggested trials left out" in finding.sureness


def with_points(*points):
    listed = ", ".join(f"{{learning_rate: {rate}, weight_decay: {at}}}" for rate, at in points)
    ranges = dict.fromkeys(("learning_rate", "weight_decay"), "{role: nuisance, range: [0.01, 1]}")
    return study(ranges, search=f"{{points: [{listed}]}}")


def test_hyperparameters_that_the_points_vary_together_are_named_as_one_or_the_other():
    spec = with_points(*((place / 20, 1 - place / 20) for place in range(1, 20)))
    evidence = study_of_losses(0, 19, lambda generator, rate, _decay: rate + 0.02 * generator.normal(), spec)
    (found,) = sensitivities(evidence)
    assert list(found.responding) == ["learning_rate or weight_decay"]
    assert interactions(evidence) == []


def test_points_that_vary_one_at_a_time_cannot_show_an_interaction():
    lines = [(place / 20, 0.5) for place in range(1, 20)] + [(0.5, place / 20) for place in range(1, 20)]
    spec = with_points(*lines)
    evidence = study_of_losses(0, 38, lambda generator, *at: sum(at) + 0.1 * generator.normal(), spec)
    (found,) = sensitivities(evidence)
    assert set(found.responding) == {"learning_rate", "weight_decay"}
    assert found.pairs == {}


def test_noise_that_settings_share_at_each_point_is_no_effect():
    """Two settings train the same at one point: that is one sample of the noise, not two."""
    named = 0
    for seed in range(10):
        spec = study(
            {
                "optimizer": "{role: scientific, values: [nesterov, momentum]}",
                "learning_rate": NUISANCE_RATE,
                "weight_decay": "{role: nuisance, range: [1e-6, 1e-2], scale: log}",
            },
            search=f"{{trials: 25, seed: {seed}}}",
        )
        shared = np.random.default_rng(seed).normal(size=25)
        evidence = study_of_losses(seed, 25, lambda *_: 0.0, spec)
        runs = [replace(run, best_value=float(shared[run.plan.point])) for run in evidence.runs]
        named += bool(responding_keys(replace(evidence, runs=tuple(runs))))
    assert named <= 2

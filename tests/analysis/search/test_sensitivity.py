"""What the objective and feasibility depend on, in simulated studies in which it is known."""

from __future__ import annotations

import numpy as np
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
        for seed in range(2):
            evidence = planted_effects(name, seed, 60, 0.2)
            keys, found = responding_keys(evidence), pairs(evidence)
            assert planted.responding | planted.deciding <= keys, (name, seed)
            assert not planted.pair or planted.pair in found, (name, seed)
            wrong += bool(keys - planted.responding - planted.deciding) or bool(found - {planted.pair})
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
    for seed in range(3):
        evidence = study_of_losses(
            seed, 400, lambda generator, rate, decay: 4 * rate + 0.5 * decay + 0.5 * generator.normal()
        )
        silent = {key for finding in insensitive_findings(evidence) for key in finding.hyperparameters}
        assert "weight_decay" in responding_keys(evidence)
        assert not silent & responding_keys(evidence)


def test_only_noise_gives_no_finding_in_most_studies():
    named = [
        bool(sensitive_findings(study_of_losses(seed, 30, lambda generator, _rate, _decay: generator.normal())))
        for seed in range(40)
    ]
    assert np.mean(named) <= 0.1

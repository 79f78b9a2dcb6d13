"""Features that can be turned off, and that the trials do not need."""

from __future__ import annotations

import numpy as np
import pytest
from builders import study

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import Run
from tunectl.analysis.search.features import feature_without_gain_findings
from tunectl.analysis.search.regularisers import off_value_of
from tunectl.space.trial_plan import plan_trials

RATE = "{role: nuisance, range: [1e-3, 1], scale: log}"


def evidence_with(
    gain: float, seed: int, *, feature: str = "augmentation: [none, flip]", trials: int = 24, **more: str
):
    """A study with and without a feature, which makes a trial better by `gain` times the noise."""
    name, values = feature.split(": ")
    spec = study(
        {"learning_rate": RATE, name: f"{{role: scientific, values: {values}}}", **more}, search=f"{{trials: {trials}}}"
    )
    generator = np.random.default_rng(seed)
    runs = []
    for plan in plan_trials(spec):
        bowl = 2 * (np.log10(plan.hyperparameters["learning_rate"]) + 1.5) ** 2
        is_on = plan.setting != 0
        value = 0.2 + 0.02 * (bowl + generator.normal() - gain * is_on)
        runs.append(Run(plan, "completed", best_value=float(value), best_step=100))
    return StudyEvidence(spec, spec.objective, tuple(runs))


def test_a_feature_that_makes_training_worse_is_dropped():
    for seed in range(5):
        (finding,) = feature_without_gain_findings(evidence_with(-6.0, seed))
        assert (finding.id, finding.level, finding.hyperparameters) == (
            "feature-without-gain",
            "note",
            ("augmentation",),
        )
        (change,) = finding.changes
        assert (change.path, change.value) == (("hyperparameters", "augmentation"), {"role": "fixed", "value": "none"})


def test_a_feature_that_helps_is_never_dropped():
    assert not [seed for seed in range(30) if feature_without_gain_findings(evidence_with(5.0, seed))]


def test_a_feature_that_wins_nearly_always_is_not_called_useless():
    found = [finding for seed in range(40) for finding in feature_without_gain_findings(evidence_with(1.0, seed))]
    assert 0 < len(found) < 20
    assert min(wins for finding in found for wins in finding.numbers["wins_of_off"].values()) >= 0.2


def test_few_trials_do_not_show_that_a_feature_does_not_help():
    assert not [seed for seed in range(10) if feature_without_gain_findings(evidence_with(-6.0, seed, trials=9))]


def test_what_cannot_be_off_is_no_feature():
    assert not feature_without_gain_findings(evidence_with(-6.0, 0, feature="activation: [relu, tanh]"))


def test_a_feature_on_which_others_depend_is_named_and_not_changed():
    child = "{role: nuisance, when: {augmentation: flip}, range: [0.1, 1]}"
    (finding,) = feature_without_gain_findings(evidence_with(-6.0, 0, strength=child))
    assert finding.changes == ()


@pytest.mark.parametrize(
    ("entry", "off"),
    [
        ("dropout: {role: nuisance, range: [0.0, 0.5]}", 0.0),
        ("dropout: {role: nuisance, range: [0.1, 0.5]}", None),
        ("dropout: {role: nuisance, values: [0.1, 0, 0.5]}", 0),
        ("gamma: {role: nuisance, range: [0.0, 0.5]}", None),
        ("gamma: {role: nuisance, range: [0.0, 0.5], off: 0.5}", 0.5),
        ("skip: {role: scientific, values: [false, true]}", False),
        ("norm: {role: scientific, values: [batch, none]}", "none"),
        ("width: {role: scientific, values: [64, 128]}", None),
    ],
)
def test_the_value_at_which_a_hyperparameter_is_off(entry, off):
    name, text = entry.split(": ", 1)
    spec = study({"learning_rate": RATE, name: text}, search="{trials: 4}")
    (item,) = spec.alternatives(name)
    found = off_value_of(item)
    assert (type(found), found) == (type(off), off)

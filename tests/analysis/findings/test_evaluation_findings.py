"""Tests evaluation_findings.py: samples that are not typical or too small, and classes that are never predicted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from planted_samples import CLEAR_SKEW, CLOSE, sampled
from simulated_studies import findings_of

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.core.example_predictions import ClassCounts
from tunectl.store.prediction_files import TrialPredictions


def rate(name: str, seeds: range, **changes: Any) -> float:
    return float(np.mean([bool(findings_of(sampled(seed, **changes), name)) for seed in seeds]))


def test_a_sample_that_differs_by_more_than_its_error_is_found_and_a_random_one_seldom():
    assert rate("sample-not-typical", range(20), skew=CLEAR_SKEW) >= 0.95
    assert rate("sample-not-typical", range(20), skew=-CLEAR_SKEW) >= 0.95
    assert rate("sample-not-typical", range(20)) <= 0.05


def test_settings_closer_than_the_error_of_the_sample_are_found_and_clear_ones_are_not():
    assert rate("below-sample-error", range(20), **CLOSE) >= 0.95
    assert rate("below-sample-error", range(20), settings=2) <= 0.05


def test_without_a_sample_or_another_metric_nothing_is_said():
    evidence = sampled(0, skew=9.0)
    whole = replace(evidence.spec.training, split_examples={})
    assert findings_of(replace(evidence, spec=replace(evidence.spec, training=whole)), "sample-not-typical") == []
    of_train = replace(evidence.objective, metric="train/error_rate")
    assert findings_of(replace(evidence, objective=of_train), "sample-not-typical", "below-sample-error") == []


def test_the_finding_says_in_which_direction_the_sample_is_off():
    (finding,) = findings_of(sampled(1, skew=-6.0), "sample-not-typical")
    assert "is easier than the whole split" in finding.sentence
    assert "below valid_whole/error_rate" in finding.sentence
    assert finding.numbers["standard_errors"] < -2.5
    (finding,) = findings_of(sampled(1, skew=6.0), "sample-not-typical")
    assert "is harder than the whole split" in finding.sentence


def with_counts(evidence: StudyEvidence, total: tuple[int, ...], predicted: tuple[int, ...]) -> StudyEvidence:
    best = evidence.ranked(evidence.searched)[0].plan.trial
    counts = ClassCounts(100, "valid", tuple(range(len(total))), total, (0,) * len(total), predicted)
    return replace(evidence, predictions={best: TrialPredictions((), counts)})


@pytest.mark.parametrize(
    ("total", "predicted", "found"),
    [
        ((50, 50, 50), (60, 90, 0), "never predicts the class 2 (50 examples) of valid"),
        ((50, 50, 9), (60, 49, 0), None),
        ((50, 50, 0), (60, 40, 0), None),
        ((50, 10, 10), (70, 0, 0), "never predicts the classes 1 (10 examples) and 2 (10 examples) of valid"),
        ((50, 50, 50), (1, 148, 1), None),
    ],
)
def test_a_class_that_many_examples_have_and_none_is_predicted_to_have_is_named(total, predicted, found):
    findings = findings_of(with_counts(sampled(2, settings=1), total, predicted), "class-never-predicted")
    assert [found in item.sentence for item in findings] == ([True] if found else [])

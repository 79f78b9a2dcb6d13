"""Simulated studies that are evaluated on a sample of a split: typical samples, and ones with a planted flaw.

The value on the whole split is that of a simulated study. That on the sample differs by the sample's error, mostly by
the same in all trials of a study, as they are evaluated on one sample.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from simulated_studies import judged, simulated_evidence

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import Run
from tunectl.core.whole_splits import sample_error_metric, whole_metric

SAMPLE_FLAWS = ("sample-not-typical", "below-sample-error")
EXAMPLES = 1000
SHARED = 0.9
"""The part of the variance of a sample's error that is the same in all trials and at all steps."""

CLEAR_SKEW = 5.5
CLOSE: dict[str, Any] = {"settings": 2, "trials": 24, "offsets": (0.0, 0.0), "noise": 0.02}
"""Two settings whose best trials reach the same."""


def planted_sample(flaw: str, seed: int) -> StudyEvidence:
    """A study with one of SAMPLE_FLAWS."""
    if flaw == "sample-not-typical":
        return sampled(seed, skew=CLEAR_SKEW if seed % 2 else -CLEAR_SKEW)
    return sampled(seed, **CLOSE)


def sampled(seed: int, *, skew: float = 0.0, shared: float = SHARED, **changes: Any) -> StudyEvidence:
    """A simulated study that is evaluated on a sample, whose values are `skew` standard errors off."""
    evidence = simulated_evidence(seed, **{"direction": "minimize", **changes})
    return _changed(evidence, seed, skew, shared, on_sample=True)


def beside_whole(evidence: StudyEvidence, seed: int) -> StudyEvidence:
    """A simulated study as it is, as evaluated on a typical sample of a larger split."""
    return _changed(evidence, seed, 0.0, SHARED, on_sample=False)


def _changed(evidence: StudyEvidence, seed: int, skew: float, shared: float, *, on_sample: bool) -> StudyEvidence:
    generator = np.random.default_rng([seed, 40])
    common = skew + np.sqrt(shared) * generator.normal()
    training = replace(evidence.spec.training, split_examples={"valid": EXAMPLES})
    runs = []
    for run in evidence.runs:
        errors = common + np.sqrt(1 - shared) * generator.normal()
        runs.append(_with_sample(run, errors, evidence, on_sample=on_sample))
    return replace(evidence, spec=replace(evidence.spec, training=training), runs=tuple(runs))


def _with_sample(run: Run, errors: float, evidence: StudyEvidence, *, on_sample: bool) -> Run:
    """The run with the values of the sample, this number of standard errors from those of the whole split."""
    metric = evidence.objective.metric
    steps, given = run.curve(metric)
    error = np.sqrt(np.clip(given * (1 - given), 0, None) / EXAMPLES)
    other = np.clip(given + (errors if on_sample else -errors) * error, 0, 1)
    sample, whole = (other, given) if on_sample else (given, other)
    found = judged(replace(run, curves={**run.curves, metric: (steps, sample)}), evidence.objective)
    kept = np.isin(steps, [found.best_step, steps[-1]])
    of_whole = {
        whole_metric(metric): (steps[kept], whole[kept]),
        sample_error_metric(metric): (steps[kept], error[kept]),
    }
    return replace(found, curves={**found.curves, **of_whole})

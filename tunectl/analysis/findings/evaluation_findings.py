"""Findings on what trials are evaluated by: samples of splits, and correct predictions by class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Finding
from tunectl.analysis.results.runs import Run
from tunectl.core.whole_splits import sample_error_metric, whole_metric
from tunectl.core.wording import as_text, counted, listed, short_number

SKEW_ERRORS = 2.5
"""How many standard errors the trials' sample differs from the whole split where it is not typical: by chance alone, a
random sample does so in 1.2 of 100 studies (two sides of a normal distribution).
"""

CLOSE_ERRORS = 2.0
"""Values on a sample are close where they differ by less than this many of its standard errors: 95 of 100 samples give
a value that is no farther from that of the whole split. The errors of two values on one sample go together, so that
their difference is surer than that.
"""

MANY_OF_A_CLASS = 10
"""A class of fewer examples may be predicted for none of them by chance, although the model knows it."""

_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class WholeValue:
    """The objective's metric of a trial at one step: on the sample, on the whole split, and the sample's error."""

    run: Run
    sample: float
    whole: float
    error: float


def whole_value(evidence: StudyEvidence, run: Run, step: float | None) -> WholeValue | None:
    """The values at a step; None where the whole split was not evaluated there, or a value is not finite."""
    metric = evidence.objective.metric
    found = []
    for name in (metric, whole_metric(metric), sample_error_metric(metric)):
        steps, values = run.curve(name)
        at = np.flatnonzero(steps == step)
        found.append(float(values[at[0]]) if len(at) else math.nan)
    return WholeValue(run, *found) if all(map(math.isfinite, found)) else None


def _sampled(evidence: StudyEvidence) -> bool:
    return evidence.objective.metric.partition("/")[0] in evidence.spec.training.split_examples


def untypical_sample(evidence: StudyEvidence) -> list[Finding]:
    """`sample-not-typical`, a warning: at the trials' last steps, the sample differs from the whole split by more than
    its error.

    The last step and not the selected one, which was selected because its value on the sample is good.
    """
    if not _sampled(evidence):
        return []
    runs = [run for run in evidence.searched if run.feasible]
    values = [whole_value(evidence, run, run.last_step(evidence.objective)) for run in runs]
    known = [item for item in values if item is not None and item.error > 0]
    if not known:
        return []
    # The trials have one sample, so that their differences go together: the median of them is as sure as one.
    errors = float(np.median([(item.sample - item.whole) / item.error for item in known]))
    if abs(errors) <= SKEW_ERRORS:
        return []
    metric, split = evidence.objective.metric, evidence.objective.metric.partition("/")[0]
    size = evidence.spec.training.split_examples[split]
    better = (errors < 0) == (evidence.objective.direction == "minimize")
    return [
        Finding(
            id="sample-not-typical",
            level="warning",
            sentence=f"The sample of {size:,} examples of {split} is {'easier' if better else 'harder'} than the whole "
            f"split: at the trials' last steps, {metric} is {short_number(abs(errors), 2)} standard errors of the "
            f"sample {'below' if errors < 0 else 'above'} {whole_metric(metric)}.",
            action=f"report {whole_metric(metric)}, and take a larger sample in training.split_examples, or none; all "
            "trials have the same sample, so a difference that they share does not change their order",
            trials=tuple(item.run.plan.trial for item in known[:_MOST_NAMED]),
            numbers={"standard_errors": errors, "trials": len(known), "sample_examples": size},
            sureness=f"median of {counted(len(known), 'trial')}; by chance in 1.2 of 100 studies",
        )
    ]


def below_sample_error(evidence: StudyEvidence) -> list[Finding]:
    """`below-sample-error`, a note: the best trials of the two best settings differ by less than CLOSE_ERRORS."""
    if not _sampled(evidence) or evidence.objective.steps_to is not None:
        return []
    ranked = [evidence.ranked(runs)[0] for runs in evidence.by_setting.values() if evidence.ranked(runs)]
    best = [whole_value(evidence, run, run.best_step) for run in evidence.ranked(ranked)[:2]]
    pair = [item for item in best if item is not None]
    if len(pair) < 2:
        return []
    first, second = pair
    error, difference = max(first.error, second.error), abs(first.sample - second.sample)
    if difference >= CLOSE_ERRORS * error:
        return []
    names = [evidence.setting_name(item.run.plan.setting) for item in pair]
    split = evidence.objective.metric.partition("/")[0]
    whole = " and ".join(f"{short_number(item.whole)} ({name})" for item, name in zip(pair, names, strict=True))
    return [
        Finding(
            id="below-sample-error",
            level="note",
            sentence=f"The best trials of {names[0]} and {names[1]} differ by {short_number(difference, 2)}, less than "
            f"two standard errors of the sample of {split} (one is {short_number(error, 2)}); on the whole split they "
            f"reach {whole}.",
            action=f"compare {whole_metric(evidence.objective.metric)} in the table of trials, and take a larger "
            "sample in training.split_examples",
            settings=tuple(item.run.plan.setting for item in pair),
            trials=tuple(item.run.plan.trial for item in pair),
            numbers={
                "difference": difference,
                "sample_error": error,
                "whole_difference": abs(first.whole - second.whole),
            },
            sureness="both trials have the same sample, so that the error of their difference is smaller",
        )
    ]


def never_predicted(evidence: StudyEvidence) -> list[Finding]:
    """`class-never-predicted`, a warning: the best trial of a setting predicts a class for no example of a split."""
    found = []
    for setting, runs in evidence.by_setting.items():
        best = evidence.ranked(runs)[:1]
        counts = evidence.predictions[best[0].plan.trial].classes if _is_read(evidence, best) else None
        if counts is None:
            continue
        rows = zip(counts.classes, counts.total, counts.predicted, strict=True)
        missing = [(name, total) for name, total, predicted in rows if total >= MANY_OF_A_CLASS and not predicted]
        if not missing:
            continue
        shown = [f"{as_text(name)} ({counted(total, 'example')})" for name, total in missing[:_MOST_NAMED]]
        more = [f"{len(missing) - _MOST_NAMED} more"] if len(missing) > _MOST_NAMED else []
        noun = "class" if len(missing) == 1 else "classes"
        found.append(
            Finding(
                id="class-never-predicted",
                level="warning",
                sentence=f"Trial {best[0].plan.trial}, the best of {evidence.setting_name(setting)}, never predicts "
                f"the {noun} {listed([*shown, *more])} of {counts.split}.",
                action="look at examples of it under Predictions; train longer, or weight rare classes more in the "
                "loss, and choose an objective that counts every class alike",
                settings=(setting,),
                trials=(best[0].plan.trial,),
                numbers={"classes": len(missing), "of_classes": len(counts.classes)},
                sureness=f"all {sum(counts.total):,} examples of {counts.split} were counted, at step {counts.step}",
            )
        )
    return found


def _is_read(evidence: StudyEvidence, runs: Sequence[Run]) -> bool:
    return bool(runs) and runs[0].plan.trial in evidence.predictions

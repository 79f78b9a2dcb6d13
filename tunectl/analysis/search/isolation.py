"""The best result with each value of a scientific hyperparameter, over all values of the nuisance hyperparameters.

Deep Learning Tuning Playbook, "Isolation plots": the best trial of each value; a range is cut into buckets.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from tunectl.analysis.findings.finding_evidence import HyperparameterAxis, StudyEvidence
from tunectl.analysis.results.runs import Run
from tunectl.core.records import Scalar
from tunectl.core.wording import as_text
from tunectl.language.study_spec import StudySpec
from tunectl.space.domains import Range, ValueSet, same
from tunectl.space.hyperparameters import Hyperparameter

MOST_BUCKETS = 8
TRIALS_A_BUCKET = 5
"""A bucket of a range holds at least this many trials on average: the best of fewer is mostly luck."""


@dataclass(frozen=True, slots=True)
class Isolated:
    """One value, or one bucket [low, high) of a range (the last one with its end), and the best trial in it.

    `value` is the value itself, or for a bucket that of the best trial; `place` is its name in the plot. `best` is None
    if no trial in it is feasible; it has no best value where no trial in it reached the target. `trials` counts the
    searched ones in it, `infeasible` the infeasible ones of them.
    """

    value: Scalar | None
    place: str
    best: Run | None
    trials: int
    infeasible: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Isolation:
    """A scientific hyperparameter with its values or buckets in order.

    `baselines` are the trials without it: those with a fixed alternative of it (weight decay 0), and those in which the
    switch that it depends on is off.
    """

    axis: HyperparameterAxis
    values: tuple[Isolated, ...]
    baselines: tuple[Isolated, ...] = ()


def isolations(evidence: StudyEvidence) -> list[Isolation]:
    """One for each scientific hyperparameter that varies, in the order of the study."""
    return [
        Isolation(axis, tuple(_isolated(evidence, axis)), tuple(_baselines(evidence, axis)))
        for axis in evidence.axes
        if axis.hyperparameter.role == "scientific"
    ]


def _isolated(evidence: StudyEvidence, axis: HyperparameterAxis) -> list[Isolated]:
    domain = axis.hyperparameter.domain
    values: Sequence[Scalar] = domain.listed or ()
    if isinstance(domain, Range):
        if not domain.integer or domain.high - domain.low >= MOST_BUCKETS:
            return _buckets(evidence, axis, domain)
        values = range(int(domain.low), int(domain.high) + 1)
    return [
        _summary(evidence, [run for run, own in zip(axis.runs, axis.values, strict=True) if same(own, value)], value)
        for value in values
    ]


def _baselines(evidence: StudyEvidence, axis: HyperparameterAxis) -> list[Isolated]:
    item = axis.hyperparameter
    inside = {run.plan.trial for run in axis.runs}
    groups: dict[tuple[str, Scalar], list[Run]] = {}
    for run in evidence.searched:
        off = None if run.plan.trial in inside else _without(evidence.spec, item, run.plan.hyperparameters)
        if off is not None:
            groups.setdefault(off, []).append(run)
    return [
        replace(_summary(evidence, runs, value), place=f"{name}={as_text(value)}")
        for (name, value), runs in groups.items()
    ]


def _without(spec: StudySpec, item: Hyperparameter, values: Mapping[str, Scalar]) -> tuple[str, Scalar] | None:
    """What a trial has instead of a scientific hyperparameter: its fixed value, or the switch that is off."""
    if item.name in values:
        value = values[item.name]
        fixed = [other.domain for other in spec.alternatives(item.name) if not other.varies]
        return (item.name, value) if any(domain.contains(value) for domain in fixed) else None
    for parent, wanted in item.when.items():
        sets = [other.domain for other in spec.alternatives(parent) if other.role == "scientific"]
        is_switch = len(sets) == 1 and isinstance(sets[0], ValueSet) and len(sets[0].values) == 2
        if is_switch and parent in values and not any(same(values[parent], value) for value in wanted):
            return parent, values[parent]
    return None


def _buckets(evidence: StudyEvidence, axis: HyperparameterAxis, domain: Range) -> list[Isolated]:
    count = max(2, min(MOST_BUCKETS, len(axis.runs) // TRIALS_A_BUCKET))
    scale = Range(domain.low, domain.high, domain.scale)
    edges = [domain.low, *(_edge(scale, place / count) for place in range(1, count)), domain.high]
    # Only the edges between buckets are compared, so a value at the end of the range is in the last bucket.
    of_run = [bisect.bisect_right(edges[1:-1], float(value)) for value in axis.values]
    found = []
    for bucket, (low, high) in enumerate(pairwise(edges)):
        runs = [run for run, own in zip(axis.runs, of_run, strict=True) if own == bucket]
        summary = _summary(evidence, runs, None)
        value = summary.best.plan.hyperparameters[axis.hyperparameter.name] if summary.best is not None else None
        found.append(replace(summary, value=value, place=f"{low:.3g} to {high:.3g}", low=low, high=high))
    return found


def _edge(scale: Range, place: float) -> float:
    """An edge between two buckets; 0.001 if the scale's exponentials give 0.0010000000000000002."""
    exact = float(scale.from_unit(place))
    short = float(f"{exact:.12g}")
    # In a range that is hardly wider than a rounding error, rounding would move the edge too far.
    return short if abs(short - exact) < 1e-9 * (scale.high - scale.low) else exact


def _summary(evidence: StudyEvidence, runs: Sequence[Run], value: Scalar | None) -> Isolated:
    ranked = evidence.closest_first(runs)
    place = "" if value is None else as_text(value)
    return Isolated(value, place, ranked[0] if ranked else None, len(runs), sum(not run.feasible for run in runs))

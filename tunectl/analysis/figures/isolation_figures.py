"""The isolation plots of a study: for each value of a scientific hyperparameter its best trial, and its retrains."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from tunectl.analysis.comparison.not_distinguishable import retrain_deviation
from tunectl.analysis.figures.axis_figures import above_target
from tunectl.analysis.figures.figures import Axis, Band, MarkedValue, Point, PointsFigure, Whisker, slug
from tunectl.analysis.figures.shown_trials import series_names, setting_colours, trial_label
from tunectl.analysis.figures.study_axes import hyperparameter_axis, hyperparameter_place, value_axis
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import Run
from tunectl.analysis.search.isolation import Isolated, Isolation
from tunectl.core.wording import counted, short_number

_REPEATS = "bar: mean ± standard deviation of its retrains"


def isolation_figures(evidence: StudyEvidence, found: Sequence[Isolation]) -> list[PointsFigure]:
    """The isolation plots: for each value (or bucket) of a scientific hyperparameter its best trial."""
    series = series_names(evidence)
    return [_isolation_figure(evidence, item, series) for item in found]


def _isolation_figure(evidence: StudyEvidence, item: Isolation, series: Mapping[int, str]) -> PointsFigure:
    bucketed = any(one.low is not None for one in item.values)
    axis = hyperparameter_axis(item.axis)
    if not bucketed and axis.scale != "category" and item.axis.hyperparameter.domain.is_ordered:
        axis = Axis(axis.title, "category", [one.place for one in item.values])
    # A value that makes a setting has its setting's colour; any other is reached in several settings.
    colours = setting_colours(series) if item.axis.hyperparameter.makes_settings else []
    points: list[Point] = []
    whiskers: list[Whisker] = []
    for one in item.values:
        if one.best is None or one.value is None:
            continue
        at = hyperparameter_place(item.axis, one.value) if axis.scale != "category" else one.place
        group = series[one.best.plan.setting] if colours else ""
        label = f"best of {one.trials} trials{f' in {one.place}' if bucketed else ''}: {trial_label(one.best)}"
        above = above_target(evidence, one.best)
        points.append(Point(at, one.best.best_value, group, label, one.best.plan.trial, above=above))
        whiskers += _retrains(evidence, one, at, group)
    title = f"{item.axis.key}: the best trial of each {'part of the range' if bucketed else 'value'}"
    marks, bands = _baseline_marks(item), _retrain_bands(evidence, item)
    y = value_axis(evidence.objective, [*(point.y for point in points), *(mark.value for mark in marks)])
    return PointsFigure(
        f"isolation-{slug(item.axis.key)}",
        title,
        axis,
        y,
        points,
        marks,
        bands=bands,
        colours=colours,
        whiskers=whiskers,
        repeats=_REPEATS,
    )


def _retrains(evidence: StudyEvidence, one: Isolated, at: float | str, group: str) -> list[Whisker]:
    """What the retrains of the best trial of a value came to; [] where fewer than two reached a value."""
    best = one.best
    assert best is not None
    runs = evidence.ended_retrains.get((best.plan.setting, best.plan.point), ())
    values = [_value(run) for run in runs]
    known = [value for value in values if value is not None]
    # Of those that never reached a target, or are infeasible, no mean is known.
    if len(known) < 2 or len(known) < len(values):
        return []
    mean, deviation = statistics.mean(known), statistics.stdev(known)
    label = (
        f"{counted(len(known), 'retrain')} of trial {best.plan.trial}: "
        f"{short_number(mean)} ± {short_number(deviation, 2)}"
    )
    return [Whisker(at, mean - deviation, mean, mean + deviation, group, label)]


def _value(run: Run) -> float | None:
    value = run.best_value if run.feasible else None
    return value if value is not None and math.isfinite(value) else None


def _baseline_marks(item: Isolation) -> list[MarkedValue]:
    """A line at the best value of the trials without the hyperparameter."""
    return [
        MarkedValue(
            one.best.best_value,
            f"{one.place}: {short_number(one.best.best_value)}, best of {counted(one.trials, 'trial')}",
            "y",
        )
        for one in item.baselines
        if one.best is not None and one.best.best_value is not None
    ]


def _retrain_bands(evidence: StudyEvidence, item: Isolation) -> list[Band]:
    """The deviation between retrains, around each baseline, or around the best trial if there is no baseline."""
    deviation = retrain_deviation(evidence)
    best = evidence.ranked([one.best for one in item.baselines or item.values if one.best is not None])
    if not deviation:
        return []
    about = best if item.baselines else best[:1]
    where = "the line" if item.baselines else "the best"
    name = f"grey: ± {short_number(deviation, 2)}, the standard deviation of retrains, around {where}"
    values = [run.best_value for run in about if run.best_value is not None]
    return [Band(value - deviation, value + deviation, name) for value in values]

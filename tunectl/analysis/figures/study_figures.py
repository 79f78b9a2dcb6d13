"""The plots of a study: what the playbook's section "Extracting insight from experimental results" asks to be looked
at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from tunectl.analysis.comparison.not_distinguishable import retrain_deviation
from tunectl.analysis.curves.thinned_curves import with_extremes
from tunectl.analysis.curves.training_length import EARLY_BEST, LATE_BEST
from tunectl.analysis.figures.figures import (
    Axis,
    Band,
    Curve,
    CurvesFigure,
    Figure,
    HistogramFigure,
    MarkedValue,
    Point,
    PointsFigure,
    scale_of,
    slug,
)
from tunectl.analysis.findings.finding_evidence import HyperparameterAxis, StudyEvidence
from tunectl.analysis.results.runs import Run
from tunectl.analysis.search.isolation import Isolation
from tunectl.analysis.updates.gradient_norms import CLIP_PERCENTILE
from tunectl.core.measurement_kinds import MeasurementKind, is_before_training
from tunectl.core.objective import Objective
from tunectl.core.records import Scalar
from tunectl.core.wording import as_text, counted, short_number

MOST_AXIS_TRIALS = 1000
"""At most this many trials are drawn on an axis plot: the best ones, and others evenly by id."""

MOST_BACKGROUND_CURVES = 60
"""At most this many curves are drawn: with more the background is unreadable."""

MOST_SERIES = 8
"""More colours cannot be distinguished: then several settings share one."""

FRONT = 4
"""At most this many of the best curves are drawn in front."""

STEPS = Axis("step (optimizer updates)")
ITERATIONS = Axis("iteration before training")


def series_names(evidence: StudyEvidence) -> Mapping[int, str]:
    """The colour group of each setting: its name, or part of its name if there are many settings."""
    settings = evidence.settings
    names = list(dict.fromkeys(name for values in settings.values() for name in values))
    for count in range(len(names), 0, -1):
        groups = {
            setting: ", ".join(f"{name}={as_text(values[name])}" for name in names[:count] if name in values)
            for setting, values in settings.items()
        }
        if len(set(groups.values())) <= MOST_SERIES:
            return groups
    return dict.fromkeys(settings, "")


def axis_figures(evidence: StudyEvidence) -> list[PointsFigure]:
    """The basic hyperparameter axis plots: each trial's best value against one hyperparameter, on its own scale."""
    series = series_names(evidence)
    return [_axis_figure(evidence, axis, series) for axis in evidence.axes if axis.runs]


def _axis_figure(evidence: StudyEvidence, axis: HyperparameterAxis, series: Mapping[int, str]) -> PointsFigure:
    name, earlier = axis.hyperparameter.name, _earlier_points(evidence, axis)
    points = earlier + [
        Point(
            hyperparameter_place(axis, run.plan.hyperparameters[name]),
            run.best_value if run.feasible else None,
            "proposed" if earlier else series[run.plan.setting],
            trial_label(run),
            run.plan.trial,
            above=_above(evidence, run),
        )
        for run in chosen_runs(evidence, axis.runs, MOST_AXIS_TRIALS)
    ]
    return PointsFigure(
        f"axis-{slug(axis.key)}",
        f"{axis.key}: best value of every trial",
        hyperparameter_axis(axis),
        value_axis(evidence.objective, [point.y for point in points]),
        points,
        legend="trials" if earlier else "setting" if len(set(series.values())) > 1 else "",
    )


def _earlier_points(evidence: StudyEvidence, axis: HyperparameterAxis) -> list[Point]:
    """The trials of another study from which the points were proposed, at most MOST_AXIS_TRIALS."""
    trials = evidence.earlier.trials[:MOST_AXIS_TRIALS] if evidence.earlier is not None else ()
    return [
        Point(
            hyperparameter_place(axis, item.hyperparameters[axis.hyperparameter.name]),
            item.value if item.state == "completed" else None,
            "earlier",
            f"trial {item.trial} of {item.folder}: {_values_in_words(item.hyperparameters)}",
            above=item.step if item.state == "completed" and item.value is None else None,
        )
        for item in trials
    ]


def _above(evidence: StudyEvidence, run: Run) -> float | None:
    """The number of steps that a trial needs more of than this, where it never reached the target."""
    return run.last_step(evidence.objective) if run.never_reached(evidence.objective) else None


def isolation_figures(evidence: StudyEvidence, found: Sequence[Isolation]) -> list[PointsFigure]:
    """The isolation plots: for each value (or bucket) of a scientific hyperparameter its best trial."""
    figures = []
    for item in found:
        bucketed = any(one.low is not None for one in item.values)
        axis = hyperparameter_axis(item.axis)
        if not bucketed and axis.scale != "category" and item.axis.hyperparameter.domain.is_ordered:
            axis = Axis(axis.title, "category", [one.place for one in item.values])
        points = [
            Point(
                hyperparameter_place(item.axis, one.value) if axis.scale != "category" else one.place,
                one.best.best_value,
                "",
                f"best of {one.trials} trials{f' in {one.place}' if bucketed else ''}: {trial_label(one.best)}",
                one.best.plan.trial,
                above=_above(evidence, one.best),
            )
            for one in item.values
            if one.best is not None and one.value is not None
        ]
        title = f"{item.axis.key}: the best trial of each {'part of the range' if bucketed else 'value'}"
        marks, bands = _baseline_marks(item), _retrain_bands(evidence, item)
        y = value_axis(evidence.objective, [*(point.y for point in points), *(mark.value for mark in marks)])
        figures.append(PointsFigure(f"isolation-{slug(item.axis.key)}", title, axis, y, points, marks, bands=bands))
    return figures


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


def training_curves(evidence: StudyEvidence) -> list[CurvesFigure]:
    """Training curves: the best trials in front, the rest dimmed; validation solid and training dashed."""
    metrics = [evidence.objective.metric]
    if "valid/loss" not in metrics and any("valid/loss" in run.curves for run in evidence.searched):
        metrics.append("valid/loss")
    figures = (_curves_of(evidence, metric, Axis(metric), twin=_twin(metric)) for metric in metrics)
    return [figure for figure in figures if figure is not None]


def measured_curves(evidence: StudyEvidence, kind: MeasurementKind) -> list[CurvesFigure]:
    """The metrics of measurements of a kind by step: the best trials in front, the rest dimmed."""
    found = []
    for metric in kind.drawn:
        figure = _curves_of(evidence, kind.column(metric.name), Axis(metric.title))
        if figure is not None and kind.before_training:
            figure = replace(figure, title=f"{metric.title} before training", x=ITERATIONS)
        found += [] if figure is None else [figure]
    return found


def _twin(metric: str) -> str:
    """The same metric of the training split, "" where it is of that split itself."""
    split, _, bare = metric.partition("/")
    return f"train/{bare}" if split != "train" else ""


def _curves_of(evidence: StudyEvidence, metric: str, axis: Axis, *, twin: str = "") -> CurvesFigure | None:
    front = front_runs(evidence)
    behind = [run for run in chosen_runs(evidence, evidence.searched, MOST_BACKGROUND_CURVES) if run not in front]
    curves = [_curve(run, metric, "", dimmed=True) for run in behind if metric in run.curves]
    for run in front:
        name = front_name(evidence, run)
        curves += [
            _curve(run, each, name, dashed=each == twin) for each in (metric, twin) if each and each in run.curves
        ]
    if not curves:
        return None
    objective = evidence.objective
    marks = []
    if objective.steps_to is not None and metric == objective.metric:
        marks.append(MarkedValue(objective.steps_to, f"target {objective.steps_to:.6g}", "y"))
    values = [*(value for curve in curves for value in curve.y), *(mark.value for mark in marks)]
    beside = f", with {twin} dashed" if any(curve.dashed for curve in curves) else ""
    return CurvesFigure(
        f"curves-{slug(metric)}",
        f"{axis.title} during training{beside}",
        STEPS,
        replace(axis, scale=scale_of(values)),
        curves,
        marks,
        legend="best trials",
    )


def _curve(run: Run, metric: str, series: str, *, dimmed: bool = False, dashed: bool = False) -> Curve:
    steps, values = with_extremes(*run.curve(metric))
    label = f"{trial_label(run)}: {metric}"
    return Curve(steps.tolist(), values.tolist(), series, label, run.plan.trial, dimmed, dashed)


def update_figures(evidence: StudyEvidence) -> list[Figure]:
    """Gradient norm and learning rate of every update of the best trials, and the histogram of the best one's norms."""
    front = [run for run in front_runs(evidence) if len(run.updates)]
    if not front:
        return []
    best = front[0]
    norms = best.updates.gradient_norm[np.isfinite(best.updates.gradient_norm)]
    clip = best.plan.hyperparameters.get("grad_clip_norm")
    marks = (
        [MarkedValue(float(np.percentile(norms, CLIP_PERCENTILE)), f"{CLIP_PERCENTILE:g}th percentile")]
        if len(norms)
        else []
    )
    if isinstance(clip, int | float):
        marks.append(MarkedValue(float(clip), "grad_clip_norm"))
    figures: list[Figure] = [
        CurvesFigure(
            "gradient-norm",
            "Gradient norm before clipping, of the best trials",
            STEPS,
            Axis("gradient norm (L2, all parameters)", "log"),
            [_series(evidence, run, run.updates.gradient_norm.tolist()) for run in front],
            [MarkedValue(mark.value, mark.name, "y") for mark in marks],
            legend="best trials",
        ),
        HistogramFigure(
            "gradient-norm-histogram",
            f"Distribution of the gradient norm, trial {best.plan.trial}",
            Axis("gradient norm (L2, all parameters)", scale_of(norms.tolist())),
            norms.tolist(),
            marks,
        ),
    ]
    rates = [_series(evidence, run, run.updates.learning_rate.tolist()) for run in front]
    values = [value for curve in rates for value in curve.y]
    if len({round(value, 12) for value in values}) > len(front):
        title = "Learning rate of every update of the best trials"
        figures.append(CurvesFigure("learning-rate", title, STEPS, Axis("learning rate"), rates, legend="best trials"))
    return figures


def _series(evidence: StudyEvidence, run: Run, values: Sequence[float]) -> Curve:
    name = front_name(evidence, run)
    return Curve(list(range(len(values))), values, name, trial_label(run), run.plan.trial)


def best_step_figure(evidence: StudyEvidence) -> PointsFigure | None:
    """The step of the best evaluation of each feasible trial; None with a target, where it is the value itself."""
    if evidence.objective.steps_to is not None:
        return None
    runs = [
        run
        for run in chosen_runs(evidence, evidence.searched, MOST_AXIS_TRIALS)
        if run.feasible and run.best_step is not None
    ]
    if not runs:
        return None
    series = series_names(evidence)
    curves = [curve for run in runs for name, curve in run.curves.items() if not is_before_training(name)]
    steps = max((float(curve[0][-1]) for curve in curves if len(curve[0])), default=1.0)
    points = [
        Point(float(run.best_step or 0), run.best_value, series[run.plan.setting], trial_label(run), run.plan.trial)
        for run in runs
    ]
    return PointsFigure(
        "best-step",
        "The step at which each trial was at its best",
        Axis("best step (optimizer updates)"),
        value_axis(evidence.objective, [point.y for point in points]),
        points,
        [
            MarkedValue(EARLY_BEST * steps, f"first {EARLY_BEST:.0%}"),
            MarkedValue(LATE_BEST * steps, f"last {1 - LATE_BEST:.0%}"),
        ],
        legend="setting" if len(set(series.values())) > 1 else "",
    )


def front_runs(evidence: StudyEvidence, among: Callable[[Run], bool] = lambda _run: True) -> list[Run]:
    """The trials that are drawn in front, the best first: the best of each setting, or the best few of a single one.

    Only trials for which `among` is true are drawn.
    """
    by_setting = [evidence.closest_first(list(filter(among, runs))) for runs in evidence.by_setting.values()]
    if len(by_setting) == 1:
        return by_setting[0][:FRONT]
    return evidence.closest_first([runs[0] for runs in by_setting if runs])[:FRONT]


def chosen_runs(evidence: StudyEvidence, runs: Sequence[Run], most: int) -> list[Run]:
    """At most `most` of the runs, by id: the best ones for half of them, and others evenly from the rest."""
    if len(runs) <= most:
        return list(runs)
    best = evidence.closest_first(runs)[: most // 2]
    chosen = {run.plan.trial for run in best}
    rest = [run for run in runs if run.plan.trial not in chosen]
    places = most - len(best)
    chosen |= {rest[place * len(rest) // places].plan.trial for place in range(places)}
    return [run for run in runs if run.plan.trial in chosen]


def front_name(evidence: StudyEvidence, run: Run) -> str:
    """The name of a curve in front in the legend: the trial, and its setting where there are several."""
    name = evidence.setting_name(run.plan.setting)
    return f"trial {run.plan.trial}" + (f" ({name})" if len(evidence.settings) > 1 else "")


def trial_label(run: Run) -> str:
    """A trial and its hyperparameters in one line."""
    values = ", ".join(
        f"{name} {short_number(value)}" if isinstance(value, float) else f"{name} {as_text(value)}"
        for name, value in run.plan.hyperparameters.items()
    )
    reason = f", {run.reason or run.state}" if not run.feasible else ""
    proposed = ", proposed by a model" if run.plan.suggestion else ""
    return f"trial {run.plan.trial}{proposed}{reason}: {values}"


def _values_in_words(hyperparameters: Mapping[str, Scalar]) -> str:
    return ", ".join(
        f"{name} {short_number(value)}" if isinstance(value, float) else f"{name} {as_text(value)}"
        for name, value in hyperparameters.items()
    )


def value_axis(objective: Objective, values: Sequence[float | None]) -> Axis:
    """The axis of best values."""
    which = "best evaluation" if objective.checkpoint == "best" else "last evaluation"
    title = objective.title if objective.steps_to is not None else f"{objective.metric} ({which})"
    return Axis(title, scale_of([value for value in values if value is not None]))


def hyperparameter_axis(axis: HyperparameterAxis) -> Axis:
    """The axis of a hyperparameter's values, on its own scale."""
    domain = axis.hyperparameter.sampled_domain
    if domain.listed is None:
        return Axis(axis.key, domain.scale, searched=(domain.low, domain.high))
    if len(domain.numbers) == len(domain.listed):
        return Axis(axis.key, scale_of(domain.numbers))
    return Axis(axis.key, "category", [as_text(value) for value in domain.listed])


def hyperparameter_place(axis: HyperparameterAxis, value: object) -> float | str:
    """A value of the hyperparameter as a place on that axis."""
    if hyperparameter_axis(axis).scale == "category":
        return as_text(value)
    return float(value)  # type: ignore[arg-type]

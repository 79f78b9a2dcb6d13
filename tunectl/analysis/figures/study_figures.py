"""The plots of a study: what the playbook's section "Extracting insight from experimental results" asks to be looked
at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tunectl.analysis.curves.thinned_curves import with_extremes
from tunectl.analysis.curves.training_length import EARLY_BEST, LATE_BEST
from tunectl.analysis.figures.figures import (
    Axis,
    Curve,
    CurvesFigure,
    Figure,
    HistogramFigure,
    MarkedValue,
    Point,
    PointsFigure,
    scale_of,
    scale_of_curves,
    slug,
)
from tunectl.analysis.figures.shown_trials import (
    MOST_AXIS_TRIALS,
    MOST_BACKGROUND_CURVES,
    chosen_runs,
    front_name,
    front_runs,
    left_out_note,
    series_names,
    setting_colours,
    trial_colours,
    trial_label,
)
from tunectl.analysis.figures.study_axes import value_axis
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import Run
from tunectl.analysis.updates.gradient_norms import CLIP_PERCENTILE
from tunectl.core.measurement_kinds import MeasurementKind, is_before_training

STEPS = Axis("step (optimizer updates)")
ITERATIONS = Axis("iteration before training")


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
        figure = _curves_of(evidence, kind.column(metric.name), Axis(metric.title), kind=kind)
        if figure is not None and kind.before_training:
            figure = replace(figure, title=f"{metric.title} before training", x=ITERATIONS)
        found += [] if figure is None else [figure]
    return found


def _twin(metric: str) -> str:
    """The same metric of the training split, "" where it is of that split itself."""
    split, _, bare = metric.partition("/")
    return f"train/{bare}" if split != "train" else ""


def _curves_of(
    evidence: StudyEvidence, metric: str, axis: Axis, *, twin: str = "", kind: MeasurementKind | None = None
) -> CurvesFigure | None:
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
        replace(axis, scale=scale_of_curves(curves, values) if kind is None else scale_of(values)),
        curves,
        marks,
        legend="best trials",
        colours=trial_colours(evidence, front),
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
    colours = trial_colours(evidence, front)
    figures: list[Figure] = [
        CurvesFigure(
            "gradient-norm",
            "Gradient norm before clipping, of the best trials",
            STEPS,
            Axis("gradient norm (L2, all parameters)", "log"),
            [_series(evidence, run, run.updates.gradient_norm.tolist()) for run in front],
            [MarkedValue(mark.value, mark.name, "y") for mark in marks],
            legend="best trials",
            colours=colours,
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
        axis = Axis("learning rate")
        figures.append(CurvesFigure("learning-rate", title, STEPS, axis, rates, legend="best trials", colours=colours))
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
    colours = setting_colours(series)
    best = [found[0].best_value for runs in evidence.by_setting.values() if (found := evidence.ranked(runs))]
    return PointsFigure(
        "best-step",
        "The step at which each trial was at its best",
        Axis("best step (optimizer updates)"),
        value_axis(evidence.objective, [point.y for point in points], best),
        points,
        [
            MarkedValue(EARLY_BEST * steps, f"first {EARLY_BEST:.0%}"),
            MarkedValue(LATE_BEST * steps, f"last {1 - LATE_BEST:.0%}"),
        ],
        legend="setting" if colours else "",
        colours=colours,
        notes=left_out_note(min(len(evidence.searched), MOST_AXIS_TRIALS), evidence.searched),
    )

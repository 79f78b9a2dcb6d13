"""The figures of `curvature`: rates against eigenvalues, eigenvalues against their bound by step, results by rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tunectl.analysis.figures.figures import Axis, Curve, CurvesFigure, Figure, Point, PointsFigure
from tunectl.analysis.results.runs import Run
from tunectl.procedures.bound_figures import bound_figure, eigenvalue_in_words, run_label
from tunectl.procedures.curvature_measures import (
    LAMBDA_1_METRIC,
    bound_of,
    drawn_metric,
    last_value,
    metric_at,
)
from tunectl.procedures.curvature_options import (
    INITIAL,
    SHOWN,
    WITH,
    WITHOUT,
    CurvatureSweep,
    compared_step,
    warmup_steps,
)
from tunectl.procedures.curvature_runs import diverged_or_dead, outcomes_of, shown_runs, shown_setting
from tunectl.procedures.procedure import (
    Results,
    covered_settings,
    runs_of,
)
from tunectl.procedures.sweep_figures import rate_plot

_RATE = Axis("learning rate", "log")

FACTOR_THAT_HIDES = 1e3
"""The last eigenvalue before a NaN may be 1e28; more than this factor above the others it would hide them."""


def eigenvalue_figures(spec: CurvatureSweep, results: Results) -> list[Figure]:
    """All figures, those of the paper's figures 2, 3 and 8."""
    return [
        at_initialisation(spec, results),
        *at_step(spec, results),
        *shown_curves(spec, results),
        by_rate(spec, results),
    ]


def at_initialisation(spec: CurvatureSweep, results: Results) -> PointsFigure:
    """Each run without warmup by its rate and the eigenvalue at its initialisation; a cross where it diverged."""
    points = []
    for place, setting in enumerate(covered_settings(spec)):
        initial = {run.plan.repeat: run for run in runs_of(results, INITIAL).get(place, [])}
        for rate, runs in outcomes_of(spec, results, WITHOUT, place).rates.items():
            for run in runs:
                found = metric_at(initial.get(run.plan.repeat, run), LAMBDA_1_METRIC, 0)
                if found is not None and found > 0:
                    points.append(_point(rate, found, setting.name, run))
    return PointsFigure(
        "lambda-1-at-initialisation",
        "Largest eigenvalue at initialisation by learning rate, without warmup",
        _RATE,
        Axis("largest eigenvalue of the Hessian at step 0", "log"),
        points,
        legend="setting" if spec.settings[1:] else "",
        cross="diverged without a warmup",
        lines=_lines([point.x for point in points], [{**s.values} for s in covered_settings(spec)], LAMBDA_1_METRIC),
    )


def at_step(spec: CurvatureSweep, results: Results) -> list[PointsFigure]:
    """Each run by its rate and its last eigenvalue at or before the chosen step, with the bound of the optimizer.

    There is a figure for each kind of eigenvalue that the bounds of the settings are about: they cannot be compared.
    """
    metrics = dict.fromkeys(drawn_metric(dict(setting.values)) for setting in covered_settings(spec))
    return [_at_step(spec, results, metric) for metric in metrics]


def _at_step(spec: CurvatureSweep, results: Results, metric: str) -> PointsFigure:
    step, points = compared_step(spec), list[Point]()
    names = {WITHOUT: "without warmup", WITH: f"{warmup_steps(spec)} steps of warmup"}
    for phase, name in names.items():
        for place, setting in enumerate(covered_settings(spec)):
            if drawn_metric(dict(setting.values)) != metric:
                continue
            series = f"{setting.name}, {name}" if setting.name else name
            for rate, runs in outcomes_of(spec, results, phase, place).rates.items():
                for run in runs:
                    found = last_value(run, metric, step)
                    if found is not None and found[1] > 0:
                        points.append(_point(rate, found[1], series, run, at=found[0]))
    points = _without_extremes(points)
    return PointsFigure(
        f"{metric.removeprefix('curvature/').replace('_', '-')}-at-step",
        f"Eigenvalue after {step} updates, or the last one before a value that is not finite",
        _RATE,
        Axis(eigenvalue_in_words(metric), "log"),
        points,
        legend="runs",
        cross="diverged",
        missed="diverged, far above the others",
        lines=_lines(
            [point.x for point in points], [dict(setting.values) for setting in covered_settings(spec)], metric
        ),
    )


def _without_extremes(points: Sequence[Point]) -> list[Point]:
    """The points; one of a diverged run far above all others has no value, and is drawn above them."""
    usual = [point.y for point in points if point.y is not None and not point.crossed]
    highest = FACTOR_THAT_HIDES * max(usual, default=math.inf)
    return [
        replace(point, y=None, label=f"{point.label}, {point.y:.3g}")
        if point.crossed and point.y is not None and point.y > highest
        else point
        for point in points
    ]


def _point(rate: float, value: float, series: str, run: Run, *, at: int | None = None) -> Point:
    when = "" if at is None else f", step {at}"
    why = f": {run.reason}" if run.reason else ""
    return Point(
        rate, value, series, f"trial {run.plan.trial}{when}{why}", run.plan.trial, crossed=diverged_or_dead(run)
    )


def _lines(rates: Sequence[object], configurations: Sequence[Mapping[str, object]], metric: str) -> list[Curve]:
    """The optimizer's bound on an eigenvalue, and the paper's line, over the rates; one of each kind of optimizer."""
    known = sorted({float(rate) for rate in rates if isinstance(rate, (int, float))})
    lines: dict[tuple[str, tuple[float, ...]], Curve] = {}
    for values in configurations:
        if drawn_metric(dict(values)) != metric:
            continue
        bounds = [bound_of(dict(values), rate) for rate in known]
        found = {
            "bound": [bound.value for bound in bounds],
            # The paper's line, 2 / rate or 40 / rate, is of the eigenvalue without a decay term.
            "line of the paper": [None if bound.with_decay else bound.paper_line for bound in bounds],
        }
        for name, heights in found.items():
            drawn = [math.nan if height is None else height for height in heights]
            if any(math.isfinite(height) for height in drawn):
                label = f"bound of {values.get('optimizer', 'the optimizer')}"
                if name != "bound":
                    label = f"{bound_of(dict(values)).paper_line:g} / learning rate, the line of the paper"
                lines[name, tuple(drawn)] = Curve(known, drawn, name, label, dashed=name != "bound")
    return list(lines.values())


def shown_curves(spec: CurvatureSweep, results: Results) -> list[Figure]:
    """The eigenvalue and its bound by step, and the training loss, of the chosen runs."""
    again = runs_of(results, SHOWN)
    chosen = [(item.name, again[point][0]) for point, item in enumerate(shown_runs(spec, results)) if point in again]
    if not chosen:
        return []
    setting = covered_settings(spec)[shown_setting(spec, results)]
    where = f", {setting.name}" if setting.name else ""
    metric = drawn_metric(dict(setting.values))
    return [
        bound_figure(
            "eigenvalue-by-step", f"Eigenvalue and its bound by step{where}", metric, chosen, legend="learning rate"
        ),
        CurvesFigure(
            "loss-by-step",
            f"Training loss of the same runs by step{where}",
            Axis("step (updates)", "log"),
            Axis("minibatch loss", "log"),
            [
                Curve(range(1, len(run.updates) + 1), [float(loss) for loss in run.updates.loss], name, run_label(run))
                for name, run in chosen
            ],
            legend="learning rate",
        ),
    ]


def by_rate(spec: CurvatureSweep, results: Results) -> PointsFigure:
    """The best value of each run by its rate, without and with the warmup."""
    series: dict[str, Mapping[float, Sequence[Run]]] = {}
    for place, setting in enumerate(covered_settings(spec)):
        for phase, name in ((WITHOUT, "without warmup"), (WITH, f"{warmup_steps(spec)} steps of warmup")):
            label = f"{setting.name}, {name}" if setting.name else name
            series[label] = outcomes_of(spec, results, phase, place).rates
    return rate_plot(
        "learning-rate", "Best value by learning rate, without and with warmup", series, spec.objective, legend="runs"
    )

"""The figures of the sweeps: best value by rate, losses above the best rate, warmup lengths, gradient norms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tunectl.analysis.figures.figures import (
    Axis,
    Curve,
    CurvesFigure,
    Figure,
    HistogramFigure,
    MarkedValue,
    Point,
    PointsFigure,
)
from tunectl.analysis.results.runs import Run
from tunectl.core.objective import Objective
from tunectl.procedures.bound_figures import bound_figure
from tunectl.procedures.curvature_measures import LAMBDA_1_METRIC, drawn_metric
from tunectl.procedures.levers import Levers
from tunectl.procedures.procedure import Results
from tunectl.procedures.rate_judgements import runs_by_rate


def rate_plot(
    name: str,
    title: str,
    series: Mapping[str, Mapping[float, Sequence[Run]]],
    objective: Objective,
    *,
    marks: Mapping[str, float | None] | None = None,
    legend: str = "",
) -> PointsFigure:
    """The best value of every run by its rate, {series: {rate: runs}}, infeasible ones as such; `marks` without a rate
    are left out.
    """
    points = [
        Point(
            rate,
            run.best_value if run.feasible else None,
            series_name,
            f"trial {run.plan.trial}" + (f": {run.reason}" if run.reason else ""),
        )
        for series_name, by_rate in series.items()
        for rate, runs in sorted(by_rate.items())
        for run in runs
    ]
    return PointsFigure(
        name,
        title,
        Axis("learning rate", "log"),
        Axis(f"best {objective.metric}"),
        points,
        [MarkedValue(rate, mark) for mark, rate in (marks or {}).items() if rate is not None],
        legend=legend,
    )


JUST_ABOVE = 2
"""The number of rates above the best one that are drawn."""

SHOWN_STEPS = 25
"""Figure 5 shows the first 25 steps, each evaluated."""


def curves_above(swept: Mapping[float, Sequence[Run]], best: float, far_above: Sequence[float]) -> CurvesFigure:
    """The training loss at the best rate, at those just above it, and at the ones nearest to these multiples of it."""
    just_above = [rate for rate in sorted(swept) if rate > best][:JUST_ABOVE]
    far = [_nearest(swept, best * factor) for factor in far_above]
    curves = [
        Curve(
            range(len(run.updates)), [float(loss) for loss in run.updates.loss], f"{rate:g}", f"trial {run.plan.trial}"
        )
        for rate in sorted({best, *just_above, *far})
        for run in swept[rate]
    ]
    return CurvesFigure(
        "curves-above",
        "Training loss at the best learning rate and above it",
        Axis("step (updates)"),
        Axis("minibatch loss", "log"),
        curves,
        legend="learning rate",
    )


def _nearest(swept: Mapping[float, Sequence[Run]], rate: float) -> float:
    return min(swept, key=lambda other: abs(math.log(other / rate)))


def cadences(
    swept: Mapping[float, Sequence[Run]], early: Sequence[Run], factor: float, warmup: int, eval_every: int
) -> list[CurvesFigure]:
    """The loss as the study evaluates it, and as evaluations at each of the first steps show it: figure 5, left and
    right. The first is of whole trials, at the rate of the sweep that is nearest to that of the others.
    """
    rate = float(early[0].plan.hyperparameters["learning_rate"])
    near = _nearest(swept, rate)
    twice = f"{factor:g} times the best rate"
    return [
        _losses(
            "evaluated-as-in-the-study",
            f"Loss at {near:g}, the rate of the sweep nearest to {twice}, evaluated every {eval_every} steps",
            swept[near],
            0,
            None,
        ),
        _losses(
            "first-steps",
            f"Loss of the first steps at {rate:g}, {twice}, evaluated at every step",
            early,
            warmup,
            warmup + SHOWN_STEPS,
        ),
    ]


def _losses(name: str, title: str, runs: Sequence[Run], first: int, last: int | None) -> CurvesFigure:
    curves = []
    for run in runs:
        pairs = [
            (float(step), float(loss))
            for step, loss in zip(*run.curve("train/loss"), strict=True)
            if first <= step and (last is None or step <= last)
        ]
        seed = f"{run.plan.repeat}"
        curves.append(Curve([step for step, _ in pairs], [loss for _, loss in pairs], seed, f"seed {seed}"))
    return CurvesFigure(name, title, Axis("step (updates)"), Axis("train/loss", "log"), curves, legend="seed")


def length_figures(runs: Sequence[Run], beside: str = "") -> list[Figure]:
    """The minibatch loss by step for each warmup that was tried, a picture for each base rate, the highest first.

    `beside` says what else the runs have, "" for nothing.
    """
    bases = sorted({float(run.plan.hyperparameters["learning_rate"]) for run in runs}, reverse=True)
    return [
        _lengths_at(base, [run for run in runs if run.plan.hyperparameters["learning_rate"] == base], beside)
        for base in bases
    ]


def length_curvatures(runs: Sequence[Run], beside: str = "") -> list[Figure]:
    """The eigenvalue and its bound by step for each warmup that was tried, a picture for each base rate; `beside` as in
    `length_figures`. There is none for a base rate at which no curvature was measured.
    """
    measured = [run for run in runs if LAMBDA_1_METRIC in run.curves]
    figures: list[Figure] = []
    for base in sorted({float(run.plan.hyperparameters["learning_rate"]) for run in measured}, reverse=True):
        here = [run for run in measured if run.plan.hyperparameters["learning_rate"] == base]
        here.sort(key=lambda run: int(run.plan.hyperparameters["warmup_steps"]))
        name = f"curvature-at-{base:g}".replace(".", "_") + _beside_in_name(beside)
        title = f"Eigenvalue and its bound by length of the warmup, base learning rate {base:g}"
        title += f", {beside}" if beside else ""
        by_warmup = [(str(run.plan.hyperparameters["warmup_steps"]), run) for run in here]
        metric = drawn_metric(dict(here[0].plan.hyperparameters))
        figures.append(bound_figure(name, title, metric, by_warmup, legend="warmup (steps)"))
    return figures


def _beside_in_name(beside: str) -> str:
    return "-and-" + beside.replace(" ", "-") if beside else ""


def _lengths_at(base: float, runs: Sequence[Run], beside: str) -> CurvesFigure:
    ordered = sorted(runs, key=lambda run: (int(run.plan.hyperparameters["warmup_steps"]), run.plan.repeat))
    return CurvesFigure(
        f"warmup-at-{base:g}".replace(".", "_") + _beside_in_name(beside),
        f"Training loss by length of the warmup, base learning rate {base:g}" + (f", {beside}" if beside else ""),
        Axis("step (updates)", "log"),
        Axis("minibatch loss", "log"),
        [_curve(run) for run in ordered],
        legend="warmup (steps)",
    )


def _curve(run: Run) -> Curve:
    losses = [float(loss) for loss in run.updates.loss]
    steps = [float(step) for step in range(1, len(losses) + 1)]
    return Curve(steps, losses, str(run.plan.hyperparameters["warmup_steps"]), f"seed {run.plan.repeat}")


def sweeps_figure(
    results: Results, sweeps: Mapping[int, Levers], objective: Objective, unstable: float | None
) -> PointsFigure:
    """The sweeps that are compared, by phase, drawn together."""
    series = {levers.in_words: runs_by_rate(results, phase) for phase, levers in sweeps.items()}
    return rate_plot(
        "learning-rate-with-and-without",
        "Best value by learning rate, with and without warmup",
        series,
        objective,
        marks={"unstable": unstable},
        legend="recipe",
    )


_NORM = Axis("unclipped gradient norm", "log")


def typical_norms(run: Run, threshold: float, name: str) -> list[Figure]:
    """The norm by step of the run whose norms are taken as typical, and their histogram, with the first threshold."""
    norms = run.updates.gradient_norm
    rate = float(run.plan.hyperparameters["learning_rate"])
    title = f"Unclipped gradient norm of the most stable run, learning rate {rate:g}"
    curve = Curve(range(len(norms)), [float(norm) for norm in norms], label=f"trial {run.plan.trial}")
    finite = [float(norm) for norm in norms[np.isfinite(norms)]]
    return [
        CurvesFigure(
            "gradient-norm", title, Axis("step (updates)"), _NORM, [curve], [MarkedValue(threshold, name, "y")]
        ),
        HistogramFigure("gradient-norm-histogram", title, _NORM, finite, [MarkedValue(threshold, name)]),
    ]


def norms_by_threshold(phases: Mapping[int, float | None], results: Results, rate: float) -> CurvesFigure:
    """The norm by step at one rate without clipping (None) and under each threshold: the playbook's figure 9.

    Each has the first seed, so that they begin alike. The step axis is logarithmic, since early instability is short.
    """
    runs = {clip: found[0] for phase, clip in phases.items() if (found := runs_by_rate(results, phase).get(rate))}
    curves = [
        Curve(
            [float(step) for step in range(1, len(run.updates.gradient_norm) + 1)],
            [float(norm) for norm in run.updates.gradient_norm],
            _name(clip),
            f"trial {run.plan.trial}" + (f": {run.reason}" if run.reason else ""),
        )
        for clip, run in runs.items()
    ]
    marks = [MarkedValue(clip, f"{clip:g}", "y") for clip in runs if clip is not None]
    title = f"Unclipped gradient norm under each clipping threshold, learning rate {rate:g}"
    axis = Axis("step (updates)", "log")
    return CurvesFigure("gradient-norm-by-threshold", title, axis, _NORM, curves, marks, legend="grad_clip_norm")


def rates_by_threshold(
    phases: Mapping[int, float | None], results: Results, objective: Objective, quarter: int
) -> PointsFigure:
    """The best value by learning rate under each threshold, and with a quarter of the initialisation where tried."""
    series: dict[str, Mapping[float, Sequence[Run]]] = {
        _name(clip): runs_by_rate(results, phase) for phase, clip in phases.items()
    }
    small = runs_by_rate(results, quarter)
    return rate_plot(
        "learning-rate-by-threshold",
        "Best value by learning rate under each clipping threshold",
        {**series, **({"a quarter of the initialisation": small} if small else {})},
        objective,
        legend="grad_clip_norm",
    )


def _name(clip: float | None) -> str:
    return "none" if clip is None else f"{clip:g}"

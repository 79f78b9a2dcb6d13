"""The figure of an eigenvalue and of its bound by step, for the runs of a procedure."""

from __future__ import annotations

from collections.abc import Sequence

from tunectl.analysis.figures.figures import Axis, Curve, CurvesFigure
from tunectl.analysis.results.runs import Run
from tunectl.procedures.curvature_measures import BOUND_METRIC


def eigenvalue_in_words(metric: str) -> str:
    """The title of an axis with this metric of the curvature."""
    words = {
        "curvature/lambda_1": "largest eigenvalue of the Hessian",
        "curvature/lambda_1_with_decay": "largest eigenvalue with the L2 term",
        "curvature/preconditioned_lambda_1": "largest eigenvalue of the preconditioned Hessian",
    }
    return words[metric]


def bound_figure(name: str, title: str, metric: str, runs: Sequence[tuple[str, Run]], *, legend: str) -> CurvesFigure:
    """An eigenvalue by step, solid, and its bound, dashed, for each of some runs with the names of their series.

    The step axis is logarithmic and counts from 1, so that step 0 has a place: what is measured after s updates is at
    s + 1, where the next update is.
    """
    curves = []
    for series, run in runs:
        for drawn, dashed in ((metric, False), (BOUND_METRIC, True)):
            steps, values = run.curve(drawn)
            curves.append(
                Curve(
                    [float(step) + 1 for step in steps],
                    [float(value) for value in values],
                    series,
                    run_label(run),
                    run.plan.trial,
                    dashed=dashed,
                )
            )
    return CurvesFigure(
        name,
        title,
        Axis("next update, counted from 1", "log"),
        Axis(eigenvalue_in_words(metric), "log"),
        curves,
        legend=legend,
        solid_name="eigenvalue",
        dashed_name="bound",
    )


def run_label(run: Run) -> str:
    """A run as its curve or point names it: its trial, and how it ended."""
    return f"trial {run.plan.trial}" + (f": {run.reason}" if run.reason else "")

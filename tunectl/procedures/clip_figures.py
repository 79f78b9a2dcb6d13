"""The gradient norms of a stable run, and under each threshold: the pictures of the playbook's "Gradient clipping"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tunectl.analysis.figures.figures import Axis, Curve, CurvesFigure, Figure, HistogramFigure, Mark, PointsFigure
from tunectl.analysis.results.runs import Run
from tunectl.core.objective import Objective
from tunectl.procedures.procedure import Results
from tunectl.procedures.rate_grid import runs_by_rate
from tunectl.procedures.rate_plot import rate_plot

_NORM = Axis("unclipped gradient norm", "log")


def typical_norms(run: Run, threshold: float, name: str) -> list[Figure]:
    """The norm by step of the run whose norms are taken as typical, and their histogram, with the first threshold."""
    norms = run.updates.gradient_norm
    rate = float(run.plan.hyperparameters["learning_rate"])
    title = f"Unclipped gradient norm of the most stable run, learning rate {rate:g}"
    curve = Curve(range(len(norms)), [float(norm) for norm in norms], label=f"trial {run.plan.trial}")
    finite = [float(norm) for norm in norms[np.isfinite(norms)]]
    return [
        CurvesFigure("gradient-norm", title, Axis("step (updates)"), _NORM, [curve], [Mark(threshold, name, "y")]),
        HistogramFigure("gradient-norm-histogram", title, _NORM, finite, [Mark(threshold, name)]),
    ]


def norms_by_threshold(phases: Mapping[int, float | None], results: Results, rate: float) -> CurvesFigure:
    """The norm by step at one rate without clipping (None) and under each threshold: the playbook's figure 9.

    Of each the first seed, so that they begin alike. The steps are logarithmic: early instability is over soon.
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
    marks = [Mark(clip, f"{clip:g}", "y") for clip in runs if clip is not None]
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

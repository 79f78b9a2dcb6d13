"""`clip-sweep`: a threshold for the gradient's norm from those of a stable run, with the learning rate tuned again.

Deep Learning Tuning Playbook, "Gradient clipping": the threshold lies just above the typical norm; the 90th percentile
of the unclipped norms is a starting point, a smaller one is to be tried where it does not help. One that clips more
than half of the updates is a strange way of lowering the learning rate.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np

from tunectl.analysis.figures import Axis, Curve, CurvesFigure, Figure, HistogramFigure, Mark, PointsFigure
from tunectl.analysis.gradient_norms import clip_threshold, clipped_fraction
from tunectl.analysis.runs import Run
from tunectl.core.records import Scalar
from tunectl.procedures.procedure import (
    Conclusion,
    OwnCodeNeeds,
    Procedure,
    Results,
    SweepSpec,
    Wish,
    has_all,
    repeats,
    runs_of,
)
from tunectl.procedures.rate_plot import rate_plot
from tunectl.procedures.rates import RateJudgement, best_rate, is_unstable, judged, log_grid, rounded, runs_by_rate

NORMS, WITHOUT, FIRST_THRESHOLD = range(3)
PERCENTILE = 90.0
SMALLER = (1.0, 1 / 3, 1 / 10)
"""Thresholds, as parts of the first one; more than half of the updates are clipped soon after."""

PHASES = (
    "gradient norms without clipping",
    "learning rates without clipping",
    "learning rates at the first threshold",
    "learning rates at a third of it",
    "learning rates at a tenth of it",
)
NEAR = (1.0, 1 / 3, 1 / 10)
"""Where the norms are looked at, as parts of the best rate: a stable run near it is wanted."""

RATES = 6
BEYOND = 10.0
"""The rates reach so far beyond the unstable one, or the best one where none is known."""

TOO_AGGRESSIVE = 0.5
"""The playbook: clipping more than half of the updates."""


def centre(spec: SweepSpec) -> float | None:
    """The best rate of the lr-sweep before, or the study's own; None where neither is known."""
    rate = spec.before.get("best_learning_rate") or spec.values.get("learning_rate")
    return None if rate is None else float(rate)


def problems(spec: SweepSpec) -> list[str]:
    """What is wrong with what was asked."""
    if centre(spec) is None:
        return ["no learning rate is known to be good; give --from LR_SWEEP_DIR, or fix learning_rate"]
    return []


def next_trials(spec: SweepSpec, results: Results) -> Sequence[Wish]:
    """The norms near the best rate; the sweep without clipping; a sweep at each threshold."""
    best = centre(spec)
    if best is None:
        return ()
    wishes = [
        wish
        for point, part in enumerate(NEAR)
        for wish in repeats(NORMS, point, {"grad_clip_norm": None, "learning_rate": rounded(best * part)})
    ]
    if not has_all(results, wishes):
        return wishes
    wishes += _sweep(spec, WITHOUT, None)
    for index, threshold in enumerate(thresholds(results)):
        wishes += _sweep(spec, FIRST_THRESHOLD + index, threshold)
    return wishes


def _rates(spec: SweepSpec) -> list[float]:
    best = centre(spec) or math.nan
    unstable = spec.before.get("unstable_base_learning_rate") or best
    return [rounded(rate) for rate in log_grid(rounded(best / 2), rounded(float(unstable) * BEYOND), RATES)]


def _sweep(spec: SweepSpec, phase: int, threshold: float | None) -> list[Wish]:
    return [
        wish
        for point, rate in enumerate(_rates(spec))
        for wish in repeats(phase, point, {"grad_clip_norm": threshold, "learning_rate": rate})
    ]


def most_stable(results: Results) -> Run | None:
    """The run whose norms are taken as typical: of those that came to their end the one at the highest rate whose loss
    never went up for a period; where all did, the one at the lowest rate. None where none came to its end.
    """
    runs = [run for runs in runs_of(results, NORMS).values() for run in runs if run.feasible]
    if not runs:
        return None
    calm = [run for run in runs if not is_unstable(run)]
    key = (lambda run: -_rate(run)) if calm else _rate
    return min(calm or runs, key=lambda run: (key(run), run.plan.repeat))


def _rate(run: Run) -> float:
    return float(run.plan.hyperparameters["learning_rate"])


def thresholds(results: Results) -> list[float]:
    """The thresholds to sweep at, the largest first; [] where no run shows what is typical."""
    run = most_stable(results)
    if run is None:
        return []
    first = clip_threshold(run.updates.gradient_norm, PERCENTILE)
    if first is None or not (math.isfinite(first) and first > 0):
        return []
    return [rounded(first * part) for part in SMALLER]


def _median_clipped(runs: Sequence[Run]) -> float | None:
    """The part of the updates that were clipped, the median over the runs; None where there was no update."""
    parts = [clipped_fraction(run.updates) for run in runs if len(run.updates)]
    return statistics.median(parts) if parts else None


def conclude(spec: SweepSpec, results: Results) -> Conclusion:
    """The largest threshold that does as well as any, its learning rate tuned, and whether it is more than a lower
    rate. It helps where the best value without clipping is worse than all that its seeds reached.
    """
    tried = thresholds(results)
    without = best_rate(judged(runs_by_rate(results, WITHOUT), spec.objective))
    found = {
        threshold: best_rate(judged(runs_by_rate(results, FIRST_THRESHOLD + index), spec.objective))
        for index, threshold in enumerate(tried)
    }
    feasible = {threshold: best for threshold, best in found.items() if best is not None}
    tolerated = _tolerated(spec, results, tried, feasible)
    # The largest that does as well: it changes least.
    chosen = max((threshold for threshold in feasible if feasible[threshold].value <= tolerated), default=None)
    helps = chosen is not None and (without is None or without.value > tolerated)
    best = feasible[chosen] if chosen is not None else None
    fraction = None
    if chosen is not None and best is not None:
        fraction = _median_clipped(runs_by_rate(results, FIRST_THRESHOLD + tried.index(chosen))[best.rate])
    too_aggressive = None if fraction is None else fraction > TOO_AGGRESSIVE
    adopted = chosen if helps else None
    answers = {"grad_clip_norm": adopted, "clipped_fraction": fraction, "too_aggressive": too_aggressive}
    advice = ""
    if adopted is not None and best is not None and not too_aggressive:
        advice = f"learning_rate: {best.rate:g}\ngrad_clip_norm: {adopted:g}"
    return Conclusion(
        verdict=_verdict(spec, tried, chosen, best, without, fraction, helps=helps),
        answers=answers,
        header=("grad_clip_norm", "learning_rate", f"best {spec.objective.metric}", "clipped"),
        rows=_rows(results, without, found),
        figures=_figures(spec, results, tried),
        advice=advice,
    )


def _tolerated(
    spec: SweepSpec, results: Results, tried: Sequence[float], feasible: dict[float, RateJudgement]
) -> float:
    """The worst value that the best threshold has under one of its seeds: what is no worse does as well."""
    if not feasible:
        return math.inf
    best = min(feasible, key=lambda threshold: feasible[threshold].value)
    runs = runs_by_rate(results, FIRST_THRESHOLD + tried.index(best))[feasible[best].rate]
    return max(run.loss(spec.objective) for run in runs if run.feasible)


def _verdict(
    spec: SweepSpec,
    tried: Sequence[float],
    chosen: float | None,
    best: RateJudgement | None,
    without: RateJudgement | None,
    fraction: float | None,
    *,
    helps: bool,
) -> str:
    if not tried:
        return "No run near the best learning rate came to its end, so no norm is typical: go lower first."
    if chosen is None or best is None:
        return (
            "No threshold makes any of the learning rates feasible: the instability is not one of rare large gradients."
        )
    metric = spec.objective.metric
    against = (
        f"{without.best:.4g} at {without.rate:g} without clipping" if without else "no feasible rate without clipping"
    )
    text = f"Clipping at {chosen:g} reaches {metric} {best.best:.4g} at learning rate {best.rate:g}, against {against}"
    if not helps:
        return f"{text}: clipping does not help here."
    if fraction is not None and fraction > TOO_AGGRESSIVE:
        return f"{text}; but it clips {fraction:.0%} of the updates, a lower learning rate in disguise: cut the rate."
    return f"{text}; it clips {fraction or 0:.0%} of the updates."


def _rows(
    results: Results, without: RateJudgement | None, found: dict[float, RateJudgement | None]
) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = [_row(None, without, None)]
    for index, (threshold, best) in enumerate(found.items()):
        runs = runs_by_rate(results, FIRST_THRESHOLD + index)[best.rate] if best is not None else []
        rows.append(_row(threshold, best, _median_clipped(runs)))
    return rows


def _row(threshold: Scalar | None, best: RateJudgement | None, fraction: float | None) -> tuple[object, ...]:
    return (threshold, best.rate if best else None, best.best if best else None, fraction)


def _figures(spec: SweepSpec, results: Results, tried: Sequence[float]) -> list[Figure]:
    run = most_stable(results)
    figures: list[Figure] = []
    if run is not None and tried:
        norms = run.updates.gradient_norm
        steps = [float(step) for step in range(len(norms))]
        mark = Mark(tried[0], f"{PERCENTILE:g}th percentile", "y")
        title = f"Unclipped gradient norm of the most stable run, learning rate {_rate(run):g}"
        curve = Curve(steps, [float(norm) for norm in norms], label=f"trial {run.plan.trial}")
        axis = Axis("unclipped gradient norm", "log")
        figures.append(CurvesFigure("gradient-norm", title, Axis("step (updates)"), axis, [curve], [mark]))
        finite = [float(norm) for norm in norms[np.isfinite(norms)]]
        mark = Mark(tried[0], f"{PERCENTILE:g}th percentile")
        figures.append(HistogramFigure("gradient-norm-histogram", title, axis, finite, [mark]))
    return [*figures, _axis_plot(spec, results, tried)]


def _axis_plot(spec: SweepSpec, results: Results, tried: Sequence[float]) -> PointsFigure:
    names = {WITHOUT: "none", **{FIRST_THRESHOLD + index: f"{threshold:g}" for index, threshold in enumerate(tried)}}
    return rate_plot(
        "learning-rate-by-threshold",
        "Best value by learning rate under each clipping threshold",
        {name: runs_by_rate(results, phase) for phase, name in names.items()},
        spec.objective,
        legend="grad_clip_norm",
    )


CLIP_SWEEP = Procedure(
    "clip-sweep",
    frozenset({"learning_rate", "grad_clip_norm"}),
    PHASES,
    next_trials,
    conclude,
    problems,
    OwnCodeNeeds(("learning_rate", "grad_clip_norm"), ("gradient_norm",)),
)

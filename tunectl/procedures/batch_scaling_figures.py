"""The figures of `batch-scaling`, as figure 6 of Gilmer et al. 2021: steps and best rate by batch, steps by rate."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tunectl.analysis.figures.figures import Axis, Curve, CurvesFigure, Figure, Point, PointsFigure
from tunectl.procedures.batch_scaling_outcomes import BatchOutcome, Scaling
from tunectl.procedures.procedure import SweepSetting


def scaling_figures(settings: Sequence[SweepSetting], scalings: Sequence[Scaling], target: str) -> list[Figure]:
    """All figures; `target` is the target in words."""
    named = list(zip([setting.name for setting in settings], scalings, strict=True))
    several = len(named) > 1
    return [
        _steps_by_batch(named, target),
        _rates_by_batch(named),
        *(
            _steps_by_rate(f"-{place}" if several else "", f", {name}" if several else "", scaling, target)
            for place, (name, scaling) in enumerate(named)
        ),
    ]


def _steps_by_batch(named: Sequence[tuple[str, Scaling]], target: str) -> CurvesFigure:
    """The steps to the target, relative to those of the smallest batch, with the line of perfect scaling."""
    curves = []
    for name, scaling in named:
        relative = [1 / (scaling.speed_up(item) or math.nan) for item in scaling.reached]
        sizes, label = _sizes(scaling.reached), f"{name}: {_first(scaling)}" if name else _first(scaling)
        curves.append(Curve(sizes, relative, name, label, hollow=_at_edge(scaling.reached), dotted=True))
        perfect = [1 / scaling.perfect(item) for item in scaling.reached]
        curves.append(Curve(sizes, perfect, name, "perfect scaling", dashed=True))
    return CurvesFigure(
        "steps-by-batch",
        f"Steps to {target} by batch size",
        _batch_axis(curves),
        Axis("steps / steps of the smallest batch", "log"),
        [curve for curve in curves if curve.x],
        legend="setting" if len(named) > 1 else "",
        solid_name="measured",
        dashed_name="perfect scaling",
    )


def _first(scaling: Scaling) -> str:
    if not scaling.reached:
        return "not reached"
    first = scaling.reached[0]
    return f"{first.steps_to_target:,.0f} steps at {first.batch_size}"


def _rates_by_batch(named: Sequence[tuple[str, Scaling]]) -> CurvesFigure:
    """The best learning rate by batch size, with a line on which it is proportional to the batch."""
    curves = []
    for name, scaling in named:
        items = [(item, item.best.candidate.rate) for item in scaling.reached if item.best is not None]
        rates, sizes = [rate for _, rate in items], _sizes([item for item, _ in items])
        hollow = _at_edge([item for item, _ in items])
        curves.append(Curve(sizes, rates, name, name or "best learning rate", hollow=hollow, dotted=True))
        perfect = [rates[0] * scaling.perfect(item) for item, _ in items]
        curves.append(Curve(sizes, perfect, name, "proportional to the batch", dashed=True))
    return CurvesFigure(
        "learning-rate-by-batch",
        "Best learning rate by batch size",
        _batch_axis(curves),
        Axis("best learning rate", "log"),
        [curve for curve in curves if curve.x],
        legend="setting" if len(named) > 1 else "",
        solid_name="measured",
        dashed_name="proportional to the batch",
    )


def _steps_by_rate(suffix: str, where: str, scaling: Scaling, target: str) -> PointsFigure:
    """The steps to the target by learning rate, for each batch size."""
    points = []
    for item in scaling.found:
        for tried in item.searched:
            steps, run = tried.steps[0], tried.runs[0]
            missed = run.reason or f"not reached in {item.steps:,} steps"
            why = "" if math.isfinite(steps) else f": {missed}"
            label = f"trial {run.plan.trial}, batch size {item.batch_size}{why}"
            value = steps if math.isfinite(steps) else None
            points.append(Point(tried.candidate.rate, value, str(item.batch_size), label, run.plan.trial))
    return PointsFigure(
        f"steps-by-rate{suffix}",
        f"Steps to {target} by learning rate{where}",
        Axis("learning rate", "log"),
        Axis("steps to the target", "log"),
        points,
        legend="batch size",
        missed="target not reached, or infeasible",
    )


def _sizes(items: Sequence[BatchOutcome]) -> list[float]:
    return [float(item.batch_size) for item in items]


def _at_edge(items: Sequence[BatchOutcome]) -> list[bool]:
    return [bool(item.edge) for item in items]


def _batch_axis(curves: Sequence[Curve]) -> Axis:
    """The axis of batch sizes, with a tick at each that was tried."""
    return Axis("batch size", "log", ticks=sorted({size for curve in curves for size in curve.x}))

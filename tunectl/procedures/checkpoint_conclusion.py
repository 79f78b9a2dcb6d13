"""What `curvature` says about the kept checkpoints of a finished study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunectl.analysis.figures.figures import Figure
from tunectl.analysis.results.runs import Run
from tunectl.core.measurement_kinds import CURVATURE
from tunectl.core.wording import counted
from tunectl.procedures.bound_figures import bound_figure
from tunectl.procedures.curvature_measures import (
    LAMBDA_1_METRIC,
    bounded_metric,
    drawn_metric,
    has_converged,
    metric_at,
)
from tunectl.procedures.procedure import Conclusion

_COLUMNS = {
    "lambda_1": "lambda_1",
    "residual": "residual",
    "products": "products",
    "converged": "converged",
    "ratio": "ratio",
    "critical_rate": "critical_learning_rate",
}
"""The columns of the table, and their metrics."""


@dataclass(frozen=True, slots=True)
class MeasuredTrial:
    """A trial of the finished study, by its id, and the run that measured its checkpoints."""

    trial: int
    run: Run


def concluded(trials: Sequence[MeasuredTrial], passed_over: Mapping[str, str]) -> Conclusion:
    """The curvature at each checkpoint, which are above the bound, and what was passed over, with the reasons."""
    measured = [(item, step) for item in trials for step in _steps(item.run)]
    above = [
        (item.trial, step, ratio)
        for item, step in measured
        if (ratio := metric_at(item.run, CURVATURE.column("ratio"), step)) is not None and ratio > 1
    ]
    return Conclusion(
        verdict=_verdict(measured, above, passed_over),
        answers={
            "checkpoints": [{"trial": item.trial, "step": step, **_metrics(item.run, step)} for item, step in measured],
            "above_the_bound": [{"trial": trial, "step": step, "ratio": ratio} for trial, step, ratio in above],
            "passed_over": dict(passed_over),
        },
        header=("trial", "step", *_COLUMNS),
        rows=[
            (item.trial, step, *(metric_at(item.run, CURVATURE.column(name), step) for name in _COLUMNS.values()))
            for item, step in measured
        ],
        figures=_figures(trials),
    )


def _steps(run: Run) -> list[int]:
    """The steps at which anything was measured."""
    curves = [run.curve(CURVATURE.column(metric.name)) for metric in CURVATURE.metrics]
    return sorted({int(step) for steps, _ in curves for step in steps})


def _metrics(run: Run, step: int) -> dict[str, Any]:
    """Everything that was measured at a step, by the names of the metrics, but how long it took."""
    values = {metric.name: metric_at(run, CURVATURE.column(metric.name), step) for metric in CURVATURE.metrics}
    return {name: value for name, value in values.items() if value is not None and name != "seconds"}


def _verdict(
    measured: Sequence[tuple[MeasuredTrial, int]],
    above: Sequence[tuple[int, int, float]],
    passed_over: Mapping[str, str],
) -> str:
    trials = counted(len({item.trial for item, _ in measured}), "trial")
    text = f"The curvature was measured at {counted(len(measured), 'checkpoint')} of {trials}"
    below, beyond = _certainly_below(measured), _at_a_limit(measured)
    if above:
        highest = max(above, key=lambda found: found[2])
        text += (
            f"; {len(above)} above the optimizer's bound, the highest at trial {highest[0]}, step {highest[1]}: "
            f"{highest[2]:.3g} times the bound"
        )
    elif below == len(measured):
        text += ", all of them below the optimizer's bound"
    elif below:
        text += f"; {below} below the optimizer's bound, and of the others it is not known"
    parts = [f"{text}."]
    if beyond:
        parts.append(
            f"At {counted(beyond, 'checkpoint')} the search for the critical rate ended at its limit "
            "(critical_limit in conclusion.json: -1 where every rate tried raises the loss, 1 where none does)."
        )
    if passed_over:
        parts.append("Passed over: " + "; ".join(f"{what} ({why})" for what, why in passed_over.items()) + ".")
    return " ".join(parts)


def _certainly_below(measured: Sequence[tuple[MeasuredTrial, int]]) -> int:
    """At how many checkpoints the bound is above an eigenvalue that has converged: else that is a lower estimate."""
    found = 0
    for item, step in measured:
        ratio = metric_at(item.run, CURVATURE.column("ratio"), step)
        metric = bounded_metric(dict(item.run.plan.hyperparameters))
        found += ratio is not None and ratio <= 1 and metric is not None and has_converged(item.run, metric, step)
    return found


def _at_a_limit(measured: Sequence[tuple[MeasuredTrial, int]]) -> int:
    """At how many checkpoints the critical rate is beyond a limit of its search."""
    limits = [metric_at(item.run, CURVATURE.column("critical_limit"), step) for item, step in measured]
    return sum(limit not in (None, 0) for limit in limits)


def _figures(trials: Sequence[MeasuredTrial]) -> list[Figure]:
    """The eigenvalue and its bound by step, a figure for each kind of eigenvalue that is measured against a bound."""
    by_metric: dict[str, list[tuple[str, Run]]] = {}
    for item in trials:
        if LAMBDA_1_METRIC in item.run.curves:
            metric = drawn_metric(dict(item.run.plan.hyperparameters))
            by_metric.setdefault(metric, []).append((f"trial {item.trial}", item.run))
    return [
        bound_figure(
            metric.replace("/", "-").replace("_", "-"),
            "Eigenvalue and its bound at the checkpoints",
            metric,
            runs,
            legend="",
        )
        for metric, runs in by_metric.items()
    ]

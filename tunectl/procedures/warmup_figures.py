"""The pictures of the warmup sweep: the playbook's figures 6 and 8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunectl.analysis.figures import Axis, Curve, CurvesFigure, Figure, Mark, Point, PointsFigure
from tunectl.analysis.runs import Run
from tunectl.core.objective import Objective


def length_figures(runs: Sequence[Run]) -> list[Figure]:
    """The minibatch loss by step for each warmup that was tried, a picture for each base rate, the highest first."""
    bases = sorted({float(run.plan.hyperparameters["learning_rate"]) for run in runs}, reverse=True)
    return [
        _lengths_at(base, [run for run in runs if run.plan.hyperparameters["learning_rate"] == base]) for base in bases
    ]


def _lengths_at(base: float, runs: Sequence[Run]) -> CurvesFigure:
    ordered = sorted(runs, key=lambda run: (int(run.plan.hyperparameters["warmup_steps"]), run.plan.repeat))
    return CurvesFigure(
        f"warmup-at-{base:g}".replace(".", "_"),
        f"Training loss by length of the warmup, base learning rate {base:g}",
        Axis("step (updates)", "log"),
        Axis("minibatch loss", "log"),
        [_curve(run) for run in ordered],
        legend="warmup (steps)",
    )


def _curve(run: Run) -> Curve:
    losses = [float(loss) for loss in run.updates.loss]
    steps = [float(step) for step in range(1, len(losses) + 1)]
    return Curve(steps, losses, str(run.plan.hyperparameters["warmup_steps"]), f"seed {run.plan.repeat}")


def with_and_without(
    series: Mapping[str, Mapping[float, Sequence[Run]]], objective: Objective, unstable: float | None
) -> PointsFigure:
    """The best value by learning rate of each series, {name: {rate: runs}}, in one picture."""
    points = [
        Point(rate, run.best_value if run.feasible else None, name, f"trial {run.plan.trial} {run.reason}".strip())
        for name, by_rate in series.items()
        for rate, runs in sorted(by_rate.items())
        for run in runs
    ]
    return PointsFigure(
        "learning-rate-with-and-without",
        "Best value by learning rate, with and without warmup",
        Axis("learning rate", "log"),
        Axis(f"best {objective.metric}"),
        points,
        [Mark(unstable, "unstable")] if unstable else [],
        legend="schedule",
    )

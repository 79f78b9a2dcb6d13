"""The loss by length of the warmup: the playbook's figure 6."""

from __future__ import annotations

from collections.abc import Sequence

from tunectl.analysis.figures import Axis, Curve, CurvesFigure, Figure
from tunectl.analysis.runs import Run


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

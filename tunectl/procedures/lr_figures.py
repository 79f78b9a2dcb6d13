"""The pictures of the learning-rate sweep: the curves of the playbook's figures 5 and 7b."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tunectl.analysis.figures import Axis, Curve, CurvesFigure
from tunectl.analysis.runs import Run

JUST_ABOVE = 2
"""So many rates next above the best one are drawn."""


def curves_above(swept: Mapping[float, Sequence[Run]], best: float, far_above: Sequence[float]) -> CurvesFigure:
    """The training loss at the best rate, at those just above it, and at the ones nearest to so many times it."""
    just_above = [rate for rate in sorted(swept) if rate > best][:JUST_ABOVE]
    far = [min(swept, key=lambda rate: abs(math.log(rate / (best * factor)))) for factor in far_above]
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


def first_steps(runs: Sequence[Run], factor: float) -> CurvesFigure:
    """The loss of the runs that were evaluated at every step."""
    curves = []
    for run in runs:
        steps, losses = run.curve("train/loss")
        name = f"{run.plan.repeat}"
        curves.append(Curve([float(step) for step in steps], [float(loss) for loss in losses], name, f"seed {name}"))
    rate = float(runs[0].plan.hyperparameters["learning_rate"])
    return CurvesFigure(
        "first-steps",
        f"Loss of the first steps at {rate:g}, {factor:g} times the best rate, evaluated at every step",
        Axis("step (updates)"),
        Axis("train/loss", "log"),
        curves,
        legend="seed",
    )

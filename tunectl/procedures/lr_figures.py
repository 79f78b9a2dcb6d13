"""The pictures of the learning-rate sweep: the curves of the playbook's figures 5 and 7b."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tunectl.analysis.figures.figures import Axis, Curve, CurvesFigure
from tunectl.analysis.results.runs import Run

JUST_ABOVE = 2
"""So many rates next above the best one are drawn."""

SHOWN_STEPS = 25
"""Figure 5 shows the first 25 steps, each evaluated."""


def curves_above(swept: Mapping[float, Sequence[Run]], best: float, far_above: Sequence[float]) -> CurvesFigure:
    """The training loss at the best rate, at those just above it, and at the ones nearest to so many times it."""
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
    """What the evaluations of the study show, and what those of every one of the first steps show: figure 5, left and
    right. The first is of whole runs, at the rate of the sweep that is nearest to that of the others.
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

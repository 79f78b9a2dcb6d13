"""The loss by length of the warmup, and the best value by learning rate under each: the playbook's figures 6 and 8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunectl.analysis.figures.figures import Axis, Curve, CurvesFigure, Figure, PointsFigure
from tunectl.analysis.results.runs import Run
from tunectl.core.objective import Objective
from tunectl.procedures.levers import Levers
from tunectl.procedures.procedure import Results
from tunectl.procedures.rate_grid import runs_by_rate
from tunectl.procedures.rate_plot import rate_plot


def length_figures(runs: Sequence[Run], beside: str = "") -> list[Figure]:
    """The minibatch loss by step for each warmup that was tried, a picture for each base rate, the highest first.

    `beside` says what else the runs have, "" for nothing.
    """
    bases = sorted({float(run.plan.hyperparameters["learning_rate"]) for run in runs}, reverse=True)
    return [
        _lengths_at(base, [run for run in runs if run.plan.hyperparameters["learning_rate"] == base], beside)
        for base in bases
    ]


def _lengths_at(base: float, runs: Sequence[Run], beside: str) -> CurvesFigure:
    ordered = sorted(runs, key=lambda run: (int(run.plan.hyperparameters["warmup_steps"]), run.plan.repeat))
    return CurvesFigure(
        f"warmup-at-{base:g}".replace(".", "_") + ("-and-" + beside.replace(" ", "-") if beside else ""),
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

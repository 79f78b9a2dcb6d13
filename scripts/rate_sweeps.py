"""Sweeps of the learning rate in answered studies: the largest rate that trains, a table and a figure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from curvature_trials import MeasuredTrial, grouped, median

from tunectl.analysis.figures.figures import Axis, Point, PointsFigure

RATE = "learning_rate"
Series = Mapping[str, Sequence[MeasuredTrial]]


def series_of(trials: Sequence[MeasuredTrial], *names: str) -> dict[str, list[MeasuredTrial]]:
    """The trials by their values of these hyperparameters, each as text: `batch, 0`."""
    return {", ".join(map(str, values)): group for values, group in grouped(trials, *names).items()}


def value(trial: MeasuredTrial) -> float:
    """The trial's value of the objective, NaN where it diverged."""
    best = trial.hyperparameters["best_value"]
    return math.nan if trial.diverged or not isinstance(best, (int, float)) else float(best)


def trains(trials: Sequence[MeasuredTrial]) -> bool:
    """Whether most of the trials trained."""
    return 2 * sum(not trial.diverged for trial in trials) > len(trials)


def largest_rate(trials: Sequence[MeasuredTrial]) -> float:
    """The largest rate at which most seeds train, as they do at every smaller one; 0 where they never do."""
    largest = 0.0
    for (rate,), group in grouped(trials, RATE).items():
        if not trains(group):
            break
        largest = float(rate)
    return largest


def best_value(trials: Sequence[MeasuredTrial], better: Callable[..., float] = min) -> float:
    """The best median over the seeds of a rate, among the rates at which most seeds train; NaN without one."""
    medians = [median(map(value, group)) for group in grouped(trials, RATE).values() if trains(group)]
    return better((each for each in medians if not math.isnan(each)), default=math.nan)


def sweep_table(series: Series, heading: str) -> list[list[str]]:
    """How many seeds trained at each rate, and their median value: a row for each series."""
    rates = sorted({float(trial.hyperparameters[RATE]) for group in series.values() for trial in group})  # type: ignore[arg-type]
    table = [[heading, *(f"{rate:g}" for rate in rates), "largest rate"]]
    for name, trials in series.items():
        at = {float(rate): group for (rate,), group in grouped(trials, RATE).items()}
        cells = [_cell(at.get(rate, [])) for rate in rates]
        table.append([name, *cells, f"{largest_rate(trials):g}"])
    return table


def _cell(trials: Sequence[MeasuredTrial]) -> str:
    if not trials:
        return "–"
    trained = [trial for trial in trials if not trial.diverged]
    middle = f" {median(map(value, trained)):.3g}" if trained else ""
    return f"{len(trained)}/{len(trials)}{middle}"


def sweep_figure(name: str, title: str, series: Series, metric: str) -> PointsFigure:
    """The value of each trial by its rate, in one colour a series; a trial that diverged has none."""
    points = [
        Point(float(trial.hyperparameters[RATE]), _known(value(trial)), label, f"trial {trial.trial}", trial.trial)  # type: ignore[arg-type]
        for label, trials in series.items()
        for trial in trials
    ]
    return PointsFigure(name, title, Axis(RATE, "log"), Axis(metric, "log"), points)


def _known(number: float) -> float | None:
    return None if math.isnan(number) else number

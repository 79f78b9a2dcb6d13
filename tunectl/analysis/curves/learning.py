"""Whether a network learned more than a constant prediction."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunectl.analysis.results.runs import Floats, Run
from tunectl.core.objective import Objective

LEAST_BETTER = 0.01
"""A loss is clearly below that of a constant prediction by at least this part of it: the labels of another split are
distributed slightly differently from those of train, for which the constant is known ...
"""

ERRORS = 3.0
"""... and by this number of standard errors over the seeds."""

CHANCE_DEVIATIONS = 3.0
"""Another metric is clearly better than at step 0 by this number of standard deviations of untrained networks with
different seeds: guesses vary by that much on this split, and the best of dozens of guesses is 2 to 3 of them better.
"""

CHANCE_LEVEL = 0.05
"""With few seeds the upper limit of that deviation is used: it is larger only with this probability."""


LEAST_GAIN = 0.1
"""Where no constant is known: a metric that is better than at step 0 by less than this part may be a lucky guess."""


@dataclass(frozen=True, slots=True)
class Learning:
    """The values that the runs of one configuration reached, and the values that they are compared with.

    `better` says whether they are clearly better than a constant prediction, None if that cannot be known. `reached`
    is the mean of the objective over the seeds, each at the step that is best for the others; `at_start` is its mean at
    step 0. `loss` is the mean loss of the objective's split at the same steps, `baseline` the loss of the best constant
    prediction. Each is None where it is not known.
    """

    better: bool | None
    reached: float | None = None
    at_start: float | None = None
    loss: float | None = None
    baseline: float | None = None


def learning(runs: Sequence[Run], objective: Objective) -> Learning:
    """Whether the runs of one configuration, with several seeds, are better than a constant prediction.

    The best of many evaluations of a network that only guesses looks better than a guess. So the value of each run is
    taken at the step at which the *other* runs have their best mean.

    Where the loss of a constant prediction is known, the runs are better if their losses on `train` and on the
    objective's split are clearly below it, or if an objective that is not this loss is clearly better than before
    training (a badly scaled network may predict well with a loss far above that of a constant). Where it is not known,
    the objective is compared with step 0. It is better if the gain is more than ERRORS standard errors, and more than
    the variation of guesses or LEAST_GAIN; it is not better if the gain is less than both ERRORS standard errors and
    LEAST_GAIN. `better` is None between the two, for a single run, and where neither a baseline nor an evaluation at
    step 0 exists.
    """
    usable = [run for run in runs if run.feasible and len(_after_start(run, objective.metric)[0])]
    if len(usable) < 2:
        return Learning(None)
    places = [_best_step([other for other in usable if other is not run], objective) for run in usable]
    pairs = list(zip(usable, places, strict=True))
    reached = [_value_at(run, objective.metric, place) for run, place in pairs]
    starts = [_start(run, objective.metric) for run in usable]
    baseline = usable[0].baseline_loss
    split_loss = f"{objective.metric.partition('/')[0]}/loss"
    losses = [_value_at(run, split_loss, place) for run, place in pairs]
    train = [_value_at(run, "train/loss", place) for run, place in pairs]
    cost = objective.metric_cost
    gains = [cost(start) - cost(value) for start, value in zip(starts, reached, strict=True)]
    known = all(map(math.isfinite, gains))
    if baseline is not None and all(map(math.isfinite, losses)):
        by_loss = all(_clearly_below(values, baseline) for values in (train, losses) if all(map(math.isfinite, values)))
        by_metric = known and objective.metric != split_loss and _beyond_chance(gains, starts, reached)
        better: bool | None = by_loss or by_metric
    else:
        baseline = None
        better = _without_baseline(gains, starts) if known else None
    return Learning(
        better,
        statistics.fmean(reached),
        statistics.fmean(starts) if known else None,
        statistics.fmean(losses) if baseline is not None else None,
        baseline,
    )


def _after_start(run: Run, metric: str) -> tuple[Floats, Floats]:
    steps, values = run.curve(metric)
    keep = (steps > 0) & np.isfinite(values)
    return steps[keep], values[keep]


def _best_step(runs: Sequence[Run], objective: Objective) -> float:
    """The step, of those that these runs share, at which the mean of the objective over them is best."""
    curves = [_after_start(run, objective.metric) for run in runs]
    shared: list[float] = sorted(set.intersection(*(set(steps.tolist()) for steps, _ in curves)) or curves[0][0])
    sign = 1.0 if objective.direction == "minimize" else -1.0
    values = [np.interp(shared, *curve).tolist() for curve in curves]
    means = [sign * statistics.fmean(at) for at in zip(*values, strict=True)]
    return shared[min(range(len(shared)), key=means.__getitem__)]


def _value_at(run: Run, metric: str, step: float) -> float:
    """The metric at the evaluation nearest to a step; NaN if there is none."""
    steps, values = _after_start(run, metric)
    return float(values[np.argmin(np.abs(steps - step))]) if len(steps) else math.nan


def _start(run: Run, metric: str) -> float:
    steps, values = run.curve(metric)
    return float(values[0]) if len(steps) and steps[0] == 0 else math.nan


def _clearly_below(values: Sequence[float], baseline: float) -> bool:
    margin = max(LEAST_BETTER * abs(baseline), ERRORS * _standard_error(values))
    return statistics.fmean(values) < baseline - margin


def _beyond_chance(gains: Sequence[float], starts: Sequence[float], reached: Sequence[float]) -> bool:
    """Whether the gain is more than guesses vary by; no if all seeds reach one value, that of a constant prediction."""
    if len(set(reached)) == 1:
        return False
    return statistics.fmean(gains) > _chance(starts) and _positive(gains)


def _chance(starts: Sequence[float]) -> float:
    """How far apart guesses may be, from the upper end of the confidence interval of their deviation."""
    from scipy import special

    freedom = len(starts) - 1
    widening = math.sqrt(freedom / float(special.chdtri(freedom, 1 - CHANCE_LEVEL)))
    return CHANCE_DEVIATIONS * widening * statistics.stdev(starts)


def _without_baseline(gains: Sequence[float], starts: Sequence[float]) -> bool | None:
    gain = statistics.fmean(gains)
    is_large = gain > LEAST_GAIN * abs(statistics.fmean(starts))
    if _positive(gains):
        return True if is_large or gain > _chance(starts) else None
    return None if is_large else False


def _positive(gains: Sequence[float]) -> bool:
    return statistics.fmean(gains) > ERRORS * _standard_error(gains)


def _standard_error(values: Sequence[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values))

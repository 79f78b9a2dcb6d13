"""Whether a trial that came to its end learned at all: `diverged`, `no_progress`, or neither."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

FIXED_BATCH_EXAMPLES = 64
FIXED_BATCH_EVALUATIONS = 20
"""The losses of a fixed batch are taken so often in the second half of a trial: enough for a rank test, next to no
time.
"""

MIN_UPDATES = 20
"""In fewer updates a noisy series cannot be called flat."""

FAR_ABOVE = 5.0
"""`diverged` begins so many standard deviations of the examples' losses at step 0 above their mean."""

LEAST_SPREAD = 0.05
"""The least such standard deviation, relative to the mean: a last layer of zeros gives every example the same loss."""

STANDARD_ERRORS = 3.0
"""A mean lies below the baseline when it does so by more than so many of its standard errors ..."""

BASELINE_TOLERANCE = 1e-3
"""... and by more than this part of the baseline, which may be the entropy of other labels than those the mean is
over.
"""

DRIFT = 0.4
TREND = 0.5
"""A series is flat where the examples' losses drift less than `DRIFT` and their mean less than `TREND` (Kendall's tau,
without its sign).

On 64 digits, dead networks whose biases have settled gave drifts of 0.06 to 0.34 and trends up to 0.42; live networks
at learning rates of 1e-7 to 1e-3 gave drifts above 0.45, or, at batches of 8, drifts of 0.26 and more with trends
above 0.55 wherever the drift was below 0.4.
"""


def tail_updates(total_steps: int) -> int:
    """How many of the last updates are averaged into the smoothed loss at the end: a twentieth, at least 10."""
    return min(total_steps, max(10, total_steps // 20))


def fixed_batch_steps(total_steps: int) -> frozenset[int]:
    """The counts of updates after which the fixed batch is evaluated: evenly over the second half, with the last."""
    half = total_steps // 2
    span = total_steps - half
    count = min(span, FIXED_BATCH_EVALUATIONS)
    return frozenset(half - (-span * place // count) for place in range(1, count + 1))


EXCHANGED_EXAMPLES = 1024
"""Predictions are exchanged between at most this many examples."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """The losses of `examples` examples, and how they change when each is given another example's prediction.

    `loss` and `spread`: mean and standard deviation of the losses. `gain` and `gain_spread`: those of the differences,
    other prediction's loss minus own one's. `changed`: the root mean square of the differences.
    """

    examples: int
    loss: float
    spread: float
    gain: float
    gain_spread: float

    @classmethod
    def of(cls, own: Any, others: Any) -> Exchange:
        """The summary of two series of losses, shape [examples]."""
        own, others = np.asarray(own, dtype=np.float64), np.asarray(others, dtype=np.float64)
        gains = others - own
        return cls(len(own), float(own.mean()), float(own.std()), float(gains.mean()), float(gains.std()))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the end of a trial is judged by; all losses in the unit of the workload's loss.

    `start_*` and `end_*`: mean and standard deviation over the `examples` evaluated examples of train, in evaluation
    mode, at step 0 and after the last update. `lowest_loss`: the lowest such mean after step 0. `tail_mean`,
    `tail_spread`: over the minibatch losses of the last `tail_count` updates. `fixed_batch_losses`: the losses of the
    same examples in evaluation mode over the second half, shape [evaluations, examples].
    """

    total_steps: int
    start_mean: float
    start_spread: float
    end_mean: float
    end_spread: float
    examples: int
    lowest_loss: float
    tail_mean: float
    tail_spread: float
    tail_count: int
    fixed_batch_losses: Sequence[Sequence[float]] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a trial is infeasible: the word for the tables and a line for people."""

    reason: Literal["diverged", "no_progress"]
    message: str


def kendall_tau(series: Any) -> Any:
    """Kendall's rank correlation of series with their order, ties counting as zero; shape [n] gives [], [n, columns]
    gives [columns].

    It is -1 where every value is below all before it, and 0 for a constant.
    """
    values = np.asarray(series, dtype=np.float64)
    earlier, later = np.triu_indices(len(values), 1)
    signs = np.sign(values[later] - values[earlier])
    return signs.mean(axis=0) if len(earlier) else np.zeros(values.shape[1:])


def is_flat(losses: Sequence[Sequence[float]], total_steps: int) -> bool:
    """Whether the losses of a fixed batch, shape [evaluations, examples], wander without a direction, or do not move
    at all.

    Evaluating the same examples without dropout takes the sampling noise away that hides a small change from the
    minibatch losses. In a network that learns slowly each example's loss goes its own way steadily, some up and most
    down; looking at the examples one by one (the mean of |tau| over them) sees that where they nearly cancel in the
    mean. In a dead network only the noise of the biases is left.
    """
    values = np.asarray(losses, dtype=np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        return False
    if bool((values == values[0]).all()):
        return True
    drift = float(np.abs(kendall_tau(values)).mean())
    return total_steps >= MIN_UPDATES and drift < DRIFT and abs(float(kendall_tau(values.mean(axis=1)))) < TREND


def _clearly_below(baseline: float, mean: float, spread: float, count: int) -> bool:
    error = STANDARD_ERRORS * spread / math.sqrt(max(count, 1)) if math.isfinite(spread) else 0.0
    return mean < baseline - max(error, BASELINE_TOLERANCE * abs(baseline))


def _learned(losses: Sequence[float], baseline: float) -> bool:
    values = np.asarray(losses, dtype=np.float64)
    return _clearly_below(baseline, float(values.mean()), float(values.std()), len(values))


def _last_half(series: Sequence[Sequence[float]]) -> Sequence[Sequence[float]]:
    return series[len(series) // 2 :]


def deviations_above(smoothed: float, start_mean: float, start_spread: float) -> float:
    """How many standard deviations of the examples' losses at step 0 a smoothed training loss lies above their mean."""
    unit = max(start_spread, LEAST_SPREAD * abs(start_mean))
    return (smoothed - start_mean) / unit if unit > 0 else math.nan


def is_diverged(smoothed: float, start_mean: float, start_spread: float) -> bool:
    """Whether a smoothed training loss lies more than FAR_ABOVE of these above; not where the start is not finite."""
    return (
        math.isfinite(start_mean)
        and math.isfinite(start_spread)
        and deviations_above(smoothed, start_mean, start_spread) > FAR_ABOVE
    )


def _diverged(evidence: Evidence) -> Verdict | None:
    at_end = (evidence.tail_mean, evidence.start_mean, evidence.start_spread)
    if not is_diverged(*at_end):
        return None
    deviations = deviations_above(*at_end)
    count = f"{deviations:.1f}" if deviations < 1e6 else f"{deviations:.3g}"
    return Verdict(
        "diverged",
        f"the training loss ended at {evidence.tail_mean:.4g}, {count} standard deviations above its"
        f" {evidence.start_mean:.4g} at step 0",
    )


def _no_progress(evidence: Evidence, baseline: float | None) -> Verdict | None:
    if baseline is None:
        unmoved = is_flat(evidence.fixed_batch_losses, evidence.total_steps)
        long_enough = evidence.total_steps >= MIN_UPDATES or unmoved
        if not long_enough or not evidence.lowest_loss >= evidence.start_mean:
            return None
        return Verdict("no_progress", f"the training loss was never below its {evidence.start_mean:.4g} at step 0")
    if _clearly_below(baseline, evidence.tail_mean, evidence.tail_spread, evidence.tail_count):
        return None
    if _clearly_below(baseline, evidence.end_mean, evidence.end_spread, evidence.examples):
        return None
    if not is_flat(evidence.fixed_batch_losses, evidence.total_steps):
        return None
    if any(_learned(losses, baseline) for losses in _last_half(evidence.fixed_batch_losses)):
        # It wanders, but from below the baseline: large spikes of a network that has learned.
        return None
    return Verdict(
        "no_progress",
        f"the training loss ended flat at {evidence.tail_mean:.4g}: the best constant prediction has {baseline:.4g}",
    )


def judge(evidence: Evidence, *, baseline: float | None, no_progress: bool = True) -> Verdict | None:
    """Say whether a trial that came to its end is infeasible; None where it is not. Judged after the last update only.

    `diverged`: the mean minibatch loss of the last updates lies more than FAR_ABOVE standard deviations (of the
    examples' losses at step 0) above the mean loss at step 0. `no_progress` with a baseline, the loss of the best
    constant prediction: neither the last minibatch losses nor the last evaluation of train lie below it by more than
    their error, and the losses of a fixed batch were flat (`is_flat`) over the second half, and never below the
    baseline by more than their error in the last quarter. A trial that is still on its way, however slowly, is
    feasible. Without a baseline: no evaluation of train was below that of step 0.
    `no_progress=False` turns this rule off.
    """
    verdict = _diverged(evidence)
    if verdict is None and no_progress:
        verdict = _no_progress(evidence, baseline)
    return verdict

"""Whether a trial that came to its end learned at all: `diverged`, `no_progress`, or neither."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tunectl.core.divergence import deviations_above, is_diverged

FIXED_BATCH_EXAMPLES = 64
FIXED_BATCH_EVALUATIONS = 20
"""The losses of a fixed batch are taken so often in the second half of a trial: enough for a rank test, next to no
time.
"""

MIN_UPDATES = 20
"""In fewer updates a noisy series cannot be called flat."""

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


Statistics = Literal["none", "lagging", "settled"]
"""The running statistics of a model, as batch normalisation has: whether they have come to where its batches are."""

EXCHANGED_EXAMPLES = 1024
"""Predictions are exchanged between at most this many examples."""

CHANGED_QUANTILE = 0.95
"""What nineteen of twenty losses change by at most: a unit that only few inputs still reach makes no living network."""

CONSTANT = 3e-5
"""The predictions are the same for all examples where an exchange changes no loss, or changes them by less than this
part of their size ...

On digits (scripts/measure_dead_networks.py), 98 % of the dead perceptrons and convolutional networks give 0; saturated
LSTMs up to 3e-5 of the size. Living networks are above 1e-4, but for slow ones that start from an output layer of zeros
and for LSTMs that are nearly saturated.
"""

OF_MOVEMENT = 1e-4
"""... and less than this part of how far the losses of the fixed batch moved over the second half, which in a slow
network is as little as an exchange changes them ...
"""

GAIN_ERRORS = 3.0
"""... and where the own predictions are not better by this many standard errors than another example's."""


def _quantile(values: NDArray[np.float64], part: float) -> float:
    """The quantile of values, between two of them by linear interpolation.

    Not np.quantile, which imports numpy.ma at its first call: in every trial, 20 ms and more.
    """
    return float(np.interp(part * (len(values) - 1), np.arange(len(values)), np.sort(values)))


@dataclass(frozen=True, slots=True)
class Exchange:
    """How the losses of some examples change when each is given another example's prediction.

    `size`: the root mean square of the losses. `changed`: the CHANGED_QUANTILE of how much they change, `most`: the
    largest change. `gain`: by how many of its standard errors the own predictions' mean loss is lower. `spread`: the
    standard deviation of the losses.
    """

    size: float
    changed: float
    gain: float
    spread: float
    most: float

    @classmethod
    def of(cls, own: Sequence[float], others: Sequence[float], one: Sequence[float]) -> Exchange:
        """From the losses of the examples with their own predictions, with each other's, and with that of one of them
        for all.
        """
        losses, gains = np.asarray(own, dtype=np.float64), np.subtract(others, own)
        error = float(gains.std()) / math.sqrt(len(gains))
        changes = [np.abs(np.subtract(given, own)) for given in (others, one)]
        return cls(
            size=float(np.sqrt(np.mean(losses**2))),
            changed=max(_quantile(change, CHANGED_QUANTILE) for change in changes),
            gain=float(gains.mean()) / error if error > 0 else 0.0,
            spread=float(losses.std()),
            most=max(float(change.max()) for change in changes),
        )

    def is_constant(self, moved: float, *, all_examples: bool) -> bool:
        """Whether the predictions are the same for all examples, or nearly all; `moved` is how far the losses of a
        fixed batch moved over the second half of the training.

        Where few examples are of a rare class, or differ from the others at all, the exchange changes the losses of few
        alone, in a network that has learned everything.
        """
        change = self.most if all_examples else self.changed
        return change <= min(CONSTANT * self.size, OF_MOVEMENT * moved) and self.gain <= GAIN_ERRORS


@dataclass(frozen=True, slots=True)
class TrialEvidence:
    """What the end of a trial is judged by; all losses in the unit of the workload's loss.

    `start_*` and `end_*`: mean and standard deviation over the `examples` evaluated examples of train, in evaluation
    mode, at step 0 and after the last update. `lowest_loss`: the lowest such mean after step 0. `tail_mean`,
    `tail_spread`: over the minibatch losses of the last `tail_count` updates. `fixed_batch_losses`: the losses of the
    same examples in evaluation mode over the second half, shape [evaluations, examples]. `exchange`: how the losses
    change when predictions are exchanged at the end; None where that is not known. `statistics`: the running
    ones by which layers evaluate.
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
    exchange: Exchange | None = None
    statistics: Statistics = "none"


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


def is_falling(losses: Sequence[Sequence[float]]) -> bool:
    """Whether the mean loss of a fixed batch, shape [evaluations, examples], falls steadily."""
    if len(losses) < 2:
        return False
    means = np.asarray(losses, dtype=np.float64).mean(axis=1)
    return bool(np.isfinite(means).all()) and float(kendall_tau(means)) <= -TREND


def _clearly_below(baseline: float, mean: float, spread: float, count: int) -> bool:
    error = STANDARD_ERRORS * spread / math.sqrt(max(count, 1)) if math.isfinite(spread) else 0.0
    return mean < baseline - max(error, BASELINE_TOLERANCE * abs(baseline))


def _learned(losses: Sequence[float], baseline: float) -> bool:
    values = np.asarray(losses, dtype=np.float64)
    return _clearly_below(baseline, float(values.mean()), float(values.std()), len(values))


def _last_half(series: Sequence[Sequence[float]]) -> Sequence[Sequence[float]]:
    return series[len(series) // 2 :]


def _diverged(evidence: TrialEvidence) -> Verdict | None:
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


def moved(losses: Sequence[Sequence[float]]) -> float:
    """How far the losses of a fixed batch, shape [evaluations, examples], were from their last values: the root mean
    square.
    """
    values = np.asarray(losses, dtype=np.float64)
    return float(np.sqrt(np.mean((values - values[-1]) ** 2))) if len(values) else 0.0


def _no_progress(evidence: TrialEvidence, baseline: float | None) -> Verdict | None:
    if evidence.exchange is not None and (baseline is not None or evidence.exchange.spread > 0):
        verdict = _constant(evidence, evidence.exchange, baseline)
        # What depends on its input may be slow, and wander: with a baseline nothing else is asked.
        if verdict is not None or baseline is not None:
            return verdict
    if evidence.statistics == "lagging":
        # What is left are evaluations, and they tell about the statistics of the start.
        return None
    return _never_below_start(evidence) if baseline is None else _flat(evidence, baseline)


def _constant(evidence: TrialEvidence, exchange: Exchange, baseline: float | None) -> Verdict | None:
    """A dead network: its predictions do not depend on the input."""
    # With a baseline, what has learned is below it.
    if not exchange.is_constant(moved(evidence.fixed_batch_losses), all_examples=baseline is None):
        return None
    if baseline is not None and _clearly_below(baseline, evidence.end_mean, evidence.end_spread, evidence.examples):
        return None
    best = "" if baseline is None else f", the best constant prediction has {baseline:.4g}"
    return Verdict(
        "no_progress",
        f"the predictions do not depend on the input: the training loss ended at {evidence.tail_mean:.4g}{best}",
    )


def _never_below_start(evidence: TrialEvidence) -> Verdict | None:
    unmoved = is_flat(evidence.fixed_batch_losses, evidence.total_steps)
    long_enough = evidence.total_steps >= MIN_UPDATES or unmoved
    if not long_enough or not evidence.lowest_loss >= evidence.start_mean:
        return None
    if _clearly_below(evidence.start_mean, evidence.tail_mean, evidence.tail_spread, evidence.tail_count):
        # In training it is: by statistics of its batches a network may have learned, and evaluate badly by others.
        return None
    if evidence.statistics == "settled" and is_falling(evidence.fixed_batch_losses):
        # At step 0 it was evaluated without its statistics, which is another network: slow, but it learns.
        return None
    return Verdict("no_progress", f"the training loss was never below its {evidence.start_mean:.4g} at step 0")


def _flat(evidence: TrialEvidence, baseline: float) -> Verdict | None:
    """What the losses alone say, where the predictions cannot be seen."""
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


def judge(evidence: TrialEvidence, *, baseline: float | None, no_progress: bool = True) -> Verdict | None:
    """Say whether a trial that came to its end is infeasible; None where it is not. Judged after the last update only.

    `diverged`: the mean minibatch loss of the last updates lies more than FAR_ABOVE standard deviations (of the
    examples' losses at step 0) above the mean loss at step 0. `no_progress`: the predictions are the same for every
    example (`Exchange.is_constant`), and where there is a baseline, the loss of the best constant prediction, the last
    evaluation of train does not lie below it by more than its error. A trial whose predictions depend on the input is
    feasible with a baseline, however slow it is; without one, some evaluation of train, or the last minibatch losses by
    more than their error, must be below that of step 0; where layers evaluate by running statistics, losses of a fixed
    batch that still fall are enough. Neither that nor what follows is asked before these statistics have settled.
    Where the predictions could not be exchanged, a baseline is compared with the losses alone: neither the last
    minibatch losses nor the last evaluation of train lie below it by more than their error, and the losses of a fixed
    batch were flat (`is_flat`) over the second half, and never below the baseline by more than their error in the last
    quarter. `no_progress=False` turns this rule off.
    """
    verdict = _diverged(evidence)
    if verdict is None and no_progress:
        verdict = _no_progress(evidence, baseline)
    return verdict

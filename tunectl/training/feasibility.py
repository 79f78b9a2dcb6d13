"""Whether a trial that trained to its last step has learned: `diverged`, `no_progress`, or neither."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tunectl.core.divergence import deviations_above, is_clearly_below, is_diverged

FIXED_BATCH_EXAMPLES = 64
FIXED_BATCH_EVALUATIONS = 20
"""The number of evaluations of a fixed batch in the second half of a trial: enough for a rank test, and cheap."""

MIN_UPDATES = 20
"""With fewer updates a noisy series is not taken as flat."""

DRIFT = 0.4
TREND = 0.5
"""A series is flat where the drift of the examples' losses is below DRIFT and the trend of their mean below TREND (both
are absolute values of Kendall's tau).

On 64 digits, dead networks with constant biases gave drifts of 0.06 to 0.34 and trends up to 0.42. Living networks at
learning rates of 1e-7 to 1e-3 gave drifts above 0.45; with batches of 8, drifts of 0.26 and more, with trends above
0.55 wherever the drift was below 0.4.
"""


def tail_updates(total_steps: int) -> int:
    """The number of last updates whose losses are averaged at the end: a twentieth of all, at least 10."""
    return min(total_steps, max(10, total_steps // 20))


def fixed_batch_steps(total_steps: int) -> frozenset[int]:
    """The numbers of updates after which the fixed batch is evaluated: evenly over the second half, with the last."""
    half = total_steps // 2
    span = total_steps - half
    count = min(span, FIXED_BATCH_EVALUATIONS)
    return frozenset(half - (-span * index // count) for index in range(1, count + 1))


Statistics = Literal["none", "lagging", "settled"]
"""Whether a model has running statistics, as batch normalisation has, and whether they are close to its batches'."""

EXCHANGED_EXAMPLES = 1024
"""The largest number of examples between which predictions are exchanged."""

CHANGED_QUANTILE = 0.95
"""Of the changes of the losses this quantile counts: one unit that a few inputs still activate is no living network."""

CONSTANT = 3e-5
"""The predictions are the same for all examples where an exchange changes the losses by less than this part of their
size ...

On digits (scripts/measure_dead_networks.py), 98 % of the dead perceptrons and convolutional networks give 0, saturated
LSTMs up to 3e-5 of the size. Living networks give more than 1e-4, except slow ones that start from an output layer of
zeros, and LSTMs that are nearly saturated.
"""

OF_MOVEMENT = 1e-4
"""... and by less than this part of the movement of the fixed batch's losses over the second half, which in a slow
network is as small as the change by an exchange ...
"""

GAIN_ERRORS = 3.0
"""... and where an example's own predictions are not better than another example's by this number of standard errors.
"""


def _quantile(values: NDArray[np.float64], part: float) -> float:
    """The quantile of values, with linear interpolation.

    np.quantile would import numpy.ma at its first call: 20 ms and more in every trial.
    """
    return float(np.interp(part * (len(values) - 1), np.arange(len(values)), np.sort(values)))


@dataclass(frozen=True, slots=True)
class Exchange:
    """How the losses of some examples change when each example gets the prediction of another one.

    `size`: the root mean square of the losses. `changed`: the CHANGED_QUANTILE of the changes, `most`: the largest
    change. `gain`: how much lower the mean loss is with the examples' own predictions, in standard errors. `spread`:
    the standard deviation of the losses.
    """

    size: float
    changed: float
    gain: float
    spread: float
    most: float

    @classmethod
    def of(cls, own: Sequence[float], others: Sequence[float], one: Sequence[float]) -> Exchange:
        """From the losses of the examples, each of shape [examples]: with their own predictions, with each other's, and
        with the prediction of one example for all.
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
        """Whether the predictions are the same for all examples, or nearly all; `moved` is the movement of a fixed
        batch's losses over the second half of the training.

        With `all_examples` the largest change counts: where only a few examples are of a rare class, or differ from the
        others, an exchange changes the losses of these few alone, even in a network that has learned everything.
        """
        change = self.most if all_examples else self.changed
        return change <= min(CONSTANT * self.size, OF_MOVEMENT * moved) and self.gain <= GAIN_ERRORS


@dataclass(frozen=True, slots=True)
class TrialEvidence:
    """The measurements from which a trial that trained to its last step is judged; losses in the unit of the workload.

    `start_*` and `end_*`: mean and standard deviation over the `examples` evaluated examples of train, in evaluation
    mode, at step 0 and after the last update. `start_in_training` is the mean at step 0 as training mode has it, None
    where it is the same. `lowest_loss`: the lowest such mean after step 0. `tail_mean`,
    `tail_spread`: over the minibatch losses of the last `tail_count` updates. `fixed_batch_losses`: the losses of the
    same examples in evaluation mode over the second half, shape [evaluations, examples], `fixed_batch_weights` the
    weights of these examples, None where each counts as 1. `exchange`: how the losses
    change when predictions are exchanged at the end; None where it is not known. `statistics`: the state of the running
    statistics that layers use in evaluation mode.
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
    fixed_batch_weights: Sequence[float] | None = None
    exchange: Exchange | None = None
    statistics: Statistics = "none"
    start_in_training: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a trial is infeasible: the reason for the tables and a line for people."""

    reason: Literal["diverged", "no_progress"]
    message: str


def kendall_tau(series: Any) -> Any:
    """Kendall's rank correlation of series with time; ties count as zero. Shape [n] gives [], [n, columns] gives
    [columns].

    It is -1 where every value is below all earlier ones, and 0 for a constant.
    """
    values = np.asarray(series, dtype=np.float64)
    earlier, later = np.triu_indices(len(values), 1)
    signs = np.sign(values[later] - values[earlier])
    return signs.mean(axis=0) if len(earlier) else np.zeros(values.shape[1:])


def _means(losses: NDArray[np.float64], weights: Sequence[float] | None) -> NDArray[np.float64]:
    """The mean over the examples of each evaluation, shape [evaluations, examples] gives [evaluations]."""
    if weights is None:
        return np.asarray(losses.mean(axis=1))
    shares = np.asarray(weights, dtype=np.float64)
    return np.asarray(losses @ (shares / shares.sum()))


def is_flat(losses: Sequence[Sequence[float]], total_steps: int, weights: Sequence[float] | None = None) -> bool:
    """Whether the losses of a fixed batch, shape [evaluations, examples], change without a direction, or not at all.

    `weights` are those of the examples, each above 0, None where all are the same.


    Evaluating the same examples without dropout removes the sampling noise that hides small changes in the minibatch
    losses. In a network that learns slowly, the loss of each example changes steadily, for some upwards and for most
    downwards. The mean of |tau| over the examples shows this even where the changes nearly cancel in the mean loss. In
    a dead network only the noise of the biases is left.
    """
    values = np.asarray(losses, dtype=np.float64)
    if len(values) < 2 or not values.size or not np.isfinite(values).all():
        return False
    if bool((values == values[0]).all()):
        return True
    drift = float(np.abs(kendall_tau(values)).mean())
    return total_steps >= MIN_UPDATES and drift < DRIFT and abs(float(kendall_tau(_means(values, weights)))) < TREND


def is_falling(losses: Sequence[Sequence[float]], weights: Sequence[float] | None = None) -> bool:
    """Whether the mean loss of a fixed batch, shape [evaluations, examples], falls steadily; by weight, where given."""
    if len(losses) < 2 or not len(losses[0]):
        return False
    means = _means(np.asarray(losses, dtype=np.float64), weights)
    return bool(np.isfinite(means).all()) and float(kendall_tau(means)) <= -TREND


def _diverged(evidence: TrialEvidence) -> Verdict | None:
    start = evidence.start_mean if evidence.start_in_training is None else evidence.start_in_training
    at_end = (evidence.tail_mean, start, evidence.start_spread)
    if not is_diverged(*at_end):
        return None
    deviations = deviations_above(*at_end)
    count = f"{deviations:.1f}" if deviations < 1e6 else f"{deviations:.3g}"
    return Verdict(
        "diverged",
        f"the training loss ended at {evidence.tail_mean:.4g}, {count} standard deviations above its"
        f" {start:.4g} at step 0",
    )


def moved(losses: Sequence[Sequence[float]]) -> float:
    """The movement of the losses of a fixed batch, shape [evaluations, examples]: the root mean square of their
    differences from the last ones.
    """
    values = np.asarray(losses, dtype=np.float64)
    return float(np.sqrt(np.mean((values - values[-1]) ** 2))) if values.size else 0.0


def _no_progress(evidence: TrialEvidence, baseline: float | None) -> Verdict | None:
    if evidence.exchange is not None and (baseline is not None or evidence.exchange.spread > 0):
        verdict = _constant(evidence, evidence.exchange, baseline)
        # A network whose output depends on its input may be slow: with a baseline no other rule applies to it.
        if verdict is not None or baseline is not None:
            return verdict
    if evidence.statistics == "lagging":
        # The other rules use evaluations, which still depend on the statistics of the start.
        return None
    return _never_below_start(evidence) if baseline is None else _flat(evidence, baseline)


def _constant(evidence: TrialEvidence, exchange: Exchange, baseline: float | None) -> Verdict | None:
    """A dead network: its predictions do not depend on the input."""
    # With a baseline, a network that has learned is below it.
    if not exchange.is_constant(moved(evidence.fixed_batch_losses), all_examples=baseline is None):
        return None
    if baseline is not None and is_clearly_below(baseline, evidence.end_mean, evidence.end_spread, evidence.examples):
        return None
    best = "" if baseline is None else f", the best constant prediction has {baseline:.4g}"
    return Verdict(
        "no_progress",
        f"the predictions do not depend on the input: the training loss ended at {evidence.tail_mean:.4g}{best}",
    )


def _never_below_start(evidence: TrialEvidence) -> Verdict | None:
    unmoved = is_flat(evidence.fixed_batch_losses, evidence.total_steps, evidence.fixed_batch_weights)
    long_enough = evidence.total_steps >= MIN_UPDATES or unmoved
    if not long_enough or not evidence.lowest_loss >= evidence.start_mean:
        return None
    if is_clearly_below(evidence.start_mean, evidence.tail_mean, evidence.tail_spread, evidence.tail_count):
        # In training it is below: the network may have learned with the statistics of its batches, and be worse with
        # the running ones.
        return None
    if evidence.statistics == "settled" and is_falling(evidence.fixed_batch_losses, evidence.fixed_batch_weights):
        # At step 0 it was evaluated without its statistics, as another network. It is slow, but it learns.
        return None
    return Verdict("no_progress", f"the training loss was never below its {evidence.start_mean:.4g} at step 0")


def _flat(evidence: TrialEvidence, baseline: float) -> Verdict | None:
    """The rule for losses alone, where predictions could not be exchanged."""
    if is_clearly_below(baseline, evidence.tail_mean, evidence.tail_spread, evidence.tail_count):
        return None
    if is_clearly_below(baseline, evidence.end_mean, evidence.end_spread, evidence.examples):
        return None
    if not is_flat(evidence.fixed_batch_losses, evidence.total_steps, evidence.fixed_batch_weights):
        return None
    last_quarter = np.asarray(evidence.fixed_batch_losses, dtype=np.float64)[len(evidence.fixed_batch_losses) // 2 :]
    means = _means(last_quarter, evidence.fixed_batch_weights)
    if any(
        is_clearly_below(baseline, float(mean), float(row.std()), len(row))
        for mean, row in zip(means, last_quarter, strict=True)
    ):
        # A network that has learned, whose loss has large spikes: between them it is below the baseline.
        return None
    return Verdict(
        "no_progress",
        f"the training loss ended flat at {evidence.tail_mean:.4g}: the best constant prediction has {baseline:.4g}",
    )


def judge(evidence: TrialEvidence, *, baseline: float | None, no_progress: bool = True) -> Verdict | None:
    """Judge a trial after its last update; gives None where it is feasible.

    `diverged`: the mean minibatch loss of the last updates is more than FAR_ABOVE standard deviations (of the examples'
    losses at step 0) above the mean loss at step 0.

    `no_progress`, which `no_progress=False` turns off. The baseline is the loss of the best constant prediction;
    "below" means by more than the error of the mean (`is_clearly_below`).

    - The predictions are the same for all examples (`Exchange.is_constant`): infeasible, unless the last evaluation of
      train is below the baseline.
    - They differ, and there is a baseline: feasible, however slow the training is.
    - They differ, and there is no baseline: infeasible where no evaluation of train, nor the last minibatch losses, are
      below the loss at step 0. Where layers evaluate with running statistics, falling losses of a fixed batch are
      enough.
    - They could not be exchanged, and there is a baseline: infeasible where neither the last minibatch losses nor the
      last evaluation of train are below it, and the losses of a fixed batch were flat over the second half (`is_flat`)
      and not below the baseline in the last quarter.

    The last two rules do not apply while running statistics still depend on their start. Statistics that are gathered
    again before each evaluation never do.
    """
    verdict = _diverged(evidence)
    if verdict is None and no_progress:
        verdict = _no_progress(evidence, baseline)
    return verdict

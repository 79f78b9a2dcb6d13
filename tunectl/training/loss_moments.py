"""The loss over a split: its weighted mean, and its spread over the examples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tunectl.core.errors import WorkloadError
from tunectl.training.averages import Averages
from tunectl.training.example_losses import WRONG_WEIGHTS, are_right, example_losses

_LOSS = "loss"
_MOMENTS, _WEIGHTS = ("moments of the loss", _LOSS), ("weights of the loss", _LOSS)


@dataclass(frozen=True, slots=True)
class LossSummary:
    """The loss over a split: mean and standard deviation over its examples, in the unit of the loss.

    `examples` is their number; of weighted ones the number of equal weights whose mean is as accurate, (sum w)^2 / sum
    w^2 (Kish, "Survey Sampling", 1965), rounded.
    """

    mean: float
    spread: float
    examples: int


class LossMoments:
    """Adds up the losses of the batches of a split."""

    def __init__(self, averages: Averages) -> None:
        self.averages = averages

    def add(self, given: Any, examples: int) -> None:
        """Add what the loss gave for a batch of this number of examples."""
        losses, sums = example_losses(given, examples), self.averages.sums
        values, weights = losses.per_example()
        self.averages.add(_LOSS, values, weights)
        shift, unit = sums.scale(_MOMENTS, values)
        deviations, factors = (values - shift) / unit, torch.ones_like(values) if weights is None else weights
        counted = torch.where(factors == 0, 0.0, deviations)
        sums.add(_MOMENTS, torch.stack([factors.sum(), (counted * factors).sum(), (counted.square() * factors).sum()]))
        if losses.weights is not None and weights is not None:
            sums.add(_WEIGHTS, _of_weights(losses.weights, weights))

    def summary(self, means: Mapping[str, float], split: str) -> LossSummary:
        """The loss over all batches of this split, of whose averages `means` has the mean.

        Raises WorkloadError where weights are not as they must be, and where their sum is 0.
        """
        totals = self.averages.sums.totals()
        zero, one, two = totals.get(_MOMENTS, [0.0, 0.0, 0.0])
        examples = int(zero) if _WEIGHTS not in totals else _effective(*totals[_WEIGHTS], split=split)
        first, second = (total / zero if zero != 0 else math.nan for total in (one, two))
        variance, unit = second - first * first, self.averages.sums.units().get(_MOMENTS, 1.0)
        spread = unit * math.sqrt(max(variance, 0.0)) if variance == variance else math.nan
        return LossSummary(means.get(_LOSS, math.nan), spread, examples)


def _of_weights(given: Tensor, of_examples: Tensor) -> Tensor:
    """Whether weights are wrong, as 0 or 1, the sum of those of the examples, and that of their squares."""
    wrong = (~are_right(given)).to(torch.float64)
    return torch.stack([wrong.to(of_examples.device), of_examples.sum(), of_examples.square().sum()])


def _effective(wrong: float, total: float, squares: float, *, split: str) -> int:
    """The number of equal weights whose mean is as accurate."""
    if wrong:
        raise WorkloadError(f"{WRONG_WEIGHTS}, which those of the split {split!r} are not")
    if total == 0:
        raise WorkloadError(
            f"the weights of loss(model, batch) are 0 for all examples of the split {split!r}: they have no mean loss"
        )
    return max(1, round(total / squares * total)) if squares > 0 else 1

"""The critical learning rate: how far the optimizer's next update could go before the loss rises.

The quantity is that of "A Scalable Measure of Loss Landscape Curvature for Analyzing the Training Dynamics of LLMs"
(arXiv 2601.16979), written from its definition.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.curvature.next_update import NextUpdate, next_update

SMALLEST_MULTIPLE, LARGEST_MULTIPLE = 2.0**-10, 2.0**20
_RATIO = 1 + 1 / 16
"""The search ends where the loss rises at one multiple and does not at another, and their ratio is at most this."""

_WARM_FACTORS = (2**0.5, 2**0.5)
"""The first factors of a warm search, which then doubles. A critical rate often changes by up to this factor between
two measurements. Then two passes are enough to have it between them, and three for the bisection. Training the digits
perceptron with a measurement every 10 or 100 updates, this took the fewest passes of four choices.
"""

_ROUNDING = 8
"""Losses that differ by at most this many units of rounding count as equal."""

Limit = Literal[-1, 0, 1]


@dataclass(frozen=True, slots=True)
class CriticalRate:
    """The smallest multiple of an update at which the loss was found to rise, and the learning rate that it is.

    The loss rises at `multiple`, and does not at a tested multiple that is at most 1/16 smaller. Where `limit` is -1,
    it rises already at SMALLEST_MULTIPLE, which is then given; where it is 1, it does not rise at LARGEST_MULTIPLE.
    `multiple` is that of the update with the coming learning rate, None where that is 0. `passes` counts forward
    passes. `lambda_c` is 2 / learning_rate for plain SGD, without momentum, weight decay or a clipped gradient (on a
    quadratic it is the curvature g'Hg / g'g along the gradient g); None for other updates, and beyond a limit.
    """

    learning_rate: float
    multiple: float | None
    limit: Limit
    passes: int
    lambda_c: float | None = None


def critical_learning_rate(
    loss: Callable[[], Tensor],
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    *,
    configuration: TrainingConfiguration,
    learning_rate: float,
    start: float | None = None,
    at_zero: float | None = None,
) -> CriticalRate | None:
    """The learning rate from which on the optimizer's next update raises the loss of the batch that it is made from.

    The direction is the update that the optimizer would make now from these gradients (see `next_update`), with all
    that belongs to it: clipping, weight decay, and what momentum keeps of earlier updates. The weights are moved along
    it by multiples of it, and put back bit for bit, also where `loss` raises an exception. Where the coming rate is 0,
    as in the first update of a warmup, it is the update with the configuration's base rate.

    `loss()` gives the mean loss of the batch, shape [], the same at every call; it is called without gradients.
    `gradients` are those of the same loss, one for each parameter, None for one that the loss does not use. `start` is
    the last critical learning rate that was found (not beyond a limit), near which the search begins, or None.
    `at_zero` is the loss with the weights as they are, where it is known; else it takes one more pass.

    The search doubles the multiple, or halves it, until it has one at which the loss rises above the loss at 0 and one
    at which it does not, and divides the interval between them until their ratio is 17/16. Where the loss is a parabola
    along the direction, this is the only crossing. Where it rises, falls and rises again, it is one of the crossings,
    and a smaller one may be between multiples that were not tested. A loss that is not finite has risen. Where two
    losses are equal up to rounding, the slope decides: the loss rises where the update goes uphill.

    Gives None where the loss or the update is not finite.
    """
    update = next_update(optimizer, parameters, gradients, configuration=configuration, learning_rate=learning_rate)
    if not math.isfinite(update.slope):
        return None
    if not any(change.any() for change in update.changes):
        return _critical_rate(update, (LARGEST_MULTIPLE, 1), 0, learning_rate)
    # An update that goes uphill raises the loss at once.
    first = SMALLEST_MULTIPLE if update.slope > 0 else 1.0 if start is None else start / update.learning_rate
    with _Line(loss, parameters, update, at_zero) as line:
        if not math.isfinite(line.at_zero):
            return None
        found = _search(line.rises, first, () if start is None else _WARM_FACTORS)
    return _critical_rate(update, found, line.passes, learning_rate)


def _critical_rate(update: NextUpdate, found: tuple[float, Limit], passes: int, learning_rate: float) -> CriticalRate:
    multiple, limit = found
    critical = multiple * update.learning_rate
    return CriticalRate(
        critical,
        multiple if learning_rate > 0 else None,
        limit,
        passes,
        lambda_c=2 / critical if update.is_gradient_step and limit == 0 else None,
    )


class _Line:
    """The loss along an update. The parameters are moved in place, and are as they were at the end of the context.

    In place, so that what shares memory with them moves too; by `data`, of which autograd keeps no count, so that the
    graph of the gradient, for which they are the same again, can still be used.
    """

    def __init__(
        self, loss: Callable[[], Tensor], parameters: Sequence[Tensor], update: NextUpdate, at_zero: float | None
    ) -> None:
        self._loss, self._slope, self.passes = loss, update.slope, 0
        self._weights = [parameter.data for parameter in parameters]
        self._saved = [weight.clone() for weight in self._weights]
        changes = zip(update.changes, self._weights, strict=True)
        self._changes = [change.to(weight.dtype) for change, weight in changes]
        self._unit = max(torch.finfo(weight.dtype).eps for weight in self._weights)
        self.at_zero = self._measured() if at_zero is None else at_zero

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *_: object) -> None:
        torch._foreach_copy_(self._weights, self._saved)

    def rises(self, multiple: float) -> bool:
        """Whether the loss at this multiple of the update is above the one at 0."""
        torch._foreach_copy_(self._weights, self._saved)
        torch._foreach_add_(self._weights, self._changes, alpha=multiple)
        rise = self._measured() - self.at_zero
        if not math.isfinite(rise):
            return True
        return self._slope > 0 if abs(rise) <= _ROUNDING * self._unit * abs(self.at_zero) else rise > 0

    def _measured(self) -> float:
        self.passes += 1
        with torch.no_grad():
            loss = self._loss()
        self._unit = max(self._unit, torch.finfo(loss.dtype).eps)
        return float(loss)


def _search(rises: Callable[[float], bool], first: float, first_factors: Iterable[float]) -> tuple[float, Limit]:
    """The multiple at which the loss begins to rise, or the limit that it is beyond."""
    factors = itertools.chain(first_factors, itertools.repeat(2.0))
    multiple = min(max(first, SMALLEST_MULTIPLE), LARGEST_MULTIPLE)

    # Widen: from the first multiple up where the loss does not rise there, else down, until the answer changes.
    upwards = not rises(multiple)
    while True:
        if multiple == (LARGEST_MULTIPLE if upwards else SMALLEST_MULTIPLE):
            return multiple, 1 if upwards else -1
        factor = next(factors)
        following = min(multiple * factor, LARGEST_MULTIPLE) if upwards else max(multiple / factor, SMALLEST_MULTIPLE)
        if rises(following) == upwards:
            break
        multiple = following

    # Narrow: halve the interval on a log scale. The loss does not rise at `low`, and rises at `high`.
    low, high = sorted((multiple, following))
    while high / low > _RATIO:
        middle = math.sqrt(low * high)
        if rises(middle):
            high = middle
        else:
            low = middle
    return high, 0

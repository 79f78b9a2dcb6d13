"""Polyak averaging: an exponential average of the weights, which is evaluated in their place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn


class WeightAverages:
    """a <- decay * a + (1 - decay) * w after every update, one average for each trained parameter.

    The averages start as the weights at step 0, not as zeros, so no correction is needed: they are always a weighted
    mean of the weights so far; those of step 0 have the weight decay^t after t updates. Buffers,
    such as batch normalisation's running means, are not averaged. Polyak and Juditsky, "Acceleration of stochastic
    approximation by averaging" (1992); the exponential form is that of torch.optim.swa_utils and most others.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self._weights: list[Tensor] = [parameter.detach() for parameter in parameters]
        self._averages = [weight.clone() for weight in self._weights]
        self._new = 1.0 - decay

    def restart(self) -> None:
        """Begin with the present weights, as at step 0."""
        torch._foreach_copy_(self._averages, self._weights)

    def update(self) -> None:
        """Update the averages after an update of the weights."""
        torch._foreach_lerp_(self._averages, self._weights, self._new)

    @contextlib.contextmanager
    def applied(self) -> Iterator[list[Tensor]]:
        """Within the block the model has the averages as its weights; gives the trained ones, restored after it."""
        raw = [weight.clone() for weight in self._weights]
        torch._foreach_copy_(self._weights, self._averages)
        try:
            yield raw
        finally:
            torch._foreach_copy_(self._weights, raw)

    def load(self, raw: Sequence[Tensor]) -> None:
        """Take the model's weights as the averages, and set the model's weights to `raw`, the trained ones."""
        torch._foreach_copy_(self._averages, self._weights)
        for weight, own in zip(self._weights, raw, strict=True):
            weight.copy_(own)

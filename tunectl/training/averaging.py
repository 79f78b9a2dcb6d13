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
        # The parameters themselves: an optimizer may give them other tensors (`parameter.data = …`).
        self._parameters: list[Tensor] = list(parameters)
        self._averages = [parameter.detach().clone() for parameter in parameters]
        self._new = 1.0 - decay

    def restart(self) -> None:
        """Begin with the present weights, as at step 0."""
        with torch.no_grad():
            torch._foreach_copy_(self._averages, self._parameters)

    def update(self) -> None:
        """Update the averages after an update of the weights."""
        with torch.no_grad():
            torch._foreach_lerp_(self._averages, self._parameters, self._new)

    @contextlib.contextmanager
    def applied(self) -> Iterator[list[Tensor]]:
        """Within the block the model has the averages as its weights; gives the trained ones, restored after it."""
        weights = [parameter.detach() for parameter in self._parameters]
        raw = [weight.clone() for weight in weights]
        torch._foreach_copy_(weights, self._averages)
        try:
            yield raw
        finally:
            torch._foreach_copy_(weights, raw)

    def load(self, raw: Sequence[Tensor]) -> None:
        """Take the model's weights as the averages, and set the model's weights to `raw`, the trained ones."""
        weights = [parameter.detach() for parameter in self._parameters]
        torch._foreach_copy_(self._averages, weights)
        for weight, own in zip(weights, raw, strict=True):
            weight.copy_(own)

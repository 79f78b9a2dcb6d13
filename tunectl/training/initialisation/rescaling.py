"""What one iteration of a procedure measures, and what a procedure is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn

from tunectl.training.initialisation.batch_losses import BatchLosses


@dataclass(frozen=True, slots=True)
class Measured:
    """What one iteration measured at the present weights.

    `metrics` are those of measurement_kinds.INITIALISATION by name. `norms` and `derivatives` are by rescaled tensor:
    its Euclidean norm, and the derivative of what the procedure makes smaller by what it changes (norm or scale);
    derivatives of tensors of zeros do not count.
    """

    metrics: dict[str, float]
    norms: list[float]
    derivatives: list[float]

    def not_finite(self) -> str:
        """The name of the first number that is not finite, with the number; "" where all are finite."""
        for name, value in self.metrics.items():
            if not math.isfinite(value):
                return f"the {name.replace('_', ' ')} is {value}"
        slopes = [slope for norm, slope in zip(self.norms, self.derivatives, strict=True) if norm]
        return next((f"a derivative by the weights is {slope}" for slope in slopes if not math.isfinite(slope)), "")


class Rescaling(Protocol):
    """A procedure that multiplies each of its tensors by a number, iteration after iteration."""

    @property
    def tensors(self) -> Sequence[nn.Parameter]:
        """The tensors that it rescales."""

    def measure(self, losses: BatchLosses) -> Measured:
        """Measure the present weights on the batches of an iteration; nothing is changed."""

    def factors(self, measured: Measured) -> list[float]:
        """Take one step, and give the factor for each tensor."""

    def state(self) -> dict[str, Any]:
        """What the next iterations depend on, as plain numbers, lists and dicts."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` gave."""

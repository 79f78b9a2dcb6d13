"""MetaInit: the norms of the weights are learned such that a step of gradient descent changes the gradient little.

Dauphin and Schoenholz, "MetaInit: Initializing learning by learning to initialize" (NeurIPS 2019).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tunectl.core.errors import WorkloadError
from tunectl.training.curvature.derivative_checks import is_once_differentiable
from tunectl.training.curvature.double_backward import Gradients, hessian_product, joined
from tunectl.training.curvature.gradient_measures import gradient_quotient
from tunectl.training.initialisation.batch_losses import BatchLosses, along, norms_of
from tunectl.training.initialisation.rescaling import Measured


class MetaInit:
    """Signed descent with momentum on the norms of all tensors with two or more axes, for the gradient quotient.

    m <- μ m - rate sign(∂GQ/∂norm); norm <- norm + m. As in the authors' code, a norm that falls below zero turns its
    tensor around. A tensor of zeros has no direction, and stays as it is. `rate` is in the unit of the norms.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], learning_rate: float, momentum: float) -> None:
        self._parameters = list(parameters)
        self.tensors = [parameter for parameter in parameters if parameter.ndim >= 2]
        self._rate, self._momentum = learning_rate, momentum
        self._velocities = [0.0] * len(self.tensors)
        self._has_looked = False

    def measure(self, losses: BatchLosses) -> Measured:
        """The gradient quotient of the first batch, and its derivative by each norm, NaN for a tensor of zeros."""
        loss, grads = losses.gradient(0, self._parameters)
        gradient = joined(grads, self._parameters)
        products = hessian_product(grads, self._parameters, grads, keep=True, with_graph=True)
        self._refuse_once_differentiable(products)
        quotient = gradient_quotient(gradient, joined(products, self._parameters))
        slopes: Sequence[Tensor | None] = [None] * len(self.tensors)
        if quotient.requires_grad and self.tensors:
            slopes = torch.autograd.grad(quotient, self.tensors, allow_unused=True)
        norms = norms_of(self.tensors)
        derivatives = [
            slope / norm if norm else math.nan for slope, norm in zip(along(slopes, self.tensors), norms, strict=True)
        ]
        metrics = {
            "gradient_quotient": float(quotient.detach()),
            "loss": loss,
            "gradient_norm": float(torch.linalg.vector_norm(gradient.detach())),
        }
        return Measured(metrics, norms, derivatives)

    def _refuse_once_differentiable(self, products: Gradients) -> None:
        """Raise WorkloadError where the third derivative would silently lack a part; looked for once."""
        if not self._has_looked and is_once_differentiable(products):
            raise WorkloadError(
                "the second derivative of the loss is marked with @once_differentiable, and metainit needs the third"
            )
        self._has_looked = True

    def factors(self, measured: Measured) -> list[float]:
        """The factor for each tensor after one step on the norms; 1 for a tensor of zeros."""
        found = []
        for place, (norm, slope) in enumerate(zip(measured.norms, measured.derivatives, strict=True)):
            if not norm:
                found.append(1.0)
                continue
            sign = (slope > 0) - (slope < 0)
            velocity = self._momentum * self._velocities[place] - self._rate * sign
            self._velocities[place] = velocity
            # A norm of exactly 0 could never grow again: this tensor waits for the next step.
            found.append((norm + velocity) / norm if norm + velocity else 1.0)
        return found

    def state(self) -> dict[str, Any]:
        """What the next iterations depend on."""
        return {"velocities": list(self._velocities)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` gave."""
        self._velocities = list(state["velocities"])
